"""Random EDSR weights under the names that others give them, and that network in float64: the oracle for the import."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.networks import make_network


def edsr_state(scale: int, value_range: float, features: int = 16) -> dict[str, Tensor]:
    """Random EDSR weights under plain names, for pixels in 0..range with the mean subtracted."""
    state = {key: value.clone() for key, value in make_network(scale, 2, features).state_dict().items()}
    return {key: value * value_range if key.endswith("bias") else value for key, value in state.items()}


def edsr_output(state: dict[str, Tensor], rgb: Tensor, value_range: float, factor: float = 1.0) -> Tensor:
    """EDSR on RGB in 0..255, in float64."""
    s = {key: value.double() for key, value in state.items()}
    mean = torch.tensor((0.4488, 0.4371, 0.4040), dtype=torch.float64).reshape(1, 3, 1, 1) * value_range

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=1)

    h = conv(rgb.double() * (value_range / 255) - mean, "head")
    x = h
    for block in range(2):
        x = x + factor * conv(F.relu(conv(x, f"body.{block}.conv1")), f"body.{block}.conv2")
    x = h + conv(x, "body_conv")
    for index in (0, 2):
        if f"upsampler.{index}.weight" in s:
            x = conv(x, f"upsampler.{index}")
            x = F.pixel_shuffle(x, round((x.shape[1] / s["tail.weight"].shape[1]) ** 0.5))
    return (conv(x, "tail") + mean) * (255 / value_range)


def edsr_names(state: dict[str, Tensor], value_range: float) -> dict[str, Tensor]:
    """Under the EDSR project's names."""
    named = {}
    for key, value in state.items():
        key = key.replace("body_conv.", "body.2.").replace("head.", "head.0.").replace("tail.", "tail.1.")
        key = key.replace("upsampler.", "tail.0.").replace("conv1.", "body.0.").replace("conv2.", "body.2.")
        named[key] = value
    for shift, sign in (("sub_mean", -1), ("add_mean", 1)):
        named[f"{shift}.weight"] = torch.eye(3).reshape(3, 3, 1, 1)
        named[f"{shift}.bias"] = sign * value_range * torch.tensor((0.4488, 0.4371, 0.4040))
    return named


def basicsr_names(state: dict[str, Tensor], _: float) -> dict[str, Any]:
    """Under BasicSR's names, in its wrapper."""
    pairs = (
        ("head.", "conv_first."),
        ("body_conv.", "conv_after_body."),
        ("upsampler.", "upsample."),
        ("tail.", "conv_last."),
    )
    named = {}
    for key, value in state.items():
        for ours, theirs in pairs:
            key = key.replace(ours, theirs) if key.startswith(ours) else key
        named[key] = value
    return {"params": named}
