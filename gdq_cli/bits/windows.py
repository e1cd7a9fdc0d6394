"""Windows: neighbouring patches of one bit-width, run at once, and the pixels around them that the network sees.

Context that two patches share is computed once, and no join lies between them. Which patches go together depends on the
bit map alone: the same pixels for every engine and number of threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.patches import PatchPlan

MOST_PATCHES = 3
"""Patches on a side of a window at most: beyond it little context is saved, and memory grows with every thread."""


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


def plan_windows(plan: PatchPlan, bit_widths: Sequence[int]) -> tuple[Window, ...]:
    """Join neighbouring patches of one bit-width to rectangles of at most ``MOST_PATCHES`` on a side.

    Patches are looked at row by row. One that belongs to no rectangle yet becomes the upper left corner of the one that
    costs least per patch, context included (half of it: the later a layer, the less it needs). All windows of as many
    rows and columns of patches have one shape: they are moved inwards where they would leave the image, so the zero
    padding of the convolutions stands only at its border, as in a whole-image run.

    Args:
        plan: of the image.
        bit_widths: one per patch.

    Returns:
        Windows whose cores tile the image.
    """
    rows, cols = plan.grid
    height, width = plan.rows[0].core_size, plan.cols[0].core_size
    left = [list(bit_widths[row * cols : (row + 1) * cols]) for row in range(rows)]  # 0: in a window already
    tallest, broadest = _even(rows), _even(cols)
    windows = []
    for row in range(rows):
        for col in range(cols):
            bits = left[row][col]
            if not bits:
                continue
            shapes, broad = [], broadest
            for tall in range(1, min(tallest, rows - row) + 1):
                line = left[row + tall - 1][col : col + broad]
                broad = next((i for i, other in enumerate(line) if other != bits), len(line))
                if not broad:
                    break
                cost = (tall * height + plan.halo) * (broad * width + plan.halo) / (tall * broad)
                shapes.append((cost, tall, broad))
            _, tall, broad = min(shapes)
            for line in left[row : row + tall]:
                line[col : col + broad] = [0] * broad
            y, y_stop = plan.rows[row].core, plan.rows[row + tall - 1].core_stop
            x, x_stop = plan.cols[col].core, plan.cols[col + broad - 1].core_stop
            seen_y, seen_height = _see(y, tall * height, plan.size[0], plan.halo)
            seen_x, seen_width = _see(x, broad * width, plan.size[1], plan.halo)
            seen = Box(seen_y, seen_x, seen_height, seen_width)
            windows.append(Window(bits, tall * broad, Box(y, x, y_stop - y, x_stop - x), seen))
    return tuple(windows)


def _even(count: int) -> int:
    """The most patches of a window on an axis of ``count``: as few windows as can be, and 2 + 2 rather than 3 + 1."""
    return -(-count // -(-count // MOST_PATCHES))


def _see(start: int, length: int, side: int, halo: int) -> tuple[int, int]:
    """Where a window begins and how long it is on one axis."""
    length = side if length >= side else min(side, length + 2 * halo)
    return min(max(start - halo, 0), side - length), length


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
