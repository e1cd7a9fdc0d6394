"""Code ranges and the grids of weights, as facts and in NumPy; ``networks.quantizers`` has the differentiable side."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Grid = Literal["wide", "narrow", "coarse"]
"""Where a layer's weights lie. 8-bit codes go with the wide grid. The others are the finest ones whose weights fit int8
after a Winograd transform: narrow that of F(2x2, 3x3), which takes codes of up to 6 bits, coarse that of F(4x4, 3x3)
over the Gaussian integers, which is faster and takes 4 bits."""

WIDE_MAX = 127
"""Largest weight code."""

TRANSFORMED_MAX = 127
"""Largest code of a transformed weight."""


def _gaussian_forms() -> list[NDArray[np.int64]]:
    """Up to sign the 46 sums of a 3x3 kernel that F(4x4, 3x3) multiplies at the points 0, 1, -1, i, -i and infinity.

    A complex u + iv stands for three real ones; those of -i, its conjugates, are left out where data are real.
    """
    real = ((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1))
    re, im = (1, 0, -1), (0, 1, 0)

    def three(u: NDArray[np.int64], v: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [u, v - u, u + v]

    forms = [np.outer(rows, columns) for rows in real for columns in real]
    for one in real:
        forms += three(np.outer(one, re), np.outer(one, im)) + three(np.outer(re, one), np.outer(im, one))
    for sign in (1, -1):
        forms += three(np.outer(re, re) - sign * np.outer(im, im), np.outer(im, re) + sign * np.outer(re, im))
    return forms


WINOGRAD_G = ((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1))
"""Integer weight transform of Winograd F(2x2, 3x3): rows 1 and 2 of the usual G, doubled (Lavin and Gray, 2016)."""

TRANSFORMS: dict[Grid, NDArray[np.float32]] = {
    "narrow": np.kron(WINOGRAD_G, WINOGRAD_G).astype(np.float32),
    "coarse": np.reshape(_gaussian_forms(), (46, 9)).astype(np.float32),
}
"""Of the grids that are bound to one: (sums, 9), what the kernel makes of the nine weights of a 3x3 kernel."""


def code_range(bit_width: int, *, signed: bool) -> tuple[int, int]:
    """Return the smallest and the largest code.

    >>> code_range(4, signed=True), code_range(4, signed=False)
    ((-8, 7), (0, 15))
    """
    if not 2 <= bit_width <= 16:
        raise ValueError(f"bit_width must be between 2 and 16, not {bit_width}")
    return (-(1 << (bit_width - 1)), (1 << (bit_width - 1)) - 1) if signed else (0, (1 << bit_width) - 1)


def weight_grid(bit_width: int, four_bits: Grid = "narrow") -> Grid:
    """The grid of the weights that codes of a bit-width meet, in a network whose 4-bit patches use ``four_bits``."""
    if bit_width > 6:
        return "wide"
    return four_bits if bit_width <= 4 else "narrow"


def check_four_bit_grid(grid: Grid) -> None:
    """Raise ValueError unless a grid is one that 4-bit patches can use."""
    if grid not in TRANSFORMS:
        raise ValueError(f"four_bit_grid must be {' or '.join(TRANSFORMS)}, not {grid!r}")


def weight_codes(weight: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantize a weight (O, I, 3, 3) to integers up to ``WIDE_MAX`` in size, with one step (O,) per output channel."""
    codes: NDArray[np.float32] = np.rint(np.clip(weight / step.reshape(-1, 1, 1, 1), -WIDE_MAX, WIDE_MAX))
    return codes


def fits_grid(codes: NDArray[np.float32], grid: Grid) -> bool:
    """Whether (O, I, 3, 3) codes fit int8 once the kernel of a grid has transformed them."""
    return bool(np.abs(codes.reshape(-1, 9) @ TRANSFORMS[grid].T).max() <= TRANSFORMED_MAX)
