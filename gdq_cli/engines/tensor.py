"""Programs as sequences of tensor operations, which the engines made of torch share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.engines.base import Engine
from gdq_cli.errors import DeviceError
from gdq_cli.networks import Network, Parameters
from gdq_cli.program.layers import IntegerConv, IntegerHead
from gdq_cli.program.operations import Codes, Conv, Epilogue, Float, Head, Pixels, Quantize, last_reads


class TensorEngine(Engine):
    """A program as a sequence of tensor operations; subclasses say how one of them is done.

    Codes are whatever a subclass makes of them; streams are float32 (N, C, h, w) in channels_last.
    """

    def __init__(self, network: Network | Parameters) -> None:
        super().__init__(network)
        self._network = self.parameters.module
        if self.parameters.config.bit_widths:
            _ = self.parameters.program  # a checkpoint that cannot run exactly is refused now

    @torch.inference_mode()
    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        x = windows.to(self.device).float().contiguous(memory_format=torch.channels_last)
        pixels = self._network(x) if bit_width == FP32_BITS else self.grey_levels(x, bit_width)
        return to_pixels(pixels, self.device)

    def grey_levels(self, pixels: Tensor, bit_width: int) -> Tensor:
        """Run the program: (N, 3, h, w) float pixels -> (N, 3, h * scale, w * scale) float32, not rounded.

        Raises:
            WeightsError: if the checkpoint has no such bit-width.
        """
        operations = self.parameters.program.at(bit_width)
        buffers: dict[int, Tensor] = {}
        for operation, ends in zip(operations, last_reads(operations), strict=True):
            match operation:
                case Head(layer, epilogue):
                    values = self._head(pixels, layer).contiguous(memory_format=torch.channels_last)
                    self._finish(values, epilogue, buffers)
                case Quantize(source, codes):
                    buffers[codes.to] = self._to_codes(buffers[source], codes)
                case Conv(source, layer, epilogue, shuffle):
                    self._convolve_into(buffers, operation, add_ends=epilogue.add in ends)
                case Float(method, reads, to):
                    found = getattr(self._network, method)(*([buffers[buffer] for buffer in reads] or [pixels]))
                    if to is None:
                        return found  # type: ignore[no-any-return]
                    buffers[to] = found.contiguous(memory_format=torch.channels_last)
                case Pixels(source, layer, shuffle, enlarged):
                    levels = F.pixel_shuffle(self._conv_values(buffers[source], layer), shuffle)
                    if enlarged:
                        levels = levels + F.interpolate(pixels, scale_factor=self.scale, mode="nearest")
                    return levels
            for buffer in ends:
                del buffers[buffer]
        raise AssertionError("a program ends in pixels")

    def _convolve_into(self, buffers: dict[int, Tensor], operation: Conv, *, add_ends: bool) -> None:
        """One convolution with its epilogue; ``add_ends``: nothing reads the added stream after it."""
        source, epilogue = buffers[operation.source], operation.epilogue
        codes = epilogue.codes
        if epilogue.is_plain and codes is not None and (codes.zero or codes.bounds[0] == 0):
            made = self._conv_codes(source, operation.layer, codes)
            buffers[codes.to] = made if operation.shuffle == 1 else self._shuffle(made, operation.shuffle)
            return
        if operation.shuffle != 1:
            raise NotImplementedError("only codes that need no further step are shuffled")
        if epilogue.add is None or epilogue.slope is not None:
            self._finish(self._conv_values(source, operation.layer), epilogue, buffers)
            return
        x = buffers[epilogue.add]
        if epilogue.add_factor != 1:
            x = x * epilogue.add_factor
        elif not add_ends:
            x = x.clone()
        self._finish(self._conv_add(source, operation.layer, x), Epilogue(None, None, 1, epilogue.keep, codes), buffers)

    def _finish(self, values: Tensor, epilogue: Epilogue, buffers: dict[int, Tensor]) -> None:
        """Everything behind a layer's affine map; ``values`` may be overwritten."""
        if epilogue.slope is not None:
            values = F.prelu(values, self._tensor(epilogue.slope))
        if epilogue.add is not None:
            x = buffers[epilogue.add]
            values = values + (x if epilogue.add_factor == 1 else x * epilogue.add_factor)
        if epilogue.keep is not None:
            buffers[epilogue.keep] = values
        if epilogue.codes is not None:
            buffers[epilogue.codes.to] = self._to_codes(values, epilogue.codes)

    def _to_codes(self, values: Tensor, codes: Codes) -> Tensor:
        factor = self._factor(codes.factor)
        if codes.shift is not None:
            values, factor = (values * factor).add_(self._channels(codes.shift)), 1.0
        if codes.zero:
            values = values.round() - codes.zero  # unrounded, their difference could become a tie
        return self._quantize(values, factor, codes.bounds)

    def _factor(self, factor: NDArray[Any] | None) -> Tensor | float:
        if factor is None:
            return 1.0
        return float(factor) if factor.ndim == 0 else self._channels(factor)

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
    def _quantize(self, x: Tensor, factor: Tensor | float, bounds: tuple[int, int]) -> Tensor:
        """float32 (N, C, h, w) -> codes clamp(rne(fl(x * factor)))."""

    @abstractmethod
    def _conv_codes(self, codes: Tensor, conv: IntegerConv, onto: Codes) -> Tensor:
        """Convolve and requantize in one: ``onto`` has no factor, and codes from 0 or ``ZERO`` in the offset."""

    @abstractmethod
    def _conv_add(self, codes: Tensor, conv: IntegerConv, x: Tensor) -> Tensor:
        """Convolve and add to the stream ``x``, which may be overwritten."""

    @abstractmethod
    def _conv_values(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        """Convolve into float32 values."""

    def _shuffle(self, codes: Tensor, factor: int) -> Tensor:
        """Pixel shuffle of codes."""
        return F.pixel_shuffle(codes, factor).contiguous(memory_format=torch.channels_last)


def to_pixels(values: Tensor, device: str) -> Tensor:
    """Round grey levels to uint8 on the CPU; ``values`` is overwritten.

    Raises:
        DeviceError: if a value is infinite or no number, which would become a black or white pixel unseen.
    """
    if not bool(torch.isfinite(values).all()):
        raise DeviceError(
            f"the network gave values that are no numbers on {device}; try `device=cpu`, or another `bits` or `model`"
        )
    return values.round_().clamp_(0, 255).to(torch.uint8).cpu()
