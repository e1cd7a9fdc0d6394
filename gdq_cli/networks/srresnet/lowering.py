"""SRResNet in integers where it is quantized: its blocks. Head, body conv, upsampler and tail stay float32.

Accumulators of the blocks are exact in every engine. The float layers are not: their sums may differ in the last bit
between machines, so engines agree to one grey level on very few values instead of bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gdq_cli.errors import WeightsError
from gdq_cli.networks.srresnet.network import Srresnet, SrresnetBlock, TensorQuantConv2d
from gdq_cli.program.layers import EXACT, IntegerConv, check_quantized


class Operations(Protocol):
    """What an engine does with codes; see :class:`gdq_cli.engines.tensor.TensorEngine`."""

    def _quantize(self, x: Tensor, inverse_step: Tensor | float, bounds: tuple[int, int]) -> Tensor: ...

    def _conv_values(self, codes: Tensor, conv: IntegerConv) -> Tensor: ...

    def _conv_add(self, codes: Tensor, conv: IntegerConv, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class PreluBlock:
    """One residual block at one bit-width.

    Attributes:
        inverse_step: float32 that turns the residual stream into the codes of ``conv1``.
        conv1: its epilogue gives float32 values before the PReLU.
        slope: of the PReLU.
        gain, shift: (C,) float32; batch normalisation with the step of ``conv2`` divided out.
        conv2: its epilogue gives float32 values, second batch normalisation included.
        shortcut: factor on the identity path.
    """

    inverse_step: float
    conv1: IntegerConv
    slope: Tensor
    gain: Tensor
    shift: Tensor
    conv2: IntegerConv
    shortcut: float

    def run(self, x: Tensor, engine: Operations) -> Tensor:
        """One step of the residual stream, (N, C, h, w) float32; ``x`` is overwritten."""
        codes = engine._quantize(x, self.inverse_step, self.conv1.input_range)
        slope, gain, shift = (value.to(x.device) for value in (self.slope, self.gain, self.shift))
        hidden = torch.nn.functional.prelu(engine._conv_values(codes, self.conv1), slope)
        gain, shift = gain.reshape(1, -1, 1, 1), shift.reshape(1, -1, 1, 1)
        codes = engine._quantize(hidden.mul_(gain).add_(shift), 1.0, self.conv2.input_range)
        return engine._conv_add(codes, self.conv2, x.mul_(self.shortcut))


@dataclass(frozen=True)
class IntegerSrresnet:
    """SRResNet with integer blocks: ``blocks[bit_width]``, and the float network for the rest."""

    scale: int
    network: Srresnet
    blocks: dict[int, tuple[PreluBlock, ...]]

    def run(self, pixels: Tensor, bit_width: int, engine: Operations) -> Tensor:
        """Upscale (N, 3, h, w) float pixels to (N, 3, h * scale, w * scale) float grey levels, not rounded."""
        skip = self.network.head_act(self.network.features(pixels))
        x = skip.clone(memory_format=torch.channels_last)
        for block in self.blocks[bit_width]:
            x = block.run(x, engine)
        return self.network.reconstruct(x, skip)


def lower_srresnet(network: Srresnet) -> IntegerSrresnet:
    """Lower a quantized SRResNet.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(network.config.bit_widths)
    config = network.config
    blocks = {bits: tuple(_lower_block(block, bits) for block in network.blocks) for bits in config.bit_widths}
    return IntegerSrresnet(config.scale, network, blocks)


def _lower_block(block: SrresnetBlock, bit_width: int) -> PreluBlock:
    gain1, shift1 = _affine_of(block.bn1)
    gain2, shift2 = _affine_of(block.bn2)
    step2 = block.conv2.input_step(bit_width).detach().double()
    return PreluBlock(
        float((1 / block.conv1.input_step(bit_width).detach().double()).float()),
        _lower_conv(block.conv1, bit_width, torch.ones_like(gain1), torch.zeros_like(shift1)),
        block.act.weight.detach(),
        (gain1 / step2).float(),
        (shift1 / step2).float(),
        _lower_conv(block.conv2, bit_width, gain2, shift2),
        float(block.shortcut.detach()),
    )


def _affine_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Batch normalisation in eval mode as ``x * gain + shift``, both (C,) float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.detach().double() - norm.running_mean.double() * gain


def _lower_conv(conv: TensorQuantConv2d, bit_width: int, gain: Tensor, shift: Tensor) -> IntegerConv:
    """One convolution, followed by ``* gain + shift`` per output channel."""
    weight = conv.weight_codes().detach()
    qmin, qmax = conv.input_range(bit_width)
    peak = int(weight.abs().sum(dim=(1, 2, 3)).max()) * max(-qmin, qmax)
    if peak >= EXACT:
        raise WeightsError(f"accumulators of {conv} reach {peak}, beyond 2^24: the checkpoint cannot run exactly")
    scale = conv.input_step(bit_width).detach().double() * conv.weight_step.detach().double() * gain
    codes = weight.to(torch.int8).numpy()
    return IntegerConv(codes, scale.float().numpy(), shift.float().numpy(), (qmin, qmax))
