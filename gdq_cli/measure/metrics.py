"""PSNR and SSIM on the luma, as super-resolution papers report them.

The luma is that of BT.601 in studio range, as MATLAB's ``rgb2ycbcr`` has it, but kept as a float: the field's PyTorch
code does the same, and rounding Y would add up to half a level of noise that no picture shows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PEAK = 255.0
"""Largest value of an 8-bit sample; the literature keeps it for studio-range luma, too."""

WINDOW_SIZE = 11
"""Side of SSIM's Gaussian window in pixels."""

WINDOW_SIGMA = 1.5
"""Standard deviation of SSIM's Gaussian window in pixels."""

_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2
_STRIP = 64  # window rows at a time: keeps the work in the cache and the memory small


Samples = NDArray[np.uint8] | NDArray[np.uint16]


def luma(image: Samples) -> NDArray[np.float64]:
    """Luma of an RGB image: ``Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255``, not rounded.

    Args:
        image: (H, W, 3) RGB, uint8, or uint16 whose 65535 is the 255 of the formula.

    Returns:
        (H, W) float64 in 16..235.
    """
    return 16 + image @ (np.array([65.481, 128.553, 24.966]) / np.iinfo(image.dtype).max)


def _lumas(sr: Samples, hr: Samples, shave: int, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check a pair of images and return their lumas without the border."""
    for name, image in (("sr", sr), ("hr", hr)):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"{name} must be an (H, W, 3) uint8 or uint16 image, not {image.shape} {image.dtype}")
    if sr.shape != hr.shape:
        raise ValueError(f"images differ in size: sr is {sr.shape[:2]}, hr is {hr.shape[:2]}")
    if shave < 0:
        raise ValueError(f"shave must be at least 0, not {shave}")
    height, width = sr.shape[0] - 2 * shave, sr.shape[1] - 2 * shave
    if min(height, width) < least:
        raise ValueError(f"images of {sr.shape[:2]} with {shave} shaved leave less than {least}x{least} pixels")
    inner = slice(shave, shave + height), slice(shave, shave + width)
    return luma(sr[inner]), luma(hr[inner])


def psnr_y(sr: Samples, hr: Samples, shave: int) -> float:
    """Peak signal-to-noise ratio of the luma, ``10 log10(255^2 / mse)``.

    Args:
        sr: (H, W, 3) RGB, as of `luma`.
        hr: ground truth of the same shape.
        shave: pixels left out on each side; the literature shaves as many as the scale.

    Returns:
        Decibels; infinity where the lumas are equal.

    Raises:
        ValueError: if the shapes differ, are not such images, or nothing is left after shaving.
    """
    sr_luma, hr_luma = _lumas(sr, hr, shave, 1)
    mse = float(np.mean((sr_luma - hr_luma) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(PEAK**2 / mse)


def _blur(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted means of all whole windows: (N, H, W) -> (N, H - 10, W - 10)."""
    reach = WINDOW_SIZE // 2
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / WINDOW_SIGMA) ** 2)
    taps /= taps.sum()
    for axis in (1, 2):
        length = planes.shape[axis] - 2 * reach
        views = [np.moveaxis(planes, axis, 0)[start : start + length] for start in range(WINDOW_SIZE)]
        total = views[reach] * taps[reach]
        for step in range(reach):  # the window is symmetric: one product for two taps
            total += (views[step] + views[-1 - step]) * taps[step]
        planes = np.moveaxis(total, 0, axis)
    return planes


def ssim_y(sr: Samples, hr: Samples, shave: int) -> float:
    """Structural similarity of the luma (Wang et al., 2004): Gaussian window 11 x 11, sigma 1.5, K1 0.01, K2 0.03.

    Only windows that lie in the (shaved) image count, and variances are population variances: what the authors'
    ``ssim.m`` computes, and scikit-image with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``.

    Args:
        sr: (H, W, 3) RGB, as of `luma`.
        hr: ground truth of the same shape.
        shave: pixels left out on each side; the literature shaves as many as the scale.

    Returns:
        Mean similarity, at most 1.

    Raises:
        ValueError: if the shapes differ, are not such images, or less than one window is left after shaving.
    """
    sr_luma, hr_luma = _lumas(sr, hr, shave, WINDOW_SIZE)
    overlap = WINDOW_SIZE - 1
    rows, cols = (side - overlap for side in sr_luma.shape)
    total = 0.0
    for row in range(0, rows, _STRIP):
        x, y = sr_luma[row : row + _STRIP + overlap], hr_luma[row : row + _STRIP + overlap]
        mean_x, mean_y, mean_squares, mean_product = _blur(np.stack([x, y, x * x + y * y, x * y]))
        product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
        covariance, variances = mean_product - product, mean_squares - squares
        similarity = (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
        total += float(similarity.sum())
    return total / float(rows * cols)
