"""Small networks with sensible weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gdq_cli.networks import Network, NetworkConfig, build_network
from gdq_cli.networks.edsr.config import EdsrConfig, Upsampler
from gdq_cli.networks.edsr.network import Edsr


def make_network(
    scale: int, blocks: int = 2, features: int = 64, seed: int = 0, upsampler: Upsampler = "pixelshuffle"
) -> Edsr:
    """A float32 network that upscales roughly like bilinear interpolation plus random texture."""
    generator = torch.Generator().manual_seed(seed)
    network = Edsr(EdsrConfig(scale, blocks, features, bit_widths=(), upsampler=upsampler))
    with torch.no_grad():
        for name, value in network.named_parameters():
            fan_in = value[0].numel() if value.dim() == 4 else 64
            gain = 0.3 if "conv2" in name else 1.0
            value.copy_(torch.randn(value.shape, generator=generator) * gain * (1.5 / fan_in) ** 0.5)
    return network.eval()


def make_positive(config: NetworkConfig, seed: int = 0) -> Network:
    """A float32 network in which nothing cancels and no activation is cut off: every path to an output counts."""
    generator = torch.Generator().manual_seed(seed)
    no_static: dict[str, Any] = {"static_bits": ()} if "static_bits" in config.to_dict() else {}
    network = build_network(replace(config, bit_widths=(), **no_static)).eval()
    with torch.no_grad():
        for value in network.parameters():
            fan_in = value[0].numel() if value.dim() == 4 else 1
            value.copy_((torch.rand(value.shape, generator=generator) / 2 + 0.5) / fan_in)
    return network
