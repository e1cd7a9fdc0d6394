"""How the commands word the library's errors: arguments, which it names in backticks, become options."""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import typer

from gdq_cli.errors import GdqError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\udc80-\udc9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What commands a terminal or changes the order of what is read: C0, DEL, C1 (also as a byte of a name that is not
UTF-8), separators of lines, and marks, embeddings, overrides and isolates of writing direction."""
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def as_options(text: str) -> str:
    """A library's message in the words of the command line: `` `max_pixels` `` becomes ``--max-pixels``, and
    `` `device=cpu` `` becomes ``--device cpu``."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}" + (f" {found[2]}" if found[2] else ""), text)


def printable(text: object) -> str:
    """A text, such as a file's name, without line breaks and what else commands a terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def tell(*lines: object, err: bool = False) -> None:
    """Print lines of text. Whatever is foreign in them, such as names, cannot command the terminal."""
    typer.echo("\n".join(map(printable, lines)), err=err)


def to_json(value: object) -> str:
    """JSON on one line, in ASCII: numbers that JSON does not have are null, and nothing in it commands a terminal."""
    return json.dumps(_finite(value), allow_nan=False).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(facts: dict[str, Any] | list[Any], *, err: bool = False) -> None:
    """What a line of --json holds; the library's messages in it are in the words of the command line."""
    if isinstance(facts, dict):
        said: dict[str, Any] = {}
        if facts.get("error"):
            said["error"] = as_options(facts["error"])
        if "warnings" in facts:
            said["warnings"] = list(map(as_options, facts["warnings"]))
        facts = facts | said
    tell(to_json(facts), err=err)


def print_error(error: GdqError) -> None:
    """One line on stderr: what is wrong and what to do."""
    tell("error: " + " ".join(as_options(str(error)).split()), err=True)


def say(text: str) -> None:
    """A note on stderr."""
    tell(f"note: {as_options(text)}", err=True)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a stream cannot encode: bytes of a name that is not UTF-8 as they are, other characters as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return b"".join(
        bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else char.encode("ascii", "backslashreplace")
        for char in text
    ), error.end


class _Stream(io.TextIOWrapper):
    """A standard stream: printing never fails for a character, and where it fails otherwise (a full disk), stdout says
    so in one line and stderr, which could not, is silent."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # what is still held back goes there, at the latest
        if isinstance(error, BrokenPipeError) and self.fileno() == 1:
            raise error  # the reader has gone, which is nobody's fault
        if self.fileno() == 1:
            raise GdqError(f"standard output: cannot be written ({(error.strerror or str(error)).lower()})") from error


def prepare_streams() -> None:
    """Make printing never fail for a character, and keep the numbers of closed streams from going to other files."""
    codecs.register_error("gdq", _escape)
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is the closed one's
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            lines = stream.line_buffering
            setattr(sys, name, _Stream(stream.buffer, stream.encoding, "gdq", line_buffering=lines))
