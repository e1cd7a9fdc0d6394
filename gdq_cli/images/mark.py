"""The mark of gdq: a line in every file that a run writes, which tells what the file was made of and how.

A later run reads it to know whose output a file is, and whether it would make the same again. The line holds digests
alone: no name, option or place can be read from it. It lies where each format allows what readers do not know.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gdq_cli.files import open_regular

_LINE = re.compile(rb"gdq-mark:([0-9a-f]{16}):([0-9a-f]{16}):([0-9a-f]{16});")
_WINDOW = 256  # bytes at a file's start and end in which its mark lies; that of a JPEG is a segment before its pixels
_BLOCK, _BLOCKS = 1 << 16, 16
JPEG_SEGMENT = b"\xff\xef"
PNG_KEYWORD = b"gdq\0"


@dataclass(frozen=True)
class Mark:
    """What a file was made of and how, as digests of 16 hexadecimal digits.

    Attributes:
        name: of the input's file name.
        source: of its content, see ``fingerprint``.
        options: of all else that decides what the output looks like.
    """

    name: str
    source: str
    options: str

    @property
    def line(self) -> bytes:
        """As it stands in a file."""
        return f"gdq-mark:{self.name}:{self.source}:{self.options};".encode("ascii")


def digest(data: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def fingerprint(source: Path | BinaryIO) -> str:
    """A digest of a file's size and content; of more than 1 MiB, of 16 blocks of 64 KiB from its start to its end.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, Path):
        with open_regular(source) as stream:
            return fingerprint(stream)
    at = source.tell()
    try:
        size = source.seek(0, os.SEEK_END)
        starts: Sequence[int] = range(0, size, _BLOCK)
        if size > _BLOCK * _BLOCKS:
            starts = [index * (size - _BLOCK) // (_BLOCKS - 1) for index in range(_BLOCKS)]
        state = hashlib.blake2b(str(size).encode(), digest_size=8)
        for start in starts:
            source.seek(start)
            state.update(source.read(_BLOCK))
        return state.hexdigest()
    finally:
        source.seek(at)


_ENDS = ((b"\x89PNG", b"IEND\xae\x42\x60\x82"), (b"\xff\xd8", b"\xff\xd9"))
"""How files of some formats begin and end; those of others bear their mark at the end."""


def read_mark(path: Path) -> Mark | None:
    """The mark of a file; None for a file of another program, and where there is none or it cannot be read."""
    try:
        with open_regular(path) as stream:
            start = stream.read(_WINDOW)
            found = _LINE.search(start) or _LINE.search(_jpeg_segment(stream))
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _WINDOW))
            end = stream.read(_WINDOW)
            if any(start.startswith(first) and not end.endswith(last) for first, last in _ENDS):
                return None  # cut by somebody since
            found = found or _LINE.search(end)
    except OSError:
        return None
    return Mark(*(part.decode("ascii") for part in found.groups())) if found else None


def _jpeg_segment(stream: BinaryIO) -> bytes:
    """The segment that holds the mark, where a file begins as a JPEG does and has one."""
    stream.seek(0)
    head = stream.read(2)
    if head != b"\xff\xd8":
        return b""
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF and head[1] not in (0xC0, 0xDA):
        length = int.from_bytes(head[2:], "big") - 2
        if head[:2] == JPEG_SEGMENT:
            return stream.read(length)
        if length < 0:
            break
        stream.seek(length, os.SEEK_CUR)
    return b""


def append_mark(stream: BinaryIO, format: str, line: bytes) -> None:
    """Add a mark to the end of a finished WebP, AVIF or BMP file, as a chunk or box that readers pass over.

    Nothing happens to other formats, whose encoders place it, and where there is none.
    """
    if not line or format not in ("avif", "webp", "bmp"):
        return
    if format == "avif":
        line = struct.pack(">L4s", 8 + len(line), b"free") + line
    elif format == "webp":
        line = struct.pack("<4sL", b"gdqm", len(line)) + line + bytes(len(line) % 2)
    stream.seek(0, os.SEEK_END)
    stream.write(line)
    at, less = {"webp": (4, 8), "bmp": (2, 0)}.get(format, (0, 0))  # where the size of the file stands
    if at:
        size = stream.tell() - less
        stream.seek(at)
        stream.write(struct.pack("<L", size))
        stream.seek(0, os.SEEK_END)
