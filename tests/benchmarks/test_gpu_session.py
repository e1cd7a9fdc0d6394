"""A GPU session, rehearsed on the CPU: what travels, what comes back, and how it goes on; and patches drawn ahead."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from step_sampler import StepSampler

from gdq_cli.measure.pairs import list_images, split_validation
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from tests.helpers.networks import make_network
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_pairs, make_picture
from tests.helpers.scripts import load_script

SCRIPT = ROOT / "benchmarks" / "gpu_session.py"
SMALL = ["--device", "cpu", "--batch", "2", "--patch", "16", "--workers", "0", "--pictures", "12", "--steps", "6"]


@pytest.fixture(scope="module")
def session() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    for number in range(20):
        Image.fromarray(make_picture(96, 96, number)).save(folder / f"{number:02}.png")
    return folder


def call(session: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    monkeypatch.setattr(sys, "path", sys.path[:])
    session.main()


@pytest.fixture
def folder(session: ModuleType, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared folder that starts from a tiny network."""
    start = tmp_path / "start.safetensors"
    write_checkpoint(start, Checkpoint(make_network(2, blocks=1), None, {}, "tiny"))
    folder = tmp_path / "prepared"
    call(session, monkeypatch, "prepare", folder, "--tiles", tiles, "--no-code", "--no-wheels", "--start", f"2={start}")
    return folder


def test_what_is_held_out_never_trains(
    session: ModuleType, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 0.15
    call(
        session, monkeypatch, "prepare", tmp_path / "sent", "--tiles", tiles, "--no-code", "--no-wheels", "--parts", 2,
        "--mib", limit,
    )  # fmt: skip
    training, held_out = split_validation(list_images(tiles))
    sent = list_images(tmp_path / "sent")
    assert {file.name for file in sent if file.parent.name == "held_out"} == {file.name for file in held_out}
    chosen = [file.name for file in sent if file.parent.name == "train"]
    assert 2 < len(chosen) < len(training)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) < {file.name for file in training}
    for part in ("1", "2"):
        assert 0 < session.weigh(tmp_path / "sent" / part) <= limit * 2**20


def test_the_code_travels(session: ModuleType, tmp_path: Path) -> None:
    session.copy_code(tmp_path / "code")
    for name in (
        "benchmarks/gpu_session.py",
        "benchmarks/gpu.py",
        "tests/engines/test_cuda.py",
        "weights/edsr_x4.safetensors",
    ):
        assert (tmp_path / "code" / name).is_file()
    assert not list(tmp_path.rglob("*.so"))


def test_a_session_goes_on_from_its_state(
    session: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = ["train", folder, "--stage", "fp32", "--scale", 2, *SMALL]
    for out in ("whole", "cut"):
        (tmp_path / out).mkdir()
    call(session, monkeypatch, *part, "--out", tmp_path / "whole", "--seconds", 100)
    call(session, monkeypatch, *part, "--out", tmp_path / "cut", "--seconds", 0.01)
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == [
        "fp32_x2.safetensors",
        "fp32_x2.safetensors.state",
    ]
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "run", str(folder), "--out", str(out), "--resume", str(tmp_path / "cut")]
    command += ["--rehearse", "--minutes", "5", "--checks", "0", "--shares", "fp32_x2=1"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout
    assert "fp32_x2: complete" in said
    assert sorted(file.name for file in out.iterdir()) == ["fp32_x2.safetensors", "log.txt", "summary.json"]
    assert "goes on from step 1 of 6" in (out / "log.txt").read_text()
    summary = json.loads((out / "summary.json").read_text())
    assert [(part["part"], part["status"]) for part in summary["parts"]] == [("fp32_x2", "complete")]
    one, other = (read_checkpoint(tmp_path / name / "fp32_x2.safetensors") for name in ("whole", "out"))
    assert one.facts["training"][-1]["steps"] == 6
    for mine, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_quantized_stage_and_what_finish_makes_of_it(
    session: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = ["train", folder, "--out", tmp_path, "--stage", "quantized", "--scale", 2, *SMALL]
    target = tmp_path / "quantized_x2.safetensors"
    call(session, monkeypatch, *part, "--seconds", 0.01)
    assert not target.exists()  # a controller is left to finish, which takes what there is
    assert target.with_name(target.name + ".state").exists()
    call(session, monkeypatch, *part, "--seconds", 0)
    assert read_checkpoint(target).controller is not None
    target.unlink()
    call(session, monkeypatch, *part, "--seconds", 100)
    assert sorted(file.name for file in tmp_path.glob("quantized_*")) == ["quantized_x2.trained"]
    call(session, monkeypatch, "finish", folder, "--out", tmp_path, *SMALL)
    assert read_checkpoint(target).facts["training"][-1]["steps"] == 6
    assert sorted(file.name for file in tmp_path.glob("quantized_*")) == ["quantized_x2.safetensors"]


def test_steps_are_chosen_by_time(
    session: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    part = ["train", folder, "--out", tmp_path, "--stage", "fp32", "--scale", 2, *SMALL[:-2], "--seconds", 4]
    call(session, monkeypatch, *part)
    assert "ms a step, so" in capsys.readouterr().out
    assert (tmp_path / "fp32_x2.safetensors").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_patches_do_not_depend_on_who_draws_them(workers: int) -> None:
    def sampler(workers: int) -> StepSampler:
        return StepSampler(make_pairs(2), 12, 3, workers=workers, vary=True, degradation="photo")

    expected = sampler(0)
    batches = [expected.draw(3) for _ in range(4)]
    drawing = sampler(workers)
    for lr, hr in batches[:2]:
        drawn = drawing.draw(3)
        assert torch.equal(drawn[0], lr)
        assert torch.equal(drawn[1], hr)
    assert drawing.state == {"step": 2}  # of what was used, whatever has been drawn ahead
    later = sampler(workers)
    later.state = drawing.state
    for lr, hr in batches[2:]:
        drawn = later.draw(3)
        assert torch.equal(drawn[0], lr)
        assert torch.equal(drawn[1], hr)
    assert not torch.equal(batches[0][0], batches[1][0])
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)
