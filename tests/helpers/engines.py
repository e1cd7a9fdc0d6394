"""What tests of engines share: windows, a wrong engine, and whether oneDNN is exact here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gdq_cli.engines.onednn import is_available
from gdq_cli.engines.reference import ReferenceEngine


def onednn_is_exact() -> bool:
    """Whether torch has oneDNN's int8 operators and this processor adds their products without saturating (VNNI)."""
    found = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12; before, nobody can tell
    x86_without_vnni = found.get("architecture") == "x86_64" and not (found["avx512_vnni"] or found["avx_vnni"])
    return is_available() and not x86_without_vnni


needs_onednn = pytest.mark.skipif(not onednn_is_exact(), reason="no exact oneDNN in this torch on this processor")


def windows_of(*pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures of one size as a batch, (N, 3, H, W) uint8."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


class OffByOne(ReferenceEngine):
    """An engine that is wrong in one pixel of the 4-bit patches."""

    def __call__(self, windows: torch.Tensor, bit_width: int) -> torch.Tensor:
        pixels = super().__call__(windows, bit_width).clone()
        if bit_width == 4:
            pixels[-1, -1, -1, -1] ^= 1
        return pixels
