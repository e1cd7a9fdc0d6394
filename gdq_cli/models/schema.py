"""What the header of a checkpoint may say, checked before anything is allocated: files come from anywhere.

A .safetensors file is a length (8 bytes), a JSON header of that length, and the tensors' bytes. Everything here works
on the header alone.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from gdq_cli.bits.patches import HALO, MAX_HALO
from gdq_cli.errors import WeightsError, mebibytes
from gdq_cli.networks import KINDS, NetworkConfig

FORMAT = 1
"""Version of the layout; a reader refuses versions it does not know."""

METADATA_KEY = "gdq"
"""Key of our JSON text in the header's ``__metadata__``."""

MAX_HEADER = 4 << 20
MAX_FILE = 1 << 29

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Model names become file names and are printed: no separators, no control characters."""

_DESCRIPTORS = ("mean", "band_energy")


def read_metadata(path: Path) -> dict[str, Any]:
    """The checked metadata of a checkpoint, from its header.

    Args:
        path: of a .safetensors file.

    Returns:
        ``name``, ``network``, ``config`` (a ``NetworkConfig``), ``halo``, ``controller`` (a dictionary or None),
        ``facts``.

    Raises:
        WeightsError: if the file is absent, not a plain file, too large, or its header is not that of a checkpoint.
    """
    header = _read_header(path)
    metadata = header.get("__metadata__", {})
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise WeightsError(f"{path}: not a gdq checkpoint (no '{METADATA_KEY}' metadata); see gdq models convert")
    fields = _parse_object(path, text)
    if fields.get("format") != FORMAT:
        raise WeightsError(f"{path}: checkpoint format {_short(fields.get('format'))}; this gdq reads format {FORMAT}")
    for key, kind in {"name": str, "network": str, "config": dict, "facts": dict}.items():
        if not isinstance(fields.get(key), kind):
            raise WeightsError(f"{path}: metadata field '{key}' is missing or not a {kind.__name__}")
    if not NAME_PATTERN.fullmatch(fields["name"]):
        raise WeightsError(
            f"{path}: model name {_short(fields['name'])} is not one of letters, digits, '.', '_' and '-'"
        )
    return {
        "name": fields["name"],
        "network": fields["network"],
        "config": _parse_config(path, fields["network"], fields["config"]),
        "controller": _parse_controller(path, fields.get("controller")),
        "halo": _parse_halo(path, fields.get("halo", HALO)),
        "facts": fields["facts"],
    }


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a plain file of sensible size."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise WeightsError(f"{path}: not a file")
        if status.st_size > MAX_FILE:
            raise WeightsError(f"{path}: {mebibytes(status.st_size)} MiB; a checkpoint has at most {MAX_FILE >> 20}")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, status.st_size - 8):
                raise WeightsError(f"{path}: not a readable .safetensors checkpoint (its header is cut or too long)")
            text = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the checkpoint ({error.strerror or error})") from error
    except ValueError as error:  # a null character in the name
        raise WeightsError(f"{os.fspath(path)!r}: not a file name") from error
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a readable .safetensors checkpoint (its header is not JSON)") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: not a readable .safetensors checkpoint (its header is not a JSON object)")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without repeated keys: two readers could take different ones."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _parse_object(path: Path, text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its metadata is not JSON ({_short(str(error))})") from error
    if not isinstance(fields, dict):
        raise WeightsError(f"{path}: its metadata is not a JSON object")
    return fields


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond all numbers")
    return value


def _short(value: Any) -> str:
    """A foreign value for an error line: escaped and of bounded length."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse_config(path: Path, network: str, values: dict[str, Any]) -> NetworkConfig:
    """The network's sizes, within the limits of what this program is willing to allocate."""
    if network not in KINDS:
        raise WeightsError(f"{path}: network {_short(network)}; this gdq knows {', '.join(KINDS)}")
    try:
        return KINDS[network].parse(values)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its network configuration is damaged ({str(error)[:200]})") from error


def _parse_halo(path: Path, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_HALO:
        raise WeightsError(f"{path}: a halo of {_short(value)}; it is a number of pixels from 0 to {MAX_HALO}")
    return value


def _parse_controller(path: Path, values: Any) -> dict[str, Any] | None:
    """Descriptor, thresholds (finite, in order) and the entropy's region."""
    if values is None:
        return None
    thresholds = values.get("thresholds") if isinstance(values, dict) else None
    if (
        not isinstance(thresholds, list)
        or len(thresholds) != 2
        or not all(type(t) in (int, float) and abs(t) <= 1e9 and math.isfinite(t) for t in thresholds)
        or not thresholds[0] <= thresholds[1]
        or values.get("descriptor") not in _DESCRIPTORS
        or type(values.get("square_entropy", False)) is not bool
    ):
        raise WeightsError(f"{path}: its controller metadata is damaged")
    return {
        "descriptor": values["descriptor"],
        "thresholds": (float(thresholds[0]), float(thresholds[1])),
        "square_entropy": values.get("square_entropy", False),
    }
