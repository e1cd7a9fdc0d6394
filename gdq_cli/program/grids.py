"""Code ranges and the two weight grids, as facts and in NumPy; ``networks.quantizers`` has the differentiable side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDE_MAX = 127
"""Largest weight code of the wide grid, used by 8-bit patches and by the static layers."""

WINOGRAD_MAX = 127
"""Largest code of an F(2x2, 3x3)-transformed weight: the narrow grid is the finest one that stays within it."""

WINOGRAD_G = ((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1))
"""Integer weight transform of Winograd F(2x2, 3x3): rows 1 and 2 of the usual G, doubled (Lavin and Gray, 2016)."""


def code_range(bit_width: int, *, signed: bool) -> tuple[int, int]:
    """Return the smallest and the largest code.

    >>> code_range(4, signed=True), code_range(4, signed=False)
    ((-8, 7), (0, 15))
    """
    if not 2 <= bit_width <= 16:
        raise ValueError(f"bit_width must be between 2 and 16, not {bit_width}")
    return (-(1 << (bit_width - 1)), (1 << (bit_width - 1)) - 1) if signed else (0, (1 << bit_width) - 1)


def uses_narrow_grid(bit_width: int) -> bool:
    """Whether a bit-width takes its weights from the narrow grid: all widths that fit the Winograd kernel."""
    return bit_width <= 6


def weight_codes(weight: NDArray[np.float32], step: NDArray[np.float32], limit: int = WIDE_MAX) -> NDArray[np.float32]:
    """Quantize a weight (O, I, 3, 3) to integers in ``[-limit, limit]``, with one step (O,) per output channel."""
    codes: NDArray[np.float32] = np.rint(np.clip(weight / step.reshape(-1, 1, 1, 1), -limit, limit))
    return codes


def fits_narrow_grid(codes: NDArray[np.float32]) -> bool:
    """Whether all transformed weights of (O, I, 3, 3) codes fit the Winograd kernel's int8."""
    for axis in (2, 3):  # G along rows, then along columns, as sums: thousands of 3x3 products take numpy far longer
        first, middle, last = np.moveaxis(codes, axis, 0)
        codes = np.stack([first, first + middle + last, first - middle + last, last], axis)
    return bool(np.abs(codes).max() <= WINOGRAD_MAX)
