"""Compact in integers: every convolution on codes, PReLU between them in float32.

A PReLU is one multiplication, rounded before the next one turns the value into a code, so engines agree to the last
pixel (docs/engines.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from gdq_cli.bits.controller import IntegerHead
from gdq_cli.engines.lowering import IntegerConv, Operations, check_quantized, inverse_steps, lower_conv, lower_head
from gdq_cli.networks.compact.network import Compact, add_enlarged


@dataclass(frozen=True)
class PreluConv:
    """One dynamic layer at one bit-width.

    Attributes:
        inverse_steps: (C,) float32, the layer's input -> codes.
        conv: its epilogue gives float32 values before the PReLU.
        slope: (C,) float32.
    """

    inverse_steps: Tensor
    conv: IntegerConv
    slope: Tensor

    def run(self, x: Tensor, engine: Operations) -> Tensor:
        """(N, C, h, w) float32 -> the same."""
        codes = engine._quantize(x, self.inverse_steps.reshape(1, -1, 1, 1), self.conv.input_range)
        return F.prelu(engine._conv_values(codes, self.conv), self.slope.to(x.device))


@dataclass(frozen=True)
class IntegerCompact:
    """A whole network in integers: ``blocks[bit_width]`` for the dynamic part, the rest shared.

    Attributes:
        head_slope: (C,) float32, of the PReLU after the head.
        tail_inverse_steps: (C,) float32, last layer's output -> codes of ``tail``.
        tail: its epilogue gives grey levels to add to the enlarged input.
    """

    scale: int
    head: IntegerHead
    head_slope: Tensor
    blocks: dict[int, tuple[PreluConv, ...]]
    tail_inverse_steps: Tensor
    tail: IntegerConv

    def run(self, pixels: Tensor, bit_width: int, engine: Operations) -> Tensor:
        """Upscale (N, 3, h, w) float pixels to (N, 3, h * scale, w * scale) float grey levels, not rounded."""
        x = F.prelu(engine._head(pixels, self.head), self.head_slope.to(pixels.device))
        for block in self.blocks[bit_width]:
            x = block.run(x, engine)
        codes = engine._quantize(x, self.tail_inverse_steps.reshape(1, -1, 1, 1), self.tail.input_range)
        return add_enlarged(engine._conv_values(codes, self.tail), pixels, self.scale)


def lower_compact(network: Compact) -> IntegerCompact:
    """Lower a quantized Compact.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(network.config.bit_widths)
    config = network.config
    blocks = {
        bits: tuple(
            PreluConv(inverse_steps(layer.conv, bits), lower_conv(layer.conv, bits), layer.act.weight.detach().float())
            for layer in network.layers
        )
        for bits in config.bit_widths
    }
    return IntegerCompact(
        config.scale,
        lower_head(network.head, mean=(0, 0, 0)),
        network.head_act.weight.detach().float(),
        blocks,
        inverse_steps(network.tail, 8),
        lower_conv(network.tail, 8, gain=255),
    )
