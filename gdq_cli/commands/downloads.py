"""How the commands tell about downloads: one line that says what, from where and how large, and a bar on terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gdq_cli.commands.console import Bar
from gdq_cli.commands.help import MODEL
from gdq_cli.commands.wording import tell

if TYPE_CHECKING:
    from gdq_cli.models.store import Download, Watch

OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never touch the network; use what is here.", rich_help_panel=MODEL)
]


def watch_downloads(*, shown: bool) -> Watch | None:
    """What to hand to the library: prints on stderr, or nothing at all."""
    return _Printer() if shown else None


class _Printer:
    """A line per download, and a bar while it lasts."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def __call__(self, download: Download, done: int | None) -> None:
        size = f"{download.size / 1e6:.1f} MB"
        if done is None:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
        elif self._bar is not None:
            self._bar.update(f"{download.file}, {done / 1e6:.1f} MB", done, download.size)
        elif done == 0:
            where = f"{download.url} (revision {download.revision}, {size})"
            self._bar = Bar(download.file)  # before the line: it takes away a bar that would tear it
            tell(f"downloading {download.file} from {where}", err=True)
