"""Metadata as cameras and phones write it, and as odd programs do: EXIF blocks and XMP packets made by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping

Tag = tuple[int, int, bytes]
"""Type, count and values of an EXIF tag, little end first."""


def rationals(*values: tuple[int, int]) -> bytes:
    """Values of a RATIONAL tag."""
    return b"".join(struct.pack("<LL", *value) for value in values)


def pack_ifd(tags: Mapping[int, Tag], at: int, following: int = 0) -> bytes:
    """A directory for offset `at` of a block, and the values that do not fit its records."""
    heap_at, heap = at + 2 + 12 * len(tags) + 4, b""
    table = struct.pack("<H", len(tags))
    for number, (kind, count, value) in sorted(tags.items()):
        if len(value) > 4:
            inline = struct.pack("<L", heap_at + len(heap))
            heap += value + bytes(len(value) % 2)
        else:
            inline = value.ljust(4, b"\0")
        table += struct.pack("<HHL", number, kind, count) + inline
    return table + struct.pack("<L", following) + heap


def pack_block(
    first: Mapping[int, Tag], nested: Mapping[int, Tag], gps: Mapping[int, Tag], stale: int | None = None
) -> bytes:
    """An EXIF block with an EXIF and a GPS directory and a thumbnail.

    Args:
        first: tags of the first directory.
        nested: of the EXIF directory.
        gps: of the GPS directory.
        stale: 0 to 2: the thumbnail's pointer leads to the EXIF directory, the GPS directory or the make.
    """

    def pointers(exif_at: int, gps_at: int) -> dict[int, Tag]:
        return {**first, 0x8769: (4, 1, struct.pack("<L", exif_at)), 0x8825: (4, 1, struct.pack("<L", gps_at))}

    exif_at = 8 + len(pack_ifd(pointers(0, 0), 8))
    gps_at = exif_at + len(pack_ifd(nested, exif_at))
    second_at = gps_at + len(pack_ifd(gps, gps_at))
    thumb_at, size = second_at + 2 + 12 * 2 + 4, 40
    if stale is not None:
        thumb_at, size = (exif_at, gps_at, 8 + 2 + 12 * (len(first) + 2) + 4)[stale], 60
    second: dict[int, Tag] = {0x0201: (4, 1, struct.pack("<L", thumb_at)), 0x0202: (4, 1, struct.pack("<L", size))}
    return (
        b"II*\0\x08\0\0\0"
        + pack_ifd(pointers(exif_at, gps_at), 8, second_at)
        + pack_ifd(nested, exif_at)
        + pack_ifd(gps, gps_at)
        + pack_ifd(second, second_at)
        + b"\xff\xd8\xff\xd9" * 10
    )


def exif_tags(block: bytes) -> dict[int, bytes]:
    """Raw values of all tags of a little-endian block, those of its EXIF and GPS directories included."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    found: dict[int, bytes] = {}
    todo = [struct.unpack_from("<L", block, 4)[0]]
    while todo:
        at = todo.pop()
        for index in range(struct.unpack_from("<H", block, at)[0]):
            number, kind, count, inline = struct.unpack_from("<HHL4s", block, at + 2 + 12 * index)
            size = sizes[kind] * count
            start = struct.unpack("<L", inline)[0]
            found[number] = inline[:size] if size <= 4 else block[start : start + size]
            if number in (0x8769, 0x8825):
                todo.append(start)
    return found


def xmp_of_properties(namespaces: Mapping[str, str], attributes: str, elements: str = "") -> bytes:
    """An XMP packet of one description.

    Args:
        namespaces: by prefix.
        attributes: properties as attributes.
        elements: properties as elements.
    """
    declared = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in namespaces.items())
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {rdf}>'
        f'<rdf:Description rdf:about="" {declared} {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()
