"""Damaged copies of files."""

from __future__ import annotations

import numpy as np


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, overwritten (anywhere or in the header), shortened or lengthened inside."""
    kind, out = rng.integers(0, 5), bytearray(data)
    if kind == 0:
        return bytes(out[: rng.integers(0, len(out))])
    if kind in (1, 2):
        reach = len(out) if kind == 1 else min(len(out), 300)
        for _ in range(rng.integers(1, 8)):
            out[rng.integers(0, reach)] = rng.integers(0, 256)
    at, length = int(rng.integers(0, len(out))), int(rng.integers(1, 64))
    if kind == 3:
        del out[at : at + length]
    if kind == 4:
        out[at:at] = rng.bytes(length)
    return bytes(out)


def twist(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Damage that keeps more of a file's order: numbers at their limits, parts repeated, moved, or of another file."""
    kind, out = rng.integers(0, 5), bytearray(data)
    at, length = int(rng.integers(0, len(out))), int(rng.integers(1, 200))
    part = bytes(out[at : at + length])
    if kind == 0:
        size = int(rng.choice([1, 2, 4, 8]))
        top = 2 ** (8 * size - 1)
        number = (0, 1, top - 1, top, 2 * top - 1)[rng.integers(0, 5)]
        at = int(rng.integers(0, min(len(out), 400)))
        out[at : at + size] = number.to_bytes(size, str(rng.choice(["big", "little"])))  # type: ignore[arg-type]
    elif kind == 1:
        out[at:at] = part * int(rng.integers(1, 300))
    elif kind == 2:
        del out[at : at + length]
        place = int(rng.integers(0, len(out) + 1))
        out[place:place] = part
    elif kind == 3:
        place = int(rng.integers(0, len(other)))
        out[at : at + length] = other[place : place + length]
    else:
        for bit in rng.integers(0, 8 * len(out), int(rng.integers(1, 12))):
            out[bit // 8] ^= 1 << bit % 8
    return bytes(out)
