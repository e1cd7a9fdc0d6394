"""What a terminal can show: a console of rich that knows, and bit maps and tables on it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.table import Table


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


def print_table(table: Table) -> None:
    """Draw a table as wide as its content where stdout is a file: a log has no edge to wrap at."""
    console = make_console(stderr=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    console.print(table)


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
