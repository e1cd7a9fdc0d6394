"""SRResNet (Ledig et al., CVPR 2017) as the authors of Granular-DQ quantize it: the network of their release.

It differs from the textbook: 9x9 head and tail, no biases, PReLU *before* batch normalisation in the blocks, and a
learned factor on each block's identity path. Only the convolutions of the blocks are quantized; all else is float32.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks import quantizers
from gdq_cli.networks.blocks import Network
from gdq_cli.networks.srresnet.config import WEIGHT_RANGE, SrresnetConfig
from gdq_cli.program import grids


class TensorQuantConv2d(nn.Module):
    """3x3 convolution without bias, quantized with one weight step and, per bit-width, one activation step.

    Args:
        channels: of input and output.
        bit_widths: activation bit-widths it can run at; empty for float32 only.

    Attributes:
        weight: (C, C, 3, 3).
        weight_step: (1,) positive; weights are 8 bits at every activation width.
        activation_step: (len(bit_widths),) positive, in the order of ``bit_widths``.
        activation_signed: (len(bit_widths),) uint8 buffer, 1 where the input codes are signed.
    """

    activation_signed: Tensor

    def __init__(self, channels: int, bit_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.bit_widths = bit_widths
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if bit_widths:
            self.weight_step = nn.Parameter(torch.full((1,), 1e-2))
            self.activation_step = nn.Parameter(torch.full((len(bit_widths),), 0.1))
            self.register_buffer("activation_signed", torch.ones(len(bit_widths), dtype=torch.uint8))

    def _position(self, bit_width: int) -> int:
        if bit_width not in self.bit_widths:
            raise ValueError(f"bit_width must be one of {self.bit_widths}, not {bit_width}")
        return self.bit_widths.index(bit_width)

    def input_step(self, bit_width: int) -> Tensor:
        """Scalar step of the input codes."""
        return self.activation_step[self._position(bit_width)]

    def input_range(self, bit_width: int) -> tuple[int, int]:
        """Smallest and largest input code."""
        return grids.code_range(bit_width, signed=bool(self.activation_signed[self._position(bit_width)]))

    def weight_codes(self) -> Tensor:
        """(C, C, 3, 3) integers in :data:`WEIGHT_RANGE`, differentiably."""
        return quantizers.activation_codes(self.weight, self.weight_step.reshape(1, 1, 1, 1), *WEIGHT_RANGE)

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        """Convolve (N, C, H, W), in float32 or with fake-quantized input and weight."""
        if bit_width == FP32_BITS:
            return F.conv2d(x, self.weight, padding=1)
        step = self.input_step(bit_width)
        codes = quantizers.activation_codes(x, step, *self.input_range(bit_width))
        return F.conv2d(codes, self.weight_codes(), padding=1) * (step * self.weight_step)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, bit_widths={self.bit_widths}"


class SrresnetBlock(nn.Module):
    """shortcut * x + bn2(conv2(bn1(prelu(conv1(x)))))."""

    def __init__(self, channels: int, bit_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = TensorQuantConv2d(channels, bit_widths)
        self.act = nn.PReLU()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = TensorQuantConv2d(channels, bit_widths)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        hidden = self.bn1(self.act(self.conv1(x, bit_width)))
        output: Tensor = self.shortcut * x + self.bn2(self.conv2(hidden, bit_width))
        return output


class Srresnet(Network):
    """Head, residual blocks at the patch's bit-width, body conv with long skip, pixel-shuffle upsampler, tail."""

    def __init__(self, config: SrresnetConfig) -> None:
        super().__init__(config)
        features = config.features
        self.head = nn.Conv2d(3, features, 9, padding=4, bias=False)
        self.head_act = nn.PReLU()
        self.body = nn.ModuleList(SrresnetBlock(features, config.bit_widths) for _ in range(config.blocks))
        self.body_conv = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.body_norm = nn.BatchNorm2d(features)
        upsampler: list[nn.Module] = []
        for stage in config.stages:
            conv = nn.Conv2d(features, features * stage**2, 3, padding=1, bias=False)
            upsampler += [conv, nn.PixelShuffle(stage), nn.PReLU()]
        self.upsampler = nn.Sequential(*upsampler)
        self.tail = nn.Conv2d(features, 3, 9, padding=4, bias=False)

    @property
    def blocks(self) -> list[SrresnetBlock]:
        """The residual blocks, in order."""
        return [cast(SrresnetBlock, block) for block in self.body]

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.head(pixels)
        return features

    def stem(self, pixels: Tensor) -> Tensor:
        """What the blocks and the long skip read: head features, activated."""
        output: Tensor = self.head_act(self.features(pixels))
        return output

    def reconstruct(self, x: Tensor, skip: Tensor) -> Tensor:
        """From the last block's output and the activated head features to grey levels: the float32 layers."""
        x = self.body_norm(self.body_conv(x)) + skip
        output: Tensor = self.tail(self.upsampler(x))
        return output

    def forward(self, pixels: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        x = skip = self.stem(pixels)
        for block in self.blocks:
            x = block(x, bit_width)
        return self.reconstruct(x, skip)
