"""Float32 EDSR weights under the names of three projects -> our network.

Each project has one key table. Everything in a file must be known: a key that no table names means a network that we
would run wrongly.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from gdq_cli.networks.edsr.config import MEAN, EdsrConfig
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.networks.kind import MAX_BLOCKS, MAX_FEATURES

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB that EDSR's own code subtracts, in [0, 1]."""

_EDSR_KEYS = (
    (r"head\.0\.", "head."),
    (r"body\.(\d+)\.body\.0\.", r"body.\1.conv1."),
    (r"body\.(\d+)\.body\.2\.", r"body.\1.conv2."),
    (r"body\.\d+\.", "body_conv."),
    (r"tail\.0\.([02])\.", r"upsampler.\1."),
    (r"tail\.1\.", "tail."),
)
"""Names of the EDSR project (sanghyun-son/EDSR-PyTorch)."""

_BASICSR_KEYS = (
    (r"conv_first\.", "head."),
    (r"body\.(\d+)\.conv([12])\.", r"body.\1.conv\2."),
    (r"conv_after_body\.", "body_conv."),
    (r"upsample\.([02])\.", r"upsampler.\1."),
    (r"conv_last\.", "tail."),
)
"""Names of the BasicSR project (XPixelGroup/BasicSR)."""

_OWN_KEYS = ((r"(head|body\.\d+\.conv[12]|body_conv|upsampler\.[02]|tail)\.", r"\1."),)
"""Plain names, on RGB / 255 - mean."""


def is_edsr(state: dict[str, Tensor]) -> bool:
    """Whether a state dict begins as one of the key tables says."""
    return any(f"{first}.weight" in state for first in ("head.0", "conv_first", "head"))


def import_edsr(state: dict[str, Tensor], residual_scale: float | None) -> tuple[Edsr, str]:
    """A float32 EDSR from any of the three key tables.

    Args:
        state: for which :func:`is_edsr` holds.
        residual_scale: factor on the blocks' output; by default 0.1 for 256 features, else 1.

    Returns:
        The network, and what its file was.

    Raises:
        KeyError, ValueError, RuntimeError: if keys, shapes or values are not those of such a network.
    """
    value_range, mean = 255.0, DIV2K_MEAN
    table: tuple[tuple[str, str], ...]
    if "head.0.weight" in state:
        kind, table = "EDSR", _EDSR_KEYS
        state, value_range, mean = _take_mean_shift(state)
    elif "conv_first.weight" in state:
        kind, table = "BasicSR EDSR", _BASICSR_KEYS
        state = {key: value for key, value in state.items() if key != "mean"}
    else:
        kind, table, value_range = "plain EDSR", _OWN_KEYS, 1.0
    renamed = {_rename(key, table): value.float() for key, value in state.items()}
    if len(renamed) != len(state):
        raise ValueError("two of its tensors have the same meaning")
    features = renamed["head.weight"].shape[0]
    factor = residual_scale if residual_scale is not None else 0.1 if features == 256 else 1.0
    for key, value in renamed.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"tensor {key} holds values that are not finite")
        # Every layer is homogeneous, so a network on 0..range is the one on 0..1 with its biases divided by range.
        if key.endswith(".bias"):
            value = value / value_range
        renamed[key] = value * factor if ".conv2." in key else value
    scale = _edsr_scale(renamed)
    return import_fp32(renamed, scale, mean), f"{kind}, range {value_range:g}"


def _rename(key: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in table:
        renamed, count = re.subn(f"^{pattern}(?=(weight|bias)$)", ours, key)
        if count:
            return renamed
    raise ValueError(f"tensor {ascii(key)[:60]} belongs to no network that gdq knows")


def _take_mean_shift(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], float, tuple[float, float, float]]:
    """Split off the EDSR project's mean shift; its bias tells whether pixels were 0..255 or 0..1."""
    shifts = {key: value for key, value in state.items() if key.startswith(("sub_mean.", "add_mean."))}
    rest = {key: value for key, value in state.items() if key not in shifts}
    if not shifts:
        return rest, 255.0, DIV2K_MEAN
    bias = shifts["sub_mean.bias"].double().flatten()
    eye = torch.eye(3, dtype=torch.float64).reshape(3, 3, 1, 1)
    if bias.shape != (3,) or not torch.allclose(shifts["sub_mean.weight"].double(), eye, atol=1e-3):
        raise ValueError("its mean shift also rescales colours; gdq knows EDSR with a standard deviation of 1 only")
    if not torch.allclose(shifts["add_mean.bias"].double().flatten(), -bias, atol=1e-2):
        raise ValueError("its output mean is not its input mean")
    value_range = 255.0 if float(bias.abs().max()) > 1 else 1.0
    red, green, blue = (-bias / value_range).tolist()
    return rest, value_range, (red, green, blue)


def _edsr_scale(state: dict[str, Tensor]) -> int:
    if "upsampler.2.weight" in state:
        return 4
    outputs, inputs = state["upsampler.0.weight"].shape[:2]
    for scale in (2, 3):
        if outputs == scale**2 * inputs:
            return scale
    raise ValueError(f"its upsampler makes {outputs} channels of {inputs}: neither x2, x3 nor x4")


def import_fp32(state: dict[str, Tensor], scale: int, mean: tuple[float, float, float] = DIV2K_MEAN) -> Edsr:
    """A float32 network from plain EDSR weights on RGB / 255 - mean.

    Args:
        state: head, body.{i}.conv1/2, body_conv, upsampler.{0,2}, tail (weight and bias each).
        scale: upscaling factor.
        mean: that was subtracted from RGB in [0, 1]; the difference to our integer mean goes into the biases.

    Raises:
        KeyError, ValueError, RuntimeError: if keys or shapes are not those of such a network.
    """
    blocks = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("body.")), default=-1)
    features = state["head.weight"].shape[0]
    if 4 * blocks > len(state) or not (1 <= blocks <= MAX_BLOCKS and 1 <= features <= MAX_FEATURES):
        raise ValueError(f"{len(state)} tensors are not those of {blocks} blocks of {features} features")
    network = Edsr(EdsrConfig(scale, blocks, features, bit_widths=()))
    network.load_state_dict(state)
    delta = (torch.tensor(MEAN, dtype=torch.float32) / 255).double() - torch.tensor(mean, dtype=torch.float64)
    with torch.no_grad():
        head = network.head
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        head.bias.add_(torch.einsum("oihw,i->o", head.weight.double(), delta).float())
        network.tail.bias.sub_(delta.float())
    return network.eval()
