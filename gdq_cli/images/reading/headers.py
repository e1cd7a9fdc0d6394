"""Facts that Pillow does not tell, tells too late, or searches for without end: read straight from the raw file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_KEPT_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"})
_MAX_KEPT = 1 << 23  # bytes of text and colour chunks that are kept; prompts of generated pictures are a few kB


# Bytes between the segments of a JPEG or the blocks of a GIF that belong to neither. Pillow skips any number of them,
# one by one, which takes minutes for a large file that is damaged near its start.
_MAX_JUNK = 1 << 18
_MAX_CHUNKS = 1 << 16  # of a WebP file that are looked at


@dataclass(frozen=True)
class Scan:
    """What a look at the raw file found. Sizes in pixels."""

    width: int
    height: int
    largest: int
    """Pixels of the largest canvas that decoding may need."""
    bit_depth: int = 8
    colour_type: int = -1
    has_alpha: bool = False
    lossless: bool = False
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks to keep."""
    exif: bytes | None = None
    """PNG: the eXIf chunk, one behind the pixels included."""
    xmp: bytes | None = None
    """PNG: the XMP packet, one behind the pixels included."""


def scan_png(stream: BinaryIO) -> Scan:
    """Walk a PNG's chunks without decoding. Raises ValueError where the header is damaged."""
    stream.seek(8)
    head = stream.read(25)
    if len(head) < 25 or head[4:8] != b"IHDR":
        raise ValueError("truncated file" if len(head) < 25 else "no header chunk")
    width, height, depth, colour = struct.unpack(">LLBB", head[8:18])
    kept: list[tuple[bytes, bytes]] = []
    exif, xmp, total, transparent = None, None, 0, colour in (4, 6)
    while len(start := stream.read(8)) == 8:
        length, kind = struct.unpack(">L4s", start)
        if kind == b"IEND":
            break
        transparent |= kind == b"tRNS"
        if kind in _KEPT_CHUNKS or kind == b"eXIf":
            if (total := total + length) > _MAX_KEPT:
                break
            payload = stream.read(length)
            if len(payload) < length:
                break
            if kind == b"eXIf":
                exif = payload
            elif payload.startswith(b"XML:com.adobe.xmp\0"):
                xmp = _international_text(payload)
            elif not payload.startswith(b"Raw profile type "):  # EXIF or IPTC as text; Pillow unpacks the former
                kept.append((kind, payload))
            stream.seek(4, 1)
        else:
            stream.seek(length + 4, 1)
    return Scan(width, height, width * height, depth, colour, transparent, chunks=tuple(kept), exif=exif, xmp=xmp)


def _international_text(payload: bytes) -> bytes | None:
    """The text of an iTXt chunk: keyword, 0, compressed?, method, language, 0, translated keyword, 0, text."""
    rest = payload.partition(b"\0")[2]
    fields = rest[2:].split(b"\0", 2)
    if len(fields) < 3:
        return None
    try:
        return zlib.decompressobj().decompress(fields[2], _MAX_KEPT) if rest[0] else fields[2]
    except zlib.error:
        return None


def scan_jpeg(stream: BinaryIO) -> Scan:
    """Size of a JPEG file. Raises ValueError where the segments before the picture are damaged."""
    stream.seek(2)
    size, junk = None, 0
    while junk < _MAX_JUNK:
        byte = stream.read(1)
        kind = stream.read(1)[0] if byte == b"\xff" else 0
        if not byte:
            raise ValueError("truncated file")
        if kind in (0, 0xFF):  # not a marker, or padding before one
            stream.seek(-1 if kind else 0, 1)
            junk += 1
        elif kind != 1 and not 0xD0 <= kind <= 0xD9:  # those have no length
            head = stream.read(7)
            if len(head) < 7:
                raise ValueError("truncated file")
            length, height, width = *struct.unpack(">H", head[:2]), *struct.unpack(">HH", head[3:])
            if kind == 0xDA and size is not None:
                return Scan(*size, size[0] * size[1])
            if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
                size = (width, height)
            stream.seek(max(length, 2) - 7, 1)
    raise ValueError("damaged data")


def scan_webp(stream: BinaryIO) -> Scan:
    """Canvas size of a WebP file. Raises ValueError where the header is damaged or the file is cut short."""
    size = stream.seek(0, 2)
    stream.seek(4)
    announced = int.from_bytes(stream.read(4), "little")
    stream.seek(12)
    head = stream.read(18)
    if len(head) < 18 or size < announced + 8:
        raise ValueError("truncated file")
    kind, alpha = head[:4], False
    lossless = kind == b"VP8L"
    if kind == b"VP8X":
        alpha = bool(head[8] & 16)
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (12, 15))
        stream.seek(30)
        lossless = set(_bitstreams(stream, announced + 8)) == {b"VP8L"}
    elif kind == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        width, height, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (14, 16))
    else:
        raise ValueError("no picture chunk")
    return Scan(width, height, width * height, has_alpha=alpha, lossless=lossless)


def _bitstreams(stream: BinaryIO, end: int) -> Iterator[bytes]:
    """Chunk types of the coded pictures from here to ``end``, ``VP8 `` (lossy) or ``VP8L``: one, or each frame's."""
    for _ in range(_MAX_CHUNKS):
        if stream.tell() >= end or len(head := stream.read(8)) < 8:
            return
        kind, size = struct.unpack("<4sL", head)
        if kind in (b"VP8 ", b"VP8L"):
            yield kind
        # The coded picture of an animation's frame lies behind 16 bytes of its own.
        stream.seek(16 if kind == b"ANMF" else size + size % 2, 1)


def scan_gif(stream: BinaryIO) -> Scan:
    """Canvas of a GIF file and the extent of all its frames. Raises ValueError where the header is damaged.

    The canvas is the logical screen, grown to the first frame as browsers do; Pillow grows it for every frame, so what
    decoding may need is the union of all.
    """
    stream.seek(6)
    head = stream.read(7)
    if len(head) < 7:
        raise ValueError("truncated file")
    screen_w, screen_h, flags = struct.unpack("<HHB", head[:5])
    if flags & 128:
        stream.seek(3 << (flags & 7) + 1, 1)
    width, height = screen_w, screen_h
    most_w, most_h, frames, transparent, junk = width, height, 0, False, 0
    while (kind := stream.read(1)) not in (b"", b";"):
        if kind == b"!":
            if stream.read(1) == b"\xf9":
                block = stream.read(2)
                transparent |= len(block) == 2 and bool(block[1] & 1)
                stream.seek(block[0] - 1 if block else 0, 1)
            _skip_blocks(stream)
        elif kind == b",":
            box = stream.read(9)
            if len(box) < 9:
                break
            x, y, w, h, flags = struct.unpack("<HHHHB", box)
            most_w, most_h, frames = max(most_w, x + w), max(most_h, y + h), frames + 1
            if frames == 1:
                width, height = most_w, most_h
                transparent |= w < width or h < height
            stream.seek((3 << (flags & 7) + 1 if flags & 128 else 0) + 1, 1)
            _skip_blocks(stream)
        elif (junk := junk + 1) > _MAX_JUNK:
            raise ValueError("damaged data")
    if not frames:
        raise ValueError("no picture in it")
    return Scan(width, height, most_w * most_h, has_alpha=transparent)


def _skip_blocks(stream: BinaryIO) -> None:
    """Past a chain of GIF data blocks, each led by its length, ended by a zero."""
    while (size := stream.read(1)) and size[0]:
        stream.seek(size[0], 1)
