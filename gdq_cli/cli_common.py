"""What the commands share: option declarations, failures, the bit map and the progress bar on a terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gdq_cli.errors import DeviceError, GdqError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from gdq_cli.upscaler import Progress

InputArgument = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or globs; - is stdin.")]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="Model name, or a .safetensors checkpoint.")]
DeviceOption = Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda, cuda:N or mps.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", "-j", help="CPU threads; default: all cores.")]
EngineOption = Annotated[str, typer.Option("--engine", help="Insist on one engine; see gdq doctor.", hidden=True)]
BitsOption = Annotated[str, typer.Option("--bits", "-b", help="auto, or force 4, 5, 6, 8 or fp32 everywhere.")]
BudgetOption = Annotated[float | None, typer.Option("--budget", help="Spend at most this average bit-width (4 to 8).")]
MaxPixelsOption = Annotated[int, typer.Option("--max-pixels", help="Refuse larger inputs, judged by their header.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout instead of text.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


def print_error(error: GdqError) -> None:
    """One line on stderr: what is wrong and what to do."""
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)


def write_overlay(
    target: Path, source: Path, bit_map: NDArray[np.int64], overwrite: bool, max_pixels: int, numbers: bool = False
) -> None:
    """Write the bit map over the picture it belongs to."""
    from gdq_cli.heatmap_overlay import overlay_image
    from gdq_cli.images import Picture, read_image, write_image
    from gdq_cli.patches import plan_patches

    picture = read_image(source, max_pixels=max_pixels)
    overlay = overlay_image(picture.rgb, bit_map, plan_patches(picture.size), numbers=numbers)
    write_image(target, Picture(overlay), format="png", overwrite=overwrite)


def print_map(bit_map: NDArray[np.int64], size: tuple[int, int], *, err: bool = False) -> None:
    """Draw the bit map in what the terminal can show."""
    from gdq_cli.heatmap import ColorMode, terminal_map

    console = make_console(stderr=err)
    system = None if console.no_color or not console.is_terminal else console.color_system
    color: ColorMode = "truecolor" if system == "truecolor" else "256" if system == "256" else "none"
    lines = min(40, console.height - 4) if console.is_terminal else 60
    typer.echo(terminal_map(bit_map, size, columns=console.width, lines_limit=lines, color=color), err=err, color=True)


def make_console(*, stderr: bool) -> Console:
    """A rich console that knows what its stream can show."""
    from rich.console import Console

    return Console(stderr=stderr)


@contextmanager
def show_progress(name: str, *, shown: bool) -> Iterator[Progress | None]:
    """A bar by patches on stderr, for work that takes longer than a second."""
    console = make_console(stderr=True)
    if not shown or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("patches"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    start = time.perf_counter()
    task = bar.add_task(os.path.basename(name), total=None)

    def advance(done: int, total: int) -> None:
        if not bar.live.is_started and time.perf_counter() - start > 1:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        bar.stop()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Running out of memory, on the CPU or a device, is an error with an exit code, not a traceback."""
    try:
        yield
    except MemoryError as error:
        raise DeviceError("out of memory: close other programs, or upscale a smaller picture") from error
    except RuntimeError as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise DeviceError(f"out of memory on the device ({str(error).splitlines()[0]})") from error
        raise
