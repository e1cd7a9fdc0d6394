"""Granular-DQ's released SRResNet, a state dict -> our network and controller (parity: tests/models/test_convert.py).

Its quirks: quantizers stand in the order 4, 6, 8, 5 bits; the two E2B ratios drift in training and are looked up in a
table after rounding to tenths; several tensors are dead (mean shift, channel_threshold, act_q, init_state).
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdq_cli.bits.controller import Controller
from gdq_cli.networks import Srresnet, SrresnetConfig

QUANTIZERS = {4: "quant_act1", 5: "quant_act4", 6: "quant_act2", 8: "quant_act3"}
"""Bit-width -> name of the release's activation quantizer."""

THRESHOLDS = {
    "5.0": 1.554093360900879,
    "10.0": 1.9272079467773438,
    "20.0": 2.329602,
    "30.0": 2.5321662425994873,
    "40.0": 2.6830599308013916,
    "50.0": 2.8009395599365234,
    "60.0": 2.9029078483581543,
    "70.0": 2.9937233924865723,
    "80.0": 3.081907272338867,
    "90.0": 3.182796001434326,
}
"""Entropy in nats at the quantiles (percent) that the release's rounding can reach in its table of 199."""

_GATE = "encoder.gate.0."
_RATIO = "encoder.second_divide_bit.fine_grain_ratito"
_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

_RENAMED = (
    (r"head\.0\.weight", "head.weight"),
    (r"head\.1\.weight", "head_act.weight"),
    (r"body\.(\d+)\.learnable_shortcut", r"body.\1.shortcut"),
    (r"body\.(\d+)\.conv([12])\.weight", r"body.\1.conv\2.weight"),
    (r"body\.(\d+)\.conv([12])\.alpha", r"body.\1.conv\2.weight_step"),
    (r"body\.(\d+)\.act\.weight", r"body.\1.act.weight"),
    (rf"body\.(\d+)\.bn([12])\.{_NORM}", r"body.\1.bn\2.\3"),
    (r"tail\.0\.(\d)\.weight", r"upsampler.\1.weight"),
    (r"tail\.1\.weight", "tail.weight"),
)

_CONSUMED = re.compile(
    rf"(sub|add)_mean\.(weight|bias)|{re.escape(_GATE)}(weight|bias)|{re.escape(_RATIO)}[12]|"
    r"body\.\d+\.(conv[12]\.(channel_threshold|init_state|quant_act[1-4]\.(alpha|init_state|signed))|"
    r"act_q\.(alpha|init_state|signed))"
)
"""Keys that are read by other means, or that have no effect on the output."""


def is_release(state: dict[str, Tensor]) -> bool:
    """Whether a state dict is of Granular-DQ's SRResNet."""
    return f"{_GATE}weight" in state and "body.0.conv1.quant_act1.alpha" in state


def import_release(state: dict[str, Tensor]) -> tuple[Srresnet, Controller, dict[str, Any]]:
    """Translate a released state dict.

    Returns:
        Network, controller, and facts for the checkpoint.

    Raises:
        KeyError, ValueError, RuntimeError: if tensors are missing, unknown, of wrong shape, or hold values that the
            release itself could not run with.
    """
    blocks = sum(key.endswith(".learnable_shortcut") for key in state)
    config = SrresnetConfig(4 if "tail.0.3.weight" in state else 2, blocks, state["head.0.weight"].shape[0])
    renamed = {}
    for key, value in state.items():
        ours = _rename(key, blocks)
        if ours is not None:
            renamed[ours] = value if value.dtype == torch.int64 else value.float()
    for block in range(blocks):
        for conv in (f"body.{block}.conv1", f"body.{block}.conv2"):
            quantizers = [f"{conv}.{QUANTIZERS[bits]}" for bits in config.bit_widths]
            if any(_scalar(state, f"{name}.init_state") == 0 for name in [conv, *quantizers]):
                raise ValueError(f"a quantizer of {conv} was never trained (init_state 0)")
            steps = [_scalar(state, f"{name}.alpha") for name in quantizers]
            signed = [_scalar(state, f"{name}.signed") for name in quantizers]
            if not set(signed) <= {0.0, 1.0}:
                raise ValueError(f"a signed flag of {conv} is neither 0 nor 1")
            renamed[f"{conv}.activation_step"] = torch.tensor(steps)
            renamed[f"{conv}.activation_signed"] = torch.tensor(signed).to(torch.uint8)
    for key, value in renamed.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"tensor {key} holds values that are not finite")
        if key.endswith("_step") and not bool((value > 1e-20).all()):
            raise ValueError(f"tensor {key} holds a step that is not positive")
    with torch.device("meta"):
        network = Srresnet(config)
    network.load_state_dict(renamed, assign=True)
    ratios = [_scalar(state, f"{_RATIO}{index}") for index in (1, 2)]
    controller = Controller(
        descriptor="mean",
        weight=_gate(state, "weight", (3, 3 * config.features)),
        bias=_gate(state, "bias", (3,)),
        thresholds=(ratio_threshold(ratios[0]), ratio_threshold(ratios[1])),
        square_entropy=True,
    )
    return network, controller, {"converted_from": "Granular-DQ release, SRResNet", "ratios": ratios}


def ratio_threshold(ratio: float) -> float:
    """Entropy threshold of a drifted E2B ratio, with the rounding of the release.

    The decimal text of the float32 value is rounded to tenths, half up, and raised to at least 0.05.

    >>> ratio_threshold(0.576083) == THRESHOLDS["60.0"]
    True

    Raises:
        ValueError: if the ratio rounds to 1.0, for which the release has no table entry either, or is not finite.
    """
    if not np.isfinite(ratio):
        raise ValueError("an E2B ratio is not finite")
    rounded = Decimal(str(np.float32(ratio))).quantize(Decimal("0.1"), ROUND_HALF_UP)
    key = f"{float(max(min(rounded, Decimal(1)), Decimal('0.05'))) * 100:.1f}"
    if key not in THRESHOLDS:
        raise ValueError(f"its E2B ratio {ratio:.4f} rounds to {key} %, for which the release has no threshold")
    return THRESHOLDS[key]


def _rename(key: str, blocks: int) -> str | None:
    """Our name of a tensor; None for one that needs no name."""
    tail = re.fullmatch(rf"body\.(\d+)\.{_NORM}", key)
    if tail and int(tail[1]) == blocks:
        return f"body_conv.{tail[2]}"
    if tail and int(tail[1]) == blocks + 1:
        return f"body_norm.{tail[2]}"
    for pattern, ours in _RENAMED:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(ours)
    if not _CONSUMED.fullmatch(key):
        raise ValueError(f"tensor {ascii(key)[:60]} is not one of the release's SRResNet")
    return None


def _scalar(state: dict[str, Tensor], key: str) -> float:
    """The one value of a tensor, whatever its shape ([1] or [1, 1, 1])."""
    if state[key].numel() != 1:
        raise ValueError(f"tensor {key} has shape {tuple(state[key].shape)}, expected a single value")
    return float(state[key].reshape(()))


def _gate(state: dict[str, Tensor], part: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    value = state[f"{_GATE}{part}"]
    if tuple(value.shape) != shape or not bool(torch.isfinite(value).all()):
        raise ValueError(f"the controller's {part} has shape {tuple(value.shape)} or is not finite; expected {shape}")
    gate: np.ndarray[Any, np.dtype[np.float64]] = value.double().numpy()
    return gate
