"""EDSR (Lim et al., CVPRW 2017) with Granular-DQ's dynamic bit-widths in its residual blocks."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks.blocks import Network, QuantConv2d, ResidualBlock
from gdq_cli.networks.edsr.config import MEAN, EdsrConfig


class Edsr(Network):
    """EDSR-baseline: head, residual body, body conv with long skip, pixel-shuffle upsampler, tail.

    The head is float32, the residual blocks run at the patch's bit-width, everything after them at a static one.
    """

    def __init__(self, config: EdsrConfig) -> None:
        super().__init__(config)
        convs = config.quant_convs
        self.head = nn.Conv2d(3, config.features, 3, padding=1)
        self.body = nn.ModuleList(
            ResidualBlock(convs[f"body.{block}.conv1"], convs[f"body.{block}.conv2"]) for block in range(config.blocks)
        )
        self.body_conv = QuantConv2d(convs["body_conv"])
        upsampler: list[nn.Module] = []
        for index, stage in enumerate(config.stages):
            upsampler += [QuantConv2d(convs[f"upsampler.{2 * index}"]), nn.PixelShuffle(stage)]
        self.upsampler = nn.ModuleList(upsampler)
        self.tail = QuantConv2d(convs["tail"])

    @property
    def blocks(self) -> list[ResidualBlock]:
        """The residual blocks, in order."""
        return [cast(ResidualBlock, block) for block in self.body]

    @property
    def upsampler_convs(self) -> list[QuantConv2d]:
        """The convolutions of the upsampler, without the pixel shuffles."""
        return [layer for layer in self.upsampler if isinstance(layer, QuantConv2d)]

    def features(self, pixels: Tensor) -> Tensor:
        head: Tensor = self.head((pixels - mean_of(pixels)) / 255)
        return head

    def forward(self, pixels: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        skip = self.features(pixels).float()
        x = skip
        for block in self.blocks:
            x = block(x, bit_width)
        x = skip + self.body_conv(x, bit_width)
        for layer in self.upsampler:
            x = layer(x, bit_width) if isinstance(layer, QuantConv2d) else layer(x)
        output = F.pixel_shuffle(self.tail(x, bit_width).float(), self.config.tail_factor)
        return output * 255 + mean_of(pixels)


def mean_of(pixels: Tensor) -> Tensor:
    """DIV2K's mean where the pixels are, (1, 3, 1, 1)."""
    return torch.tensor(MEAN, dtype=pixels.dtype, device=pixels.device).reshape(1, 3, 1, 1)
