"""Patch geometry: which pixels get one bit-width (the core) and which pixels the network sees for it (the window).

Pure integer geometry in LR pixels; knows no network. One axis is solved at a time, both are combined at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATCH_SIZE = 96
"""Target side of a core in LR pixels: the test patch of the paper (supplement, implementation details)."""

HALO = 4
"""LR pixels of context around a core, where a checkpoint asks for no others: joins of networks for clean pictures stay
72-74 dB close to the whole-image result (docs/method.md)."""

MAX_HALO = 64
"""The most that a checkpoint may ask for."""


@dataclass(frozen=True)
class Segment:
    """A core and its window on one axis: ``window <= core < core_stop <= window + window_size``."""

    core: int
    core_stop: int
    window: int

    @property
    def core_size(self) -> int:
        return self.core_stop - self.core


@dataclass(frozen=True)
class Patch:
    """One patch: its place in the grid and its segments, in LR pixels."""

    index: int
    row: Segment
    col: Segment

    @property
    def core_slices(self) -> tuple[slice, slice]:
        """Where the core lies in the image."""
        return slice(self.row.core, self.row.core_stop), slice(self.col.core, self.col.core_stop)


@dataclass(frozen=True)
class PatchPlan:
    """How an image of ``size`` is divided. Cores tile the image; all windows have the one shape ``window``."""

    size: tuple[int, int]
    window: tuple[int, int]
    rows: tuple[Segment, ...]
    cols: tuple[Segment, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and columns of patches."""
        return len(self.rows), len(self.cols)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def __getitem__(self, index: int) -> Patch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = divmod(index, len(self.cols))
        return Patch(index, self.rows[row], self.cols[col])

    def __iter__(self) -> Iterator[Patch]:
        return (self[index] for index in range(len(self)))


def _plan_axis(side: int, patch_size: int, halo: int) -> tuple[int, tuple[Segment, ...]]:
    """Divide one axis evenly; return the window size and the segments."""
    count = max(1, round(side / patch_size))
    core_size = -(-side // count)
    window_size = side if count == 1 else min(side, core_size + 2 * halo)
    segments = []
    for core in range(0, side, core_size):
        core_stop = min(core + core_size, side)
        window = min(max(core - halo, 0), side - window_size)
        segments.append(Segment(core, core_stop, window))
    return window_size, tuple(segments)


def plan_patches(size: tuple[int, int], *, patch_size: int = PATCH_SIZE, halo: int = HALO) -> PatchPlan:
    """Divide an image evenly into patches.

    Each axis gets ``max(1, round(side / patch_size))`` cores of equal size (the last one is clipped to the image).
    A window is the core plus ``halo`` on both sides, shifted inwards where it would leave the image, so the zero
    padding of the convolutions stands only at the border of the image, as in a whole-image run.

    Args:
        size: (H, W) of the LR image, both at least 1.
        patch_size: target side of a core, at least 1.
        halo: pixels of context on each side, at least 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    if min(size) < 1 or patch_size < 1 or halo < 0:
        raise ValueError(f"cannot divide size {size} into patches of {patch_size} with halo {halo}")
    window_height, rows = _plan_axis(size[0], patch_size, halo)
    window_width, cols = _plan_axis(size[1], patch_size, halo)
    return PatchPlan(size, (window_height, window_width), rows, cols)


def cut_windows(image: NDArray[np.uint8], plan: PatchPlan, indices: list[int]) -> NDArray[np.uint8]:
    """Cut the windows of some patches.

    Args:
        image: (H, W, 3) uint8.
        plan: of the same (H, W).
        indices: N patch indices.

    Returns:
        (N, h, w, 3) uint8, contiguous.
    """
    height, width = plan.window
    windows = np.empty((len(indices), height, width, image.shape[2]), image.dtype)
    for window, index in zip(windows, indices, strict=True):
        patch = plan[index]
        window[...] = image[patch.row.window : patch.row.window + height, patch.col.window : patch.col.window + width]
    return windows


def paste_core(target: NDArray[np.uint8], sr_window: NDArray[np.uint8], patch: Patch, scale: int) -> None:
    """Write the core of an upscaled window into the upscaled image, in place.

    Args:
        target: (H * scale, W * scale, 3).
        sr_window: (h * scale, w * scale, 3), the network's output for the window of ``patch``.
        patch: of the LR image.
        scale: upscaling factor.
    """
    row, col = patch.row, patch.col
    y, x = (row.core - row.window) * scale, (col.core - col.window) * scale
    height, width = row.core_size * scale, col.core_size * scale
    target[row.core * scale : row.core_stop * scale, col.core * scale : col.core_stop * scale] = sr_window[
        y : y + height, x : x + width
    ]
