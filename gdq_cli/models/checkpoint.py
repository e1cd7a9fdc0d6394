"""A checkpoint: network, quantizer steps, controller, thresholds and facts in one .safetensors file.

The JSON under the metadata key ``gdq`` says what the tensors are (docs/checkpoint.md); no flag repeats it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gdq_cli.bits.controller import Controller
from gdq_cli.bits.patches import HALO
from gdq_cli.errors import FileError, WeightsError
from gdq_cli.files import atomic_file
from gdq_cli.models.digests import check_sha256, file_sha256
from gdq_cli.models.schema import FORMAT, METADATA_KEY, read_metadata
from gdq_cli.networks import NetworkConfig, Parameters, parameters_of

MAX_VALUE = 1e6
"""No weight, step or variance is larger: those of trained networks are below 100, and sums of more overflow."""

MIN_STEP = 1e-12
"""Steps are larger: those of trained networks are above 1e-7, and what is divided by less overflows."""


@dataclass(frozen=True)
class Checkpoint:
    """A network with everything needed to run it.

    Attributes:
        parameters: the network's sizes and tensors; made of a module, they share its memory.
        controller: None in a float32 checkpoint.
        facts: free-form facts of the model card (training data, steps, metrics, licence, entropy table).
        name: short model name, such as ``edsr``.
        halo: LR pixels of context that its patches are read with.
        sha256: of the file it was read from; empty if it was made in memory.
    """

    parameters: Parameters
    controller: Controller | None
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = "edsr"
    halo: int = HALO
    sha256: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", parameters_of(self.parameters))

    @property
    def network(self) -> Any:
        """The network as a torch module, in eval mode, float32, on the CPU; torch is imported for it."""
        return self.parameters.module

    @property
    def config(self) -> NetworkConfig:
        return self.parameters.config

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def is_quantized(self) -> bool:
        return bool(self.config.bit_widths)


def write_checkpoint(path: Path, checkpoint: Checkpoint, *, overwrite: bool = True) -> None:
    """Write a checkpoint; the file appears under its name only when it is complete.

    Args:
        path: of the file.
        checkpoint: to write.
        overwrite: replace a file of that name. Otherwise one that is there, or appears in the meantime, stays.

    Raises:
        WeightsError: if it cannot be written.
    """
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "name": checkpoint.name,
        "network": checkpoint.config.name,
        "config": checkpoint.config.to_dict(),
        "halo": checkpoint.halo,
        "controller": None,
        "facts": checkpoint.facts,
    }
    tensors = dict(checkpoint.parameters.tensors)
    if checkpoint.controller is not None:
        metadata["controller"] = {
            "descriptor": checkpoint.controller.descriptor,
            "thresholds": list(checkpoint.controller.thresholds),
        }
        if checkpoint.controller.square_entropy:
            metadata["controller"]["square_entropy"] = True
        tensors["controller.weight"] = np.ascontiguousarray(checkpoint.controller.weight)
        tensors["controller.bias"] = np.ascontiguousarray(checkpoint.controller.bias)
    try:
        with atomic_file(path, overwrite=overwrite) as stream:
            stream.write(save(tensors, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)}))
    except FileError as error:
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
    config: NetworkConfig = metadata["config"]
    expected = {key: (shape, np.dtype(config.tensor_dtype(key))) for key, shape in config.tensor_shapes().items()}
    if metadata["controller"] is not None:
        expected["controller.weight"] = ((3, 3 * config.features), np.dtype(np.float64))
        expected["controller.bias"] = ((3,), np.dtype(np.float64))
    try:
        with safe_open(path, framework="np") as file:
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
            weight=tensors.pop("controller.weight"),
            bias=tensors.pop("controller.bias"),
            **metadata["controller"],
        )
    return Checkpoint(
        Parameters(config, tensors), controller, metadata["facts"], metadata["name"], metadata["halo"], sha256=sha256
    )


def is_checkpoint(path: Path) -> bool:
    """Whether a file says in its header that it is a gdq checkpoint; nothing else of it is checked.

    Raises:
        WeightsError: if it is a .safetensors file without a readable header.
    """
    if path.suffix != ".safetensors" or not os.path.isfile(path):  # opening a pipe would wait for ever
        return False
    try:
        with safe_open(path, framework="np") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable .safetensors file ({str(error)[:200]})") from error


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


def _check_values(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    """Every value finite and of a size that it may have, every step positive."""
    for key, value in tensors.items():
        if not bool(np.isfinite(value).all()):
            raise WeightsError(f"{path}: tensor {key} holds values that are not finite")
        if value.dtype.kind == "f" and not bool((np.abs(value) <= MAX_VALUE).all()):
            raise WeightsError(f"{path}: tensor {key} holds values beyond {MAX_VALUE:g}, which no network has")
        if key.endswith(("_step", "equalization")) and not bool((value > MIN_STEP).all()):
            raise WeightsError(f"{path}: tensor {key} holds steps that are not positive")
        if key.endswith("running_var") and not bool((value >= 0).all()):
            raise WeightsError(f"{path}: tensor {key} holds negative variances")
        if key.endswith("activation_signed") and not bool((value <= 1).all()):
            raise WeightsError(f"{path}: tensor {key} holds flags that are neither 0 nor 1")
