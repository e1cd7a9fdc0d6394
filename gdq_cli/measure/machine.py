"""What machine this is, and what work costs on it beyond time: energy and memory, where they can be measured."""

from __future__ import annotations

import ctypes
import datetime
import platform
from pathlib import Path
from typing import Any, Protocol

from gdq_cli.engines import kernels
from gdq_cli.engines.measured import cpu_name as cpu_name
from gdq_cli.engines.threads import usable_cores

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of the processor (RAPL); readable by root only on most systems."""

_PROC = Path("/proc")


def machine_facts() -> dict[str, Any]:
    """What a timing must be read with: processor, cores, system, versions and the day."""
    import torch

    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "cpu_features": list(kernels.report().cpu_features),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


class EnergyMeter(Protocol):
    """Counters of energy, other programs' share included.

    Attributes:
        source: whose energy it is and who counts it.
        missing: what is not there where nothing is available.
    """

    source: str
    missing: str

    @property
    def available(self) -> bool:
        """Whether this machine lets us measure energy."""

    def read(self) -> tuple[int, ...]:
        """Counters at this moment."""

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Energy between two readings."""


def energy_meter(device: str) -> EnergyMeter:
    """The meter of a torch device: the GPU's own for CUDA, the processor's for others."""
    return GpuEnergyMeter(device) if device.startswith("cuda") else RaplMeter()


class GpuEnergyMeter:
    """Energy of one NVIDIA GPU, from Volta on, by the counter of its driver (NVML).

    Args:
        device: ``cuda`` or ``cuda:N``.
        nvml: the driver's library; another one for tests, None to load it.
    """

    source = "the GPU (NVML)"
    missing = "the driver's NVML has no energy counter for this GPU"

    def __init__(self, device: str, nvml: Any = None) -> None:
        import torch

        self._handle = ctypes.c_void_p()
        self.available = False
        try:
            self._nvml = nvml or ctypes.CDLL("libnvidia-ml.so.1")
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"  # NVML's own order may be another one
            if self._nvml.nvmlInit_v2() == 0:
                found = self._nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(self._handle))
                self.available = found == 0 and self._count() is not None
        except (OSError, AttributeError):  # no such library, or one without these functions
            return

    def _count(self) -> int | None:
        """Millijoules since the driver was loaded; None if it does not tell."""
        count = ctypes.c_ulonglong()
        failed = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(count))
        return None if failed else count.value

    def read(self) -> tuple[int, ...]:
        """The counter in millijoules; nothing where it is not available."""
        count = self._count() if self.available else None
        return () if count is None else (count,)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Energy between two readings."""
        return (sum(after) - sum(before)) / 1e3


class RaplMeter:
    """Energy of all processor packages by their RAPL counters, other programs' share included.

    Args:
        folder: of the counters; another one for tests.
    """

    source = "the processor packages (RAPL)"
    missing = f"no readable RAPL counter in {POWERCAP}"

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._zones: list[tuple[Path, int]] = []
        for zone in sorted(folder.glob("intel-rapl:*")):  # AMD's counters bear the same name
            try:
                if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                    _read_number(zone / "energy_uj")
                    self._zones.append((zone / "energy_uj", _read_number(zone / "max_energy_range_uj")))
            except (OSError, ValueError):
                continue

    @property
    def available(self) -> bool:
        """Whether this machine lets us measure energy."""
        return bool(self._zones)

    def read(self) -> tuple[int, ...]:
        """Counters in microjoules, one per package."""
        return tuple(_read_number(file) for file, _ in self._zones)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Energy between two readings; a counter that went back has started again at its maximum once."""
        spent = 0
        for (_, maximum), first, last in zip(self._zones, before, after, strict=True):
            spent += last - first if last >= first else last - first + maximum
        return spent / 1e6


def _read_number(file: Path) -> int:
    return int(file.read_text())


def forget_peak_memory() -> bool:
    """Have ``peak_memory`` start anew; False where the system cannot forget, as all but Linux."""
    try:
        (_PROC / "self" / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> float | None:
    """Largest resident memory of this process in MiB, since it was forgotten; None where the system does not tell."""
    try:
        lines = (_PROC / "self" / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)
