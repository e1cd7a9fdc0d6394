"""Whether the coded data of a JPEG reach as far as its pixels.

libjpeg fills missing pixels with whatever it has, and Pillow drops its warnings. There are cut-off transfers, recovered
files, cameras that lost power; with or without an end marker that a tool put behind what was left.
"""

from __future__ import annotations

import io
import itertools
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops, JpegImagePlugin

_FILLER = re.compile(rb"(?:\x00{16,}|\xff{16,})\Z")  # what recovery tools and interrupted downloads leave
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # ends coded data, in which 0 or a restart number follows 255
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = 0xC2
_HUFFMAN = frozenset({0xC0, 0xC1, _PROGRESSIVE})  # frames that libjpeg decodes and whose data have an exact end
_MADE_UP = 4096  # bytes of coded data, more than any block of pixels takes
_MADE_UP_EACH = 64  # behind each part of what has an end
_TRIES = 3
_MAX_MARKERS = 1 << 12  # of tables and scans
_SLACK = 8  # bytes at the end of the file that may be no part of the picture
_AHEAD = 8  # bytes that libjpeg wants to have beyond those that it needs
_LEFT_OVER = 16  # bytes behind the last pixel; some encoders write a few
_SMALL = 1 << 20  # bytes of a file that may be decoded twice


@dataclass(frozen=True)
class Segment:
    """A marker of a JPEG, and what it leads."""

    kind: int
    payload: bytes
    start: int
    stop: int
    """Where the payload ends. The coded data of a scan begin here."""


def walk_jpeg(data: bytes) -> Iterator[Segment]:
    """The segments up to the marker of the end, which is the last one where there is one behind a scan."""
    at = found = scans = 0
    while found < _MAX_MARKERS and (marker := _MARKER.search(data, at)):
        kind, at = data[marker.end() - 1], marker.end()
        if kind == 0xD9 and scans:
            yield Segment(kind, b"", marker.start(), at)
            return
        if kind != 1 and kind not in (0xD8, 0xD9):
            start, at = at + 2, at + max(2, int.from_bytes(data[at : at + 2], "big"))
            yield Segment(kind, data[start:at], marker.start(), at)
            found += 1
            scans += kind == 0xDA


def check_jpeg(picture: Image.Image, data: bytes, segments: list[Segment]) -> list[str]:
    """Decode an opened JPEG that has an end marker. Raises ValueError where coded data are missing.

    Returns:
        What tells of damage within them: they go on behind the last pixel, or their restart markers are not those of
        the picture. Such a file is shown by every program, with wrong pixels or none.

    A picture of one scan is decoded from data in parts, and finished or not before the next part is asked for. To find
    the very last bits missing, or anything in a picture of several scans, it is decoded once more with coded data
    made up behind each part: pixels that are there do not change by it.
    """
    frames = [segment for segment in segments if segment.kind in _FRAMES]
    if len(frames) != 1 or frames[0].kind not in _HUFFMAN:
        picture.load()
        return []
    scans: list[tuple[int, int]] = []
    sound = True
    spacing = 0
    for here, behind in itertools.pairwise(segments):
        if here.kind == 0xDD:
            spacing = int.from_bytes(here.payload, "big")
        elif here.kind == 0xDA:
            stop = here.stop + len(data[here.stop : behind.start].rstrip(b"\xff"))
            scans.append((here.stop, stop))
            sound &= _restarts_fit(frames[0].payload, here.payload, spacing, data[here.stop : stop])
    if frames[0].kind == _PROGRESSIVE and not _all_scans(segments):
        raise ValueError("scans are missing")
    if len(scans) > 1:
        picture.load()
    else:
        sound &= _load_watched(picture, data, *scans[0])
    if (len(scans) > 1 or len(data) < _SMALL) and _differ(picture, _decode_lengthened(data, scans)):
        raise ValueError(_MISSING)
    return [] if sound else ["its coded data are damaged within; pixels may be wrong"]


_MISSING = "coded data end before the last pixel"


def _differ(first: Image.Image, second: Image.Image) -> bool:
    return ImageChops.difference(first, second).getbbox() is not None


def _restarts_fit(frame: bytes, scan: bytes, spacing: int, coded: bytes) -> bool:
    """Whether the restart markers of a scan are in order. Raises ValueError if there are too few for its size."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = {frame[at]: (frame[at + 1] >> 4, frame[at + 1] & 15) for at in range(6, len(frame) - 2, 3)}
    most_x, most_y = (max(factor[axis] for factor in factors.values()) for axis in (0, 1))
    x, y = factors[scan[1]] if scan[0] == 1 else (1, 1)  # of a scan of one component each block counts
    across, down = -(-width * x // (8 * most_x)), -(-height * y // (8 * most_y))
    count = (across * down - 1) // spacing if spacing else 0
    numbers = [match[0] - 0xD0 for match in _RESTART.findall(coded)]
    if len(numbers) < count:
        raise ValueError("restart markers are missing")
    return numbers == [index % 8 for index in range(count)]


def _load_watched(picture: Any, data: bytes, start: int, stop: int) -> bool:
    """Decode a picture of one scan. Whether the decoder asks for the last of its coded data; ValueError if for more."""
    early = max(start, start + len(data[start:stop].rstrip(b"\0\xff")) - _LEFT_OVER)
    parts = iter((data[:early], data[early:stop] + bytes(_AHEAD)))
    picture.fp = _Parts(parts)
    picture.load()
    return next(parts, None) is None


class _Parts(io.RawIOBase):
    """Parts of a file, one for each time that a decoder asks for data. Raises ValueError where it asks once more."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def read(self, size: int = -1) -> bytes:
        for part in self._parts:
            return part
        raise ValueError(_MISSING)


def _decode_lengthened(data: bytes, scans: list[tuple[int, int]]) -> Image.Image:
    """The picture, with made-up data behind each part of its coded data. A 1 leads them, since libjpeg makes up 0."""
    made_up = bytes(random.Random(0).choices(range(128, 255), k=_MADE_UP_EACH))
    parts, at = [], 0
    for start, stop in scans:
        parts += [data[at:start], _RESTART.sub(lambda marker: made_up + marker[0], data[start:stop]), made_up]
        at = stop
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(b"".join((*parts, data[at:]))))
    picture.load()
    return picture


def complete_jpeg(data: bytes) -> JpegImagePlugin.JpegImageFile | None:
    """A JPEG whose end marker is missing, decoded; None where pixels are missing, too, be it the last one.

    Pixels that are there do not depend on what follows them: the file is whole when it decodes to the same picture
    whatever coded data is made up for its end, and does not without its last bytes. (Where it still does, they are no
    part of the picture, and others may be.)

    Args:
        data: the file. A run of zeros or of 255 at its end does not count.
    """
    coded = _FILLER.sub(b"", data)
    if coded.endswith(b"\xff"):  # half of the end marker, or a coded 255, behind which a 0 stands
        coded = coded + b"\0" if data[len(coded) :].startswith(b"\0") else coded[:-1]
    return None if _decode_whole(coded[:-_SLACK]) else _decode_whole(coded)


def _decode_whole(coded: bytes) -> JpegImagePlugin.JpegImageFile | None:
    """The picture, where what follows does not change it; None where it does."""
    if not _all_scans(walk_jpeg(coded)):
        return None
    draw, first = random.Random(0), None
    for _ in range(_TRIES):
        made_up = bytes(draw.randrange(1, 255) for _ in range(_MADE_UP))  # neither a marker nor a stuffed byte
        picture = JpegImagePlugin.JpegImageFile(io.BytesIO(coded + made_up + b"\xff\xd9"))
        picture.load()
        first = first or picture
        if _differ(picture, first):
            return None
    return first


def _all_scans(segments: Iterable[Segment]) -> bool:
    """Whether the scans of a JPEG tell every coefficient of every component to its last bit."""
    components, missing = b"", set[tuple[int, int]]()
    for segment in segments:
        kind, payload = segment.kind, segment.payload
        if kind in _FRAMES:
            components = payload[6::3]
            missing = {(component, place) for component in components for place in range(64)}
        elif kind == 0xDA and len(payload) > 3 and not payload[-1] & 15:
            missing -= {(c, place) for c in payload[1:-3:2] for place in range(payload[-3], payload[-2] + 1)}
    return bool(components) and not missing
