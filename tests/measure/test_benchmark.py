"""What gdq bench measures with: interleaved runs, engines that are here, threads set back, a made picture."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gdq_cli.errors import DeviceError
from gdq_cli.measure import benchmark
from gdq_cli.measure.benchmark import Measurement, find_engines, interleave, natural_picture, run_benchmark
from gdq_cli.models.checkpoint import Checkpoint
from tests.helpers.pictures import make_picture


def test_interleaving_warms_up_and_takes_turns() -> None:
    calls: list[str] = []
    done: list[tuple[int, int]] = []
    found = interleave(
        {name: lambda name=name: calls.append(name) for name in "ab"},
        repeats=3,
        progress=lambda *numbers: done.append(numbers),
    )
    assert "".join(calls) == "abababab"
    assert done[-1] == (8, 8)
    assert all(len(found[name].seconds) == 3 for name in "ab")
    with pytest.raises(ValueError, match="at least 1"):
        interleave({}, repeats=0)


def test_interleaving_times_what_it_runs() -> None:
    found = interleave({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, repeats=2)
    assert found["slow"].median >= 0.02 > found["fast"].median


def test_median_and_spread() -> None:
    measured = Measurement((1.0, 4.0, 2.0))
    assert measured.median == 2
    assert measured.spread == 1.5


def test_threads_are_set_back(small_checkpoint: Checkpoint) -> None:
    import torch

    before = torch.get_num_threads()
    seen: list[int] = []

    class Spy:
        scale, checkpoint = 2, small_checkpoint

        def plan_bits(self, image: object, bits: str) -> object:
            return upscaler.plan_bits(image, bits=bits)  # type: ignore[arg-type]

        def upscale(self, image: object, bits: str) -> None:
            seen.append(torch.get_num_threads())

    upscaler = find_engines(small_checkpoint, "cpu", ["reference"])[0]["reference"]
    rows = run_benchmark(
        {"spy": Spy()},  # type: ignore[dict-item]
        make_picture(8, 8),
        bits=["4"],
        threads=[1, before + 1],
        repeats=1,
    )
    assert seen == [1, before + 1] * 2
    assert [row.setting.threads for row in rows] == [1, before + 1]
    assert [row.ratio_to_fp32 for row in rows] == [None, None]
    assert torch.get_num_threads() == before


def test_every_engine_is_found_and_a_missing_one_said(
    small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "CPU_ENGINES", ("steam", "reference"))
    found, missing = find_engines(small_checkpoint, "cpu")
    assert list(found) == ["reference"]
    assert "no engine named steam" in missing[0]
    with pytest.raises(DeviceError):
        find_engines(small_checkpoint, "cpu", ["steam"])


def test_the_made_picture_is_no_flat_one() -> None:
    picture = natural_picture(60, 80)
    assert picture.shape == (60, 80, 3)
    assert picture.std() > 20
    assert np.array_equal(picture, natural_picture(60, 80))
    large = natural_picture(200, 300).astype(int)
    crowded, flat = (np.abs(np.diff(part, axis=1)).mean() for part in (large[:100, :150], large[100:, 150:]))
    assert crowded > 2 * flat
    assert natural_picture(1, 1).shape == (1, 1, 3)
