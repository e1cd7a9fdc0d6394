"""Patch geometry: which pixels get one bit-width. What the network sees around them is in ``windows``.

Pure integer geometry in LR pixels; knows no network. One axis is solved at a time, both are combined at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PATCH_SIZE = 96
"""Target side of a core in LR pixels: the test patch of the paper (supplement, implementation details)."""

HALO = 4
"""LR pixels of context around a core, where a checkpoint asks for no others: what joins of networks for clean pictures
leave is measured by benchmarks/studies/seams.py."""

MAX_HALO = 64
"""The most that a checkpoint may ask for."""


class Box(NamedTuple):
    """A rectangle of LR pixels."""

    y: int
    x: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.height * self.width

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        """Where it lies in a picture of ``scale`` times the size."""
        y, x = self.y * scale, self.x * scale
        return slice(y, y + self.height * scale), slice(x, x + self.width * scale)


@dataclass(frozen=True)
class Patch:
    """One patch: its place in the grid and its core, which is its own."""

    index: int
    core: Box

    @property
    def core_slices(self) -> tuple[slice, slice]:
        """Where the core lies in the image."""
        return self.core.slices()


@dataclass(frozen=True)
class PatchPlan:
    """How an image of ``size`` is divided. Cores tile it; networks see ``halo`` pixels of context around them.

    Attributes:
        rows, cols: where the cores lie on each axis.
    """

    size: tuple[int, int]
    halo: int
    rows: tuple[range, ...]
    cols: tuple[range, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and columns of patches."""
        return len(self.rows), len(self.cols)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def __getitem__(self, index: int) -> Patch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = self.rows[index // len(self.cols)], self.cols[index % len(self.cols)]
        return Patch(index, Box(row.start, col.start, len(row), len(col)))

    def __iter__(self) -> Iterator[Patch]:
        return (self[index] for index in range(len(self)))


def _plan_axis(side: int, patch_size: int) -> tuple[range, ...]:
    """Divide one axis evenly."""
    core_size = -(-side // max(1, round(side / patch_size)))
    return tuple(range(start, min(start + core_size, side)) for start in range(0, side, core_size))


def plan_patches(size: tuple[int, int], *, patch_size: int = PATCH_SIZE, halo: int = HALO) -> PatchPlan:
    """Divide an image evenly into patches.

    Each axis gets ``max(1, round(side / patch_size))`` cores of equal size (the last one is clipped to the image).

    Args:
        size: (H, W) of the LR image, both at least 1.
        patch_size: target side of a core, at least 1.
        halo: pixels of context on each side, at least 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    if min(size) < 1 or patch_size < 1 or halo < 0:
        raise ValueError(f"cannot divide size {size} into patches of {patch_size} with halo {halo}")
    return PatchPlan(size, halo, _plan_axis(size[0], patch_size), _plan_axis(size[1], patch_size))
