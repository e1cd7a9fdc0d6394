"""Shared fixtures: small networks with sensible steps, made here so that no test needs a download or ../shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.options import ControllerOptions
from gdq_cli.training.calibration.calibrate import calibrate_checkpoint
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_pairs

if not torch.cuda.is_available():  # Triton runs its kernels in its interpreter if this stands before its import
    os.environ["TRITON_INTERPRET"] = "1"
torch.set_num_threads(1)  # tiny networks: on a busy machine two threads mostly wait for each other
settings.register_profile("gdq", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("gdq")


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system behind ``memory://``, empty afterwards."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    yield system
    for name in system.ls("/", detail=False):
        system.rm(name, recursive=True)


@pytest.fixture(autouse=True)
def memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """``gdq train`` sets the C library up for a whole process; here that is the process of all tests."""
    monkeypatch.setattr("gdq_cli.runs.memory.keep_freed_memory", lambda: False)


@pytest.fixture(
    scope="session",
    params=[(2, "pixelshuffle"), (3, "pixelshuffle"), (4, "pixelshuffle"), (4, "pixelshuffledirect")],
    ids=lambda shape: f"x{shape[0]}-{shape[1]}",
)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """A small calibrated checkpoint at each scale and of each upsampler."""
    scale, upsampler = request.param
    network = make_network(scale, upsampler=upsampler)
    return calibrate_checkpoint(network, make_pairs(scale), ControllerOptions(5.5), name="small", patches=12)


@pytest.fixture(scope="session")
def small_checkpoint() -> Checkpoint:
    """A small calibrated checkpoint at x2, for tests that do not care about the scale."""
    return calibrate_checkpoint(make_network(2), make_pairs(2), ControllerOptions(5.5), name="small", patches=12)


@pytest.fixture(scope="session")
def model(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint as a file."""
    path = tmp_path_factory.mktemp("weights") / "small_x2.safetensors"
    write_checkpoint(path, small_checkpoint)
    return path
