"""Image file directories (IFDs): the tag tables that TIFF files consist of and that EXIF blocks borrow.

Entries keep their values as raw bytes in the byte order of their source, so what is copied is copied exactly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MAX_ENTRIES = 4096
_MAX_VALUE = 1 << 26

EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005

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

    def number(self, order: str) -> int:
        """The first value of an integer tag. Raises ValueError for any other type."""
        code = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}.get(self.type)
        if code is None or len(self.value) < struct.calcsize(order + code):
            raise ValueError(f"tag {self.tag} is not an integer")
        return int(struct.unpack_from(order + code, self.value)[0])


def fetch_from(block: bytes) -> Fetch:
    """A ``Fetch`` over bytes in memory."""
    return lambda offset, size: block[offset : offset + size] if offset >= 0 else b""


def read_ifd(fetch: Fetch, offset: int, order: str, *, big: bool = False) -> tuple[list[Entry], int]:
    """Read one directory; entries of unknown type or with values out of reach are left out.

    Args:
        fetch: access to the source.
        offset: where the directory starts.
        order: ``<`` or ``>``.
        big: BigTIFF layout (64-bit counts and offsets).

    Returns:
        The entries, and the offset of the next directory (0 when it is the last).

    Raises:
        ValueError: no directory there.
    """
    head, record, pointer = ("Q", "HHQ8s", "Q") if big else ("H", "HHL4s", "L")
    head_size, record_size = struct.calcsize(order + head), struct.calcsize(order + record)
    start = fetch(offset, head_size)
    if len(start) < head_size:
        raise ValueError("directory out of reach")
    count = struct.unpack(order + head, start)[0]
    if not 0 < count <= _MAX_ENTRIES:
        raise ValueError(f"directory of {count} entries")
    table = fetch(offset + head_size, count * record_size + struct.calcsize(order + pointer))
    if len(table) < count * record_size:
        raise ValueError("directory cut short")
    entries = []
    for index in range(count):
        tag, kind, values, inline = struct.unpack_from(order + record, table, index * record_size)
        size = _TYPE_SIZES.get(kind, 0) * values
        if not 0 < size <= _MAX_VALUE:
            continue
        value = inline[:size] if size <= len(inline) else fetch(struct.unpack(order + pointer, inline)[0], size)
        if len(value) == size:
            entries.append(Entry(tag, kind, values, value, at=offset + head_size + index * record_size))
    following = table[count * record_size :]
    last = len(following) < struct.calcsize(order + pointer)  # cut off where the link would be
    return entries, 0 if last else int(struct.unpack(order + pointer, following)[0])


def pack_ifd(entries: Iterable[Entry], order: str, at: int, *, big: bool = False) -> bytes:
    """One directory with its values and nested directories, laid out for offset ``at`` of the file.

    The link to the next directory is 0; it lies at ``at + next_link(len(entries))``.
    """
    ordered = sorted(entries, key=lambda entry: entry.tag)
    head, record, pointer = ("Q", "HHQ", "Q") if big else ("H", "HHL", "L")
    pointer_size = struct.calcsize(order + pointer)
    table = bytearray(struct.pack(order + head, len(ordered)))
    heap_at = at + next_link(len(ordered), big=big) + pointer_size
    heap = bytearray()
    for entry in ordered:
        if len(heap) % 2:
            heap += b"\0"
        here = struct.pack(order + pointer, heap_at + len(heap))
        if entry.children is not None:
            table += struct.pack(order + record, entry.tag, LONG8 if big else LONG, 1) + here
            heap += pack_ifd(entry.children, order, heap_at + len(heap), big=big)
            continue
        table += struct.pack(order + record, entry.tag, entry.type, entry.count)
        if len(entry.value) <= pointer_size:
            table += entry.value.ljust(pointer_size, b"\0")
        else:
            table += here
            heap += entry.value
    return bytes(table) + bytes(pointer_size) + bytes(heap)


def next_link(count: int, *, big: bool = False) -> int:
    """Offset, from the start of a directory of ``count`` entries, of its link to the next directory."""
    return 8 + 20 * count if big else 2 + 12 * count


def numbers(tag: int, values: Iterable[int], order: str, kind: int = LONG) -> Entry:
    """An entry of SHORT, LONG or LONG8 values."""
    data = tuple(values)
    code = {SHORT: "H", LONG: "L", LONG8: "Q"}[kind]
    return Entry(tag, kind, len(data), struct.pack(f"{order}{len(data)}{code}", *data))
