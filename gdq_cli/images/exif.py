"""EXIF blocks: read the orientation, and rewrite one so that it is true of an upscaled picture.

A block is edited in place, byte for byte, because maker notes hold offsets that a re-serialised block would break.
"""

from __future__ import annotations

import struct

from gdq_cli.images.tags import (
    EXIF_IFD,
    GPS_IFD,
    INTEROP_IFD,
    LONG,
    SHORT,
    Entry,
    Fetch,
    fetch_from,
    pack_ifd,
    read_ifd,
)

PREFIX = b"Exif\0\0"
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_STRIP_OFFSETS, _STRIP_SIZES, _THUMB_OFFSET, _THUMB_SIZE = 0x0111, 0x0117, 0x0201, 0x0202
# Tags of a TIFF directory that tell of the picture and not of how its pixels are laid out in the file:
# description, make, model, software, date, artist, host, copyright, rating, Windows' own, and the nested directories.
_DESCRIPTIVE = frozenset(
    {270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095}
    | {EXIF_IFD, GPS_IFD, INTEROP_IFD}
)


def strip_prefix(block: bytes) -> bytes:
    """The TIFF-structured block without the ``Exif\\0\\0`` that JPEG (and some writers elsewhere) put before it."""
    while block.startswith(PREFIX):
        block = block[len(PREFIX) :]
    return block


def _open(block: bytes) -> tuple[str, int]:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8 or struct.unpack_from(order + "H", block, 2)[0] != 42:
        raise ValueError("not an EXIF block")
    return order, struct.unpack_from(order + "L", block, 4)[0]


def read_orientation(block: bytes) -> int | None:
    """The orientation tag as it is (1 to 8 have a meaning); None when absent.

    Raises:
        ValueError: the block is damaged.
    """
    order, first = _open(block)
    entries, _ = read_ifd(fetch_from(block), first, order)
    return next((entry.number(order) for entry in entries if entry.tag == _ORIENTATION), None)


def rewrite(block: bytes, height: int, width: int) -> bytes:
    """The block with orientation 1, the sizes of an upscaled picture, and without its thumbnail.

    Only tags that are there are changed. The thumbnail's bytes are cut off at the block's end and zeroed elsewhere.

    Raises:
        ValueError: the block is damaged.
    """
    order, first = _open(block)
    fetch = fetch_from(block)
    entries, second = read_ifd(fetch, first, order)
    out = bytearray(block)
    sizes = {_WIDTH: width, _HEIGHT: height, _PIXEL_X: width, _PIXEL_Y: height}
    nested = [entry.number(order) for entry in entries if entry.tag == EXIF_IFD and entry.type in (LONG, 13)]
    for offset in nested:
        try:
            entries = entries + read_ifd(fetch, offset, order)[0]
        except ValueError:
            continue  # a pointer to nowhere: leave it as it is
    for entry in entries:
        if entry.tag == _ORIENTATION:
            struct.pack_into(order + "HLHH", out, entry.at + 2, SHORT, 1, 1, 0)
        elif entry.tag in sizes and entry.type in (SHORT, LONG):
            # As LONG: an upscaled side need not fit 16 bits, and one value of either type lies in the record itself.
            struct.pack_into(order + "HLL", out, entry.at + 2, LONG, 1, sizes[entry.tag])
    if second:
        struct.pack_into(order + "L", out, first + 2 + 12 * _count(block, first, order), 0)
        _erase_thumbnail(out, fetch, second, order)
    return bytes(out)


def _count(block: bytes, offset: int, order: str) -> int:
    return int(struct.unpack_from(order + "H", block, offset)[0])


def _erase_thumbnail(out: bytearray, fetch: Fetch, offset: int, order: str) -> None:
    try:
        entries, _ = read_ifd(fetch, offset, order)
    except ValueError:
        return
    found = {entry.tag: entry.number(order) for entry in entries if entry.type in (SHORT, LONG) and entry.count == 1}
    spans = [(offset, 2 + 12 * len(entries) + 4)]
    for start, size in ((_THUMB_OFFSET, _THUMB_SIZE), (_STRIP_OFFSETS, _STRIP_SIZES)):
        if start in found and size in found:
            spans.append((found[start], found[size]))
    for start, size in sorted(spans, reverse=True):
        if start + size >= len(out) > start > 8:
            del out[start:]
        elif 8 < start < len(out):
            out[start : start + size] = bytes(size)


def descriptive_entries(fetch: Fetch, offset: int, order: str, *, big: bool = False) -> list[Entry]:
    """The tags of a TIFF directory that tell of the picture, the EXIF, GPS and interoperability directories nested.

    Raises:
        ValueError: no directory there.
    """
    return _nest(fetch, read_ifd(fetch, offset, order, big=big)[0], order, big, depth=0)


def _nest(fetch: Fetch, entries: list[Entry], order: str, big: bool, depth: int) -> list[Entry]:
    kept = []
    for entry in entries:
        if depth == 0 and entry.tag not in _DESCRIPTIVE:
            continue
        if entry.tag in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
            try:
                children = read_ifd(fetch, entry.number(order), order, big=big)[0] if depth < 2 else []
            except ValueError:
                continue
            kept.append(Entry(entry.tag, LONG, 1, b"", tuple(_nest(fetch, children, order, big, depth + 1))))
        elif entry.type <= 13:  # the 64-bit types of BigTIFF have no place in EXIF
            kept.append(entry)
    return kept


def entries_of(block: bytes) -> tuple[list[Entry], str]:
    """What of an EXIF block goes into a TIFF file's own directory, and the byte order of the values.

    Raises:
        ValueError: the block is damaged.
    """
    order, first = _open(block)
    return descriptive_entries(fetch_from(block), first, order), order


def build(entries: list[Entry], order: str) -> bytes | None:
    """An EXIF block of these entries; None when there are none."""
    if not entries:
        return None
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8) + pack_ifd(entries, order, 8)
