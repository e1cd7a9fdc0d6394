"""gdq doctor: what it finds on a sound installation, and what it says of broken ones."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from gdq_cli.engines import EngineChoice, kernels
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError
from gdq_cli.measure import doctor as doctor_module
from gdq_cli.measure.benchmark import find_engines
from gdq_cli.measure.doctor import Diagnosis, diagnose
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.models.digests import file_sha256
from tests.helpers.commands import gdq, run_process

SOUND = kernels.KernelReport(True, "", ("avx2",), (kernels.IsaReport("portable", True, "", ("direct",)),), "portable")


@pytest.fixture
def box(small_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkpoint in the box, instead of the real ones."""
    folder = tmp_path / "weights"
    folder.mkdir()
    path = folder / "small_x2.safetensors"
    write_checkpoint(path, small_checkpoint)
    entry = {"sha256": file_sha256(path), "size": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps({path.name: entry}))
    monkeypatch.setattr("gdq_cli.models.store.bundled_folder", lambda: folder)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that pass at once, and sound kernels: for tests of everything else."""
    monkeypatch.setattr(kernels, "report", lambda: SOUND)
    monkeypatch.setattr(doctor_module, "choose_engine", lambda network, place: EngineChoice(ReferenceEngine(network)))
    monkeypatch.setattr(doctor_module, "find_engines", lambda checkpoint, place: ({}, ()))
    monkeypatch.setattr(doctor_module, "LOW_DISK", 0)


def problems(found: Diagnosis) -> str:
    return "\n".join(f"{problem.level}: {problem.what}" for problem in found.problems)


def test_a_working_installation(box: Path, small_checkpoint: Checkpoint) -> None:
    facts = json.loads(gdq("doctor", "--device", "cpu", "--json"))
    assert facts["works"]
    assert torch.__version__.startswith(facts["versions"]["torch"].partition("+")[0])
    assert facts["weights"]["files"][0]["ok"]
    assert facts["devices"][0]["device"] == "cpu"
    (engine,) = facts["engines"]
    usable, _ = find_engines(small_checkpoint, "cpu")
    assert engine["chosen"] == next(iter(usable))
    assert engine["others"] == list(usable)[1:]
    assert {"use", "path", "free_gib"} <= facts["disk"][0].keys()
    assert facts["kernels"]["built"] == kernels.report().built
    assert all(problem["remedy"] for problem in facts["problems"])


@pytest.mark.usefixtures("quick")
def test_the_report_names_everything(box: Path) -> None:
    output = gdq("doctor", "-d", "cpu")
    for word in ("torch", "processor", "device", "kernels", "engine", "weights", "pictures", "disk", "output"):
        assert any(line.startswith(word) for line in output.splitlines()), word
    assert "small_x2.safetensors" in output
    assert "hash right" in output


@pytest.mark.usefixtures("quick")
def test_models_of_the_users_own(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(box / "small_x2.safetensors", own / "mine_x2.safetensors")
    monkeypatch.setenv("GDQ_MODEL_DIR", str(own))
    assert f"mine x2: GDQ_MODEL_DIR, {own / 'mine_x2.safetensors'}" in gdq("doctor", "-d", "cpu")


@pytest.mark.usefixtures("quick")
def test_damaged_weights_are_an_error(box: Path) -> None:
    path = box / "small_x2.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    output = gdq("doctor", "-d", "cpu", code=1)
    assert "error: " in output
    assert "SHA-256" in output
    assert "remedy: install gdq again" in output
    path.unlink()
    found = diagnose("cpu")
    assert not found.works
    assert found.facts["weights"]["files"] == [{"file": path.name, "ok": False, "size": None}]


@pytest.mark.usefixtures("quick")
def test_no_manifest(box: Path) -> None:
    (box / "manifest.json").unlink()
    assert "bundled weights are missing" in problems(diagnose("cpu"))
    (box / "manifest.json").write_text("{}")
    assert "no weights in the box" in problems(diagnose("cpu"))


@pytest.mark.usefixtures("quick")
def test_missing_and_wrong_kernels(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "report", lambda: kernels.KernelReport(False, "No module named x", (), (), None))
    found = diagnose("cpu")
    assert "kernels are not available (No module named x)" in problems(found)
    assert any("compiler" in problem.remedy for problem in found.problems)
    assert found.works
    isas = (kernels.IsaReport("avx2", True, "layer 3", ()), kernels.IsaReport("avx-vnni", False, "", ()))
    monkeypatch.setattr(kernels, "report", lambda: kernels.KernelReport(True, "", (), isas, None))
    found = diagnose("cpu")
    assert "the avx2 kernels fail their self-test (layer 3)" in problems(found)
    assert "no compiled kernel suits" in problems(found)
    tests = {isa["name"]: isa["self_test"] for isa in found.facts["kernels"]["instruction_sets"]}
    assert tests == {"avx2": "failed", "avx-vnni": "not runnable"}


@pytest.mark.usefixtures("quick")
def test_only_the_reference_engine_runs(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(network: object, place: str) -> EngineChoice:
        return EngineChoice(ReferenceEngine(network), ("onednn: saturates",))  # type: ignore[arg-type]

    monkeypatch.setattr(doctor_module, "choose_engine", choose)
    found = diagnose("cpu")
    assert "exact but slow (onednn: saturates)" in problems(found)
    assert "not onednn: saturates" in gdq("doctor", "-d", "cpu")


@pytest.mark.usefixtures("quick")
def test_no_engine_and_no_device(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnose("tpu")
    assert "unknown device" in problems(found)
    assert not found.works

    def choose(network: object, place: str) -> EngineChoice:
        raise DeviceError("nothing runs")

    monkeypatch.setattr(doctor_module, "choose_engine", choose)
    found = diagnose("cpu")
    assert "small x2: nothing runs" in problems(found)
    assert not found.works


@pytest.mark.usefixtures("quick")
def test_warnings_about_the_surroundings(box: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor_module, "LOW_DISK", 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 5 * 2**20))
    monkeypatch.setattr(doctor_module, "usable_cores", lambda: 4096)
    monkeypatch.setattr(doctor_module.features, "check", lambda name: name != "webp")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub" / "deep"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub" / "deep"))  # read at its import
    found = diagnose("cpu")
    said = problems(found)
    assert f"{tmp_path / 'hub' / 'deep'}: only 5 MiB free" in said
    assert "of 4096 usable cores" in said
    assert "cannot handle webp" in said
    assert "there is an NVIDIA GPU" in said
    assert found.works
    assert found.facts["environment"]["HF_HUB_CACHE"] == str(tmp_path / "hub" / "deep")
    assert not (tmp_path / "hub").exists()


@pytest.mark.usefixtures("quick")
def test_the_cache_is_where_downloads_go(box: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Huggingface_hub's own place, which more variables than ours move, XDG_CACHE_HOME among them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    (cache,) = [line["path"] for line in diagnose("cpu").facts["disk"] if line["use"] == "cache"]
    assert cache == str(tmp_path / "elsewhere")


def test_as_a_process() -> None:
    done = run_process("doctor", "-d", "tpu")
    assert done.returncode == 1
    assert b"unknown device 'tpu'" in done.stdout
    assert b"Traceback" not in done.stderr
