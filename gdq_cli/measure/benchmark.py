"""Timing engines and bit-widths side by side: warmed up, interleaved, medians with their spread."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.engines import choose_engine
from gdq_cli.errors import DeviceError
from gdq_cli.images import Picture, read_image, write_image
from gdq_cli.measure.machine import EnergyMeter, RaplMeter, forget_peak_memory, peak_memory
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.options import Encoding
from gdq_cli.upscaling.upscaler import Upscaler

CPU_ENGINES = ("native", "onednn", "reference")
DEVICE_ENGINES = ("cuda", "reference")
"""Names to ask for, fastest first. ``reference`` is slow by design and runs only where it is asked for or alone."""

WHOLE_PIXELS = 512 * 512
"""LR pixels up to which FP32 also runs on the picture as a whole: its feature maps take about 4 KiB a pixel at x4."""

U8 = NDArray[np.uint8]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Measurement:
    """Repeated measurements of one piece of work.

    Attributes:
        seconds: of every repeat.
        joules: median energy of a repeat; None if not measured.
        peak_mib: largest resident memory of the process meanwhile; None if not measured.
    """

    seconds: tuple[float, ...]
    joules: float | None = None
    peak_mib: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest less fastest, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def interleave(
    runs: Mapping[Key, Callable[[], object]],
    *,
    repeats: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    energy: EnergyMeter | None = None,
    pause: float = 0.0,
) -> dict[Key, Measurement]:
    """Time several pieces of work in turn, so that a busy moment of the machine hits all alike.

    Args:
        runs: name -> work. One round more than ``repeats`` is run; the first warms up and is not counted.
        repeats: at least 1.
        progress: called with finished and all pieces.
        energy: meter to read around every run; None for the processor's.
        pause: seconds to rest before each piece, for threads of the one before that go on spinning.

    Raises:
        ValueError: if ``repeats`` is not positive.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    energy = energy or RaplMeter()
    taken: dict[Key, list[tuple[float, float, float | None]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for done, (name, run) in enumerate(runs.items(), 1):
            time.sleep(pause)
            known = forget_peak_memory()
            before, start = energy.read(), time.perf_counter()
            run()
            elapsed, after = time.perf_counter() - start, energy.read()
            taken[name].append((elapsed, energy.joules(before, after), peak_memory() if known else None))
            progress(repeat * len(runs) + done, (repeats + 1) * len(runs))
    measured = {}
    for name, (_, *counted) in taken.items():
        seconds, joules, peaks = zip(*counted, strict=True)
        peak = max((peak for peak in peaks if peak is not None), default=None)
        measured[name] = Measurement(seconds, statistics.median(joules) if energy.available else None, peak)
    return measured


@dataclass(frozen=True)
class Setting:
    """What a row of the benchmark runs: which engine, at which bit-width, on how many threads."""

    engine: str
    bits: str
    threads: int


@dataclass(frozen=True)
class BenchRow:
    """A setting and what it took. FAB and BitOPs are counted, the rest is measured."""

    setting: Setting
    measurement: Measurement
    output_mp_per_s: float
    ratio_to_fp32: float | None
    fab: float
    bitops_g: float

    def to_dict(self) -> dict[str, Any]:
        """A row of ``gdq bench --json``."""
        measured = self.measurement
        return {
            **vars(self.setting),
            "seconds_median": measured.median,
            "seconds_min": min(measured.seconds),
            "seconds_max": max(measured.seconds),
            "spread": measured.spread,
            "output_mp_per_s": self.output_mp_per_s,
            "ratio_to_fp32": self.ratio_to_fp32,
            "peak_rss_mib": measured.peak_mib,
            "joules": measured.joules,
            "fab": self.fab,
            "bitops_g": self.bitops_g,
        }


def natural_picture(height: int, width: int) -> U8:
    """Discs of all sizes that hide one another ("dead leaves"), made on the spot; (height, width, 3) uint8.

    It has crowded and flat parts as photographs do, so that its patches differ in the width they deserve.
    """
    rng = np.random.default_rng(0)
    count = 100 + height * width // 50
    radii = 2 * rng.uniform(16 / max(height, width, 16) ** 2, 1, count) ** -0.5  # density as the cube of 1 / radius
    places = 2 * rng.uniform(0, 1, (count, 2)) ** 3 * (width, height)  # crowded at the top left, flat elsewhere
    colors = rng.integers(20, 236, (count, 1)) + rng.integers(-30, 31, (count, 3))
    double = Image.new("RGB", (2 * width, 2 * height), (110, 105, 100))  # reduced to half: smooth edges
    draw = ImageDraw.Draw(double)
    for (x, y), radius, color in zip(places.tolist(), radii.tolist(), colors.clip(0, 255).tolist(), strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(color))
    grain = rng.normal(0, 1, (height, width, 1))
    picture: U8 = np.rint(np.asarray(double.reduce(2)) + grain).clip(0, 255).astype(np.uint8)
    return picture


def find_engines(
    checkpoint: Checkpoint, device: str, names: Sequence[str] = ()
) -> tuple[dict[str, Upscaler], tuple[str, ...]]:
    """Every engine that runs a checkpoint here and passes its self-test, and why others do not.

    Args:
        checkpoint: quantized or float32.
        device: a torch device.
        names: engines to insist on; empty for all that are fast here.

    Raises:
        DeviceError: if one that was asked for does not run, or none does.
    """
    found: dict[str, Upscaler] = {}
    missing: list[str] = []
    for name in names or (CPU_ENGINES if device == "cpu" else DEVICE_ENGINES):
        if name == "reference" and not names and found:
            continue
        try:
            found[name] = Upscaler(checkpoint, choose_engine(checkpoint.parameters, device, name).engine)
        except DeviceError as error:
            if names:
                raise
            missing.append(str(error))
    if not found:
        raise DeviceError(f"no engine runs {checkpoint.name} x{checkpoint.scale} on {device}: {'; '.join(missing)}")
    return found, tuple(missing)


def run_benchmark(
    upscalers: Mapping[str, Upscaler],
    image: U8,
    *,
    bits: Sequence[str],
    threads: Sequence[int],
    repeats: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    energy: EnergyMeter | None = None,
) -> list[BenchRow]:
    """Time bit choice and network of every engine at every width, and the same network in FP32 torch.

    The FP32 rows are ``torch`` (in our patches) and, for pictures of up to ``WHOLE_PIXELS``, ``torch, whole
    picture`` (no halo to compute twice). Ratios are to the faster of the two at the same number of threads.

    Args:
        upscalers: from ``find_engines``.
        image: (H, W, 3) uint8 LR picture.
        bits: ``fp32``, widths, ``auto``.
        threads: numbers of CPU threads.
        repeats: counted runs of each row.
        progress: called with finished and all runs.
        energy: see ``interleave``.
    """
    first = next(iter(upscalers.values()))
    plans = {name: first.plan_bits(image, bits=name) for name in bits}
    runs: dict[Setting, Callable[[], object]] = {}
    for count, name in product(threads, bits):
        if name == "fp32" and image.shape[0] * image.shape[1] <= WHOLE_PIXELS:
            windows = image[None].copy()  # torch warns of arrays that are not to be written
            whole = partial(first.engine.run_windows, windows, FP32_BITS)
            runs[Setting("torch, whole picture", name, count)] = partial(_run_on, count, whole)
        engines = {"torch": first} if name == "fp32" else upscalers
        for engine, upscaler in engines.items():
            run = partial(upscaler.upscale, image, bits=name)
            runs[Setting(engine, name, count)] = partial(_run_on, count, run)
    before = torch.get_num_threads()
    try:
        measured = interleave(runs, repeats=repeats, progress=progress, energy=energy)
    finally:
        torch.set_num_threads(before)
    megapixels = image.shape[0] * image.shape[1] * first.scale**2 / 1e6
    rows = []
    for setting, measurement in measured.items():
        in_fp32 = [m.median for s, m in measured.items() if s.bits == "fp32" and s.threads == setting.threads]
        ratio = min(in_fp32) / measurement.median if in_fp32 else None
        plan = plans[setting.bits]
        bitops = plan.bitops_g(first.checkpoint.parameters.outline)
        rows.append(BenchRow(setting, measurement, megapixels / measurement.median, ratio, plan.fab, bitops))
    return rows


def _run_on(threads: int, run: Callable[[], object]) -> None:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    run()


def time_stages(upscaler: Upscaler, source: Path, *, bits: str, repeats: int) -> dict[str, float]:
    """Median seconds of each stage of upscaling a file to a PNG: read, bits, network (joining included), write.

    Args:
        upscaler: checkpoint and engine.
        source: picture file.
        bits: ``auto``, a width, or ``fp32``.
        repeats: counted runs; one more warms up.
    """
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.png"
        for _ in range(repeats + 1):
            start = time.perf_counter()
            picture = read_image(source)
            read = time.perf_counter()
            result = upscaler.upscale(picture.rgb, bits=bits)
            upscaled = time.perf_counter()
            write_image(target, Picture(result.image), Encoding(format="png"), overwrite=True)
            written = time.perf_counter()
            rounds.append({"read": read - start, **result.record.seconds, "write": written - upscaled})
    return {stage: statistics.median(seconds[stage] for seconds in rounds[1:]) for stage in rounds[0]}
