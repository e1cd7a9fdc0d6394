"""A random state dict in the format of Granular-DQ's release, and what the release computes with it, in float64.

This restatement follows the description of the release (order of operations, quantizer names, dead tensors) and shares
no code with gdq: it is the oracle for the conversion where the authors' own vectors are absent.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATION = {4: "quant_act1", 6: "quant_act2", 8: "quant_act3", 5: "quant_act4"}


def make_release_state(
    scale: int, blocks: int = 2, features: int = 64, seed: int = 0, ratios: tuple[float, float] = (0.5, 0.9)
) -> OrderedDict[str, Tensor]:
    """All tensors of the release, dead ones included; unsigned input of the first block, signed ones elsewhere."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=generator) * std + mean

    state: OrderedDict[str, Tensor] = OrderedDict()
    for shift, sign in (("sub_mean", -1.0), ("add_mean", 1.0)):
        state[f"{shift}.weight"] = torch.eye(3).reshape(3, 3, 1, 1)
        state[f"{shift}.bias"] = sign * torch.tensor([114.444, 111.4605, 103.02])
    state["encoder.gate.0.weight"] = normal(3, 3 * features, std=0.01)
    state["encoder.gate.0.bias"] = normal(3)
    for index, ratio in enumerate(ratios, 1):
        state[f"encoder.second_divide_bit.fine_grain_ratito{index}"] = torch.full((1, 1, 1), ratio)
    state["head.0.weight"] = normal(features, 3, 9, 9, std=(2 / (81 * 64)) ** 0.5)
    state["head.1.weight"] = torch.zeros(1)

    def norm(prefix: str, gain: float) -> None:
        state[f"{prefix}.weight"] = normal(features, std=0.15 * gain, mean=gain)
        state[f"{prefix}.bias"] = normal(features, std=0.1)
        state[f"{prefix}.running_mean"] = normal(features)
        state[f"{prefix}.running_var"] = 20 + 10 * torch.rand(features, generator=generator)
        state[f"{prefix}.num_batches_tracked"] = torch.tensor(3)

    for block in range(blocks):
        base = f"body.{block}"
        state[f"{base}.learnable_shortcut"] = normal(1, std=0.05, mean=0.97)
        for conv, span in (("conv1", 100.0), ("conv2", 3.0)):
            weight = normal(features, features, 3, 3, std=(2 / (9 * features)) ** 0.5)
            state[f"{base}.{conv}.weight"] = weight
            clipping = 40.0 if conv == "conv1" else 127.0  # conv1's weights leave the range of int8
            state[f"{base}.{conv}.alpha"] = (2.5 * weight.std() / clipping).reshape(1)
            state[f"{base}.{conv}.channel_threshold"] = normal(1, features, 1, 1, std=2)
            state[f"{base}.{conv}.init_state"] = torch.ones(1)
            unsigned = block == 0 and conv == "conv1"
            for bits, name in ACTIVATION.items():
                state[f"{base}.{conv}.{name}.alpha"] = normal(1, std=0.1, mean=1) * span / 2 ** (bits - 1)
                state[f"{base}.{conv}.{name}.init_state"] = torch.ones(1)
                state[f"{base}.{conv}.{name}.signed"] = torch.zeros(1) if unsigned else torch.ones(1)
        norm(f"{base}.bn1", 1.0)
        state[f"{base}.act.weight"] = 0.05 + 0.3 * torch.rand(1, generator=generator)
        state[f"{base}.act_q.alpha"] = normal(1)
        state[f"{base}.act_q.init_state"] = torch.zeros(1)
        state[f"{base}.act_q.signed"] = torch.zeros(1)
        norm(f"{base}.bn2", 0.5)
    state[f"body.{blocks}.weight"] = normal(features, features, 3, 3, std=(2 / (9 * features)) ** 0.5)
    norm(f"body.{blocks + 1}", 3.0)
    for index in (0, 3)[: 1 if scale == 2 else 2]:
        state[f"tail.0.{index}.weight"] = normal(4 * features, features, 3, 3, std=(2 / (9 * features)) ** 0.5)
        state[f"tail.0.{index + 2}.weight"] = torch.full((1,), 0.25)
    state["tail.1.weight"] = normal(3, features, 9, 9, std=0.3 / (81 * features) ** 0.5) + 0.2 / (81 * features)
    output = release_output(state, 255 * torch.rand((1, 3, 12, 12), generator=generator), 8)
    state["tail.1.weight"] *= float(60 / output.std())  # grey levels worth looking at
    return state


def quantize(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    return torch.round(torch.clamp(x / step, low, high)) * step


def release_output(state: dict[str, Tensor], pixels: Tensor, bits: int) -> Tensor:
    """What the release's network gives for (N, 3, H, W) pixels at one bit-width, in float64."""
    s = {key: value.double() for key, value in state.items()}

    def bn(x: Tensor, prefix: str) -> Tensor:
        return F.batch_norm(
            x, s[f"{prefix}.running_mean"], s[f"{prefix}.running_var"], s[f"{prefix}.weight"], s[f"{prefix}.bias"]
        )

    def qconv(x: Tensor, prefix: str) -> Tensor:
        name = f"{prefix}.{ACTIVATION[bits]}"
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if s[f"{name}.signed"] == 1 else (0, 2**bits - 1)
        weight = quantize(s[f"{prefix}.weight"], s[f"{prefix}.alpha"], -128, 127)
        return F.conv2d(quantize(x, s[f"{name}.alpha"], low, high), weight, padding=1)

    h = F.prelu(F.conv2d(pixels.double(), s["head.0.weight"], padding=4), s["head.1.weight"])
    x = h
    blocks = sum(key.endswith("learnable_shortcut") for key in s)
    for block in range(blocks):
        base = f"body.{block}"
        y = bn(F.prelu(qconv(x, f"{base}.conv1"), s[f"{base}.act.weight"]), f"{base}.bn1")
        x = s[f"{base}.learnable_shortcut"] * x + bn(qconv(y, f"{base}.conv2"), f"{base}.bn2")
    x = bn(F.conv2d(x, s[f"body.{blocks}.weight"], padding=1), f"body.{blocks + 1}") + h
    for index in (0, 3):
        if f"tail.0.{index}.weight" in s:
            x = F.pixel_shuffle(F.conv2d(x, s[f"tail.0.{index}.weight"], padding=1), 2)
            x = F.prelu(x, s[f"tail.0.{index + 2}.weight"])
    return F.conv2d(x, s["tail.1.weight"], padding=4)


def release_logits(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Logits of the release's gate, (N, 3, H, W) -> (N, 3): three poolings, each averaged over space."""
    f = F.conv2d(pixels.double(), state["head.0.weight"].double(), padding=4)
    fine = F.avg_pool2d(f, 4, 4).mean((2, 3))
    median = F.avg_pool2d(F.avg_pool2d(f, 2), 2).mean((2, 3))
    features = torch.cat([median, fine, median], 1)
    return features @ state["encoder.gate.0.weight"].double().T + state["encoder.gate.0.bias"].double()
