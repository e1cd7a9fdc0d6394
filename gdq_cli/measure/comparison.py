"""Two pictures of one size against each other: how far apart they are, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdq_cli.measure.metrics import WINDOW_SIZE, psnr_y, ssim_y

GAINS = (64, 32, 16, 8, 4, 2, 1)
"""Factors by which a difference picture may be brightened; the largest one under which nothing saturates is taken."""

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """How far two pictures are apart.

    Attributes:
        psnr_y: decibels; infinite for equal lumas.
        ssim_y: at most 1; None where a picture is smaller than SSIM's window.
        largest: difference of any sample of any channel, 0 to 255.
        where: (y, x) of the first pixel that has it.
        share: of samples that differ at all.
    """

    psnr_y: float
    ssim_y: float | None
    largest: int
    where: tuple[int, int]
    share: float


def compare_images(first: U8, second: U8, shave: int = 0) -> Comparison:
    """Compare two pictures; everything but ``shave`` pixels on each side counts.

    Args:
        first: (H, W, 3) uint8 RGB.
        second: of the same shape.
        shave: pixels left out on each side.

    Raises:
        ValueError: if they differ in size or nothing is left after shaving.
    """
    psnr = psnr_y(first, second, shave)
    fits = min(first.shape[:2]) - 2 * shave >= WINDOW_SIZE
    difference = absolute_difference(first, second)
    inner = difference[shave : first.shape[0] - shave, shave : first.shape[1] - shave]
    y, x, _ = np.unravel_index(int(inner.argmax()), inner.shape)
    return Comparison(
        psnr,
        ssim_y(first, second, shave) if fits else None,
        int(inner.max()),
        (int(y) + shave, int(x) + shave),
        float(np.count_nonzero(inner) / inner.size),
    )


def absolute_difference(first: U8, second: U8) -> U8:
    """Difference of each sample without its sign; two pictures of one shape -> the same shape."""
    return np.maximum(first, second) - np.minimum(first, second)


def difference_picture(first: U8, second: U8) -> tuple[U8, int]:
    """Difference as a picture, black where both are equal, and the factor it is brightened by."""
    difference = absolute_difference(first, second)
    largest = int(difference.max())
    gain = next(gain for gain in GAINS if gain * largest <= 255)
    return difference * np.uint8(gain), gain
