"""Integer networks as sequences of tensor operations, which the engines made of torch share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.engines.base import Engine
from gdq_cli.errors import DeviceError, WeightsError
from gdq_cli.networks import Network, Parameters
from gdq_cli.networks.compact.lowering import IntegerCompact
from gdq_cli.networks.compact.network import add_enlarged
from gdq_cli.networks.edsr.lowering import IntegerNetwork
from gdq_cli.networks.srresnet.lowering import IntegerSrresnet
from gdq_cli.program.layers import ZERO, IntegerConv, IntegerHead


class TensorEngine(Engine):
    """The integer network as a sequence of tensor operations; subclasses say how one operation is done.

    Codes are whatever a subclass makes of them; the residual stream is float32 (N, C, h, w) in channels_last.
    """

    def __init__(self, network: Network | Parameters) -> None:
        super().__init__(network)
        self._network = self.parameters.module
        if self.parameters.config.bit_widths:
            _ = self.integers  # a checkpoint that cannot run exactly is refused now

    @property
    def integers(self) -> IntegerNetwork | IntegerSrresnet | IntegerCompact:
        """The lowered network.

        Raises:
            WeightsError: for a float32 checkpoint.
        """
        return self.parameters.integers

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
        if isinstance(integers, IntegerSrresnet):
            return integers.run(pixels, bit_width, self)
        if isinstance(integers, IntegerCompact):
            return self._run_compact(integers, pixels, bit_width)
        static = integers.static
        skip = self._head(pixels, integers.head).contiguous(memory_format=torch.channels_last)
        x = skip.clone()
        for block in integers.blocks[bit_width]:
            codes = self._quantize(x, block.inverse_step, block.conv1.input_range)
            codes = self._conv_codes(codes, block.conv1, block.conv2.input_range)
            x = self._conv_add(codes, block.conv2, x)
        codes = self._quantize(x, self._channels(static.body_inverse_steps), static.body_conv.input_range)
        x = self._conv_add(codes, static.body_conv, skip)
        following = [*(conv for conv, _ in static.upsampler), static.tail]
        codes = self._quantize(x, self._channels(static.upsampler_inverse_steps), following[0].input_range)
        for (conv, stage), after in zip(static.upsampler, following[1:], strict=True):
            codes = self._shuffle(self._conv_codes(codes, conv, after.input_range), stage)
        return F.pixel_shuffle(self._conv_values(codes, static.tail), static.tail_factor)

    def _run_compact(self, integers: IntegerCompact, pixels: Tensor, bit_width: int) -> Tensor:
        x = F.prelu(self._head(pixels, integers.head), self._tensor(integers.head_slope))
        for layer in integers.blocks[bit_width]:
            codes = self._quantize(x, self._channels(layer.inverse_steps), layer.conv.input_range)
            x = F.prelu(self._conv_values(codes, layer.conv), self._tensor(layer.slope))
        codes = self._quantize(x, self._channels(integers.tail_inverse_steps), integers.tail.input_range)
        return add_enlarged(self._conv_values(codes, integers.tail), pixels, self.scale)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """Constants of a layer on this device."""
        return torch.from_numpy(array).to(self.device)

    def _channels(self, array: NDArray[Any]) -> Tensor:
        """Constants of channels, (C,) -> (1, C, 1, 1)."""
        return self._tensor(array).reshape(1, -1, 1, 1)

    def _head(self, pixels: Tensor, head: IntegerHead) -> Tensor:
        """Head features from pixels less a mean: integers carried by float32, exact in any order of summation."""
        mean = torch.tensor(head.mean, dtype=torch.float32, device=self.device).reshape(1, 3, 1, 1)
        weight = self._tensor(head.weight).float()
        accumulators = F.conv2d(pixels - mean, weight, padding=weight.shape[-1] // 2)
        return self._affine(accumulators, head.multiplier, head.offset)

    def _affine(self, accumulators: Tensor, multiplier: NDArray[Any], offset: NDArray[Any]) -> Tensor:
        """fl(fl(a * m) + c): two operations, two roundings, never one fused."""
        return accumulators.mul_(self._channels(multiplier)).add_(self._channels(offset))

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
