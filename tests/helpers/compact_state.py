"""Random weights in SRVGGNetCompact's own format, and that network in plain torch: the oracle for the import."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def make_compact(scale: int, convs: int = 3, features: int = 32, seed: int = 0) -> nn.Sequential:
    """The layers that the format numbers ``body.{n}``, with slopes of both signs and channels of uneven strength."""
    layers: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1), nn.PReLU(features)]
    for _ in range(convs):
        layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
    layers.append(nn.Conv2d(features, 3 * scale**2, 3, padding=1))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.PReLU):
                layer.weight.copy_(torch.rand(features, generator=generator) - 0.3)
                continue
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            gain = 0.1 if layer is layers[-1] else 1.6
            spread = torch.rand((layer.out_channels, 1, 1, 1), generator=generator) + 0.5
            weight = torch.randn(layer.weight.shape, generator=generator) * spread
            layer.weight.copy_(weight * gain / layer.weight[0].numel() ** 0.5)
            layer.bias.copy_(0.05 * gain * torch.randn(layer.bias.shape, generator=generator))
    return nn.Sequential(*layers).eval()


def compact_state(body: nn.Sequential) -> OrderedDict[str, Tensor]:
    """Its state dict as Real-ESRGAN writes it."""
    return OrderedDict((f"body.{key}", value.clone()) for key, value in body.state_dict().items())


def compact_output(body: nn.Sequential, pixels: Tensor, scale: int) -> Tensor:
    """What the network gives for (N, 3, H, W) pixels in 0..255, in grey levels; it was trained on RGB in 0..1."""
    rgb = pixels / 255
    enlarged = rgb.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    with torch.inference_mode():
        return (F.pixel_shuffle(body(rgb), scale) + enlarged) * 255
