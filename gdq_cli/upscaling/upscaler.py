"""The core: image -> plan -> bit map -> windows of equal bit-width through the engine -> upscaled image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.controller import BitChoice, spend_budget
from gdq_cli.bits.widths import BIT_WIDTHS, FP32_BITS
from gdq_cli.engines import Engine
from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import controller_head, cost
from gdq_cli.upscaling.patches import PatchPlan, plan_patches

Progress = Callable[[int, int], None]
"""Called with the number of finished patches and of all patches."""


@dataclass(frozen=True)
class BitPlan:
    """Which patch gets how many bits, and why.

    Attributes:
        patches: geometry.
        bit_widths: one per patch, in the order of ``patches``.
        choices: the controller's and the entropy's verdict per patch, before a budget or a forced width; empty if
            nobody asked them.
        seconds: time it took to decide.
    """

    patches: PatchPlan
    bit_widths: tuple[int, ...]
    choices: tuple[BitChoice, ...]
    seconds: float

    @property
    def bit_map(self) -> NDArray[np.int64]:
        """(rows, cols) bit-widths."""
        return np.array(self.bit_widths).reshape(self.patches.grid)

    @property
    def fab(self) -> float:
        """Feature average bit-width of the image."""
        return cost.feature_average_bits(self.bit_widths)


@dataclass(frozen=True)
class UpscaleResult:
    """An upscaled image and what it took.

    Attributes:
        image: (H * scale, W * scale, 3) uint8 RGB.
        plan: the bit map and its reasons.
        bitops_g, bitops_8bit_g, bitops_fp32_g: BitOPs in 1e9 as run, with all patches at 8 bits, and in float32.
        seconds_bits, seconds_network: time to choose bit-widths and to run the network.
    """

    image: NDArray[np.uint8]
    plan: BitPlan
    bitops_g: float
    bitops_8bit_g: float
    bitops_fp32_g: float
    seconds_bits: float
    seconds_network: float

    @property
    def bit_map(self) -> NDArray[np.int64]:
        return self.plan.bit_map

    @property
    def fab(self) -> float:
        return self.plan.fab


class Upscaler:
    """A checkpoint ready to run on an engine.

    Args:
        checkpoint: quantized or float32.
        engine: made for the checkpoint's network; None where bits are planned and nothing is upscaled.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine | None) -> None:
        self.checkpoint = checkpoint
        self.engine = cast(Engine, engine)
        self._band_sums = None if engine is None else engine.band_sums
        self._head = controller_head(checkpoint.parameters)

    @property
    def scale(self) -> int:
        return self.checkpoint.scale

    def plan_bits(self, image: NDArray[np.uint8], *, bits: str = "auto", budget: float | None = None) -> BitPlan:
        """Divide an image into patches and choose their bit-widths; nothing is upscaled.

        Args:
            image: (H, W, 3) uint8 RGB.
            bits: ``auto``, one of 4, 5, 6, 8 as text to force it, or ``fp32``.
            budget: with ``auto``, spend at most this average bit-width instead of the controller's own choice.

        Raises:
            OptionsError: if bits and budget are out of range or contradict each other.
            WeightsError: if the checkpoint has no such width.
        """
        start = time.perf_counter()
        patches = plan_patches((image.shape[0], image.shape[1]), halo=self.checkpoint.halo)
        if bits != "auto" and budget is not None:
            raise OptionsError(f"a budget chooses bit-widths, so it contradicts bits={bits}")
        if bits == "fp32":
            return BitPlan(patches, (FP32_BITS,) * len(patches), (), time.perf_counter() - start)
        if not self.checkpoint.is_quantized:
            raise WeightsError(f"{self.checkpoint.name} x{self.scale} is a float32 checkpoint: use --bits fp32")
        if bits != "auto":
            if bits not in map(str, BIT_WIDTHS):
                raise OptionsError(f"bits must be auto, fp32 or one of {BIT_WIDTHS}, not {bits}")
            return BitPlan(patches, (int(bits),) * len(patches), (), time.perf_counter() - start)
        choices = self._choose(image, patches)
        if budget is None:
            bit_widths = [choice.bit_width for choice in choices]
        else:
            try:
                bit_widths = spend_budget(np.array([choice.logits for choice in choices]), budget)
            except ValueError as error:
                raise OptionsError(str(error)) from error
        return BitPlan(patches, tuple(bit_widths), tuple(choices), time.perf_counter() - start)

    def _choose(self, image: NDArray[np.uint8], patches: PatchPlan) -> list[BitChoice]:
        controller = self.checkpoint.controller
        if controller is None:
            raise WeightsError(f"{self.checkpoint.name} x{self.scale} has no controller: force a width with --bits")
        choices: list[BitChoice] = []
        sums = None
        if self._band_sums is not None and controller.descriptor == "band_energy":
            sums = self._band_sums(image, patches)
        for index, patch in enumerate(patches):  # one at a time: its features stay in the cache
            core = np.ascontiguousarray(image[patch.core_slices])
            choices += controller.choose(core[None], self._head, None if sums is None else sums[index : index + 1])
        return choices

    def upscale(
        self,
        image: NDArray[np.uint8],
        *,
        bits: str = "auto",
        budget: float | None = None,
        progress: Progress | None = None,
        target: NDArray[np.uint8] | None = None,
    ) -> UpscaleResult:
        """Upscale an image by the checkpoint's scale.

        No random number is drawn: the same image gives the same bytes for any number of threads and any batch size.

        Args:
            image: (H, W, 3) uint8 RGB, at least 1x1.
            bits: see :meth:`plan_bits`.
            budget: see :meth:`plan_bits`.
            progress: called after every batch of patches; may raise to end the run.
            target: (H * scale, W * scale, 3) uint8 to write to, such as a ``numpy.memmap``; by default a new array.

        Raises:
            DeviceError: if the network gives values that are no numbers.
            OptionsError: if the image or the options are not of this kind.
            WeightsError: if the checkpoint has no such width.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise OptionsError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        plan = self.plan_bits(image, bits=bits, budget=budget)
        start = time.perf_counter()
        shape = (image.shape[0] * self.scale, image.shape[1] * self.scale, 3)
        if target is None:
            target = np.empty(shape, np.uint8)
        elif target.shape != shape or target.dtype != np.uint8:
            raise OptionsError(f"the target must be {shape} uint8, not {target.shape} {target.dtype}")
        self.engine.run(image, plan.patches, plan.bit_widths, target, progress)
        seconds = time.perf_counter() - start
        config, window_pixels = self.checkpoint.config, plan.patches.window[0] * plan.patches.window[1]
        count = len(plan.patches)
        return UpscaleResult(
            target,
            plan,
            cost.bit_operations(config, plan.bit_widths, window_pixels),
            cost.bit_operations(config, (8,) * count, window_pixels),
            cost.bit_operations(config, (FP32_BITS,) * count, window_pixels),
            plan.seconds,
            seconds,
        )
