"""What the commands share: options, the objects of --json, the bit map and the progress bar on a terminal."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from gdq_cli.commands.completion import complete_bits, complete_device, complete_picture_model
from gdq_cli.commands.help import INPUT, MESSAGES, MODEL, SPEED
from gdq_cli.commands.wording import as_options, printable, tell, to_json
from gdq_cli.options import Encoding, Prefer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.progress import Progress as ProgressBar

    from gdq_cli.upscaling.progress import Progress

# Read by torch's OpenMP when it is loaded. By default its idle threads spin, which on a machine with other work makes
# every small operation wait for a thread that is not running: seconds at start-up. Measured, nothing gets slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read by NumPy's OpenBLAS when it is loaded, whose threads spin after they start: 0.1 s of processor time.
# Nothing here multiplies matrices with NumPy that are large enough for threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Read by pydantic, which Typer checks values with: it would look through all packages for plugins that change this.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

InputArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Files, folders or globs, of paths or addresses (s3://); - is stdin."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model name, or a .safetensors checkpoint; auto: photo for lossy pictures such as JPEG, edsr for others.",
        rich_help_panel=MODEL,
        autocompletion=complete_picture_model,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", "-d", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=SPEED, autocompletion=complete_device
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", "-j", help="CPU threads; default: all cores.", rich_help_panel=SPEED)
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Insist on one engine; see gdq doctor.", hidden=True, rich_help_panel=SPEED)
]
BitsOption = Annotated[
    str,
    typer.Option(
        "--bits",
        "-b",
        help="auto, or force 4, 5, 6, 8 or fp32 everywhere.",
        rich_help_panel=MODEL,
        autocompletion=complete_bits,
    ),
]
BudgetOption = Annotated[
    float | None, typer.Option("--budget", help="Spend at most this average bit-width (4 to 8).", rich_help_panel=MODEL)
]
PreferOption = Annotated[
    Prefer,
    typer.Option(
        "--prefer",
        metavar="KIND",
        help="What auto saves: bits, or time (more bits where they take no longer here).",
        rich_help_panel=MODEL,
    ),
]
MaxPixelsOption = Annotated[
    int, typer.Option("--max-pixels", help="Refuse larger inputs, judged by their header.", rich_help_panel=INPUT)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object per line on stdout instead of text.", rich_help_panel=MESSAGES)
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.", rich_help_panel=MESSAGES)]


def print_json(facts: dict[str, Any], *, err: bool = False) -> None:
    """One object of --json."""
    said = {"error": facts["error"] and as_options(facts["error"])} if "error" in facts else {}
    if "warnings" in facts:
        said["warnings"] = [as_options(warning) for warning in facts["warnings"]]
    tell(to_json(facts | said), err=err)


def hold_pipe(path: Path) -> Path | BinaryIO:
    """What a pipe gives, which can be read but once, as a stream; any other path as it is.

    Raises:
        ImageError: if it cannot be read.
    """
    from gdq_cli.errors import ImageError
    from gdq_cli.files import read_pipe

    try:
        if not path.is_fifo():
            return path
        held: Any = read_pipe(path, partial(tell, err=True))
        held.name = str(path)  # what messages call it
        return cast(BinaryIO, held)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_overlay(
    target: Path,
    source: Path | BinaryIO,
    bit_map: NDArray[np.int64],
    overwrite: bool,
    max_pixels: int,
    numbers: bool = False,
) -> None:
    """Write the bit map over the picture it belongs to."""
    from gdq_cli.bitmaps.overlay import overlay_image
    from gdq_cli.bits.patches import plan_patches
    from gdq_cli.images import Picture, read_image, write_image

    if not isinstance(source, Path):
        source.seek(0)
    picture = read_image(source, max_pixels=max_pixels)
    overlay = overlay_image(picture.rgb, bit_map, plan_patches(picture.size), numbers=numbers)
    write_image(target, Picture(overlay), Encoding(format="png"), overwrite=overwrite)


def print_map(bit_map: NDArray[np.int64], size: tuple[int, int], *, err: bool = False) -> None:
    """Draw the bit map in what the terminal can show."""
    from gdq_cli.bitmaps.terminal import ColorMode, describe_map, terminal_map

    console = make_console(stderr=err)
    system = None if console.no_color or not console.is_terminal else console.color_system
    if not _can_write("▀━", console.encoding):
        system = None
    color: ColorMode = "truecolor" if system == "truecolor" else "256" if system == "256" else "none"
    sentence = textwrap.wrap(describe_map(bit_map), min(console.width, 100))
    lines = min(40, console.height - 4 - len(sentence)) if console.is_terminal else 60
    drawn = terminal_map(bit_map, size, columns=console.width, lines_limit=lines, color=color)
    typer.echo("\n".join([drawn, *sentence]), err=err, color=True)


def _can_write(text: str, encoding: str) -> bool:
    """Whether a stream of this encoding can carry a text."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def make_console(*, stderr: bool) -> Console:
    """A rich console that knows what its stream can show."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False)  # in names, brackets are brackets
    console.width = console.width or 80  # COLUMNS=0, as terminals of unknown width have it
    return console


BAR_DELAY = 1.0
"""Seconds of work before a bar appears: short work needs none."""


class Bar:
    """The one bar, on stderr, for work of more than a second; nothing where stderr is no terminal.

    It appears by itself, so that work which cannot tell how far it is shows that it goes on, and takes the place of
    any other bar.

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
    bar = Bar(name, shown=shown)
    try:
        yield lambda done, total: bar.update(f"{name} {done}/{total} {unit}" if unit else name, done, total)
    finally:
        bar.stop()
