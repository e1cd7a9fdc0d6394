"""Image file directories (IFDs): the tag tables that TIFF files consist of and that EXIF blocks borrow.

Entries keep their values as raw bytes in the byte order of their source, so what is copied is copied exactly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
# A value of each type, as ``struct`` calls it.
CODES = {BYTE: "B", ASCII: "s", SHORT: "H", LONG: "L", RATIONAL: "LL", 6: "b", UNDEFINED: "s", 8: "h", 9: "l", 10: "ll"}
CODES |= {11: "f", 12: "d", 13: "L", LONG8: "Q", 17: "q", 18: "Q"}
_SIZES = {kind: struct.calcsize("<" + code) for kind, code in CODES.items()}
_LAYOUTS = {False: ("H", "HHL4s", "L"), True: ("Q", "HHQ8s", "Q")}  # number of records, record and link; in BigTIFF
_MAX_ENTRIES = 4096
_MAX_VALUE = 1 << 26

Fetch = Callable[[int, int], bytes]
"""fetch(offset, size): that many bytes of the file or block, fewer at its end."""


@dataclass(frozen=True)
class Entry:
    """One tag: its number, the type and count of its values, and the values as raw bytes (or a nested directory)."""

    tag: int
    type: int
    count: int
    value: bytes
    children: tuple[Entry, ...] | None = None
    at: int = 0
    """Offset of the entry's record in its source."""
    value_at: int = 0
    """Offset of the values: within the record where they fit it."""

    def number(self, order: str) -> int:
        """The first value of a tag of whole numbers without a sign. Raises ValueError for any other type."""
        code = CODES[self.type]
        if code not in {"B", "H", "L", "Q"}:
            raise ValueError(f"tag {self.tag} is not an integer")
        return int(struct.unpack_from(order + code, self.value)[0])


@dataclass(frozen=True)
class Directory:
    """The tags of one directory; entries of unknown type or with values out of reach are left out."""

    entries: tuple[Entry, ...]
    at: int
    """Offset of the directory in its source."""
    link: int
    """Offset of its link to the next directory."""
    following: int
    """Offset of the next directory, 0 when it is the last."""


@dataclass(frozen=True)
class TagSource:
    """A TIFF file or an EXIF block."""

    fetch: Fetch
    order: str
    """``<`` or ``>``."""
    big: bool = False
    """BigTIFF layout (64-bit counts and offsets)."""

    def read(self, offset: int) -> Directory:
        """The directory that starts at an offset. Raises ValueError where there is none."""
        head, record, pointer = (self.order + part for part in _LAYOUTS[self.big])
        head_size, record_size = struct.calcsize(head), struct.calcsize(record)
        start = self.fetch(offset, head_size)
        if len(start) < head_size:
            raise ValueError("directory out of reach")
        count = struct.unpack(head, start)[0]
        if not 0 < count <= _MAX_ENTRIES:
            raise ValueError(f"directory of {count} entries")
        first = offset + head_size
        table = self.fetch(first, count * record_size + struct.calcsize(pointer))
        if len(table) < count * record_size:
            raise ValueError("directory cut short")
        entries = []
        for at in range(0, count * record_size, record_size):
            tag, kind, values, inline = struct.unpack_from(record, table, at)
            size = _SIZES.get(kind, 0) * values
            if not 0 < size <= _MAX_VALUE:
                continue
            value, value_at = inline[:size], first + at + record_size - len(inline)
            if size > len(inline):
                value_at = struct.unpack(pointer, inline)[0]
                value = self.fetch(value_at, size)
            if len(value) == size:
                entries.append(Entry(tag, kind, values, value, at=first + at, value_at=value_at))
        following = table[count * record_size :]
        last = len(following) < struct.calcsize(pointer)  # cut off where the link would be
        link = first + count * record_size
        return Directory(tuple(entries), offset, link, 0 if last else struct.unpack(pointer, following)[0])


def pack_ifd(entries: Iterable[Entry], order: str, at: int, *, big: bool = False) -> bytes:
    """One directory with its values and nested directories, laid out for offset ``at`` of the file.

    The link to the next directory is 0; it lies at ``at + next_link(len(entries))``.
    """
    ordered = sorted(entries, key=lambda entry: entry.tag)
    head, record, pointer = (order + part for part in _LAYOUTS[big])
    pointer_size = struct.calcsize(pointer)
    table = bytearray(struct.pack(head, len(ordered)))
    heap_at = at + next_link(len(ordered), big=big) + pointer_size
    heap = bytearray()
    for entry in ordered:
        kind, count, value = entry.type, entry.count, entry.value
        if len(heap) % 2:
            heap += b"\0"
        here = heap_at + len(heap)
        if entry.children is not None:
            kind, count, value = LONG8 if big else LONG, 1, struct.pack(pointer, here)
            heap += pack_ifd(entry.children, order, here, big=big)
        elif len(value) > pointer_size:
            value = struct.pack(pointer, here)
            heap += entry.value
        table += struct.pack(record, entry.tag, kind, count, value)
    return bytes(table) + bytes(pointer_size) + bytes(heap)


def next_link(count: int, *, big: bool = False) -> int:
    """Offset, from the start of a directory of ``count`` entries, of its link to the next directory."""
    return 8 + 20 * count if big else 2 + 12 * count


def numbers(tag: int, values: Iterable[int], order: str, kind: int = LONG) -> Entry:
    """An entry of SHORT, LONG or LONG8 values."""
    data = tuple(values)
    return Entry(tag, kind, len(data), struct.pack(f"{order}{len(data)}{CODES[kind]}", *data))
