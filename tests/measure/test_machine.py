"""Energy and memory: counters of packages and GPUs, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gdq_cli.commands.terminal.tables import bench_lines
from gdq_cli.measure import machine
from gdq_cli.measure.benchmark import interleave
from gdq_cli.measure.machine import GpuEnergyMeter, RaplMeter, energy_meter, forget_peak_memory, peak_memory


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
    if not forget_peak_memory():
        pytest.skip("this system does not let a process reset its peak")
    idle = peak_memory()
    block = np.ones(64 << 20, np.uint8)
    high = peak_memory()
    del block
    assert forget_peak_memory()
    low = peak_memory()
    assert idle is not None
    assert high is not None
    assert low is not None
    assert high - idle > 50
    assert high - low > 50


def test_memory_that_cannot_be_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    assert peak_memory() is None
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
