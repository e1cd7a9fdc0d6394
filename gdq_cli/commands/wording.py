"""How the commands word the library's errors: arguments, which it names in backticks, become options."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys

import typer

from gdq_cli.errors import GdqError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ARGUMENT = re.compile(r"`([a-z][a-z_]*)(?:=([^`]+))?`")


def as_options(text: str) -> str:
    """A library's message in the words of the command line: `` `max_pixels` `` becomes ``--max-pixels``, and
    `` `device=cpu` `` becomes ``--device cpu``."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}" + (f" {found[2]}" if found[2] else ""), text)


def printable(text: object) -> str:
    """A text, such as a file's name, without line breaks and what else commands a terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def print_error(error: GdqError) -> None:
    """One line on stderr: what is wrong and what to do."""
    typer.echo(f"error: {printable(' '.join(as_options(str(error)).split()))}", err=True)


def say(text: str) -> None:
    """A note on stderr."""
    typer.echo(f"note: {printable(as_options(text))}", err=True)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a stream cannot encode: bytes of a name that is not UTF-8 as they are, other characters as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return b"".join(
        bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else char.encode("ascii", "backslashreplace")
        for char in text
    ), error.end


def prepare_streams() -> None:
    """Make printing never fail for a character, and keep the numbers of closed streams from going to other files."""
    codecs.register_error("gdq", _escape)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is the closed one's
        elif stream is not sys.stdin and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="gdq")
