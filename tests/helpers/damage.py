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
