"""What the controller of the authors' release sees of a patch: the mean of the head features, three times.

The release pools the features at three granularities and then averages each over space. Pooling and averaging are
linear, so all three vectors are the mean over the largest top-left rectangle whose sides are multiples of 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CELL = 4  # pixels that the coarsest granularity averages on each axis


@dataclass(frozen=True)
class ReleaseHead:
    """A head convolution without bias on uncentred pixels and zero padding.

    Attributes:
        weight: (C, 3, k, k) float32, k odd.
    """

    weight: NDArray[np.float32]

    def mean_features(self, core: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean of the head features of a patch seen alone.

        The mean of a convolution is a weighted sum of box sums of pixels, which are whole numbers; the products are
        exact in float64 and summed with one rounding, so the result is the same on every machine.

        Args:
            core: (H, W, 3) uint8.

        Returns:
            (C,) float64. A side shorter than 4 is averaged as a whole (the release fails there).
        """
        height, width, _ = core.shape
        rows, cols = (side // _CELL * _CELL or side for side in (height, width))
        sums = np.zeros((height + 1, width + 1, 3), np.int64)
        np.cumsum(np.cumsum(core, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
        reach = self.weight.shape[-1] // 2
        offsets = np.arange(-reach, reach + 1)
        top, bottom = offsets.clip(0, height), (rows + offsets).clip(0, height)
        left, right = offsets.clip(0, width), (cols + offsets).clip(0, width)
        boxes = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)] - sums[np.ix_(bottom, left)]
        boxes = (boxes + sums[np.ix_(top, left)]).transpose(2, 0, 1)
        products = self.weight.astype(np.float64) * boxes
        return np.array([math.fsum(channel.ravel()) / (rows * cols) for channel in products])

    def descriptors(self, cores: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Descriptors of patch cores, (N, H, W, 3) uint8 -> (N, 3 * C)."""
        return np.array([np.tile(self.mean_features(core), 3) for core in cores]).reshape(len(cores), -1)
