"""How the commands word the library's errors: arguments, which it names in backticks, become options."""

from __future__ import annotations

import re

import typer

from gdq_cli.errors import GdqError

_ARGUMENT = re.compile(r"`([a-z][a-z_]*)(?:=([^`]+))?`")


def as_options(text: str) -> str:
    """A library's message in the words of the command line: `` `max_pixels` `` becomes ``--max-pixels``, and
    `` `device=cpu` `` becomes ``--device cpu``."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}" + (f" {found[2]}" if found[2] else ""), text)


def print_error(error: GdqError) -> None:
    """One line on stderr: what is wrong and what to do."""
    typer.echo(f"error: {' '.join(as_options(str(error)).split())}", err=True)
