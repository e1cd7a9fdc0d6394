"""Whether a PNG's packed data hold all its rows, and are those that were written. Pillow leaves rows black that a sound
stream does not reach, and looks at no checksum but that at the stream's end, where it gets there."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from gdq_cli.images.reading.headers import walk_png

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7's
_PIECE = 1 << 20  # bytes that are read or unpacked at once


def check_rows(stream: BinaryIO) -> None:
    """Unpack the pictures of a PNG, and count. Raises ValueError or EOFError where one lacks rows or has wrong data.

    The stream is left where it was.
    """
    at = stream.tell()
    stream.seek(16)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">LLBBBBB", stream.read(13))
    bits, picture = depth * _SAMPLES[colour], None
    for kind, _, length in walk_png(stream):
        if kind == b"fcTL":
            width, height = struct.unpack(">LL", stream.read(12)[4:].ljust(8, b"\0"))
            if picture:
                picture.finish()
            picture = None
        elif kind in (b"IDAT", b"fdAT"):
            picture = picture or _Packed(_packed_size(width, height, bits, interlaced))
            number = stream.read(4) if kind == b"fdAT" else b""
            checksum, rest = zlib.crc32(kind + number), length - len(number)
            while rest > 0 and (piece := stream.read(min(rest, _PIECE))):
                picture.add(piece)
                checksum, rest = zlib.crc32(piece, checksum), rest - len(piece)
            picture.sound &= stream.read(4) in (struct.pack(">L", checksum), b"")
    if picture:
        picture.finish()
    stream.seek(at)


def _packed_size(width: int, height: int, bits: int, interlaced: int) -> int:
    """Bytes of the rows of a picture, each led by the number of its filter."""
    size = 0
    for x, y, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        size += max(rows, 0) * (1 + -(-columns * bits // 8)) if columns > 0 else 0
    return size


class _Packed:
    """The packed data of one picture."""

    def __init__(self, size: int) -> None:
        self.missing, self.sound = size, True
        self._unpacker = zlib.decompressobj()
        self._broken = False

    def add(self, data: bytes) -> None:
        """Count what is in more of the data. Behind the last row their own checksum is looked for."""
        try:
            while self.missing >= 0 and data and not self._broken:
                self.missing -= len(self._unpacker.decompress(data, min(self.missing, _PIECE) or 1))
                data = self._unpacker.unconsumed_tail
        except zlib.error:  # which Pillow will say where it comes before the last row
            self._broken = self.missing > 0

    def finish(self) -> None:
        """Complain of missing rows, and of wrong checksums of chunks where that of all data was not reached."""
        if self._broken:
            return
        if self.missing > 0:
            if not self._unpacker.eof:
                raise EOFError
            raise ValueError("packed data end before the last row")
        if not self.sound and not self._unpacker.eof:
            raise ValueError("wrong checksum of packed data")
