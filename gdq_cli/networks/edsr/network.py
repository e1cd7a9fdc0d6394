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

    name = EdsrConfig.name

    def __init__(self, config: EdsrConfig) -> None:
        super().__init__(config)
        features = config.features
        static: list[tuple[int, ...]] = [(bits,) for bits in config.static_bits] or [()] * (2 + len(config.stages))
        equalized = bool(config.bit_widths)
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.ModuleList(
            ResidualBlock(features, config.bit_widths, config.four_bit_grid) for _ in range(config.blocks)
        )
        self.body_conv = QuantConv2d(features, features, bit_widths=static[0], signed=True, equalized=equalized)
        upsampler: list[nn.Module] = []
        for stage, bits in zip(config.stages, static[1:-1], strict=True):
            conv = QuantConv2d(features, features * stage**2, bit_widths=bits, signed=True, equalized=equalized)
            upsampler += [conv, nn.PixelShuffle(stage)]
        self.upsampler = nn.ModuleList(upsampler)
        self.tail = QuantConv2d(
            features, 3 * config.tail_factor**2, bit_widths=static[-1], signed=True, equalized=equalized
        )

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
