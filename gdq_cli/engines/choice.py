"""Choosing the engine that is fastest and right on this machine. torch is imported only where an engine needs it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gdq_cli.engines import measured
from gdq_cli.engines.base import Engine
from gdq_cli.engines.kernels import PORTABLE
from gdq_cli.engines.native import NativeEngine
from gdq_cli.errors import DeviceError
from gdq_cli.networks import Parameters, parameters_of
from gdq_cli.program.layers import IntegerConv

if TYPE_CHECKING:
    from gdq_cli.networks import Network


@dataclass(frozen=True)
class EngineChoice:
    """The engine that runs, and why each faster one does not."""

    engine: Engine
    rejected: tuple[str, ...] = ()


def choose_device(device: str) -> str:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into a torch device that is present.

    ``cuda`` stays ``cuda``, which means all visible GPUs, if there are several.

    Raises:
        DeviceError: if it is not.
    """
    if device == "cpu" or (device == "auto" and not _has_gpu_driver()):
        return "cpu"
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            return device
    kind, _, index = device.partition(":")
    if kind == "cuda" and (not index or index.isdigit()):
        if not torch.cuda.is_available():
            raise DeviceError(f"no CUDA device: torch {torch.__version__} sees none; give `device=cpu` (or auto)")
        if int(index or 0) >= torch.cuda.device_count():
            raise DeviceError(f"no device {device}: {torch.cuda.device_count()} CUDA device(s) are present")
        return device if not index and torch.cuda.device_count() > 1 else f"cuda:{index or 0}"
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("no MPS device: it needs macOS on Apple silicon; give `device=cpu` (or auto)")
        return device
    raise DeviceError(f"unknown device '{device}'; use auto, cpu, cuda, cuda:N or mps")


def _has_gpu_driver() -> bool:
    """Whether NVIDIA's or AMD's driver is there at all: without one there is nothing that torch calls ``cuda``.

    Loaded by name: ``ctypes.util.find_library`` starts programs, which takes longer than reading a checkpoint.
    """
    if "torch" in sys.modules or Path("/dev/kfd").exists():  # AMD's; torch, once loaded, knows better than this
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def choose_engine(network: Network | Parameters, device: str = "cpu", name: str = "auto") -> EngineChoice:
    """The fastest engine for a network that passes its self-test on this machine.

    Args:
        network: quantized or float32; as parameters, its module is made only if an engine needs it.
        device: from :func:`choose_device`.
        name: ``auto``, or the name of one engine to insist on.

    Raises:
        DeviceError: if no engine (or not the one asked for) gives right results here.
    """
    network = parameters_of(network)
    rejected: list[str] = []
    candidates = _fast_engines(network, device)
    if device == "cpu" and name == "auto" and len(candidates) > 1 and measured.is_uncertain():
        candidates = _by_time(network, candidates, rejected)
    for candidate, make in candidates:
        if name not in ("auto", candidate):
            continue
        try:
            with _one_thread():
                engine = make()
            if not network.config.bit_widths or self_test(engine, network):
                return EngineChoice(engine, tuple(rejected))
            rejected.append(f"{candidate}: its self-test gave other integers than the reference")
        except (RuntimeError, NotImplementedError, ValueError, DeviceError) as error:
            rejected.append(f"{candidate}: {str(error).splitlines()[0]}")
    if name in ("auto", "reference"):
        from gdq_cli.engines.reference import ReferenceEngine

        with _one_thread():
            reference: Engine = ReferenceEngine(network, "cuda:0" if device == "cuda" else device)
        if device == "cpu" or not network.config.bit_widths or self_test(reference, network):
            return EngineChoice(reference, tuple(rejected))
        rejected.append(f"reference: its self-test on {device} gave other integers than on the CPU")
    why = "; ".join(rejected) or f"no engine named {name}"
    who = f"the engine {name} does not run" if name != "auto" and rejected else "no engine runs"
    raise DeviceError(f"{who} this network on {device}: {why}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lowering and the reference on tiny windows are many small operations: threads cost them more than they give.

    On a machine with other work it is the difference between tenths of a second and several seconds.
    """
    torch = sys.modules.get("torch")
    if torch is None:  # the kernels' own threads are counted by patches
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fast_engines(network: Parameters, device: str) -> list[tuple[str, Callable[[], Engine]]]:
    """Fast engines for a network, fastest first; ``cuda`` without a number is all visible GPUs."""

    def onednn() -> Engine:
        from gdq_cli.engines.onednn import OnednnEngine, is_available

        if not is_available():
            raise DeviceError("this torch has no oneDNN")
        return OnednnEngine(network)

    def cuda() -> Engine:
        import torch

        from gdq_cli.engines.cuda.engine import CudaEngine
        from gdq_cli.engines.cuda.multi import MultiCudaEngine

        if device != "cuda":
            return CudaEngine(network, device)
        return MultiCudaEngine(network, [CudaEngine(network, f"cuda:{i}") for i in range(torch.cuda.device_count())])

    if not network.config.bit_widths:
        return []
    if device == "cpu":
        return [("native", lambda: NativeEngine(network)), ("onednn", onednn)]
    return [("cuda", cuda)] if device.startswith("cuda") else []


def _by_time(
    network: Parameters, candidates: list[tuple[str, Callable[[], Engine]]], rejected: list[str]
) -> list[tuple[str, Callable[[], Engine]]]:
    """The fastest engine first, by a timing that is made once; which others are slower is added to ``rejected``."""

    def start(make: Callable[[], Engine]) -> Callable[[NDArray[np.uint8], int], object]:
        engine = make()
        if not self_test(engine, network):
            raise DeviceError("its self-test gave other integers than the reference")
        return engine.run_windows

    config = network.config
    kind = f"{config.name} x{config.scale}, {config.sizes}"
    seconds = measured.measure(kind, {name: partial(start, make) for name, make in candidates})
    ordered = sorted(candidates, key=lambda candidate: seconds.get(candidate[0], float("inf")))
    best = ordered[0][0]
    rejected += [
        f"{name}: {seconds[name] / seconds[best]:.2f} times as long as {best} in a timing on this machine"
        for name, _ in ordered[1:]
        if name in seconds and best in seconds
    ]
    return ordered


def self_test(engine: Engine, network: Network | Parameters) -> bool:
    """Whether an engine gives the right integers: extreme codes through one convolution, random pixels through all.

    The compiled kernels are compared with their portable selves, for which no torch is loaded; their instruction sets
    have passed the extreme codes before (:func:`gdq_cli.engines.kernels.report`). Others are compared with the
    reference. Adjacent products of extreme codes are what saturates in 16 bits on CPUs without VNNI.
    """
    network, tested = parameters_of(network), (4, 8)
    noise = np.arange(105, dtype=np.uint32) ** 2 * np.uint32(2654435769) >> 24  # without numpy.random, slow to import
    windows = noise.astype(np.uint8).reshape(1, 5, 7, 3)  # odd sides, and quick
    if isinstance(engine, NativeEngine):
        portable = NativeEngine(network, PORTABLE, tested)
        return all(
            np.array_equal(engine.run_windows(windows, bits), portable.run_windows(windows, bits)) for bits in tested
        )
    import torch

    from gdq_cli.engines.reference import ReferenceEngine

    generator = np.random.default_rng(0)
    weight = generator.choice(np.array([-127, 127], np.int8), (64, 64, 3, 3))
    unit = np.ones(64, np.float32)
    for low, high in ((0, 255), (-128, 127)):
        conv = IntegerConv(weight, unit, unit * 0, (low, high))
        codes = torch.from_numpy(np.where(generator.random((1, 64, 6, 7)) < 0.8, high, low).astype(np.int16))
        with _one_thread():
            exact = torch.nn.functional.conv2d(codes.double(), torch.from_numpy(weight).double(), padding=1)
        if not torch.equal(engine.accumulators(codes, conv), exact.to(torch.int32)):
            return False
    with _one_thread():
        reference = ReferenceEngine(network)  # on the CPU: engines for other devices work on copies
        expected = {bits: reference.run_windows(windows, bits) for bits in tested}
    return all(_agree(engine.run_windows(windows, bits), pixels, network) for bits, pixels in expected.items())


def _agree(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], network: Parameters) -> bool:
    """Equal pixels; where layers stay float32, one level on a value in a thousand."""
    if network.program.is_exact:
        return np.array_equal(ours, theirs)
    difference = np.abs(ours.astype(np.int16) - theirs)
    return bool(difference.max() <= 1 and difference.mean() <= 1e-3)
