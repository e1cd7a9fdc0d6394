"""JPEG files without an end marker: cut-off transfers, recovered files, cameras that lost power."""

from __future__ import annotations

import io
import random
import re
from typing import BinaryIO

from PIL import JpegImagePlugin

_FILLER = re.compile(rb"(?:\x00{16,}|\xff{16,})\Z")  # what recovery tools and interrupted downloads leave
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # ends coded data, in which 0 or a restart number follows 255
_MADE_UP = 4096  # bytes of coded data, more than any block of pixels takes
_TRIES = 3
_MAX_MARKERS = 1 << 12  # of tables and scans
_SLACK = 8  # bytes at the end of the file that may be no part of the picture
_NEAR = 1 << 16


def lacks_end(stream: BinaryIO) -> bool:
    """Whether no end marker follows the coded data of a JPEG."""
    stream.seek(max(0, stream.seek(0, 2) - _NEAR))
    if b"\xff\xd9" in stream.read():
        return False
    stream.seek(0)
    data = stream.read()
    return data.find(b"\xff\xd9", data.find(b"\xff\xda")) < 0


def complete_jpeg(data: bytes) -> JpegImagePlugin.JpegImageFile | None:
    """A JPEG whose end marker is missing, decoded; None where pixels are missing, too, be it the last one.

    libjpeg fills missing pixels with whatever it has, and tells nobody. But pixels that are there do not depend on what
    follows them: the file is whole when it decodes to the same picture whatever coded data is made up for its end, and
    does not without its last bytes. (Where it still does, they are no part of the picture, and others may be.)

    Args:
        data: the file. A run of zeros or of 255 at its end does not count.
    """
    coded = _FILLER.sub(b"", data)
    if coded.endswith(b"\xff"):  # half of the end marker, or a coded 255, behind which a 0 stands
        coded = coded + b"\0" if data[len(coded) :].startswith(b"\0") else coded[:-1]
    return None if _decode_whole(coded[:-_SLACK]) else _decode_whole(coded)


def _decode_whole(coded: bytes) -> JpegImagePlugin.JpegImageFile | None:
    """The picture, where what follows does not change it; None where it does."""
    if not _all_scans(coded):
        return None
    draw, first = random.Random(0), None
    for _ in range(_TRIES):
        made_up = bytes(draw.randrange(1, 255) for _ in range(_MADE_UP))  # neither a marker nor a stuffed byte
        picture = JpegImagePlugin.JpegImageFile(io.BytesIO(coded + made_up + b"\xff\xd9"))
        picture.load()
        first = first or picture
        if picture.tobytes() != first.tobytes():
            return None
    return first


def _all_scans(data: bytes) -> bool:
    """Whether the scans of a JPEG tell every coefficient of every component to its last bit."""
    at, components, missing = 2, b"", set[tuple[int, int]]()
    for _ in range(_MAX_MARKERS):
        found = _MARKER.search(data, at)
        if found is None:
            break
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        kind, segment = data[found.start() + 1], data[found.end() + 2 : at]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            components = segment[6::3]
            missing = {(component, place) for component in components for place in range(64)}
        elif kind == 0xDA and len(segment) > 3 and not segment[-1] & 15:
            missing -= {(c, place) for c in segment[1:-3:2] for place in range(segment[-3], segment[-2] + 1)}
    return bool(components) and not missing
