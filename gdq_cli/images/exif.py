"""EXIF blocks: read the orientation, and rewrite one so that it is true of an upscaled picture.

A block is edited in place, byte for byte, because maker notes hold offsets that a re-serialised block would break.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

from PIL.ExifTags import IFD, Interop
from PIL.ExifTags import Base as Tag

from gdq_cli.images.tags import (
    ASCII,
    CODES,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    TagSource,
    numbers,
    pack_ifd,
)
from gdq_cli.images.turn import Turn
from gdq_cli.images.xmp import turn_subject

PREFIX = b"Exif\0\0"
_SUBJECT_AREA = 0x9214
_RESOLUTION = Tag.XResolution, Tag.YResolution
_FOCAL_RESOLUTION = Tag.FocalPlaneXResolution, Tag.FocalPlaneYResolution
_SIZES: tuple[int, ...] = Tag.ImageWidth, Tag.ImageLength, Tag.ExifImageWidth, Tag.ExifImageHeight
_SIZES += Interop.RelatedImageWidth, Interop.RelatedImageHeight
# How the samples of the small picture's file were coded: bits, compression, colours, strips, tiles and the like.
_CODING = frozenset({258, 259, 262, 273, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339, 530, 0x9102})
_NESTED = {IFD.Exif, IFD.GPSInfo, IFD.Interop}
_MAX_DIRECTORIES = 16
# Tags of a TIFF directory that tell of the picture and not of how its pixels are laid out in the file:
# name, description, make, model, page, software, date, artist, host, white point, primaries, copyright, rating,
# Windows' own, and the nested directories.
_DESCRIPTIVE = frozenset(
    {269, 270, 271, 272, 285, 305, 306, 315, 316, 318, 319, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095}
    | _NESTED
)
# Those that tell of the layout, those that are read apart (IPTC, Photoshop, ICC, XMP), and the page's number.
_LAYOUT = frozenset(
    {*range(254, 260), *range(262, 267), 273, 274, *range(277, 285), *range(288, 294), 296, 297, 317, *range(320, 329)}
    | {330, 332, 333, 334, 336, *range(338, 348), *range(512, 522), *range(529, 533), 559, 700, *range(32995, 32999)}
    | {33723, 34377, 34675}
)
_OTHERS = {
    **dict.fromkeys((33550, 33922, 34264, 34735, 34736, 34737), "GeoTIFF"),
    **dict.fromkeys((42112, 42113), "GDAL"),
    **dict.fromkeys((50838, 50839), "ImageJ"),
    301: "TransferFunction",
    37724: "Photoshop layers",
}


def strip_prefix(block: bytes) -> bytes:
    """The TIFF-structured block without the ``Exif\\0\\0`` that JPEG (and some writers elsewhere) put before it."""
    while block.startswith(PREFIX):
        block = block[len(PREFIX) :]
    return block


def _open(block: bytes) -> tuple[TagSource, Directory]:
    """A block and its first directory. Raises ValueError where it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8 or struct.unpack_from(order + "H", block, 2)[0] != 42:
        raise ValueError("not an EXIF block")
    source = TagSource(lambda offset, size: block[offset : offset + size], order)
    return source, source.read(struct.unpack_from(order + "L", block, 4)[0])


def read_orientation(block: bytes) -> int | None:
    """The orientation tag, in whatever type it is stored (1 to 8 have a meaning); None when absent or no number.

    Raises:
        ValueError: the block is damaged.
    """
    source, directory = _open(block)
    return next((_any_number(entry, source.order) for entry in directory.entries if entry.tag == Tag.Orientation), None)


def read_density(block: bytes) -> tuple[float, float] | None:
    """Horizontal and vertical dots per inch; None when a part of that is absent or no number.

    Raises:
        ValueError: the block is damaged.
    """
    source, directory = _open(block)
    found = {entry.tag: entry for entry in directory.entries}
    unit = _any_number(found[Tag.ResolutionUnit], source.order) if Tag.ResolutionUnit in found else 2  # inches
    inch = {2: 1.0, 3: 2.54}.get(unit or 0)
    values = [found[tag].value for tag in _RESOLUTION if tag in found and found[tag].type == RATIONAL]
    if inch is None or len(values) < len(_RESOLUTION):
        return None
    (x, x_divisor), (y, y_divisor) = (struct.unpack_from(source.order + "LL", value) for value in values)
    return (inch * x / x_divisor, inch * y / y_divisor) if x_divisor and y_divisor else None


def tell_adobe_rgb(block: bytes) -> bytes | None:
    """A block that tells of Adobe RGB and nothing else, where this one does as cameras do; else None."""
    with suppress(ValueError):
        source, first = _open(block)
        entries = (entry for directory in _directories(source, first) for entry in directory.entries)
        if any(entry.tag == Interop.InteropIndex and entry.value.startswith(b"R03") for entry in entries):
            index = Entry(IFD.Interop, LONG, 1, b"", (Entry(Interop.InteropIndex, ASCII, 4, b"R03\0"),))
            space = numbers(Tag.ColorSpace, (0xFFFF,), "<", SHORT)
            return build([Entry(IFD.Exif, LONG, 1, b"", (space, index))], "<")
    return None


def _any_number(entry: Entry, order: str) -> int | None:
    """The first value of a tag, as a number."""
    try:
        if entry.type == ASCII:
            return int(entry.value.rstrip(b"\0 ") or b"0")
        if entry.type == UNDEFINED:
            return int.from_bytes(entry.value[:4], "little" if order == "<" else "big")
        value, *divisor = struct.unpack_from(order + CODES[entry.type], entry.value)
        return int(value // divisor[0] if divisor else value)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None


def rewrite(block: bytes, turn: Turn) -> bytes:
    """The block of an upscaled picture: upright, with its sizes and places in pixels, without its thumbnail.

    Only tags that are there are changed. Removed are places that their tags cannot hold, and what tells how samples
    were coded. The thumbnail's bytes are cut off at the block's end and zeroed elsewhere, those excepted that belong
    to a tag as well.

    Args:
        block: of the picture that was read.
        turn: what became of that.

    Raises:
        ValueError: the block is damaged.
    """
    source, first = _open(block)
    order = source.order
    out = bytearray(block)
    if first.following:
        struct.pack_into(order + "L", out, first.link, 0)
    sizes = dict(zip(_SIZES, 3 * turn.out[::-1], strict=True))
    for directory in _directories(source, first):
        _scale(out, directory.entries, order, turn)
        for entry in sorted(directory.entries, key=lambda entry: -entry.at):  # as removing moves what follows
            if entry.tag == Tag.Orientation:
                struct.pack_into(order + "HLHH", out, entry.at + 2, SHORT, 1, 1, 0)
            elif entry.tag in sizes:  # of whatever type: as LONG, as an upscaled side need not fit 16 bits
                struct.pack_into(order + "HLL", out, entry.at + 2, LONG, 1, sizes[entry.tag])
            elif entry.tag in _CODING or (
                entry.tag in (_SUBJECT_AREA, Tag.SubjectLocation) and not _move_subject(out, entry, order, turn)
            ):
                end, count = directory.link + 4, struct.unpack_from(order + "H", out, directory.at)[0]
                # A block has at least one tag; of directories that lie over each other one may have lost all already.
                if count > (directory is first):
                    out[entry.at : end] = out[entry.at + 12 : end] + bytes(12)
                    struct.pack_into(order + "H", out, directory.at, count - 1)
    if first.following:
        _erase_thumbnail(out, source, first.following, sorted(_spans(source, first)))
    return bytes(out)


def _move_subject(out: bytearray, entry: Entry, order: str, turn: Turn) -> bool:
    """Have a place move with the pixels. Whether its tag can hold it."""
    code, largest = {SHORT: ("H", 0xFFFF), LONG: ("L", 0xFFFFFFFF)}.get(entry.type, ("", 0))
    if not code or not 2 <= entry.count <= 4:
        return True
    layout = f"{order}{entry.count}{code}"
    moved = [round(value) for value in turn_subject(list(struct.unpack(layout, entry.value)), turn)]
    fits = min(moved) >= 0 and max(moved) <= largest
    if fits:
        struct.pack_into(layout, out, entry.value_at, *moved)
    return fits


def _scale(out: bytearray, entries: tuple[Entry, ...], order: str, turn: Turn) -> None:
    """Pixels per length: of the sensor times the factor; of print as they are; both exchanged where the sides are."""
    found = {entry.tag: entry for entry in entries if entry.type == RATIONAL and entry.count == 1}
    for tags, factors in ((_FOCAL_RESOLUTION, turn.factors), (_RESOLUTION, (1.0, 1.0))):
        here = {
            tag: factor for tag, factor in zip(tags, factors, strict=True) if tag in found
        }  # some write one of both
        values = [found[tag].value for tag in (reversed(here) if turn.swaps else here)]
        for (tag, factor), value in zip(here.items(), values, strict=True):
            at = found[tag].value_at
            out[at : at + 8] = _times(value, factor, order)


def _times(value: bytes, factor: float, order: str) -> bytes:
    """A RATIONAL times a factor."""
    numerator, denominator = struct.unpack(order + "LL", value)
    if not denominator or factor == 1:
        return value
    product = Fraction(numerator, denominator) * Fraction(factor).limit_denominator(10**6)
    limit = 2**32 - 1
    if product > limit:
        return value
    while max(product.numerator, product.denominator) > limit:
        product = product.limit_denominator(max(1, min(limit, product.denominator) // 2))
    return struct.pack(order + "LL", product.numerator, product.denominator)


def _directories(source: TagSource, first: Directory) -> list[Directory]:
    """The first directory and those nested in it, each once; of a block made to cost, no more than a camera's has."""
    found, todo = {first.at: first}, [first]
    while todo:
        pointers = [entry for entry in todo.pop().entries if entry.tag in _NESTED and entry.type in (LONG, 13)]
        for pointer in pointers[: len(_NESTED)]:
            at = pointer.number(source.order)
            if at not in found and len(found) < _MAX_DIRECTORIES:
                with suppress(ValueError):  # a pointer to nowhere: it stays as it is
                    found[at] = source.read(at)
                    todo.append(found[at])
    return list(found.values())


def _spans(source: TagSource, first: Directory) -> Iterator[tuple[int, int]]:
    """(start, stop) of all that belongs to the tags of the first directory and of those nested in it."""
    yield 0, 8
    for directory in _directories(source, first):
        yield directory.at, directory.link + 4
        for entry in directory.entries:
            yield entry.value_at, entry.value_at + len(entry.value)


def _erase_thumbnail(out: bytearray, source: TagSource, offset: int, kept: list[tuple[int, int]]) -> None:
    """Remove the second directory and the picture that it points to, but nothing of the spans ``kept``, sorted."""
    try:
        directory = source.read(offset)
    except ValueError:
        return
    single = (entry for entry in directory.entries if entry.type in (SHORT, LONG) and entry.count == 1)
    found = {entry.tag: entry.number(source.order) for entry in single}
    spans = [(offset, directory.link + 4)]
    for place, size in ((Tag.JpegIFOffset, Tag.JpegIFByteCount), (Tag.StripOffsets, Tag.StripByteCounts)):
        stale = place == Tag.JpegIFOffset and source.fetch(found.get(place, 0), 2) != b"\xff\xd8"  # no JPEG there
        if place in found and size in found and not stale:
            spans.append((found[place], found[place] + found[size]))
    for start, stop in sorted((piece for span in spans for piece in _without(span, kept)), reverse=True):
        if stop >= len(out):
            del out[start:]
        else:
            out[start:stop] = bytes(stop - start)


def _without(span: tuple[int, int], kept: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The pieces of a span that no other one, of these in order, covers."""
    at, end = span
    for start, stop in kept:
        if at < min(start, end):
            yield at, min(start, end)
        at = max(at, stop)
    if at < end:
        yield at, end


def descriptive_entries(source: TagSource, directory: Directory) -> list[Entry]:
    """The tags of a TIFF directory that tell of the picture, the EXIF, GPS and interoperability directories nested."""
    return _nest(source, directory.entries, depth=0)


def titles_of_others(directory: Directory) -> list[str]:
    """Names, or numbers, of the tags of a TIFF directory that tell neither of the picture nor of its pixels' layout."""
    tags = {entry.tag for entry in directory.entries} - _DESCRIPTIVE - _LAYOUT
    return list(dict.fromkeys(_OTHERS.get(tag, str(tag)) for tag in sorted(tags)))


def _nest(source: TagSource, entries: tuple[Entry, ...], depth: int) -> list[Entry]:
    kept, nested = [], set()
    for entry in entries:
        if depth == 0 and entry.tag not in _DESCRIPTIVE:
            continue
        if entry.tag in _NESTED:
            if entry.tag in nested:  # once, as a block made to cost has it thousands of times, in each of them
                continue
            nested.add(entry.tag)
            try:
                children = source.read(entry.number(source.order)).entries if depth < 2 else ()
            except ValueError:
                continue
            kept.append(Entry(entry.tag, LONG, 1, b"", tuple(_nest(source, children, depth + 1))))
        elif entry.type <= 13:  # the 64-bit types of BigTIFF have no place in EXIF
            kept.append(entry)
    return kept


def entries_of(block: bytes) -> tuple[list[Entry], str]:
    """What of an EXIF block goes into a TIFF file's own directory, and the byte order of the values.

    Raises:
        ValueError: the block is damaged.
    """
    source, directory = _open(block)
    return descriptive_entries(source, directory), source.order


def build(entries: list[Entry], order: str) -> bytes | None:
    """An EXIF block of these entries; None when there are none."""
    if not entries:
        return None
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8) + pack_ifd(entries, order, 8)
