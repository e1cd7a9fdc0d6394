"""Work that takes its time: one bar on stderr; and a line for each download."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gdq_cli.commands.terminal.console import make_console
from gdq_cli.commands.terminal.wording import printable, tell

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar

    from gdq_cli.models.hub.download import Download, Watch
    from gdq_cli.upscaling.progress import Progress

BAR_DELAY = 1.0
"""Seconds of work before a bar appears: short work needs none."""


class Bar:
    """The one bar, on stderr, for work of more than a second; nothing where stderr is no terminal.

    It appears by itself, so that work which cannot tell how far it is shows that it goes on, and takes the place of
    any other bar. As a context it is taken away at the end.

    Args:
        name: what is being done, until ``update`` tells.
        shown: False for --quiet.
    """

    _latest: Bar | None = None

    def __init__(self, name: str = "", *, shown: bool = True) -> None:
        self._bar: ProgressBar | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._wanted = False
        if not shown or not (console := make_console(stderr=True)).is_terminal:
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), Left())
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(printable(name), total=None)
        if Bar._latest is not None:
            Bar._latest.stop()
        Bar._latest = self
        self._appear()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    @property
    def drawn(self) -> bool:
        """Whether there is a bar; a log is told in lines."""
        return self._bar is not None

    def update(self, name: str, done: float, total: float | None) -> None:
        """Show what is being done, and how much of all work (None: nobody knows how much) is."""
        if self._bar is None:
            return
        self._bar.update(self._task, description=printable(name), completed=done, total=total)
        if not self._wanted:
            self._appear()

    def stop(self) -> None:
        """Take the bar away; the next update brings it back."""
        with self._lock:
            if self._bar is not None and self._wanted:
                self._wanted = False
                self._bar.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _appear(self) -> None:
        """Show the bar when its time has come, unless it is taken away before."""
        self._wanted = True
        delay = self._start + BAR_DELAY - time.perf_counter()
        if delay <= 0:
            self._show()
            return
        self._timer = threading.Timer(delay, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._bar is not None and self._wanted:
                self._bar.start()


@contextmanager
def show_progress(name: str, unit: str = "", *, shown: bool = True) -> Iterator[Progress]:
    """A bar for one piece of work, with its units counted if they have a name."""
    with Bar(name, shown=shown) as bar:
        yield lambda done, total: bar.update(f"{name} {done}/{total} {unit}" if unit else name, done, total)


def watch_downloads(*, shown: bool) -> Watch | None:
    """What to hand to the library: prints on stderr a line per download and a bar while it lasts, or nothing at all."""
    if not shown:
        return None
    bar: Bar | None = None

    def watch(download: Download, done: int | None) -> None:
        nonlocal bar
        size = f"{download.size / 1e6:.1f} MB"
        if done is None:
            if bar is not None:
                bar.stop()
                bar = None
        elif bar is not None:
            bar.update(f"{download.file}, {done / 1e6:.1f} MB", done, download.size)
        elif done == 0:
            where = f"{download.url} (revision {download.revision}, {size})"
            bar = Bar(download.file)  # before the line: it takes away a bar that would tear it
            tell(f"downloading {download.file} from {where}", err=True)

    return watch
