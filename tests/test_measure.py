"""gdq eval, bench and compare, and what they measure with."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gdq_cli.commands.tables import bench_lines
from gdq_cli.errors import DeviceError
from gdq_cli.measure import benchmark, machine
from gdq_cli.measure.benchmark import Measurement, find_engines, interleave, natural_picture, run_benchmark
from gdq_cli.measure.comparison import compare_images, difference_picture
from gdq_cli.measure.machine import GpuEnergyMeter, PeakMemory, RaplMeter, energy_meter
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.training.degradation import EVAL_DEGRADATIONS

from .conftest import make_network, make_picture
from .test_cli import gdq


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "hr"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(make_picture(40, 52, index)).save(folder / f"{index}.png")
    return folder


def test_eval_table(pictures: Path, model: Path) -> None:
    output = gdq("eval", pictures, "-x", 2, "-m", model, "--engine", "reference", "-b", "auto", "-b", "fp32")
    lines = [line for line in output.splitlines() if "small" in line]
    assert ["fp32" in line for line in lines] == [True, False]
    assert "+0.000" in lines[0]
    assert "antialiased bicubic" in output


def test_eval_json_and_csv(pictures: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["eval", pictures, "-x", 2, "-m", model, "--engine", "reference", "--bits", "auto", "--bits", "bicubic"]
    table = tmp_path / "figures.csv"
    facts = json.loads(gdq(*arguments, "--csv", table, "--json"))
    assert {"model", "scale", "protocol", "rows"} <= facts.keys()
    bicubic, auto = facts["rows"]
    assert (bicubic["bits"], bicubic["fab"]) == ("bicubic", None)
    assert {"bits", "psnr_y", "ssim_y", "fab", "bitops_g", "seconds", "images"} <= auto.keys()
    assert [image["name"] for image in auto["images"]] == ["0.png", "1.png"]
    assert auto["psnr_y"] == pytest.approx(np.mean([image["psnr_y"] for image in auto["images"]]))
    written = list(csv.DictReader(table.open()))
    assert float(written[-1]["psnr_y"]) == auto["psnr_y"]
    assert "exists" in gdq(*arguments, "--csv", table, code=3)


def test_eval_with_lr_pictures_and_two_models(pictures: Path, model: Path, tmp_path: Path) -> None:
    lr = tmp_path / "lr"
    lr.mkdir()
    for index in range(2):
        Image.fromarray(make_picture(20, 26, index)).save(lr / f"{index}x2.png")
    plain = tmp_path / "plain_x2.safetensors"
    write_checkpoint(plain, Checkpoint(make_network(2, seed=3), None, name="plain"))
    arguments = ["eval", pictures, "--lr", lr, "-x", 2, "-m", model, "-m", plain, "--bits", "fp32", "--json"]
    first, second = (json.loads(line) for line in gdq(*arguments, "--protocol", "paper").splitlines())
    assert [first["model"], second["model"]] == ["small", "plain"]
    assert first["protocol"] == "paper"
    assert first["lr"] == str(lr)
    assert first["rows"][0]["psnr_y"] != second["rows"][0]["psnr_y"]


def test_models_share_a_table_and_its_bicubic_row(pictures: Path, model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain_x2.safetensors"
    write_checkpoint(plain, Checkpoint(make_network(2, seed=3), None, name="plain"))
    arguments = ["eval", pictures, "-x", 2, "-m", model, "-m", plain, "-b", "bicubic", "-b", "fp32"]
    rows = [re.findall(r"[\w.]+", line)[:2] for line in gdq(*arguments).splitlines() if line.startswith(("│", "|"))]
    assert rows == [["Pillow", "bicubic"], ["small", "fp32"], ["plain", "fp32"]]


def test_eval_of_degraded_pictures(pictures: Path, model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain_x2.safetensors"
    write_checkpoint(plain, Checkpoint(make_network(2, seed=3), None, name="plain"))
    arguments = ["eval", pictures, "-x", 2, "-m", model, "-m", plain, "-b", "bicubic", "-b", "fp32"]
    arguments += ["--degrade", "light,jpeg45", "--seed", 3]
    csv_file = tmp_path / "figures.csv"
    found = [json.loads(line) for line in gdq(*arguments, "--json", "--csv", csv_file).splitlines()]
    assert [(facts["degradation"], facts["model"]) for facts in found] == [
        ("light", "small"),
        ("light", "plain"),
        ("jpeg45", "small"),
        ("jpeg45", "plain"),
    ]
    assert {(facts["lr"], facts["seed"]) for facts in found} == {("degraded", 3)}
    assert found[0]["rows"][0]["psnr_y"] == found[1]["rows"][0]["psnr_y"] != found[2]["rows"][0]["psnr_y"]
    means = [line for line in csv.DictReader(csv_file.open()) if line["name"] == "mean"]
    assert [line["degradation"] for line in means] == ["light"] * 4 + ["jpeg45"] * 4
    assert float(means[1]["colour_shift"]) == found[0]["rows"][1]["colour_shift"]

    table = gdq(*arguments)
    rows = [re.findall(r"[\w.]+", line)[:3] for line in table.splitlines() if line.startswith(("│", "|"))]
    assert rows == [
        [kind, *row]
        for kind in ("light", "jpeg45")
        for row in (["Pillow", "bicubic"], ["small", "fp32"], ["plain", "fp32"])
    ]
    assert "degraded, seed 3" in table


def test_help_names_every_degradation() -> None:
    words = re.findall(r"\w+", gdq("eval", "--help"))
    assert set(EVAL_DEGRADATIONS) <= set(words)


def test_checkpoints_of_one_name_are_told_apart(pictures: Path, model: Path, tmp_path: Path) -> None:
    trained = tmp_path / "after.safetensors"
    write_checkpoint(trained, Checkpoint(make_network(2, seed=3), None, name="small"))
    table = tmp_path / "figures.csv"
    output = gdq("eval", pictures, "-x", 2, "-m", model, "-m", trained, "-b", "fp32", "--csv", table)
    hashes = [line["model_sha256"] for line in csv.DictReader(table.open()) if line["name"] == "mean"]
    assert len(set(hashes)) == 2
    for sha256 in hashes:
        assert f"small {sha256[:8]}" in output


def test_eval_finds_all_models_before_it_runs_one(pictures: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a model ran")

    monkeypatch.setattr("gdq_cli.measure.evaluation.evaluate", refuse)
    assert "no model 'absent'" in gdq("eval", pictures, "-x", 2, "-m", model, "-m", "absent", "--offline", code=4)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-x", "5"], 2, "--scale must be"),
        (["-x", "2", "--protocol", "mine"], 2, "--protocol must be"),
        (["-x", "2", "-j", "0"], 2, "--threads must be"),
        (["-x", "2", "--bits", "7"], 2, "--bits must be"),
        (["-x", "2", "--lr", "absent"], 3, "no such folder"),
        (["-x", "4"], 4, "cannot upscale x4"),
        (["-x", "2", "--degrade", "jpeg80"], 2, "--degrade must be of clean, jpeg90"),
        (["-x", "2", "--degrade", "light", "--lr", "absent"], 2, "give one of them"),
        (["-x", "2", "--degrade", "light", "--protocol", "paper"], 2, "for clean LR pictures"),
        (["-x", "2", "--degrade", "light", "--seed", "-1"], 2, "--seed must be"),
        (["-x", "2", "--seed", "1"], 2, "give both or neither"),
    ],
)
def test_eval_refuses(pictures: Path, model: Path, arguments: list[str], code: int, message: str) -> None:
    assert message in gdq("eval", pictures, "-m", model, *arguments, code=code)


def test_eval_of_an_empty_folder(tmp_path: Path, model: Path) -> None:
    assert "no images" in gdq("eval", tmp_path, "-x", 2, "-m", model, code=3)


def test_bench_json(model: Path) -> None:
    arguments = ["--size", "24x20", "-x", 2, "-m", model, "--engine", "reference", "--repeats", 2, "-j", 1]
    facts = json.loads(gdq("bench", *arguments, "-b", "auto", "-b", "fp32", "-b", "4", "--json"))
    assert {"machine", "network", "in_size", "rows"} <= facts.keys()
    assert facts["in_size"] == [20, 24]
    names = [(row["engine"], row["bits"]) for row in facts["rows"]]
    assert names == [
        ("torch, whole picture", "fp32"),
        ("torch", "fp32"),
        ("reference", "auto"),
        ("reference", "4"),
    ]
    floats = [row["seconds_median"] for row in facts["rows"] if row["bits"] == "fp32"]
    for row in facts["rows"]:
        assert 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert row["ratio_to_fp32"] == pytest.approx(min(floats) / row["seconds_median"])
        assert row["output_mp_per_s"] == pytest.approx(20 * 24 * 4 / 1e6 / row["seconds_median"])
        assert row["threads"] == 1
    assert facts["rows"][3]["fab"] == 4
    assert list(facts["stages"]["seconds"]) == ["read", "bits", "network", "write"]
    assert facts["machine"]["cores"] >= 1


def test_bench_table_of_a_picture(pictures: Path, model: Path) -> None:
    options = ["-x", 2, "-m", model, "--engine", "reference", "--repeats", 1, "-b", "5", "-j", 1]
    output = gdq("bench", pictures / "0.png", *options)
    assert "52x40" in output
    assert "reference" in output
    assert "network includes joining" in output
    assert "counted" in output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "12"], 2, "--size must be"),
        (["--size", "00x9"], 2, "--size must be"),
        (["--size", "9" * 5000 + "x9"], 2, "--size must be"),
        (["--size", "99999x99999"], 2, "pixels"),
        (["--repeats", "0"], 2, "--repeats must be"),
        (["-j", "0"], 2, "--threads must be"),
        (["-b", "bicubic"], 2, "not bicubic"),
        (["--engine", "steam"], 5, "no engine named steam"),
        (["absent.png"], 3, "absent.png"),
    ],
)
def test_bench_refuses(model: Path, arguments: list[str], code: int, message: str) -> None:
    assert message in gdq("bench", "-x", 2, "-m", model, *arguments, code=code)


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


def powercap(folder: Path, name: str, label: str, energy: int, maximum: int = 1000_000_000) -> Path:
    zone = folder / name
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{label}\n")
    (zone / "energy_uj").write_text(f"{energy}\n")
    (zone / "max_energy_range_uj").write_text(f"{maximum}\n")
    return zone / "energy_uj"


def test_energy_of_all_packages_and_nothing_twice(tmp_path: Path) -> None:
    first = powercap(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    powercap(tmp_path, "intel-rapl:0:0", "core", 1)
    powercap(tmp_path, "intel-rapl:1", "psys", 1)
    powercap(tmp_path, "intel-rapl-mmio:0", "package-0", 1)
    second = powercap(tmp_path, "intel-rapl:2", "package-1", 999_000_000)
    meter = RaplMeter(tmp_path)
    assert meter.available
    before = meter.read()
    assert before == (5_000_000, 999_000_000)
    first.write_text("7500000")
    second.write_text("1000000")  # it has reached its maximum and started again
    assert meter.joules(before, meter.read()) == pytest.approx(2.5 + 2.0)


def test_energy_without_readable_counters(tmp_path: Path) -> None:
    zone = powercap(tmp_path, "intel-rapl:0", "package-0", 5)
    zone.unlink()
    assert not RaplMeter(tmp_path).available
    assert not RaplMeter(tmp_path / "absent").available
    assert interleave({"a": lambda: None}, repeats=1, energy=RaplMeter(tmp_path))["a"].joules is None


def test_energy_is_measured_around_each_run(tmp_path: Path) -> None:
    counter = powercap(tmp_path, "intel-rapl:0", "package-0", 0)

    def burn() -> None:
        counter.write_text(str(int(counter.read_text()) + 3_000_000))

    found = interleave({"burn": burn, "rest": lambda: None}, repeats=2, energy=RaplMeter(tmp_path))
    assert (found["burn"].joules, found["rest"].joules) == (3.0, 0.0)


class Nvml:
    """The driver's library as :class:`GpuEnergyMeter` uses it, with one GPU."""

    def __init__(self, uuid: str) -> None:
        self.uuid, self.millijoules = uuid, 2**40

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: object) -> int:  # noqa: N802
        return 0 if uuid.decode() == self.uuid else 6

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object, count: Any) -> int:  # noqa: N802
        count._obj.value = self.millijoules
        return 0


def test_energy_of_a_gpu_is_that_of_its_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid=f"id-of-{device}"))
    nvml = Nvml("GPU-id-of-cuda:1")
    meter = GpuEnergyMeter("cuda:1", nvml)
    assert meter.available
    before = meter.read()
    nvml.millijoules += 2500
    assert meter.joules(before, meter.read()) == 2.5
    other = GpuEnergyMeter("cuda:0", nvml)
    assert not other.available
    assert other.read() == ()
    assert not GpuEnergyMeter("cuda:1", object()).available, "a driver without these functions"


def test_the_meter_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid="x"))
    assert "RAPL" in energy_meter("cpu").source
    assert "NVML" in energy_meter("cuda").source


def test_peak_memory_forgets() -> None:
    memory = PeakMemory()
    if not memory.reset():
        pytest.skip("this system does not let a process reset its peak")
    idle = memory.mib()
    block = np.ones(64 << 20, np.uint8)
    high = memory.mib()
    del block
    assert memory.reset()
    low = memory.mib()
    assert idle is not None
    assert high is not None
    assert low is not None
    assert high - idle > 50
    assert high - low > 50


def test_memory_that_cannot_be_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    assert PeakMemory().mib() is None
    assert interleave({"a": lambda: None}, repeats=1)["a"].peak_mib is None
    facts = {
        "energy": "not measured: no counter",
        "rows": [{"peak_rss_mib": None, "joules": None}],
        "stages": {"engine": "e", "bits": "4", "seconds": {"read": 1.0, "write": 3.0}},
        "machine": dict.fromkeys(("cpu", "cores", "torch", "python", "system", "date"), "?"),
    }
    lines = bench_lines(facts)
    assert "read 25 %, write 75 %" in lines[0]
    assert any(line.startswith("energy: not measured") for line in lines)
    assert any(line.startswith("peak memory: not measured") for line in lines)


def test_the_made_picture_is_no_flat_one() -> None:
    picture = natural_picture(60, 80)
    assert picture.shape == (60, 80, 3)
    assert picture.std() > 20
    assert np.array_equal(picture, natural_picture(60, 80))
    large = natural_picture(200, 300).astype(int)
    crowded, flat = (np.abs(np.diff(part, axis=1)).mean() for part in (large[:100, :150], large[100:, 150:]))
    assert crowded > 2 * flat
    assert natural_picture(1, 1).shape == (1, 1, 3)


def test_comparison_by_hand() -> None:
    a = make_picture(30, 40)
    b = a.copy()
    b[7, 9] = np.where(a[7, 9] > 100, a[7, 9] - 20, a[7, 9] + 20)
    found = compare_images(a, b)
    assert (found.largest, found.where) == (20, (7, 9))
    assert found.share == pytest.approx(3 / (30 * 40 * 3))
    assert found.ssim_y is not None
    assert found.ssim_y < 1
    assert compare_images(a, b, shave=8).largest == 0
    assert compare_images(a[:10], b[:10]).ssim_y is None
    picture, gain = difference_picture(a, b)
    assert gain == 8
    assert picture[7, 9].tolist() == [160, 160, 160]
    assert picture.sum() == 480
    assert difference_picture(a, a)[0].max() == 0


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(make_picture(30, 40)).save(paths[0])
    Image.fromarray(np.minimum(make_picture(30, 40), 200)).save(paths[1])
    return paths


def test_compare(two: tuple[Path, Path], tmp_path: Path) -> None:
    output = gdq("compare", *two, "-o", tmp_path / "d.png")
    assert "PSNR-Y" in output
    assert "largest difference" in output
    assert Image.open(tmp_path / "d.png").size == (40, 30)
    facts = json.loads(gdq("compare", *two, "--json"))
    assert facts["largest"] == int(make_picture(30, 40).max()) - 200
    assert not facts["equal"]
    assert "are equal" in gdq("compare", two[0], two[0])
    same = json.loads(gdq("compare", two[0], two[0], "--json"))
    assert same["equal"]
    assert same["psnr_y"] is None


def test_compare_refuses(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "c.png"
    Image.fromarray(make_picture(30, 41)).save(other)
    assert "only equal sizes" in gdq("compare", two[0], other, code=3)
    assert "leaves nothing" in gdq("compare", *two, "--shave", 15, code=2)
    assert "--shave must be" in gdq("compare", *two, "--shave", -1, code=2)
    assert "exists" in gdq("compare", *two, "-o", two[1], code=3)
    assert "does not write" in gdq("compare", *two, "-o", tmp_path / "d.xyz", code=2)
