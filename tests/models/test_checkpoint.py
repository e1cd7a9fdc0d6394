"""Checkpoints: a round trip keeps everything, a damaged file is one clear error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from tests.helpers.checkpoints import rewrite
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture


@pytest.fixture
def file(small_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "small_x2.safetensors"
    write_checkpoint(path, small_checkpoint)
    return path


def test_round_trip(file: Path, small_checkpoint: Checkpoint) -> None:
    read = read_checkpoint(file)
    assert read.network.config == small_checkpoint.network.config
    assert read.facts == small_checkpoint.facts
    assert len(read.sha256) == 64
    assert read.controller is not None
    assert small_checkpoint.controller is not None
    assert np.array_equal(read.controller.weight, small_checkpoint.controller.weight)
    assert read.controller.thresholds == small_checkpoint.controller.thresholds
    windows = torch.from_numpy(make_picture(20, 20)[None]).permute(0, 3, 1, 2)
    for bits in (4, 5, 6, 8, 32):
        ours, theirs = ReferenceEngine(small_checkpoint.network), ReferenceEngine(read.network)
        assert torch.equal(ours(windows, bits), theirs(windows, bits))


def test_float_checkpoints_have_no_controller(tmp_path: Path) -> None:
    path = tmp_path / "fp32_x3.safetensors"
    write_checkpoint(path, Checkpoint(make_network(3), None, {"steps": 1}, "fp32"))
    read = read_checkpoint(path)
    assert (read.scale, read.is_quantized, read.controller, read.facts) == (3, False, None, {"steps": 1})


def test_nothing_is_left_behind_when_writing_fails(small_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be written"):
        write_checkpoint(tmp_path / "absent" / "x.safetensors", small_checkpoint)
    target = tmp_path / "x.safetensors"
    target.mkdir()
    with pytest.raises(WeightsError, match="cannot be written"):
        write_checkpoint(target, small_checkpoint)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("keep", [0, 1, 7, 100, 5000, -1])
def test_a_file_cut_short(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="not a readable"):
        read_checkpoint(file)


def test_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(WeightsError, match="No such file"):
        read_checkpoint(path)
    path.write_text("this is text, not tensors, and it is long enough to be read as a header")
    with pytest.raises(WeightsError, match="not a readable"):
        read_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="not a gdq checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"network": "resnet"}, "network 'resnet'"),
        ({"config": []}, "'config'"),
        ({"config": {"scale": 2}}, "configuration is damaged"),
        ({"config": {"scale": 7, "blocks": 2, "features": 64, "bit_widths": [], "static_bits": []}}, "scale must be"),
        (
            {"config": {"scale": 2, "blocks": 10**9, "features": 64, "bit_widths": [], "static_bits": []}},
            "out of range",
        ),
        ({"config": {"scale": 2, "blocks": 2, "features": 1e9, "bit_widths": [], "static_bits": []}}, "not an integer"),
        ({"config": {"scale": 2, "blocks": -1, "features": 64, "bit_widths": [], "static_bits": []}}, "out of range"),
        ({"controller": {"descriptor": "band_energy", "thresholds": [3, 2]}}, "controller"),
        ({"controller": {"descriptor": "x", "thresholds": [1, 2]}}, "controller"),
        ({"controller": None}, "unexpected controller"),
        ({"facts": 3}, "'facts'"),
    ],
)
def test_damaged_metadata(file: Path, metadata: dict[str, Any], message: str) -> None:
    rewrite(file, metadata=metadata)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(file)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"tail.weight": None}, "missing tail.weight"),
        ({"extra": torch.zeros(2)}, "unexpected extra"),
        ({"tail.weight": torch.zeros(3, 64, 5, 5)}, "shape"),
        ({"tail.bias": torch.full((3,), torch.nan)}, "not finite"),
        ({"tail.wide_step": torch.zeros(3)}, "not positive"),
        ({"body.0.conv1.activation_step": -torch.ones(4)}, "not positive"),
        ({"tail.bias": torch.zeros(3, dtype=torch.float16)}, "float16"),
    ],
)
def test_damaged_tensors(file: Path, tensors: dict[str, Any], message: str) -> None:
    rewrite(file, tensors=tensors)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(file)
