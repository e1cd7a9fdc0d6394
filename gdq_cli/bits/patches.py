"""Patch geometry: which pixels get one bit-width. What the network sees around them is in ``windows``.

Pure integer geometry in LR pixels; knows no network. One axis is solved at a time, both are combined at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PATCH_SIZE = 96
"""Target side of a core in LR pixels: the test patch of the paper (supplement, implementation details)."""

HALO = 4
"""LR pixels of context around a core, where a checkpoint asks for no others: what joins of networks for clean pictures
leave is measured by benchmarks/studies/seams.py."""

MAX_HALO = 64
"""The most that a checkpoint may ask for."""


@dataclass(frozen=True)
class Segment:
    """A patch on one axis: its core, which is its own."""

    core: int
    core_stop: int

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
    """How an image of ``size`` is divided. Cores tile it; networks see ``halo`` pixels of context around them."""

    size: tuple[int, int]
    halo: int
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


def _plan_axis(side: int, patch_size: int) -> tuple[Segment, ...]:
    """Divide one axis evenly."""
    core_size = -(-side // max(1, round(side / patch_size)))
    return tuple(Segment(core, min(core + core_size, side)) for core in range(0, side, core_size))


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
