"""The choice by timing: only where it is uncertain, made once, remembered, and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gdq_cli.engines import choose_engine, measured
from gdq_cli.engines.base import Engine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.models.checkpoint import Checkpoint
from tests.helpers.engines import OffByOne


class Quick(ReferenceEngine):
    name = "quick"


class Broken(OffByOne):
    name = "broken"


@pytest.fixture
def uncertain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A processor with matrix units, and an empty cache folder."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some Xeon\nflags\t\t: fpu avx512f amx_tile amx_int8\n")
    monkeypatch.setattr(measured, "CPUINFO", cpuinfo)
    monkeypatch.setattr(measured, "_SIDE", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gdq" / "engines.json"


def offer(monkeypatch: pytest.MonkeyPatch, engines: dict[str, type[Engine]], seconds: dict[str, float]) -> list[str]:
    """Candidates on the CPU that seem to take some seconds; returns the names of those that are timed."""
    timed: list[str] = []
    monkeypatch.setattr(
        "gdq_cli.engines.choice._fast_engines",
        lambda network, device: [(name, lambda make=make: make(network)) for name, make in engines.items()],
    )

    def take(run: object, windows: np.ndarray) -> float:  # type: ignore[type-arg]
        name = list(engines)[len(timed) // 4]
        timed.append(name)
        return seconds[name]

    monkeypatch.setattr(measured, "_seconds", take)
    return timed


def test_the_faster_one_runs_and_the_choice_is_remembered(
    small_checkpoint: Checkpoint, uncertain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: dict[str, type[Engine]] = {"slow": ReferenceEngine, "quick": Quick}
    timed = offer(monkeypatch, engines, {"slow": 0.3, "quick": 0.1})
    choice = choose_engine(small_checkpoint.network)
    assert choice.engine.name == "quick"
    assert choice.rejected == ("slow: 3.00 times as long as quick in a timing on this machine",)
    (kind,) = json.loads(uncertain.read_text())
    assert "edsr" in kind
    assert "Some Xeon" in kind
    count = len(timed)
    assert choose_engine(small_checkpoint.network).engine.name == "quick"
    assert len(timed) == count, "timed again"
    assert choose_engine(small_checkpoint.network, name="slow").engine.name == "reference"


def test_a_wrong_engine_is_not_timed(
    small_checkpoint: Checkpoint, uncertain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = offer(monkeypatch, {"slow": ReferenceEngine, "broken": Broken}, {"slow": 0.3, "broken": 0.1})
    assert choose_engine(small_checkpoint.network).engine.name == "reference"
    assert set(timed) == {"slow"}


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"b": "c"}}', "\0"])
def test_a_damaged_memory_is_made_anew(
    small_checkpoint: Checkpoint, uncertain: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    uncertain.parent.mkdir(parents=True)
    uncertain.write_text(text)
    offer(monkeypatch, {"slow": ReferenceEngine, "quick": Quick}, {"slow": 0.3, "quick": 0.1})
    assert choose_engine(small_checkpoint.network).engine.name == "quick"
    assert measured.remembered()


def test_no_timing_where_the_kernels_are_known_to_win(
    small_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx2\n")
    monkeypatch.setattr(measured, "CPUINFO", cpuinfo)
    timed = offer(monkeypatch, {"slow": ReferenceEngine, "quick": Quick}, {"slow": 0.3, "quick": 0.1})
    assert choose_engine(small_checkpoint.network).engine.name == "reference"
    assert not timed


def test_where_nothing_can_be_written_it_still_chooses(
    small_checkpoint: Checkpoint, uncertain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncertain.parent.parent.mkdir()
    uncertain.parent.write_text("a file where the folder should be")
    offer(monkeypatch, {"slow": ReferenceEngine, "quick": Quick}, {"slow": 0.3, "quick": 0.1})
    assert choose_engine(small_checkpoint.network).engine.name == "quick"
