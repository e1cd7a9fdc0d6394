"""Compact (SRVGGNetCompact, Wang et al. 2021: Real-ESRGAN's general-x4v3 and its kin) with dynamic bit-widths.

A plain chain of 3x3 convolutions and PReLUs at LR size, one pixel shuffle at its end, added to the enlarged input.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks.blocks import Network, QuantConv2d
from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.program.layers import ConvConfig


class CompactLayer(nn.Module):
    """prelu(conv(x)); the input is what another PReLU gave, so its codes are signed.

    Equalized: no residual stream is shared, so each layer's channels have ranges of their own.
    """

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.conv = QuantConv2d(config)
        self.act = nn.PReLU(config.outputs)

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        output: Tensor = self.act(self.conv(x, bit_width))
        return output


class Compact(Network):
    """Head, layers at the patch's bit-width, tail at a static one, pixel shuffle, plus the enlarged input.

    The head is float32. Pixels are RGB / 255 without a mean, so zero padding stands for black.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__(config)
        *layers, tail = config.quant_convs.values()
        self.head = nn.Conv2d(3, config.features, 3, padding=1)
        self.head_act = nn.PReLU(config.features)
        self.body = nn.ModuleList(map(CompactLayer, layers))
        self.tail = QuantConv2d(tail)

    @property
    def layers(self) -> list[CompactLayer]:
        """The dynamic layers, in order."""
        return [cast(CompactLayer, layer) for layer in self.body]

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.head(pixels / 255)
        return features

    def forward(self, pixels: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        x = self.head_act(self.features(pixels))
        for layer in self.layers:
            x = layer(x, bit_width)
        return add_enlarged(self.tail(x, bit_width) * 255, pixels, self.config.scale)


def add_enlarged(residual: Tensor, pixels: Tensor, scale: int) -> Tensor:
    """The network's end: pixel shuffle of (N, 3 * scale^2, H, W) grey levels, plus the nearest-enlarged input."""
    return F.pixel_shuffle(residual, scale) + F.interpolate(pixels, scale_factor=scale, mode="nearest")
