"""What an engine is, and the walk through the integer network that the tensor engines share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.bits.controller import IntegerHead
from gdq_cli.engines.lowering import ZERO, IntegerConv, IntegerNetwork, lower_network
from gdq_cli.errors import DeviceError, WeightsError
from gdq_cli.networks import Compact, Network, Srresnet
from gdq_cli.networks.compact.lowering import IntegerCompact, lower_compact
from gdq_cli.networks.quantizers import FP32_BITS
from gdq_cli.networks.srresnet.lowering import IntegerSrresnet, lower_srresnet
from gdq_cli.upscaling.patches import PatchPlan, cut_windows, paste_core


class Engine(ABC):
    """Runs a network on batches of windows that share a bit-width.

    Attributes:
        name: of the engine, for the user.
        device: torch device string.
        scale: upscaling factor.
        batch_size: windows per call at which the engine is fastest.
    """

    name: str
    device: str = "cpu"
    batch_size: int = 4

    def __init__(self, network: Network) -> None:
        self.scale = network.config.scale
        self._notes: list[str] = []
        self._halved = False

    @abstractmethod
    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        """Upscale windows.

        Args:
            windows: (N, 3, h, w) uint8 on the CPU, best in channels_last.
            bit_width: 4, 5, 6, 8, or 32 for the float network.

        Returns:
            (N, 3, h * scale, w * scale) uint8 on the CPU.
        """

    def run(
        self,
        image: NDArray[np.uint8],
        plan: PatchPlan,
        bit_widths: Sequence[int],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Upscale all patches of an image, grouped by bit-width; a batch too large for the device is halved.

        Args:
            image: (H, W, 3) uint8.
            plan: how it is divided.
            bit_widths: one per patch.
            target: (H * scale, W * scale, 3) uint8, written in place.
            progress: called with (finished, all) patches.

        Raises:
            DeviceError: if the network gives values that are no numbers.
            RuntimeError: of torch, if the device's memory does not suffice for a single patch.
        """
        self.run_patches(image, plan, bit_widths, range(len(plan)), target, progress)

    def run_patches(
        self,
        image: NDArray[np.uint8],
        plan: PatchPlan,
        bit_widths: Sequence[int],
        chosen: Sequence[int],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Upscale some patches of an image: ``chosen`` are their indices in the plan; else as :meth:`run`."""
        groups: dict[int, list[int]] = {}
        for index in chosen:
            groups.setdefault(bit_widths[index], []).append(index)
        finished = 0
        for bit_width, members in sorted(groups.items(), reverse=True):
            start = 0
            while start < len(members):
                indices = members[start : start + self.batch_size]
                windows = torch.from_numpy(cut_windows(image, plan, indices)).permute(0, 3, 1, 2)
                sr_windows = self._try(windows, bit_width)
                if sr_windows is None:
                    continue
                pixels = sr_windows.permute(0, 2, 3, 1).numpy()
                for index, sr_window in zip(indices, pixels, strict=True):
                    paste_core(target, sr_window, plan[index], self.scale)
                start += len(indices)
                finished += len(indices)
                if progress is not None:
                    progress(finished, len(chosen))

    def _try(self, windows: Tensor, bit_width: int) -> Tensor | None:
        """Upscale windows; None if the device's memory did not suffice and the batch was halved."""
        try:
            return self(windows, bit_width)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; MPS has none of its own
            if self.device == "cpu" or len(windows) == 1 or "out of memory" not in str(error):
                raise
        # Outside the except block, where the traceback no longer holds the tensors that filled the memory.
        self._shrink(len(windows) // 2)
        return None

    def _shrink(self, batch_size: int) -> None:
        """Go on with smaller batches, and say so once."""
        if self.device.startswith("mps"):
            torch.mps.empty_cache()
        else:
            torch.cuda.empty_cache()
        if not self._halved:
            self._halved = True
            self._notes.append(f"out of memory on {self.device}: went on with smaller batches")
        self.batch_size = batch_size

    def take_notes(self) -> tuple[str, ...]:
        """What the user should know about the runs since the last call; empties the list."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def band_sums(self, image: NDArray[np.uint8], plan: PatchPlan) -> NDArray[np.int64] | None:
        """Integers below the band energies of every patch, for the controller; None if this engine has no faster way.

        Returns:
            (N, 3, C) as from ``gdq_cli.bits.controller.band_sums``.
        """
        return None

    @abstractmethod
    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        """Raw integers of one convolution, for tests and the self-test.

        Args:
            codes: (N, I, h, w) int16 in ``conv.input_range``.
            conv: lowered convolution.

        Returns:
            (N, O, h, w) int32.
        """


class TensorEngine(Engine):
    """The integer network as a sequence of tensor operations; subclasses say how one operation is done.

    Codes are whatever a subclass makes of them; the residual stream is float32 (N, C, h, w) in channels_last.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._network = network
        self._integers = _lower(network) if network.config.bit_widths else None

    @property
    def integers(self) -> IntegerNetwork | IntegerSrresnet | IntegerCompact:
        """The lowered network.

        Raises:
            WeightsError: for a float32 checkpoint.
        """
        if self._integers is None:
            self._integers = _lower(self._network)
        return self._integers

    @torch.inference_mode()
    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        x = windows.to(self.device).float().contiguous(memory_format=torch.channels_last)
        if bit_width == FP32_BITS:
            pixels = self._network(x)
        else:
            pixels = self._run_integers(x, bit_width)
        return to_pixels(pixels, self.device)

    def _run_integers(self, pixels: Tensor, bit_width: int) -> Tensor:
        integers = self.integers
        if bit_width not in integers.blocks:
            raise WeightsError(f"this checkpoint has no {bit_width}-bit patches; it has {sorted(integers.blocks)}")
        if isinstance(integers, IntegerSrresnet | IntegerCompact):
            return integers.run(pixels, bit_width, self)
        static = integers.static
        skip = self._head(pixels, integers.head).contiguous(memory_format=torch.channels_last)
        x = skip.clone()
        for block in integers.blocks[bit_width]:
            codes = self._quantize(x, block.inverse_step, block.conv1.input_range)
            codes = self._conv_codes(codes, block.conv1, block.conv2.input_range)
            x = self._conv_add(codes, block.conv2, x)
        codes = self._quantize(x, static.body_inverse_steps.reshape(1, -1, 1, 1), static.body_conv.input_range)
        x = self._conv_add(codes, static.body_conv, skip)
        following = [*(conv for conv, _ in static.upsampler), static.tail]
        codes = self._quantize(x, static.upsampler_inverse_steps.reshape(1, -1, 1, 1), following[0].input_range)
        for (conv, stage), after in zip(static.upsampler, following[1:], strict=True):
            codes = self._shuffle(self._conv_codes(codes, conv, after.input_range), stage)
        return torch.nn.functional.pixel_shuffle(self._conv_values(codes, static.tail), static.tail_factor)

    def _head(self, pixels: Tensor, head: IntegerHead) -> Tensor:
        """Head features from pixels less a mean: integers carried by float32, exact in any order of summation."""
        mean = torch.tensor(head.mean, dtype=torch.float32, device=self.device).reshape(1, 3, 1, 1)
        weight = head.weight.float().to(self.device)
        accumulators = torch.nn.functional.conv2d(pixels - mean, weight, padding=weight.shape[-1] // 2)
        return self._affine(accumulators, head.multiplier, head.offset)

    def _affine(self, accumulators: Tensor, multiplier: Tensor, offset: Tensor) -> Tensor:
        """fl(fl(a * m) + c): two operations, two roundings, never one fused."""
        product = accumulators.mul_(multiplier.to(self.device).reshape(1, -1, 1, 1))
        return product.add_(offset.to(self.device).reshape(1, -1, 1, 1))

    @abstractmethod
    def _quantize(self, x: Tensor, inverse_step: Tensor | float, bounds: tuple[int, int]) -> Tensor:
        """float32 (N, C, h, w) -> signed codes clamp(rne(fl(x * inverse_step)))."""

    @abstractmethod
    def _conv_codes(self, codes: Tensor, conv: IntegerConv, bounds: tuple[int, int]) -> Tensor:
        """Convolve and requantize: into codes from 0 (after ReLU) or signed ones, as ``bounds`` says."""

    @abstractmethod
    def _conv_add(self, codes: Tensor, conv: IntegerConv, x: Tensor) -> Tensor:
        """Convolve and add to the residual stream ``x``, which may be overwritten."""

    @abstractmethod
    def _conv_values(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        """Convolve into float32 values."""

    @abstractmethod
    def _shuffle(self, codes: Tensor, stage: int) -> Tensor:
        """Pixel shuffle of codes."""


def _lower(network: Network) -> IntegerNetwork | IntegerSrresnet | IntegerCompact:
    if isinstance(network, Compact):
        return lower_compact(network)
    return lower_srresnet(network) if isinstance(network, Srresnet) else lower_network(network)


def to_pixels(values: Tensor, device: str) -> Tensor:
    """Round grey levels to uint8 on the CPU; ``values`` is overwritten.

    Raises:
        DeviceError: if a value is infinite or no number, which would become a black or white pixel unseen.
    """
    if not bool(torch.isfinite(values).all()):
        raise DeviceError(
            f"the network gave values that are no numbers on {device}; try --device cpu, or another --bits or --model"
        )
    return values.round_().clamp_(0, 255).to(torch.uint8).cpu()


def output_bounds(bounds: tuple[int, int]) -> tuple[int, int]:
    """Range of the unsigned codes an epilogue writes: as they are from 0 on, else moved up by ``ZERO``."""
    low, high = bounds
    return (0, high) if low == 0 else (low + ZERO, high + ZERO)
