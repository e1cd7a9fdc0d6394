"""Checkpoints of other projects -> ours: Granular-DQ's release (SRResNet), float32 EDSR, and float32 Compact."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.files import why_missing
from gdq_cli.images.formats import sniff_format, title_of_format
from gdq_cli.models.archive import check_archive
from gdq_cli.models.checkpoint import Checkpoint, is_checkpoint
from gdq_cli.models.digests import file_sha256
from gdq_cli.models.hub.names import PREFIX
from gdq_cli.models.store import list_models
from gdq_cli.networks import parameters_of
from gdq_cli.networks.compact.weights import import_compact, recognise_compact
from gdq_cli.networks.edsr.weights import import_edsr, is_edsr
from gdq_cli.networks.srresnet.weights import import_release, is_release

MAX_FILE = 1 << 30
"""Larger files than this are no super-resolution network that we run."""

_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model")


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
        OptionsError: if the residual scale is out of range, or the file is no EDSR, which alone has one.
    """
    if residual_scale is not None and not 0 < residual_scale <= 100:
        raise OptionsError(f"`residual_scale` must be above 0, 1 or less as a rule, not {residual_scale:g}")
    if is_checkpoint(path):  # its names are those of plain weights, but its pixels have another mean
        raise WeightsError(f"{path}: a gdq checkpoint already; it needs no conversion")
    state, facts = read_state(path)
    facts["source"] = path.name
    facts["source_sha256"] = file_sha256(path)
    try:
        if residual_scale is not None and not is_edsr(state):
            raise OptionsError(f"{path}: no EDSR, and `residual_scale` is of EDSR alone; leave it out")
        if is_release(state):
            network, controller, more = import_release(state)
            return Checkpoint(parameters_of(network.eval()), controller, facts | more, name)
        if is_edsr(state):
            edsr, kind = import_edsr(state, residual_scale)
            return Checkpoint(parameters_of(edsr), None, facts | {"converted_from": kind}, name)
        recognise_compact(state)
        return Checkpoint(parameters_of(import_compact(state)), None, facts | {"converted_from": "Compact"}, name)
    except KeyError as error:
        raise WeightsError(f"{path}: it lacks the tensor {error}") from error
    except (ValueError, RuntimeError, IndexError, ArithmeticError) as error:
        raise WeightsError(f"{path}: {' '.join(str(error).split())[:300]}") from error


def _why_no_file(path: Path) -> str:
    """What to say of weights that are not there."""
    if os.path.isdir(path):
        return "is a folder, not a file of weights"
    if str(path).startswith(PREFIX):
        return "a file is wanted; gdq models pull downloads it and prints where it lies"
    if any(model.name == str(path) for model in list_models()):
        return f"no such file; gdq models path {path} prints where that model lies"
    return why_missing(path)


def _diagnose(path: Path, error: Exception) -> str:
    """Why the unpickler refused a file, from its first bytes and from what it complained of."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "it is empty"
    if (picture := sniff_format(head)) is not None:
        return f"it is a picture ({title_of_format(picture)})"
    if not head.startswith((b"PK\x03\x04", b"\x80")):  # a ZIP archive; a bare pickle, of old versions
        return f"torch.save did not write it; it begins with {head[:16].decode('latin-1')!a}"
    if code := re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error)):
        return f"it holds Python objects ({code[1]}); where its code is at hand, torch.save(model.state_dict(), FILE)"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "its end is missing, as after an interrupted download"
    reason = " ".join(str(error).split()).partition("Please file")[0][:160]
    return f"it is damaged, or holds more than tensors ({reason})"


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, freed of wrappers such as ``{"state_dict": ...}`` and of a ``module.`` prefix.

    Returns:
        Name -> tensor, and the plain facts beside it (``epoch``).

    Raises:
        WeightsError: if the file is absent, too large, or not tensors alone.
    """
    try:
        if not os.path.isfile(path):
            raise WeightsError(f"{path}: {_why_no_file(path)}")
        if path.stat().st_size > MAX_FILE:
            raise WeightsError(f"{path}: larger than {MAX_FILE >> 30} GiB, so no network that gdq runs")
        loaded: Any
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            check_archive(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its remarks on pickle protocols help nobody here
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({str(error)[:200]})") from error
    except Exception as error:  # the unpickler of a hostile file may raise anything; it never runs the file's code
        raise WeightsError(
            f"{path}: not a file of plain tensors, so gdq does not open it: {_diagnose(path, error)}"
        ) from error
    facts: dict[str, Any] = {}
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            if isinstance(loaded.get("epoch"), int):
                facts["epoch"] = loaded["epoch"]
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path}: holds no state dict")
    state, claimed = {}, 0
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: entry {ascii(key)[:60]} is not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
            raise WeightsError(f"{path}: tensor {ascii(key)[:60]} is not a plain one")
        size = value.numel() * value.element_size()
        claimed += size
        if size > value.untyped_storage().nbytes():  # an expanded view claims more than the file holds
            raise WeightsError(f"{path}: tensor {ascii(key)[:60]} claims {tuple(value.shape)}")
        if claimed > MAX_FILE:
            raise WeightsError(f"{path}: its tensors together claim more than {MAX_FILE >> 30} GiB")
        state[key.removeprefix("module.")] = value.detach().contiguous()
    return state, facts
