"""The patches of the paper's test script, to compare with its figures: 96 LR pixels at step 90, run alone, joined hard.

The last patch of an axis runs to the border, so it has 96 to 185 pixels. Neighbours overlap by 6 LR pixels and are
joined in the middle of them. Unlike our own patches they see no halo, and the zero padding of the convolutions stands
at every join.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.patches import Box
from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.bits.windows import Window, count_pixels
from gdq_cli.errors import WeightsError
from gdq_cli.networks import controller_head
from gdq_cli.options import check_bits
from gdq_cli.program import cost
from gdq_cli.upscaling.upscaler import Upscaler

PATCH_SIZE = 96
"""Side of a patch in LR pixels."""

STEP = 90
"""LR pixels from one patch to the next."""

_JOIN = (PATCH_SIZE - STEP) // 2


@dataclass(frozen=True)
class Span:
    """A patch on one axis: the LR pixels ``start:stop`` it sees and the ones ``core:core_stop`` it delivers."""

    start: int
    stop: int
    core: int
    core_stop: int


@dataclass(frozen=True)
class PaperResult:
    """A picture upscaled by the paper's protocol.

    Attributes:
        image: (H * scale, W * scale, 3) uint8 RGB.
        bit_map: (rows, cols) bit-widths.
        fab: mean bit-width over the patches, whatever their size.
        bitops_g: BitOPs in 1e9, overlaps included.
    """

    image: NDArray[np.uint8]
    bit_map: NDArray[np.int64]
    fab: float
    bitops_g: float


def plan_axis(side: int) -> tuple[Span, ...]:
    """Divide one axis as the released test script does.

    Args:
        side: LR pixels, at least 1.

    Raises:
        ValueError: if ``side`` is not positive.
    """
    if side < 1:
        raise ValueError(f"an image has at least one pixel on each side, not {side}")
    starts = range(0, max(side - PATCH_SIZE, 0) + 1, STEP)
    last = len(starts) - 1
    return tuple(
        Span(
            start,
            side if index == last else start + PATCH_SIZE,
            start + _JOIN if index else 0,
            side if index == last else start + STEP + _JOIN,
        )
        for index, start in enumerate(starts)
    )


def upscale_paper(upscaler: Upscaler, image: NDArray[np.uint8], *, bits: str = "auto") -> PaperResult:
    """Upscale an image patch by patch as the released test script does, with argmax in place of its random draw.

    Args:
        upscaler: checkpoint and engine.
        image: (H, W, 3) uint8 RGB.
        bits: ``auto``, one of 4, 5, 6, 8 as text, or ``fp32``.

    Raises:
        OptionsError: if ``bits`` is none of these.
        WeightsError: if the checkpoint has no such width or no controller.
    """
    check_bits(bits, None, "bits")
    if bits != "fp32" and not upscaler.checkpoint.is_quantized:
        raise WeightsError(f"{upscaler.checkpoint.name} x{upscaler.scale} is a float32 checkpoint: use `bits=fp32`")
    choose = _chooser(upscaler, bits)
    scale = upscaler.scale
    rows, cols = plan_axis(image.shape[0]), plan_axis(image.shape[1])
    windows = []
    for row, col in product(rows, cols):
        core = Box(row.core, col.core, row.core_stop - row.core, col.core_stop - col.core)
        seen = Box(row.start, col.start, row.stop - row.start, col.stop - col.start)
        windows.append(Window(choose(image[seen.slices()].copy()), 1, core, seen))
    target = np.empty((image.shape[0] * scale, image.shape[1] * scale, 3), np.uint8)
    upscaler.engine.run_batches(image, windows, target)
    bit_map = np.array([window.bit_width for window in windows]).reshape(len(rows), len(cols))
    bitops = cost.bit_operations(upscaler.checkpoint.parameters.outline, count_pixels(windows))
    return PaperResult(target, bit_map, float(bit_map.mean()), bitops)


def _chooser(upscaler: Upscaler, bits: str) -> Callable[[NDArray[np.uint8]], int]:
    """A function that gives the bit-width of a patch."""
    if bits != "auto":
        forced = FP32_BITS if bits == "fp32" else int(bits)
        return lambda _: forced
    checkpoint, controller = upscaler.checkpoint, upscaler.checkpoint.controller
    if controller is None:
        raise WeightsError(f"{checkpoint.name} x{checkpoint.scale} has no controller: force a width with `bits`")
    head = controller_head(checkpoint.parameters)
    return lambda pixels: controller.choose(pixels[None], head)[0].bit_width
