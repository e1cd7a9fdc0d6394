"""Shared fixtures: small networks with sensible steps, made here so that no test needs a download or ../shared."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from gdq_cli.engines.onednn import is_available
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.networks.edsr.network import Edsr, EdsrConfig, Upsampler
from gdq_cli.training.calibration.calibrate import calibrate_checkpoint
from gdq_cli.training.data import ImagePair, downscale

if not torch.cuda.is_available():  # Triton runs its kernels in its interpreter if this stands before its import
    os.environ["TRITON_INTERPRET"] = "1"
torch.set_num_threads(1)  # tiny networks: on a busy machine two threads mostly wait for each other
settings.register_profile("gdq", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("gdq")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def onednn_is_exact() -> bool:
    """Whether torch has oneDNN's int8 operators and this processor adds their products without saturating (VNNI)."""
    found = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12; before, nobody can tell
    x86_without_vnni = found.get("architecture") == "x86_64" and not (found["avx512_vnni"] or found["avx_vnni"])
    return is_available() and not x86_without_vnni


needs_onednn = pytest.mark.skipif(not onednn_is_exact(), reason="no exact oneDNN in this torch on this processor")


@pytest.fixture(autouse=True)
def memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """``gdq train`` sets the C library up for a whole process; here that is the process of all tests."""
    monkeypatch.setattr("gdq_cli.runs.memory.keep_freed_memory", lambda: False)


def make_network(
    scale: int, blocks: int = 2, features: int = 64, seed: int = 0, upsampler: Upsampler = "pixelshuffle"
) -> Edsr:
    """A float32 network that upscales roughly like bilinear interpolation plus random texture."""
    generator = torch.Generator().manual_seed(seed)
    network = Edsr(EdsrConfig(scale, blocks, features, bit_widths=(), upsampler=upsampler))
    with torch.no_grad():
        for name, value in network.named_parameters():
            fan_in = value[0].numel() if value.dim() == 4 else 64
            gain = 0.3 if "conv2" in name else 1.0
            value.copy_(torch.randn(value.shape, generator=generator) * gain * (1.5 / fan_in) ** 0.5)
    return network.eval()


def make_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with a smooth half and a textured half, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = 90 + 60 * np.sin(y / 37 + seed) + 40 * np.cos(x / 23)
    noise = rng.normal(0, 45, (height, width)) * (x > width / 2)
    rgb = np.stack([smooth + noise, smooth * 0.8 + noise + 20, 200 - smooth * 0.5 + noise], axis=2)
    return rgb.clip(0, 255).astype(np.uint8)


def make_pairs(scale: int, count: int = 6, side: int = 32) -> list[ImagePair]:
    """Training images of ``side`` LR pixels."""
    pictures = [make_picture(side * scale, side * scale, seed) for seed in range(count)]
    return [ImagePair(f"{i}.png", hr, downscale(hr, scale)) for i, hr in enumerate(pictures)]


@pytest.fixture(
    scope="session",
    params=[(2, "pixelshuffle"), (3, "pixelshuffle"), (4, "pixelshuffle"), (4, "pixelshuffledirect")],
    ids=lambda shape: f"x{shape[0]}-{shape[1]}",
)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """A small calibrated checkpoint at each scale and of each upsampler."""
    scale, upsampler = request.param
    network = make_network(scale, upsampler=upsampler)
    return calibrate_checkpoint(network, make_pairs(scale), name="small", target_fab=5.5, patches=12)


@pytest.fixture(scope="session")
def small_checkpoint() -> Checkpoint:
    """A small calibrated checkpoint at x2, for tests that do not care about the scale."""
    return calibrate_checkpoint(make_network(2), make_pairs(2), name="small", target_fab=5.5, patches=12)


@pytest.fixture(scope="session")
def model(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint as a file."""
    path = tmp_path_factory.mktemp("weights") / "small_x2.safetensors"
    write_checkpoint(path, small_checkpoint)
    return path
