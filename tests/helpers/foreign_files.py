"""Files of other people's weights: state dicts, edited ones, and code where data should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save(tmp_path: Path, state: Any, name: str = "srresnet_x2@300.pth.tar") -> Path:
    path = tmp_path / name
    torch.save(state, path)
    return path


def replaced(key: str, value: Tensor | None) -> Callable[[dict[str, Tensor]], None]:
    def edit(state: dict[str, Tensor]) -> None:
        if value is None:
            del state[key]
        else:
            state[key] = value

    return edit


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)
