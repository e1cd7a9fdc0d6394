"""Checkpoint files with something changed in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def rewrite(
    path: Path, *, metadata: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor] | None = None
) -> None:
    """Write a checkpoint again with some metadata fields and tensors replaced (None removes a tensor)."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        facts = json.loads(opened.metadata()["gdq"])
    state = load_file(path)
    facts.update(metadata or {})
    for key, value in (tensors or {}).items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    save_file(state, path, metadata={"gdq": json.dumps(facts)})
