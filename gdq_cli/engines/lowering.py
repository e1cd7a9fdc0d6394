"""From the float network with learned steps to the integers every engine computes with (docs/engines.md).

All constants are derived in float64 and rounded once to float32. An engine then computes, for accumulators a:
``fl(fl(a * multiplier) + offset)`` - multiply and add rounded separately, so that a fused int8 library, a float32
library that carries integers and our own kernels give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gdq_cli.bits.controller import IntegerHead
from gdq_cli.bits.controller_release import ReleaseHead
from gdq_cli.errors import WeightsError
from gdq_cli.networks import Network, Srresnet, quantizers
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.network import MEAN, Edsr

HEAD_MAX = 2047
"""Largest head weight code: 12 bits keep 27 products of 8-bit pixels below 2^24, exact in float32."""

EXACT = 1 << 24
"""Integers below it are exact in float32, so accumulators must stay below it."""

ZERO = 128
"""Code that stands for 0 in the unsigned 8-bit output of an upsampler convolution."""


@dataclass(frozen=True)
class IntegerConv:
    """A 3x3 convolution on codes and its epilogue.

    Attributes:
        weight: (O, I, 3, 3) int8.
        multiplier: (O,) float32; offset: (O,) float32.
        input_range: smallest and largest input code.
    """

    weight: Tensor
    multiplier: Tensor
    offset: Tensor
    input_range: tuple[int, int]


@dataclass(frozen=True)
class IntegerBlock:
    """One residual block at one bit-width.

    Attributes:
        inverse_step: float32 that turns the residual stream into the codes of ``conv1``.
        conv1: its epilogue gives the codes of ``conv2`` (bias, ReLU and requantization in one).
        conv2: its epilogue gives float32 values that are added to the residual stream.
    """

    inverse_step: float
    conv1: IntegerConv
    conv2: IntegerConv


@dataclass(frozen=True)
class IntegerStatic:
    """The static layers, shared by all bit-widths.

    Attributes:
        body_inverse_steps: (C,) float32, residual stream -> codes of ``body_conv``.
        body_conv: epilogue gives float32 values, added to the head features.
        upsampler_inverse_steps: (C,) float32, that sum -> codes of the first upsampler convolution, or of the tail.
        upsampler: each with its pixel-shuffle factor; epilogues give codes of the next layer plus ``ZERO``.
        tail: epilogue gives grey levels.
        tail_factor: pixel-shuffle factor of the grey levels; the scale where there is no upsampler, else 1.
    """

    body_inverse_steps: Tensor
    body_conv: IntegerConv
    upsampler_inverse_steps: Tensor
    upsampler: tuple[tuple[IntegerConv, int], ...]
    tail: IntegerConv
    tail_factor: int


@dataclass(frozen=True)
class IntegerNetwork:
    """A whole network in integers: ``blocks[bit_width]`` for the dynamic part, the rest shared."""

    scale: int
    head: IntegerHead
    blocks: dict[int, tuple[IntegerBlock, ...]]
    static: IntegerStatic


class Operations(Protocol):
    """What an engine does with codes; see :class:`gdq_cli.engines.base.TensorEngine`."""

    def _head(self, pixels: Tensor, head: IntegerHead) -> Tensor: ...

    def _quantize(self, x: Tensor, inverse_step: Tensor | float, bounds: tuple[int, int]) -> Tensor: ...

    def _conv_values(self, codes: Tensor, conv: IntegerConv) -> Tensor: ...

    def _conv_add(self, codes: Tensor, conv: IntegerConv, x: Tensor) -> Tensor: ...


def lower_head(head: nn.Conv2d, mean: tuple[int, int, int] = MEAN) -> IntegerHead:
    """The head on 8-bit pixels less a mean, with weights of 12 bits (66 dB below their peak: no visible change)."""
    weight = head.weight.detach().double()
    step = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / HEAD_MAX
    codes = (weight / step.reshape(-1, 1, 1, 1)).round()
    assert head.bias is not None
    return IntegerHead(codes.to(torch.int16), (step / 255).float(), head.bias.detach().float(), mean)


def lower_conv(
    conv: QuantConv2d,
    bit_width: int,
    *,
    output_step: Tensor | None = None,
    gain: float = 1.0,
    shift: Tensor | float = 0,
) -> IntegerConv:
    """Lower one convolution.

    Args:
        conv: float convolution with learned steps.
        bit_width: of the patch (a static layer keeps its own).
        output_step: step of the codes its epilogue gives, scalar or (O,); None for values times ``gain``.
        gain: factor on the output values.
        shift: added to the output after everything else, scalar or (O,).

    Raises:
        WeightsError: if the accumulators could leave the range that all engines compute exactly.
    """
    weight_step = conv.weight_step(bit_width).detach()
    weight = quantizers.weight_codes(conv.equalized_weight().detach(), weight_step)
    qmin, qmax = conv.input_range(bit_width)
    peak = int(weight.abs().sum(dim=(1, 2, 3)).max()) * max(-qmin, qmax)
    if peak >= EXACT:
        raise WeightsError(f"accumulators of {conv} reach {peak}, beyond 2^24: the checkpoint cannot run exactly")
    narrow = quantizers.uses_narrow_grid(conv.own_bit_width(bit_width))
    if narrow and not conv.is_static and not bool(quantizers.fits_narrow_grid(weight).all()):
        raise WeightsError(f"narrow weights of {conv} leave the range of the Winograd kernel; calibrate again")
    position = conv.bit_widths.index(conv.own_bit_width(bit_width))
    scale = conv.activation_step[position].detach().double() * weight_step.double() * gain
    offset = conv.bias.detach().double() * gain
    if output_step is not None:
        scale, offset = scale / output_step.detach().double(), offset / output_step.detach().double()
    return IntegerConv(weight.to(torch.int8), scale.float(), (offset + shift).float(), (qmin, qmax))


def controller_head(network: Network) -> IntegerHead | ReleaseHead:
    """The head of a network as its controller sees it."""
    if isinstance(network, Srresnet):
        return ReleaseHead(network.head.weight.detach().cpu().numpy())
    return lower_head(network.head) if isinstance(network, Edsr) else lower_head(network.head, mean=(0, 0, 0))


def inverse_steps(conv: QuantConv2d, bit_width: int) -> Tensor:
    """float32 factor(s) that turn input values into codes: a scalar tensor, or (I,) if equalized."""
    return (1 / conv.input_step(bit_width).detach().double()).float()


def check_quantized(bit_widths: tuple[int, ...]) -> None:
    """Refuse a network that has no bit-widths to lower.

    Raises:
        WeightsError: if there are none.
    """
    if not bit_widths:
        raise WeightsError("this is a float32 checkpoint: it runs with --bits fp32 only, or after gdq calibrate")


def lower_network(network: Edsr) -> IntegerNetwork:
    """Lower a quantized network.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(network.config.bit_widths)
    config = network.config
    blocks = {
        bits: tuple(
            IntegerBlock(
                float(inverse_steps(block.conv1, bits)),
                lower_conv(block.conv1, bits, output_step=block.conv2.input_step(bits)),
                lower_conv(block.conv2, bits),
            )
            for block in network.blocks
        )
        for bits in config.bit_widths
    }
    convs = network.upsampler_convs
    upsampler = []
    for conv, following, stage in zip(convs, [*convs, network.tail][1:], config.stages, strict=True):
        output_step = following.input_step(8).repeat_interleave(stage**2)  # channel c fills outputs c*r*r ...
        upsampler.append((lower_conv(conv, 8, output_step=output_step, shift=ZERO), stage))
    mean = torch.tensor(MEAN, dtype=torch.float64)
    static = IntegerStatic(
        inverse_steps(network.body_conv, 8),
        lower_conv(network.body_conv, 8),
        inverse_steps(convs[0] if convs else network.tail, 8),
        tuple(upsampler),
        lower_conv(network.tail, 8, gain=255, shift=mean.repeat_interleave(config.tail_factor**2)),
        config.tail_factor,
    )
    return IntegerNetwork(config.scale, lower_head(network.head), blocks, static)
