"""Windows: neighbouring patches of one bit-width, run at once, and the pixels around them that the network sees.

Context that two patches share is computed once, and no join lies between them. Which patches go together depends on the
bit-widths wanted and their prices alone: the same pixels for every number of threads, and for every engine that has the
same prices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.patches import Box, PatchPlan

MOST_PATCHES = 3
"""Patches on a side of a window at most: beyond it little context is saved, and memory grows with every thread."""


@dataclass(frozen=True)
class Window:
    """Patches that run together.

    Attributes:
        bit_width: of them all.
        patches: how many there are.
        core: their pixels.
        seen: what the network sees: ``core``, and ``halo`` pixels of context on every side that the image has.
    """

    bit_width: int
    patches: int
    core: Box
    seen: Box


def plan_windows(
    plan: PatchPlan,
    bit_widths: Sequence[int],
    prices: Mapping[int, float] | None = None,
    losses: NDArray[np.float64] | None = None,
) -> tuple[Window, ...]:
    """Put neighbouring patches into windows of at most ``MOST_PATCHES`` on a side.

    The grid is cut into blocks of this size, and each block by straight cuts into the windows that cost least, context
    included. A window has one bit-width. Where the context of a window of its own costs more than it gains, a patch
    gets another width than it was given: a wider one, or a narrower one, too, if it is known what bits are worth. All
    windows of as many rows and columns of patches have one shape: they are moved inwards where they would leave the
    image, so the zero padding of the convolutions stands only at its border, as in a whole-image run.

    Args:
        plan: of the image.
        bit_widths: one per patch.
        prices: what a pixel costs, by bit-width; of equal prices the widest is taken. Without them each patch keeps its
            own bit-width.
        losses: (N, widths of ``prices``): what each width costs each patch, in prices of a bit for all its pixels and
            the share of context that they have if all patches are alike.

    Returns:
        Windows whose cores tile the image.
    """
    rows, cols = plan.grid
    height, width = len(plan.rows[0]), len(plan.cols[0])

    def wanted_in(block: _Block) -> set[int]:
        spans = [slice(row * cols + block.left, row * cols + block.right) for row in range(block.top, block.bottom)]
        return {bits for span in spans for bits in bit_widths[span]}

    def window_of(block: _Block, bits: int) -> Window:
        y, y_stop = plan.rows[block.top].start, plan.rows[block.bottom - 1].stop
        x, x_stop = plan.cols[block.left].start, plan.cols[block.right - 1].stop
        seen_y, seen_height = _see(y, (block.bottom - block.top) * height, plan.size[0], plan.halo)
        seen_x, seen_width = _see(x, (block.right - block.left) * width, plan.size[1], plan.halo)
        core, seen = Box(y, x, y_stop - y, x_stop - x), Box(seen_y, seen_x, seen_height, seen_width)
        return Window(bits, block.patches, core, seen)

    def run_at_once(block: _Block, wanted: set[int]) -> tuple[float, Window]:
        """The window of all patches of a block, and what it costs."""
        window = window_of(block, max(wanted))
        if prices is None:
            return float(window.seen.pixels) if len(wanted) == 1 else math.inf, window
        lost = [0.0 if bits >= window.bit_width else math.inf for bits in prices]
        if weighed is not None:
            lost = weighed[block.top : block.bottom, block.left : block.right].sum(axis=(0, 1)).tolist()
        costs = (price * window.seen.pixels + loss for price, loss in zip(prices.values(), lost, strict=True))
        cost, narrowness = min(zip(costs, (-bits for bits in prices), strict=True))
        return cost, replace(window, bit_width=-narrowness)

    @cache
    def divide(block: _Block) -> tuple[float, tuple[Window, ...]]:
        """The windows of a block that cost least, and their price."""
        wanted = wanted_in(block)
        price, window = run_at_once(block, wanted)
        windows: tuple[Window, ...] = (window,)
        for one, other in block.cuts() if len(wanted) > 1 else ():  # else a cut adds context and saves nothing
            first, second = divide(one), divide(other)
            if first[0] + second[0] < price:
                price, windows = first[0] + second[0], first[1] + second[1]
        return price, windows

    tall, broad = _even(rows), _even(cols)
    corners = product(range(0, rows, tall), range(0, cols, broad))
    blocks = [_Block(top, min(top + tall, rows), left, min(left + broad, cols)) for top, left in corners]
    weighed: NDArray[np.float64] | None = None
    if prices is not None and losses is not None:
        bit_price = (max(prices.values()) - min(prices.values())) / (max(prices) - min(prices))
        seen = sum(window_of(block, 0).seen.pixels for block in blocks)
        weighed = (losses * (bit_price * (seen // len(plan)))).reshape(rows, cols, -1)
    return tuple(window for block in blocks for window in divide(block)[1])


class _Block(NamedTuple):
    """A rectangle of patches, by rows and columns of the grid."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def patches(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def cuts(self) -> Iterator[tuple[_Block, _Block]]:
        """All ways to cut it in two."""
        for row in range(self.top + 1, self.bottom):
            yield self._replace(bottom=row), self._replace(top=row)
        for col in range(self.left + 1, self.right):
            yield self._replace(right=col), self._replace(left=col)


def _even(count: int) -> int:
    """The most patches of a window on an axis of ``count``: as few windows as can be, and 2 + 2 rather than 3 + 1."""
    return -(-count // -(-count // MOST_PATCHES))


def _see(start: int, length: int, side: int, halo: int) -> tuple[int, int]:
    """Where a window begins and how long it is on one axis."""
    length = side if length >= side else min(side, length + 2 * halo)
    return min(max(start - halo, 0), side - length), length


def map_bits(plan: PatchPlan, windows: Iterable[Window]) -> NDArray[np.int64]:
    """(rows, cols): the bit-width at which each patch runs."""
    found = np.zeros(plan.grid, np.int64)
    tops, lefts = (np.array([side.start for side in sides]) for sides in (plan.rows, plan.cols))
    for window in windows:
        core = window.core
        rows = slice(*np.searchsorted(tops, (core.y, core.y + core.height)))
        cols = slice(*np.searchsorted(lefts, (core.x, core.x + core.width)))
        found[rows, cols] = window.bit_width
    return found


def count_pixels(windows: Iterable[Window]) -> Counter[int]:
    """LR pixels that networks see, by bit-width."""
    pixels: Counter[int] = Counter()
    for window in windows:
        pixels[window.bit_width] += window.seen.pixels
    return pixels


def cut_windows(image: NDArray[np.uint8], windows: Sequence[Window]) -> NDArray[np.uint8]:
    """Cut windows of one shape.

    Args:
        image: (H, W, 3) uint8.
        windows: N of it.

    Returns:
        (N, h, w, 3) uint8, contiguous.
    """
    return np.stack([image[window.seen.slices()] for window in windows])


def paste_core(target: NDArray[np.uint8], sr_window: NDArray[np.uint8], window: Window, scale: int) -> None:
    """Write the core of an upscaled window into the upscaled image, in place.

    Args:
        target: (H * scale, W * scale, 3).
        sr_window: (h * scale, w * scale, 3), the network's output for what ``window`` sees.
        window: of the LR image.
        scale: upscaling factor.
    """
    core, seen = window.core, window.seen
    inside = Box(core.y - seen.y, core.x - seen.x, *core.size)
    target[core.slices(scale)] = sr_window[inside.slices(scale)]
