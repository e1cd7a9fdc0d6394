"""The core: image -> plan -> bit map -> windows of equal bit-width through the engine -> upscaled image."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.bits.controller import BitChoice, bit_losses, spend_budget
from gdq_cli.bits.patches import Box, PatchPlan, plan_patches
from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.bits.windows import Window, count_pixels, map_bits, plan_windows
from gdq_cli.engines import Engine
from gdq_cli.engines.threads import thread_count
from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import controller_head
from gdq_cli.options import Prefer, check_bits
from gdq_cli.program import cost
from gdq_cli.program.operations import Program
from gdq_cli.upscaling.choosing import Chooser
from gdq_cli.upscaling.progress import Progress, in_turn
from gdq_cli.upscaling.record import PictureRecord

_BUDGET_STEPS = 32
"""Averages per bit that are tried: what windows add to a map is known when they are planned."""

_FEW, _MARGIN = 8, 8
"""Pixels of a side that is too short for the network as it is, and those that are put on both ends of it."""

NETWORK_WORK = 50
"""What running a patch costs, for progress, where choosing its bit-width costs 1; both differ between machines."""


@dataclass(frozen=True)
class BitPlan:
    """Which patch gets how many bits, and why.

    Attributes:
        patches: geometry.
        windows: what the network runs: patches of one bit-width together, with their context.
        choices: the controller's and the entropy's verdict per patch, before a budget, a forced width or a window whose
            other patches need more; empty if nobody asked them.
        seconds: time it took to decide.
    """

    patches: PatchPlan
    windows: tuple[Window, ...]
    choices: tuple[BitChoice, ...]
    seconds: float

    @cached_property
    def bit_map(self) -> NDArray[np.int64]:
        """(rows, cols) bit-widths."""
        return map_bits(self.patches, self.windows)

    @property
    def bit_widths(self) -> tuple[int, ...]:
        """One per patch, in the order of ``patches``."""
        return tuple(self.bit_map.ravel().tolist())

    @property
    def fab(self) -> float:
        """Feature average bit-width of the image (paper, section 4.1); 32 of the float network."""
        return float(self.bit_map.mean())

    def bitops_g(self, program: Program) -> float:
        """BitOPs in 1e9 of a network on the windows."""
        return cost.bit_operations(program, count_pixels(self.windows))


@dataclass(frozen=True, eq=False)
class UpscaleResult:
    """An upscaled image and what it took.

    Attributes:
        image: (H * scale, W * scale, 3) uint8 RGB; from ``gdq_cli.Model`` of the kind that was given: also
            (..., 4) RGBA or (...) grey.
        plan: the bit map and its reasons.
        record: all facts; the properties are those of general interest.
    """

    image: NDArray[np.uint8]
    plan: BitPlan
    record: PictureRecord

    @property
    def pil(self) -> Image.Image:
        """The image as a Pillow image of mode RGB, RGBA or L."""
        return Image.fromarray(self.image)

    @property
    def model(self) -> str:
        """The model that ran."""
        return self.record.model

    @property
    def model_reason(self) -> str | None:
        """What about the image chose the model; None where the caller did."""
        return self.record.model_reason

    @property
    def native_scale(self) -> int:
        """The scale at which the model ran; the result of one larger than asked for was reduced."""
        return self.record.native_scale

    @property
    def bit_map(self) -> NDArray[np.int64]:
        """(rows, cols) bit-widths."""
        return self.record.bit_map

    @property
    def fab(self) -> float:
        """Feature average bit-width."""
        return self.record.fab

    @property
    def bitops_g(self) -> float:
        """BitOPs in 1e9 as run."""
        return self.record.bitops_g

    @property
    def bitops_8bit_g(self) -> float:
        """BitOPs in 1e9 with all patches at 8 bits."""
        return self.record.bitops_8bit_g

    @property
    def bitops_fp32_g(self) -> float:
        """BitOPs in 1e9 in float32."""
        return self.record.bitops_fp32_g

    @property
    def seconds_bits(self) -> float:
        """Time to choose bit-widths."""
        return self.record.seconds["bits"]

    @property
    def seconds_network(self) -> float:
        """Time of the network."""
        return self.record.seconds["network"]


def _run_with_margins(
    run: Callable[..., None],
    image: NDArray[np.uint8],
    windows: Sequence[Window],
    target: NDArray[np.uint8],
    scale: int,
    progress: Progress | None,
) -> None:
    """Run windows of an image; of a side of few pixels the network also sees repeated ones, cut off behind it.

    Without them it would see mostly the zero padding of its convolutions, and change the colour of a single pixel.
    """
    top, left = (_MARGIN if side < _FEW else 0 for side in image.shape[:2])
    if not top and not left:
        run(image, windows, target, progress)
        return
    padded = np.pad(image, ((top, top), (left, left), (0, 0)), "edge")
    moved = [
        replace(
            window,
            core=window.core._replace(y=window.core.y + top, x=window.core.x + left),
            seen=window.seen._replace(height=window.seen.height + 2 * top, width=window.seen.width + 2 * left),
        )
        for window in windows
    ]
    larger = np.empty((padded.shape[0] * scale, padded.shape[1] * scale, 3), np.uint8)
    run(padded, moved, larger, progress)
    target[:] = larger[Box(top, left, *image.shape[:2]).slices(scale)]


class Upscaler:
    """A checkpoint ready to run on an engine.

    Args:
        checkpoint: quantized or float32.
        engine: made for the checkpoint's network; None where bits are planned and nothing is upscaled.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine | None) -> None:
        self.checkpoint = checkpoint
        self.engine = cast(Engine, engine)

    @property
    def scale(self) -> int:
        return self.checkpoint.scale

    @cached_property
    def _chooser(self) -> Chooser:
        if self.checkpoint.controller is None:
            raise WeightsError(f"{self.checkpoint.name} x{self.scale} has no controller: force a width with `bits`")
        return Chooser(self.checkpoint.controller, controller_head(self.checkpoint.parameters))

    def plan_bits(
        self,
        image: NDArray[np.uint8],
        *,
        bits: str = "auto",
        budget: float | None = None,
        prefer: Prefer = "bits",
        progress: Progress | None = None,
    ) -> BitPlan:
        """Divide an image into patches and choose their bit-widths; nothing is upscaled.

        Args:
            image: (H, W, 3) uint8 RGB.
            bits: ``auto``, one of 4, 5, 6, 8 as text to force it, or ``fp32``.
            budget: with ``auto``, spend at most this average bit-width instead of the controller's own choice.
            prefer: with ``auto``, whether windows are planned for the fewest BitOPs or the least time on the engine.
            progress: called with (finished, all) patches where something is chosen; may raise to end it.

        Raises:
            OptionsError: if bits and budget are out of range or contradict each other.
            WeightsError: if the checkpoint has no such width.
        """
        start = time.perf_counter()
        patches = plan_patches((image.shape[0], image.shape[1]), halo=self.checkpoint.halo)
        check_bits(bits, budget, prefer)
        choices: tuple[BitChoice, ...] = ()
        if bits == "fp32":
            windows = plan_windows(patches, (FP32_BITS,) * len(patches))
        elif not self.checkpoint.is_quantized:
            raise WeightsError(f"{self.checkpoint.name} x{self.scale} is a float32 checkpoint: use `bits=fp32`")
        elif bits != "auto":
            windows = plan_windows(patches, (int(bits),) * len(patches))
        else:
            choices = self._chooser.choose(image, patches, progress)
            if budget is None:
                prices = self.engine.prices() if prefer == "time" else self._prices
                losses = bit_losses(choices) if self._chooser.weighs_bits else None
                windows = plan_windows(patches, [choice.bit_width for choice in choices], prices, losses)
            else:
                windows = self._spend(patches, choices, budget)
        return BitPlan(patches, windows, choices, time.perf_counter() - start)

    @cached_property
    def _prices(self) -> dict[int, float]:
        """BitOPs of a pixel, by bit-width."""
        parameters = self.checkpoint.parameters
        return {bits: cost.pixel_bit_operations(parameters.outline, bits) for bits in parameters.config.bit_widths}

    def _spend(self, patches: PatchPlan, choices: Sequence[BitChoice], budget: float) -> tuple[Window, ...]:
        """Windows whose patches have at most ``budget`` bits on average, those that their neighbours bring included."""
        logits = np.array([choice.logits for choice in choices])
        steps = min(len(patches), _BUDGET_STEPS)
        for step in range(math.floor((budget - 4) * steps + 1e-9), -1, -1):  # at 4 bits windows add nothing
            windows = plan_windows(patches, spend_budget(logits, 4 + step / steps), self._prices)
            if map_bits(patches, windows).mean() <= budget + 1e-9:
                break
        return windows

    def upscale(
        self,
        image: NDArray[np.uint8],
        *,
        bits: str = "auto",
        budget: float | None = None,
        prefer: Prefer = "bits",
        progress: Progress | None = None,
        target: NDArray[np.uint8] | None = None,
    ) -> UpscaleResult:
        """Upscale an image by the checkpoint's scale.

        No random number is drawn: the same image gives the same bytes for any number of threads and any batch size.

        Args:
            image: (H, W, 3) uint8 RGB, at least 1x1.
            bits: see :meth:`plan_bits`.
            budget, prefer: see :meth:`plan_bits`.
            progress: called with the finished and all units of work; may raise to end the run. The network takes
                ``NETWORK_WORK`` of them for a patch, choosing its bits one.
            target: (H * scale, W * scale, 3) uint8 to write to, such as a ``numpy.memmap``, rows at any distance; by
                default a new array.

        Raises:
            DeviceError: if the network gives values that are no numbers.
            OptionsError: if the image or the options are not of this kind.
            WeightsError: if the checkpoint has no such width.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise OptionsError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        choosing, running = None, progress
        if bits == "auto" and progress is not None:
            choosing, running = in_turn(progress, 1, NETWORK_WORK)
        plan = self.plan_bits(image, bits=bits, budget=budget, prefer=prefer, progress=choosing)
        start = time.perf_counter()
        shape = (image.shape[0] * self.scale, image.shape[1] * self.scale, 3)
        if target is None:
            target = np.empty(shape, np.uint8)
        elif target.shape != shape or target.dtype != np.uint8:
            raise OptionsError(f"the target must be {shape} uint8, not {target.shape} {target.dtype}")
        elif not target.flags.writeable or target.strides[1:] != (3, 1):
            raise OptionsError("the target must be writeable, and the pixels of a row must lie one behind the other")
        run = self.engine.run_batches if bits == "fp32" else self.engine.run
        _run_with_margins(run, image, plan.windows, target, self.scale, running)
        seconds = time.perf_counter() - start
        program = self.checkpoint.parameters.outline
        pixels = count_pixels(plan_windows(plan.patches, (8,) * len(plan.patches)))[8]  # of a map of one width
        record = PictureRecord(
            model=self.checkpoint.name,
            model_sha256=self.checkpoint.sha256,
            native_scale=self.scale,
            engine=self.engine.name,
            device=self.engine.device,
            threads=thread_count(),
            in_size=plan.patches.size,
            out_size=shape[:2],
            bit_map=plan.bit_map,
            bits=Counter(map(int, plan.bit_widths)),
            bitops_g=plan.bitops_g(program),
            bitops_8bit_g=cost.bit_operations(program, {8: pixels}),
            bitops_fp32_g=cost.bit_operations(program, {FP32_BITS: pixels}),
            seconds={"bits": plan.seconds, "network": seconds},
        )
        return UpscaleResult(target, plan, record)
