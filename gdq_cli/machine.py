"""What machine this is, and what work costs on it beyond time: energy and memory, where they can be measured."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from gdq_cli.engines import kernels

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of the processor (RAPL); readable by root only on most systems."""

_PROC = Path("/proc")


def usable_cores() -> int:
    """Logical processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = (_PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


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


class EnergyMeter:
    """Energy of all processor packages by their RAPL counters, other programs' share included.

    Args:
        folder: of the counters; another one for tests.
    """

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


class PeakMemory:
    """Largest resident memory of this process since ``reset``, where the system can forget earlier peaks (Linux)."""

    def reset(self) -> bool:
        """Start anew; False where that is not possible, and :meth:`mib` therefore means nothing."""
        try:
            (_PROC / "self" / "clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def mib(self) -> float | None:
        """Peak in MiB; None where the system does not tell."""
        try:
            lines = (_PROC / "self" / "status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)
