"""Checkpoints of other projects -> ours: Granular-DQ's release (SRResNet), and float32 EDSR of EDSR and BasicSR.

Each kind of state dict has one key table. Everything in a file must be known, dead tensors included: a key that no
table names means a network that we would run wrongly.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gdq_cli.checkpoint import Checkpoint
from gdq_cli.convert_release import import_release, is_release
from gdq_cli.digests import file_sha256
from gdq_cli.errors import WeightsError
from gdq_cli.networks import Edsr
from gdq_cli.training.start import DIV2K_MEAN, import_fp32

MAX_FILE = 1 << 30
"""Larger files than this are no super-resolution network that we run."""

_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model")

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


def convert_file(path: Path, name: str, *, residual_scale: float | None = None) -> Checkpoint:
    """Read a foreign checkpoint.

    Args:
        path: .pth, .pt, .pth.tar (read with ``torch.load(weights_only=True)`` only) or .safetensors.
        name: model name of the result.
        residual_scale: factor on the blocks' output of an EDSR, which its file does not tell; by default 0.1 for 256
            features, as that project trains them, else 1.

    Returns:
        A quantized checkpoint with its controller (release), or a float32 one for ``gdq calibrate``.

    Raises:
        WeightsError: if the file cannot be read safely or is of no known kind.
    """
    state, facts = read_state(path)
    facts["source"] = path.name
    facts["source_sha256"] = file_sha256(path)
    try:
        if is_release(state):
            network, controller, more = import_release(state)
            return Checkpoint(network.eval(), controller, facts | more, name)
        edsr, kind = _import_edsr(state, residual_scale)
        return Checkpoint(edsr, None, facts | {"converted_from": kind}, name)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise WeightsError(f"{path}: {' '.join(str(error).split())[:300]}") from error


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, freed of wrappers such as ``{"state_dict": ...}`` and of a ``module.`` prefix.

    Returns:
        Name -> tensor, and the plain facts beside it (``epoch``).

    Raises:
        WeightsError: if the file is absent, too large, or not tensors alone.
    """
    try:
        if not path.is_file():
            raise WeightsError(f"{path}: no such file")
        if path.stat().st_size > MAX_FILE:
            raise WeightsError(f"{path}: larger than {MAX_FILE >> 30} GiB, so no network that gdq runs")
        loaded: Any
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its remarks on pickle protocols help nobody here
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({str(error)[:200]})") from error
    except Exception as error:  # the unpickler of a hostile file may raise anything; it never runs the file's code
        reason = " ".join(str(error).split()).partition("Please file")[0][:160]
        raise WeightsError(f"{path}: not a file of plain tensors, so gdq does not open it ({reason})") from error
    facts: dict[str, Any] = {}
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            if isinstance(loaded.get("epoch"), int):
                facts["epoch"] = loaded["epoch"]
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path}: holds no state dict")
    state = {}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: entry {ascii(key)[:60]} is not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
            raise WeightsError(f"{path}: tensor {ascii(key)[:60]} is not a plain one")
        if value.numel() * value.element_size() > MAX_FILE:  # an expanded view claims more than the file holds
            raise WeightsError(f"{path}: tensor {ascii(key)[:60]} claims {tuple(value.shape)}")
        state[key.removeprefix("module.")] = value.detach().contiguous()
    return state, facts


def _import_edsr(state: dict[str, Tensor], residual_scale: float | None) -> tuple[Edsr, str]:
    """A float32 EDSR from any of the three key tables."""
    value_range, mean = 255.0, DIV2K_MEAN
    table: tuple[tuple[str, str], ...]
    if "head.0.weight" in state:
        kind, table = "EDSR", _EDSR_KEYS
        state, value_range, mean = _take_mean_shift(state)
    elif "conv_first.weight" in state:
        kind, table = "BasicSR EDSR", _BASICSR_KEYS
        state = {key: value for key, value in state.items() if key != "mean"}
    elif "head.weight" in state:
        kind, table, value_range = "plain EDSR", _OWN_KEYS, 1.0
    else:
        raise ValueError("not a network gdq knows: neither Granular-DQ's SRResNet nor an EDSR; its keys are foreign")
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
    features = state["upsampler.0.weight"].shape[1]
    return {4: 2, 9: 3}[state["upsampler.0.weight"].shape[0] // features]
