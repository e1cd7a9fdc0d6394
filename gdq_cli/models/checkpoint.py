"""A checkpoint: network, quantizer steps, controller, thresholds and facts in one .safetensors file.

The JSON under the metadata key ``gdq`` says what the tensors are (docs/checkpoint.md); no flag repeats it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gdq_cli.bits.controller import Controller
from gdq_cli.errors import ImageError, WeightsError
from gdq_cli.files import atomic_file
from gdq_cli.models.digests import check_sha256, file_sha256
from gdq_cli.models.schema import FORMAT, METADATA_KEY, read_metadata
from gdq_cli.networks import Edsr, Network, NetworkConfig, build_network
from gdq_cli.networks.edsr.network import MEAN
from gdq_cli.upscaling.patches import HALO


@dataclass(frozen=True)
class Checkpoint:
    """A network with everything needed to run it.

    Attributes:
        network: in eval mode, float32, on the CPU.
        controller: None in a float32 checkpoint.
        facts: free-form facts of the model card (training data, steps, metrics, licence, entropy table).
        name: short model name, such as ``edsr``.
        halo: LR pixels of context that its patches are read with.
        sha256: of the file it was read from; empty if it was made in memory.
    """

    network: Network
    controller: Controller | None
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = "edsr"
    halo: int = HALO
    sha256: str = ""

    @property
    def scale(self) -> int:
        return self.network.config.scale

    @property
    def is_quantized(self) -> bool:
        return bool(self.network.config.bit_widths)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears under its name only when it is complete.

    Raises:
        WeightsError: if it cannot be written.
    """
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "name": checkpoint.name,
        "network": checkpoint.network.name,
        "config": checkpoint.network.config.to_dict(),
        "halo": checkpoint.halo,
        "controller": None,
        "facts": checkpoint.facts,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in checkpoint.network.state_dict().items()}
    if checkpoint.controller is not None:
        metadata["controller"] = {
            "descriptor": checkpoint.controller.descriptor,
            "thresholds": list(checkpoint.controller.thresholds),
        }
        if checkpoint.controller.square_entropy:
            metadata["controller"]["square_entropy"] = True
        tensors["controller.weight"] = torch.from_numpy(np.ascontiguousarray(checkpoint.controller.weight))
        tensors["controller.bias"] = torch.from_numpy(np.ascontiguousarray(checkpoint.controller.bias))
    try:
        with atomic_file(path, overwrite=True) as stream:
            stream.write(save(tensors, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)}))
    except ImageError as error:
        raise WeightsError(str(error)) from error


def read_checkpoint(path: Path, *, expected_sha256: str | None = None) -> Checkpoint:
    """Read and check a checkpoint. Sizes are checked against the header before any tensor is allocated.

    Args:
        path: of a .safetensors file.
        expected_sha256: hash that the file must have; None for a file nobody vouches for.

    Raises:
        WeightsError: if it is absent, damaged, not a gdq checkpoint, of another hash, or holds values no network can
            run with.
    """
    if expected_sha256 is not None:
        sha256 = check_sha256(path, expected_sha256)
    metadata = read_metadata(path)
    network = _empty_network(metadata["config"])
    expected = {key: (tuple(value.shape), value.dtype) for key, value in network.state_dict().items()}
    if metadata["controller"] is not None:
        expected["controller.weight"] = ((3, 3 * metadata["config"].features), torch.float64)
        expected["controller.bias"] = ((3,), torch.float64)
    try:
        with safe_open(path, framework="pt") as file:
            _check_tensors(path, file, {key: shape for key, (shape, _) in expected.items()})
            tensors = {key: file.get_tensor(key) for key in expected}
    except (SafetensorError, OSError, OverflowError) as error:
        raise WeightsError(f"{path}: not a readable .safetensors checkpoint ({str(error)[:200]})") from error
    for key, (_, dtype) in expected.items():
        if tensors[key].dtype != dtype:
            raise WeightsError(f"{path}: tensor {key} is {tensors[key].dtype}, expected {dtype}")
    _check_values(path, tensors)
    if expected_sha256 is None:  # only now: hashing a file that is refused anyway costs time
        sha256 = file_sha256(path)
    controller = None
    if metadata["controller"] is not None:
        controller = Controller(
            weight=tensors.pop("controller.weight").numpy(),
            bias=tensors.pop("controller.bias").numpy(),
            **metadata["controller"],
        )
    network.load_state_dict(tensors, assign=True)
    if isinstance(network, Edsr):
        network.mean = torch.tensor(MEAN, dtype=torch.float32).reshape(1, 3, 1, 1)  # not in the file
    return Checkpoint(network.eval(), controller, metadata["facts"], metadata["name"], metadata["halo"], sha256=sha256)


def is_checkpoint(path: Path) -> bool:
    """Whether a file says in its header that it is a gdq checkpoint; nothing else of it is checked.

    Raises:
        WeightsError: if it is a .safetensors file without a readable header.
    """
    if path.suffix != ".safetensors" or not path.is_file():  # opening a pipe would wait for ever
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable .safetensors file ({str(error)[:200]})") from error


def _empty_network(config: NetworkConfig) -> Network:
    """A network of these sizes whose tensors are not allocated."""
    with torch.device("meta"):
        return build_network(config)


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
    return ", ".join(ascii(key)[1:-1][:60] for key in keys[:3]) + (
        f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    )


def _check_values(path: Path, tensors: dict[str, Tensor]) -> None:
    """Every value finite, every step positive."""
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{path}: tensor {key} holds values that are not finite")
        if key.endswith(("_step", "equalization")) and not bool((value > 1e-20).all()):
            raise WeightsError(f"{path}: tensor {key} holds steps that are not positive")
        if key.endswith("running_var") and not bool((value >= 0).all()):
            raise WeightsError(f"{path}: tensor {key} holds negative variances")
        if key.endswith("activation_signed") and not bool((value <= 1).all()):
            raise WeightsError(f"{path}: tensor {key} holds flags that are neither 0 nor 1")
