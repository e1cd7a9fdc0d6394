"""Entropy of a patch and entropy-to-bit (E2B), step 2 of Granular-DQ (paper, section 3.3).

The soft histogram is evaluated through a histogram of whole numbers (the kernel is interpolated between fine nodes),
so the entropy of a patch does not depend on the order of its pixels, the number of threads or the device.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BINS = 32
"""Centres of the soft histogram, evenly spaced over [0, 1]."""

SIGMA = 0.0255
"""Width of the Gaussian kernel, on a [0, 1] grey scale."""

SUBLEVELS = 32
"""Nodes per 8-bit grey level between which the kernel is interpolated; the entropy is within 2e-6 of the exact one."""

_GREY = np.array([2989, 5870, 1140], np.int32)  # ten thousandths; they sum to 9999, as in the release
_NODE = 10000  # grey units between two nodes, after multiplication by SUBLEVELS

E2B_BITS = (4, 5, 8)
"""Widths that entropy-to-bit gives: up to t_low, up to t_high, above."""

QUANTILES = (0.01, 0.99)
"""Quantiles of the training patches' entropy at which t_low and t_high are calibrated.

The paper's ablation prefers 0.5 and 0.9. What a low width costs a patch hardly follows its entropy in our networks
(rank correlation 0.13, against 0.31 for the controller; benchmarks/studies/entropy_quantiles.py, docs/method.md), so
the controller decides nearly alone: its middle class is 5 bits for all but the flattest and the busiest patches."""


@lru_cache(maxsize=1)
def grey_kernel() -> NDArray[np.float64]:
    """(255 * SUBLEVELS + 2, BINS) kernel values of every node at every bin centre."""
    grey = np.arange(255 * SUBLEVELS + 2) / (255 * SUBLEVELS)
    distance = (grey[:, None] - np.linspace(0, 1, BINS)) / SIGMA
    return np.maximum(np.exp(-0.5 * distance**2), 1e-40)


def grey_sums(patch: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The soft histogram of one patch, not yet divided by anything; ``engines.kernels`` has it compiled.

    Args:
        patch: (H, W, 3) uint8 RGB.

    Returns:
        (BINS,), summed node by node, dark to bright: on every machine in the same order.
    """
    grey = patch.reshape(-1, 3) @ _GREY  # 0 .. 9999 * 255, exact
    node, beyond = np.divmod(grey * SUBLEVELS, _NODE)
    nodes = 255 * SUBLEVELS + 2
    histogram = np.bincount(node, _NODE - beyond, nodes) + np.bincount(node + 1, beyond, nodes)  # whole numbers
    used = np.flatnonzero(histogram)
    # NumPy adds rows one by one; along a row it would add in pairs.
    sums: NDArray[np.float64] = np.add.reduce(histogram[used, None] * grey_kernel()[used], axis=0)
    return sums


def entropies(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropies of patches, in nats; (N, BINS) of ``grey_sums`` -> (N,)."""
    share = sums / sums.sum(axis=1, keepdims=True) + 1e-40
    found: NDArray[np.float64] = -(share * np.log(share)).sum(axis=1)
    return found


def patch_entropy(patch: NDArray[np.uint8]) -> float:
    """Entropy of the grey values of one patch.

    Args:
        patch: (H, W, 3) uint8 RGB.

    Returns:
        Entropy in nats of the 32-bin soft histogram, between about 0.7 (flat) and ln 32 = 3.47.
    """
    return float(entropies(grey_sums(patch)[None])[0])


def entropy_to_bit(entropy: float, thresholds: tuple[float, float]) -> int:
    """Bit-width of a patch whose controller asked for 8 bits.

    Args:
        entropy: of the patch, in nats.
        thresholds: (t_low, t_high), in nats.

    Returns:
        4 if ``entropy <= t_low``, 5 if ``<= t_high``, else 8.
    """
    low, high = thresholds
    return E2B_BITS[0] if entropy <= low else E2B_BITS[1] if entropy <= high else E2B_BITS[2]
