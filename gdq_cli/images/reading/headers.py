"""Facts that Pillow does not tell, tells too late, or searches for without end: read straight from the raw file."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_KEPT_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI"}) | _TEXT_CHUNKS
_MAX_KEPT = 1 << 23  # bytes of text and colour chunks that are kept; prompts of generated pictures are a few kB
_MAX_PROFILE = 1 << 25  # bytes of an unpacked colour profile; those of printers are a few MB
# Blocks that ImageMagick, from before PNG had chunks for them, and ExifTool pack into text; APP1 is of two kinds.
_PACKED = {
    "Raw profile type exif": "exif",
    "Raw profile type xmp": "xmp",
    "Raw profile type APP1": "",
    "Raw profile type icc": "icc_profile",
    "Raw profile type icm": "icc_profile",
    "Raw profile type iptc": "iptc",
    "Raw profile type 8bim": "8bim",
}
_COMMENT, _GIF_ICC, _GIF_XMP = b"", b"ICCRGBG1012", b"XMP DataXMP"  # what some extensions of a GIF begin with
_GIF_XMP_END = b"\1\xff\xfe"  # of bytes that count down, so that readers of blocks find their way out
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"  # of XMP in a segment of a JPEG file
_PRIMARIES, _TRANSFERS = {1, *range(4, 13), 22}, {1, *range(4, 19)}  # of ITU-T H.273
_ANIMATION_CHUNKS = frozenset({b"acTL", b"fcTL", b"fdAT"})
_SHOWN_CHUNKS = frozenset({b"tRNS", b"pHYs"})  # besides those of the pixels; Pillow refuses pictures for faulty others
# Those whose loss nobody sees: dates, backgrounds, and what helps to decode or to reduce colours.
_IDLE_CHUNKS = frozenset({b"tIME", b"bKGD", b"sBIT", b"hIST", b"sPLT", b"oFFs", b"vpAg", b"caNv", b"orNT", b"iDOT"})
_MAX_NAMED = 10

# Bytes between the segments of a JPEG or the blocks of a GIF that belong to neither. Pillow skips any number of them,
# one by one, which takes minutes for a large file that is damaged near its start.
_MAX_JUNK = 1 << 18
_MAX_CHUNKS = 1 << 16  # of a WebP file that are looked at
_MAX_PARTS, _PART_BYTES = 1 << 16, 64  # parts of other files: so many, and one more for every so many bytes of a file
_CANVASES = 4  # that the decoder of an animation holds at once


@dataclass(frozen=True)
class GifFrame:
    """Where a frame of a GIF lies, in the file and on the canvas."""

    box: tuple[int, int, int, int]
    """Left, top, width and height."""
    start: int
    """Of its descriptor, in bytes."""
    stop: int
    control: bytes
    """Flags, delay and transparent colour: 4 bytes."""

    @property
    def disposal(self) -> int:
        """What becomes of its area before the next frame is drawn, as the format numbers it."""
        return self.control[0] >> 2 & 7

    @property
    def duration_ms(self) -> float:
        """How long it is shown."""
        return 10.0 * int.from_bytes(self.control[1:3], "little")


@dataclass(frozen=True)
class Scan:
    """What a look at the raw file found, in so far as Pillow does not tell. Sizes in pixels."""

    width: int = 0
    height: int = 0
    largest: int | None = None
    """Pixels that decoding holds at once: of the largest canvas, several times in an animation. None where Pillow tells
    the sizes."""
    bit_depth: int = 8
    has_alpha: bool = False
    lossless: bool = False
    plays: int = 1
    """AVIF: how often an animation is shown, 0 for endlessly."""
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks to keep; comments of a GIF as such."""
    exif: bytes | None = None
    """PNG: the eXIf chunk, one behind the pixels included."""
    xmp: bytes | None = None
    """PNG and GIF: the XMP packet, one behind the pixels included."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What Pillow does not tell of a PNG, GIF or BMP: the colour profile; of a PNG also ``iptc`` and ``8bim``; of an
    AVIF ``aspect``."""
    cicp: bytes | None = None
    """PNG and AVIF: see ``Metadata.cicp``."""
    cuts: tuple[tuple[int, int], ...] = ()
    """PNG: (start, stop) of the chunks that Pillow is not shown."""
    notes: tuple[str, ...] = ()
    """What is left out, one line each."""
    frames: tuple[GifFrame, ...] = ()
    """GIF: all of them."""


def tells_colours(primaries: int, transfer: int) -> bool:
    """Whether numbers of a colour tag have a meaning. Encoders refuse others; 2 stands for unspecified."""
    return primaries in _PRIMARIES and transfer in _TRANSFERS


def pack_cicp(primaries: int, transfer: int) -> bytes | None:
    """See ``Metadata.cicp``; None for sRGB and where the numbers have no meaning."""
    tells = tells_colours(primaries, transfer) and (primaries, transfer) != (1, 13)
    return bytes((primaries, transfer, 0, 1)) if tells else None


class _Parts:
    """Counts the parts of a file. Ones without content cost time and memory, and there may be millions of them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._left = _MAX_PARTS + stream.seek(0, 2) // _PART_BYTES

    def count(self) -> None:
        """One more. Raises ValueError where there are too many for the file."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("more parts than a picture has")


def walk_png(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, offset and length of the payloads of a PNG's chunks, each while the stream stands at it."""
    kind, at = b"", 8
    while kind != b"IEND":
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">L4s", head)
        yield kind, at + 8, length
        at += length + 12


def scan_png(stream: BinaryIO) -> Scan:
    """Walk a PNG's chunks without decoding. Raises ValueError where the header is damaged."""
    parts = _Parts(stream)
    stream.seek(8)
    head = stream.read(25)
    if len(head) < 25 or head[4:8] != b"IHDR":
        raise ValueError("truncated file" if len(head) < 25 else "no header chunk")
    width, height, depth, colour = struct.unpack(">LLBB", head[8:18])
    chunks: list[tuple[bytes, bytes]] = []
    cuts: list[tuple[int, int]] = []
    notes: dict[str, None] = {}
    left: dict[str, None] = {}
    transparent, animated, whole = colour in (4, 6), False, False
    for kind, at, length in walk_png(stream):
        parts.count()
        animated |= kind == b"acTL"
        whole = kind == b"IEND" and len(stream.read(4)) == 4
        if kind[0] & 32 and kind not in _ANIMATION_CHUNKS:  # none that the pixels need
            payload, sound = _read_payload(stream, kind, length)
            if not sound:
                notes[f"the {kind.decode('latin-1')} chunk is damaged; it is left out"] = None
            elif kind in (*_KEPT_CHUNKS, b"iCCP", b"eXIf", b"cICP"):
                chunks.append((kind, payload))
            elif kind not in (*_SHOWN_CHUNKS, *_IDLE_CHUNKS):
                left[kind.decode("latin-1") + " (C2PA, content credentials)" * (kind == b"caBX")] = None
            if not sound or kind not in _SHOWN_CHUNKS:
                cuts.append((at - 8, at + length + 4))
            transparent |= sound and kind == b"tRNS"
    if not whole:
        notes["the end of the file is missing; all pixels are there"] = None
    if left:
        notes[f"chunks that are left out: {', '.join(itertools.islice(left, _MAX_NAMED))}"] = None
    found = _sort_chunks(chunks, notes)
    largest = width * height * (_CANVASES if animated else 1)
    return Scan(width, height, largest, depth, transparent, cuts=tuple(cuts), notes=tuple(notes), **found)


def _read_payload(stream: BinaryIO, kind: bytes, length: int) -> tuple[bytes, bool]:
    """A chunk's payload, or its first `_MAX_PROFILE` bytes, and whether all of it is there and its checksum holds."""
    payload, checksum, rest = b"", zlib.crc32(kind), length
    while rest and (part := stream.read(min(rest, _MAX_PROFILE))):
        payload, checksum, rest = payload or part, zlib.crc32(part, checksum), rest - len(part)
    return payload, not rest and stream.read(4) == struct.pack(">L", checksum)


def _sort_chunks(chunks: list[tuple[bytes, bytes]], notes: dict[str, None]) -> dict[str, Any]:
    """The fields of a `Scan` that PNG chunks fill; what cannot be kept is noted."""
    kept: list[tuple[bytes, bytes]] = []
    info: dict[str, Any] = {}
    found: dict[str, Any] = {"info": info}
    packed: dict[str, bytes] = {}
    room = _MAX_KEPT
    for kind, payload in chunks:
        name = payload.partition(b"\0")[0].decode("latin-1")
        if kind == b"eXIf":
            found["exif"] = payload
        elif kind == b"cICP":
            found["cicp"] = payload if len(payload) == 4 and tells_colours(*payload[:2]) else None
            if found["cicp"] is None:
                notes["the cICP chunk tells of no known colours; it is left out"] = None
        elif kind == b"iCCP":
            info["icc_profile"] = _text_of(kind, payload, _MAX_PROFILE)
            if info["icc_profile"] is None:
                notes["the colour profile is damaged or too large; it is left out"] = None
        elif name == "XML:com.adobe.xmp":
            found["xmp"] = _text_of(kind, payload, _MAX_KEPT)
            if found["xmp"] is None:
                notes["the XMP packet is damaged or too large; it is left out"] = None
        elif name in _PACKED:
            field, data = _unpack_block(_PACKED[name], _text_of(kind, payload, _MAX_PROFILE))
            if data:
                packed.setdefault(field, data)
            else:
                notes[f"the text {name!r} is damaged or of an unknown kind; it is left out"] = None
        elif len(payload) <= room:
            room -= len(payload)
            kept.append((kind, payload))
        else:
            notes[f"more than {_MAX_KEPT >> 20} MB of text; what is beyond that is left out"] = None
    for field, data in packed.items():
        fields = found if field in ("exif", "xmp") else info
        fields[field] = fields.get(field) or data  # a chunk of its own counts more
    return {**found, "chunks": tuple(kept)}


def _unpack_block(kind: str, text: bytes | None) -> tuple[str, bytes]:
    """The kind and the bytes of a block in hexadecimal digits, behind an empty line, the name and the size.

    No bytes, where it is damaged or of an unknown kind.
    """
    try:
        block = bytes.fromhex("".join((text or b"").decode("latin-1").split("\n")[3:]))
    except ValueError:
        return kind, b""
    if block.startswith(_XMP_HEAD):
        return "xmp", block.removeprefix(_XMP_HEAD)
    kind = kind or ("exif" if block.startswith(b"Exif\0\0") else "")
    return kind, block if kind else b""


def _text_of(kind: bytes, payload: bytes, limit: int) -> bytes | None:
    """What a text or profile chunk holds, unpacked; None where that is damaged or more than ``limit`` bytes.

    Behind the name and a 0 lies the text (tEXt); or the method of compression, 0, and the packed text (zTXt, iCCP); or
    compressed?, method, language, 0, translated name, 0, and the text (iTXt).
    """
    data = payload.partition(b"\0")[2]
    if kind == b"iTXt":
        fields = data[2:].split(b"\0", 2)
        if not data[:1].strip(b"\0"):
            return fields[-1] if len(fields) == 3 else None
        data = fields[-1]
    elif kind != b"tEXt":
        data = data[1:]
    else:
        return data
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, limit)
    except zlib.error:
        return None
    return text if unpacker.eof else None


def scan_jpeg(stream: BinaryIO) -> Scan:
    """Size of a JPEG file. Raises ValueError where the segments before the picture are damaged."""
    parts = _Parts(stream)
    stream.seek(2)
    size, junk = None, 0
    while junk < _MAX_JUNK:
        byte = stream.read(1)
        mark = stream.read(1) if byte == b"\xff" else byte and b"\0"
        if not mark:
            raise ValueError("truncated file")
        kind = mark[0]
        if kind in (0, 0xFF):  # not a marker, or padding before one
            stream.seek(-1 if kind else 0, 1)
            junk += 1
        elif kind != 1 and not 0xD0 <= kind <= 0xD9:  # those have no length
            parts.count()
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
    kind, alpha, animated = head[:4], False, False
    lossless = kind == b"VP8L"
    if kind == b"VP8X":
        alpha, animated = bool(head[8] & 16), bool(head[8] & 2)
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
    largest = width * height * (_CANVASES if animated else 1)
    return Scan(width, height, largest, has_alpha=alpha, lossless=lossless)


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


def scan_avif(stream: BinaryIO) -> Scan:
    """Bits, colours, shape of pixels and showings of an AVIF file."""
    stream.seek(0)
    head = stream.read(1 << 16)
    colours, codec = head.find(b"colrnclx"), head.find(b"av1C")
    numbers = struct.unpack_from(">HH", head, colours + 8) if 0 <= colours < len(head) - 12 else (2, 2)
    flags = head[codec + 6] if 0 <= codec < len(head) - 6 else 0  # bit 6: high depth, bit 5: twelve bits
    depth = (12 if flags & 32 else 10) if flags & 64 else 8
    shape = head.find(b"pasp")
    info = {"aspect": struct.unpack_from(">LL", head, shape + 4)[::-1]} if 0 <= shape < len(head) - 12 else {}
    told = {
        "a gain map in the file is left out": b"tmap" in head[:64],
        "the crop that the file tells of (clap) is not applied": b"clap" in head,
    }
    notes = tuple(note for note, tells in told.items() if tells)
    return Scan(bit_depth=depth, plays=_count_avif_plays(head), cicp=pack_cicp(*numbers), info=info, notes=notes)


def _count_avif_plays(head: bytes) -> int:
    """How often an AVIF animation is shown, 0 for endlessly, as browsers do where the file does not tell."""
    track, edit = head.find(b"tkhd"), head.find(b"elst")

    def number(box: int, after: int, times: int) -> int:
        """A length in the box that begins here, behind some bytes and some numbers that are as wide as itself."""
        size = 8 if head[box + 4] else 4
        at = box + 8 + after + times * size
        return int.from_bytes(head[at : at + size], "big")

    if not 0 <= track < edit < len(head) - 24:
        return 0
    if not head[edit + 7] & 1:  # the edit list is not repeated
        return 1
    whole, once = number(track, 8, 2), number(edit, 4, 0)
    endless = whole in (2**32 - 1, 2**64 - 1) or not once
    return 0 if endless else -(-whole // once)


def scan_gif(stream: BinaryIO) -> Scan:
    """Canvas and frames of a GIF file. Raises ValueError where the header is damaged.

    The canvas is the logical screen, grown to the first frame as browsers do. Others may reach beyond it, and are
    decoded in full.
    """
    parts = _Parts(stream)
    stream.seek(6)
    head = stream.read(7)
    if len(head) < 7:
        raise ValueError("truncated file")
    width, height, flags = struct.unpack("<HHB", head[:5])
    if flags & 128:
        stream.seek(3 << (flags & 7) + 1, 1)
    frames: list[GifFrame] = []
    told: dict[bytes, bytes] = {}  # chains of blocks, as they lie in the file
    control, junk = bytes(4), 0
    while (kind := stream.read(1)) not in (b"", b";"):
        if kind == b"!":
            start, label = stream.tell() + 1, stream.read(1)
            if label == b"\xf9":
                control = stream.read((stream.read(1) or b"\0")[0])[:4].ljust(4, b"\0")
            _skip_blocks(stream, parts)
            if label in (b"\xff", b"\xfe"):
                size = stream.tell() - start
                stream.seek(start)
                data = stream.read(max(size, 0))
                name = data[1:12] if label == b"\xff" else _COMMENT
                if name in (_COMMENT, _GIF_ICC, _GIF_XMP):
                    told.setdefault(name, data[12 * (label == b"\xff") :][:_MAX_PROFILE])
        elif kind == b",":
            start = stream.tell()
            box = stream.read(9)
            if len(box) < 9:
                break
            x, y, w, h, flags = struct.unpack("<HHHHB", box)
            stream.seek((3 << (flags & 7) + 1 if flags & 128 else 0) + 1, 1)
            _skip_blocks(stream, parts)
            if not frames:
                width, height = max(width, x + w), max(height, y + h)
            frames.append(GifFrame((x, y, w, h), start, stream.tell(), control))
            control = bytes(4)
        elif (junk := junk + 1) > _MAX_JUNK:
            raise ValueError("damaged data")
    if not frames:
        raise ValueError("no picture in it")
    right, bottom = (max(frame.box[side] + frame.box[side + 2] for frame in frames) for side in (0, 1))
    largest = max(width, right) * max(height, bottom) * (_CANVASES if len(frames) > 1 else 1)
    notes = () if kind == b";" else ("the end of the file is missing; it may have had more frames",)
    return Scan(
        width,
        height,
        largest,
        has_alpha=_shows_through(frames, width, height),
        chunks=((b"tEXt", b"Comment\0" + _join_blocks(told[_COMMENT])),) if _COMMENT in told else (),
        xmp=told.get(_GIF_XMP, b"").partition(_GIF_XMP_END)[0] or None,  # as it is, instead of in blocks
        info={"icc_profile": _join_blocks(told[_GIF_ICC])} if _GIF_ICC in told else {},
        notes=notes,
        frames=tuple(frames),
    )


def _shows_through(frames: list[GifFrame], width: int, height: int) -> bool:
    """Whether a frame of a GIF may leave a part of the canvas transparent."""
    covers = [frame.box[:2] == (0, 0) and frame.box[2] >= width and frame.box[3] >= height for frame in frames]
    left = any(
        frame.disposal == 2 or (frame.disposal == 3 and frame is frames[0])
        for frame, covered in zip(frames, covers[1:], strict=False)
        if not covered
    )
    return left or not covers[0] or any(frame.control[0] & 1 for frame in frames)


def _join_blocks(data: bytes) -> bytes:
    """What a chain of GIF data blocks holds."""
    parts, at = [], 0
    while size := sum(data[at : at + 1]):
        parts.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(parts)


def _skip_blocks(stream: BinaryIO, parts: _Parts) -> None:
    """Past a chain of GIF data blocks, each led by its length, ended by a zero."""
    while (size := stream.read(1)) and size[0]:
        parts.count()
        stream.seek(size[0], 1)


def scan_bmp(stream: BinaryIO) -> Scan:
    """The colour profile of a BMP file, behind its pixels; and whether they have transparency that Pillow ignores."""
    stream.seek(14)
    head = stream.read(124)
    if int.from_bytes(head[:4], "little") >= 56 and head[14:16] == b"\x10\0" and any(head[52:56]):  # the mask of alpha
        return Scan(notes=("the transparency of 16-bit pixels is not read",))
    if head[56:60] != b"DEBM" or len(head) < 124:
        return Scan()
    at, size = struct.unpack_from("<LL", head, 112)
    stream.seek(14 + at)
    return Scan(info={"icc_profile": stream.read(min(size, _MAX_PROFILE))})
