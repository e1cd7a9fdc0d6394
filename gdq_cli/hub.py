"""From a model name to a verified local file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gdq_cli.errors import WeightsError

_PACKAGE = Path(__file__).resolve().parent


def bundled_folder() -> Path:
    """Folder of the checkpoints in the box: inside the installed package, or weights/ of a source checkout."""
    installed = _PACKAGE / "weights"
    return installed if installed.is_dir() else _PACKAGE.parent / "weights"


def bundled_manifest() -> dict[str, dict[str, str | int]]:
    """File name -> {"sha256", "size"} of every checkpoint in the box."""
    try:
        manifest: dict[str, dict[str, str | int]] = json.loads((bundled_folder() / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"the bundled weights are missing or damaged ({error}); install gdq-cli again") from error
    return manifest


def resolve(model: str, scale: int) -> Path:
    """Find the checkpoint of a model at a native scale.

    Args:
        model: a bare name (``edsr``) or the path of a .safetensors file.
        scale: 2, 3 or 4; a file's own scale is checked when it is read.

    Returns:
        Path of a local file. Bundled files are checked against the manifest when they are read (``expected_sha256``).

    Raises:
        WeightsError: if there is no such model.
    """
    looks_like_path = model.endswith(".safetensors") or os.sep in model or (os.altsep or os.sep) in model
    if looks_like_path:
        path = Path(model).expanduser()
        if not path.is_file():
            raise WeightsError(f"{model}: no such checkpoint file")
        return path
    file = f"{model}_x{scale}.safetensors"
    manifest = bundled_manifest()
    if file not in manifest:
        known = sorted({name.rpartition("_x")[0] for name in manifest})
        raise WeightsError(f"no model '{model}' at x{scale}; bundled models: {', '.join(known)}")
    return bundled_folder() / file


def expected_sha256(path: Path) -> str | None:
    """SHA-256 a bundled file must have; None for a file of the user's own."""
    if path.parent != bundled_folder():
        return None
    entry = bundled_manifest().get(path.name)
    return str(entry["sha256"]) if entry else None
