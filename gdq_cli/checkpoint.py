"""A checkpoint: network, quantizer steps, controller, thresholds and facts in one .safetensors file.

The JSON under the metadata key ``gdq`` says what the tensors are (docs/checkpoint.md); no flag repeats it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gdq_cli.controller import Controller
from gdq_cli.errors import WeightsError
from gdq_cli.networks.edsr import MEAN, Edsr, EdsrConfig

FORMAT = 1
"""Version of the layout; a reader refuses versions it does not know."""

_METADATA_KEY = "gdq"
_MAX_FEATURES, _MAX_BLOCKS = 512, 128


@dataclass(frozen=True)
class Checkpoint:
    """A network with everything needed to run it.

    Attributes:
        network: in eval mode, float32, on the CPU.
        controller: None in a float32 checkpoint.
        facts: free-form facts of the model card (training data, steps, metrics, licence, entropy table).
        name: short model name, such as ``edsr``.
        sha256: of the file it was read from; empty if it was made in memory.
    """

    network: Edsr
    controller: Controller | None
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = "edsr"
    sha256: str = ""

    @property
    def scale(self) -> int:
        return self.network.config.scale

    @property
    def is_quantized(self) -> bool:
        return bool(self.network.config.bit_widths)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        WeightsError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the checkpoint ({error.strerror or error})") from error


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears under its name only when it is complete.

    Raises:
        WeightsError: if it cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "name": checkpoint.name,
        "network": checkpoint.network.name,
        "config": checkpoint.network.config.to_dict(),
        "controller": None,
        "facts": checkpoint.facts,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in checkpoint.network.state_dict().items()}
    if checkpoint.controller is not None:
        metadata["controller"] = {
            "descriptor": checkpoint.controller.descriptor,
            "thresholds": list(checkpoint.controller.thresholds),
        }
        tensors["controller.weight"] = torch.from_numpy(np.ascontiguousarray(checkpoint.controller.weight))
        tensors["controller.bias"] = torch.from_numpy(np.ascontiguousarray(checkpoint.controller.bias))
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise WeightsError(f"{path}: cannot write the checkpoint ({error.strerror or error})") from error
    try:
        save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot write the checkpoint ({error})") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_checkpoint(path: Path, *, expected_sha256: str | None = None) -> Checkpoint:
    """Read and check a checkpoint. Sizes are checked against the header before any tensor is allocated.

    Args:
        path: of a .safetensors file.
        expected_sha256: hash that the file must have; None for a file nobody vouches for.

    Raises:
        WeightsError: if it is absent, damaged, not a gdq checkpoint, of another hash, or holds values no network can
            run with.
    """
    sha256 = file_sha256(path)
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise WeightsError(f"{path}: its SHA-256 is {sha256[:12]}..., expected {expected_sha256[:12]}...: damaged file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _parse_metadata(path, (file.metadata() or {}).get(_METADATA_KEY))
            config = _parse_config(path, metadata["config"])
            with torch.device("meta"):
                network = Edsr(config)
            expected = {key: (tuple(value.shape), value.dtype) for key, value in network.state_dict().items()}
            if metadata["controller"] is not None:
                expected["controller.weight"] = ((3, 3 * config.features), torch.float64)
                expected["controller.bias"] = ((3,), torch.float64)
            _check_tensors(path, file, {key: shape for key, (shape, _) in expected.items()})
            tensors = {key: file.get_tensor(key) for key in expected}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable .safetensors checkpoint ({error})") from error
    for key, (_, dtype) in expected.items():
        if tensors[key].dtype != dtype:
            raise WeightsError(f"{path}: tensor {key} is {tensors[key].dtype}, expected {dtype}")
    _check_values(path, tensors)
    controller = None
    if metadata["controller"] is not None:
        controller = Controller(
            descriptor=metadata["controller"]["descriptor"],
            weight=tensors.pop("controller.weight").numpy(),
            bias=tensors.pop("controller.bias").numpy(),
            thresholds=tuple(metadata["controller"]["thresholds"]),
        )
    network.load_state_dict(tensors, assign=True)
    network.mean = torch.tensor(MEAN, dtype=torch.float32).reshape(1, 3, 1, 1)  # not in the file
    return Checkpoint(network.eval(), controller, metadata["facts"], metadata["name"], sha256)


def _parse_metadata(path: Path, text: str | None) -> dict[str, Any]:
    """The metadata, with the presence and type of every field checked."""
    if text is None:
        raise WeightsError(f"{path}: not a gdq checkpoint (no '{_METADATA_KEY}' metadata); see gdq models convert")
    try:
        metadata = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{path}: its metadata is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path}: its metadata is not a JSON object")
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: checkpoint format {metadata.get('format')!r}; this gdq reads format {FORMAT}")
    if metadata.get("network") != Edsr.name:
        raise WeightsError(f"{path}: network {metadata.get('network')!r}; this gdq knows {Edsr.name}")
    kinds = {"name": str, "config": dict, "facts": dict}
    for key, kind in kinds.items():
        if not isinstance(metadata.get(key), kind):
            raise WeightsError(f"{path}: metadata field '{key}' is missing or not a {kind.__name__}")
    controller = metadata.get("controller")
    if controller is not None:
        thresholds = controller.get("thresholds") if isinstance(controller, dict) else None
        if (
            not isinstance(thresholds, list)
            or len(thresholds) != 2
            or not all(isinstance(t, (int, float)) and math.isfinite(t) for t in thresholds)
            or not thresholds[0] <= thresholds[1]
            or controller.get("descriptor") not in ("mean", "band_energy")
        ):
            raise WeightsError(f"{path}: its controller metadata is damaged")
    metadata["controller"] = controller
    return metadata


def _parse_config(path: Path, values: dict[str, Any]) -> EdsrConfig:
    """The network's sizes, within the limits of what this program is willing to allocate."""
    try:
        numbers = {key: values[key] for key in ("scale", "blocks", "features")}
        widths = {key: tuple(values[key]) for key in ("bit_widths", "static_bits")}
        if any(type(value) is not int for value in [*numbers.values(), *widths["bit_widths"], *widths["static_bits"]]):
            raise ValueError("a size is not an integer")
        if not (1 <= numbers["blocks"] <= _MAX_BLOCKS and 1 <= numbers["features"] <= _MAX_FEATURES):
            raise ValueError(f"{numbers['blocks']} blocks of {numbers['features']} features are out of range")
        if widths["bit_widths"] not in ((), (4, 5, 6, 8)) or not set(widths["static_bits"]) <= {4, 5, 6, 8}:
            raise ValueError(f"bit-widths {widths['bit_widths']} and {widths['static_bits']}")
        return EdsrConfig(**numbers, **widths)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its network configuration is damaged ({error})") from error


def _check_tensors(path: Path, file: Any, expected: dict[str, tuple[int, ...]]) -> None:
    """Names and shapes in the header against those of the network, before anything is read."""
    found = set(file.keys())
    missing, unexpected = sorted(expected.keys() - found), sorted(found - expected.keys())
    if missing or unexpected:
        parts = [
            f"{label} {_shorten(keys)}" for label, keys in (("missing", missing), ("unexpected", unexpected)) if keys
        ]
        raise WeightsError(f"{path}: its tensors are not those of the network: {'; '.join(parts)}")
    for key, shape in expected.items():
        found_shape = tuple(file.get_slice(key).get_shape())
        if found_shape != shape:
            raise WeightsError(f"{path}: tensor {key} has shape {found_shape}, expected {shape}")


def _shorten(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _check_values(path: Path, tensors: dict[str, Tensor]) -> None:
    """Every value finite, every step positive."""
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{path}: tensor {key} holds values that are not finite")
        if key.endswith(("_step", "equalization")) and not bool((value > 1e-20).all()):
            raise WeightsError(f"{path}: tensor {key} holds steps that are not positive")
