"""EDSR (Lim et al., CVPRW 2017) with Granular-DQ's dynamic bit-widths in its residual blocks."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks.blocks import QuantConv2d, ResidualBlock
from gdq_cli.networks.edsr.config import MEAN, EdsrConfig


class Edsr(nn.Module):
    """EDSR-baseline: head, residual body, body conv with long skip, pixel-shuffle upsampler, tail.

    The head is float32, the residual blocks run at the patch's bit-width, everything after them at a static one.
    """

    name = EdsrConfig.name
    mean: Tensor

    def __init__(self, config: EdsrConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        static: list[tuple[int, ...]] = [(bits,) for bits in config.static_bits] or [()] * (2 + len(config.stages))
        equalized = bool(config.bit_widths)
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.ModuleList(ResidualBlock(features, config.bit_widths) for _ in range(config.blocks))
        self.body_conv = QuantConv2d(features, features, bit_widths=static[0], signed=True, equalized=equalized)
        upsampler: list[nn.Module] = []
        for stage, bits in zip(config.stages, static[1:-1], strict=True):
            conv = QuantConv2d(features, features * stage**2, bit_widths=bits, signed=True, equalized=equalized)
            upsampler += [conv, nn.PixelShuffle(stage)]
        self.upsampler = nn.ModuleList(upsampler)
        self.tail = QuantConv2d(
            features, 3 * config.tail_factor**2, bit_widths=static[-1], signed=True, equalized=equalized
        )
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32).reshape(1, 3, 1, 1), persistent=False)

    @property
    def blocks(self) -> list[ResidualBlock]:
        """The residual blocks, in order."""
        return [cast(ResidualBlock, block) for block in self.body]

    @property
    def upsampler_convs(self) -> list[QuantConv2d]:
        """The convolutions of the upsampler, without the pixel shuffles."""
        return [layer for layer in self.upsampler if isinstance(layer, QuantConv2d)]

    def features(self, pixels: Tensor) -> Tensor:
        """Head features before any activation, (N, 3, H, W) pixels in [0, 255] -> (N, C, H, W)."""
        head: Tensor = self.head((pixels - self.mean) / 255)
        return head

    def forward(self, pixels: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        """Upscale a batch of patches that share one bit-width.

        Args:
            pixels: (N, 3, H, W) float, RGB in [0, 255].
            bit_width: 4, 5, 6, 8, or 32 for the float network.

        Returns:
            (N, 3, H * scale, W * scale) float, grey levels, neither clamped nor rounded.
        """
        skip = self.features(pixels).float()
        x = skip
        for block in self.blocks:
            x = block(x, bit_width)
        x = skip + self.body_conv(x, bit_width)
        for layer in self.upsampler:
            x = layer(x, bit_width) if isinstance(layer, QuantConv2d) else layer(x)
        output = F.pixel_shuffle(self.tail(x, bit_width).float(), self.config.tail_factor)
        return output * 255 + self.mean
