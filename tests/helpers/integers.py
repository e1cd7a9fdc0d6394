"""Integer layers as torch tensors, for oracles that are written in torch."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch


def as_tensors(layer: Any) -> Any:
    """The fields of an IntegerConv or IntegerHead, its arrays as tensors."""
    values = {field.name: getattr(layer, field.name) for field in fields(layer)}
    return SimpleNamespace(**{k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in values.items()})
