"""How the commands tell about downloads: one line that says what, from where and how large, and a bar on terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gdq_cli.commands.console import make_console

if TYPE_CHECKING:
    from gdq_cli.models.store import Download, Watch

OfflineOption = Annotated[bool, typer.Option("--offline", help="Never touch the network; use what is here.")]


def watch_downloads(*, shown: bool) -> Watch | None:
    """What to hand to the library: prints on stderr, or nothing at all."""
    return _Printer() if shown else None


class _Printer:
    """A line per download, and a rich bar while it lasts."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, download: Download, done: int | None) -> None:
        if done is None:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
        elif done == 0 and self._bar is None:
            size = "unknown size" if download.size is None else f"{download.size / 1e6:.1f} MB"
            where = f"{download.url} (revision {download.revision}, {size})"
            typer.echo(f"downloading {download.file} from {where}", err=True)
            self._start(download)
        elif self._bar is not None:
            self._bar.update(self._task, completed=done)

    def _start(self, download: Download) -> None:
        console = make_console(stderr=True)
        if not console.is_terminal:
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task(download.file, total=download.size)
        self._bar.start()
