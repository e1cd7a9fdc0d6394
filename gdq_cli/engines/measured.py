"""Which CPU engine is faster where that is not known beforehand: a short timing, made once per machine and version.

The compiled kernels win on every processor without int8 matrix units. With them (Intel AMX) oneDNN may be faster.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gdq_cli._version import __version__
from gdq_cli.engines.threads import thread_count
from gdq_cli.errors import DeviceError, FileError
from gdq_cli.files import atomic_file, user_path

MATRIX_UNITS = "amx_int8"
"""Linux's name of the processor feature that makes the fastest engine uncertain."""

CPUINFO = Path("/proc/cpuinfo")

_WINDOWS, _SIDE, _ROUNDS = 4, 104, 3


def _cpuinfo(*keys: str) -> str:
    """What Linux tells about the first core under one of some keys; nothing on other systems."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith(keys)), "")


def cpu_flags() -> list[str]:
    """Linux's names of what the processor can do."""
    return _cpuinfo("flags", "features").split()


def is_uncertain() -> bool:
    """Whether another engine than the compiled kernels may be the fastest on this processor."""
    return MATRIX_UNITS in cpu_flags()


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def timings_file() -> Path:
    """Where timings are remembered: ``gdq/engines.json`` in the user's cache folder."""
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gdq" / "engines.json"


def remembered() -> dict[str, dict[str, float]]:
    """All timings of this machine: network, threads and versions -> engine -> seconds. Empty where none can be read."""
    try:
        found = json.loads(timings_file().read_text())
        return {
            str(key): {str(name): float(value) for name, value in seconds.items()} for key, seconds in found.items()
        }
    except (OSError, RuntimeError, ValueError, AttributeError, TypeError):
        return {}


def measure(
    network: str, engines: Mapping[str, Callable[[], Callable[[np.ndarray[Any, Any], int], object]]]
) -> dict[str, float]:
    """Seconds that each engine takes for a few windows at 6 and 8 bits; remembered.

    Args:
        network: what distinguishes it from others of other speed.
        engines: by name; each makes the function that runs (N, H, W, 3) uint8 windows at a bit-width.

    Returns:
        Median seconds by engine. One that cannot run here has none.
    """
    key = f"{network}, {thread_count()} threads, gdq {__version__}, torch {_torch_version()}, {cpu_name()}"
    timings = remembered()
    if key not in timings:
        windows = np.random.default_rng(0).integers(0, 256, (_WINDOWS, _SIDE, _SIDE, 3), dtype=np.uint8)
        timings[key] = {}
        for name, make in engines.items():
            try:
                run = make()
                timings[key][name] = statistics.median(_seconds(run, windows) for _ in range(_ROUNDS + 1))
            except (RuntimeError, NotImplementedError, ValueError, DeviceError):  # the choice says why it does not run
                continue
        _remember(timings)
    return timings[key]


def _seconds(run: Callable[[np.ndarray[Any, Any], int], object], windows: np.ndarray[Any, Any]) -> float:
    start = time.perf_counter()
    run(windows, 6)
    run(windows, 8)
    return time.perf_counter() - start


def _remember(timings: dict[str, dict[str, float]]) -> None:
    """Best effort: where nothing can be written, the next start measures again."""
    try:
        file = timings_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file, overwrite=True) as draft:
            draft.write(json.dumps(timings, indent=1).encode())
    except (OSError, RuntimeError, FileError):
        pass


def _torch_version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and hardly ever asked

    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"
