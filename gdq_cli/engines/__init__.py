"""Engines: the same integers, computed in different ways. Choosing one that is right on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from gdq_cli.engines.base import Engine
from gdq_cli.engines.lowering import IntegerConv
from gdq_cli.engines.native import NativeEngine
from gdq_cli.engines.onednn import OnednnEngine, is_available
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError
from gdq_cli.networks import Edsr, Network, Srresnet

__all__ = ["Engine", "EngineChoice", "choose_device", "choose_engine", "self_test"]


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
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    kind, _, index = device.partition(":")
    if kind == "cuda" and (not index or index.isdigit()):
        if not torch.cuda.is_available():
            raise DeviceError(f"no CUDA device: torch {torch.__version__} sees none; use --device cpu (or auto)")
        if int(index or 0) >= torch.cuda.device_count():
            raise DeviceError(f"no device {device}: {torch.cuda.device_count()} CUDA device(s) are present")
        return device if not index and torch.cuda.device_count() > 1 else f"cuda:{index or 0}"
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("no MPS device: it needs macOS on Apple silicon; use --device cpu (or auto)")
        return device
    raise DeviceError(f"unknown device '{device}'; use auto, cpu, cuda, cuda:N or mps")


def choose_engine(network: Network, device: str = "cpu", name: str = "auto") -> EngineChoice:
    """The fastest engine for a network that passes its self-test on this machine.

    Args:
        network: quantized or float32.
        device: from :func:`choose_device`.
        name: ``auto``, or the name of one engine to insist on.

    Raises:
        DeviceError: if no engine (or not the one asked for) gives right results here.
    """
    rejected: list[str] = []
    candidates = _cpu_engines(network) if device == "cpu" else _device_engines(network, device)
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
        with _one_thread():
            reference = ReferenceEngine(network, _first(device))
        if device == "cpu" or not network.config.bit_widths or self_test(reference, network):
            return EngineChoice(reference, tuple(rejected))
        rejected.append(f"reference: its self-test on {device} gave other integers than on the CPU")
    raise DeviceError(f"no engine runs this network on {device}: {'; '.join(rejected) or f'no engine named {name}'}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lowering and the reference on tiny windows are many small operations: threads cost them more than they give.

    On a machine with other work it is the difference between tenths of a second and several seconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cpu_engines(network: Network) -> list[tuple[str, Callable[[], Engine]]]:
    """Fast CPU engines for a network, fastest first."""
    if not network.config.bit_widths:
        return []
    engines: list[tuple[str, Callable[[], Engine]]] = [("native", lambda: NativeEngine(network))]
    if is_available():
        engines.append(("onednn", lambda: OnednnEngine(network)))
    return engines


def _first(device: str) -> str:
    """One device of a choice of devices."""
    return "cuda:0" if device == "cuda" else device


def _device_engines(network: Network, device: str) -> list[tuple[str, Callable[[], Engine]]]:
    """Fast engines for an accelerator, fastest first; ``cuda`` without a number is all visible GPUs."""
    if not network.config.bit_widths or not device.startswith("cuda"):
        return []

    def make() -> Engine:
        from gdq_cli.engines.cuda.engine import CudaEngine
        from gdq_cli.engines.cuda.multi import MultiCudaEngine

        if not isinstance(network, Edsr):
            raise DeviceError("the CUDA kernels run EDSR networks only")
        if device != "cuda":
            return CudaEngine(network, device)
        return MultiCudaEngine(network, [CudaEngine(network, f"cuda:{i}") for i in range(torch.cuda.device_count())])

    return [("cuda", make)]


def self_test(engine: Engine, network: Network) -> bool:
    """Compare an engine with the reference: extreme codes through one convolution, random pixels through everything.

    Adjacent products of extreme codes are what saturates in 16 bits on CPUs without VNNI.
    """
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (64, 64, 3, 3), generator=generator) * 2 - 1
    weight = (signs * 127).to(torch.int8)
    unit = torch.ones(64)
    for low, high in ((0, 255), (-128, 127)):
        conv = IntegerConv(weight, unit, unit * 0, (low, high))
        codes = torch.where(torch.rand((1, 64, 6, 7), generator=generator) < 0.8, high, low).to(torch.int16)
        with _one_thread():
            exact = torch.nn.functional.conv2d(codes.double(), weight.double(), padding=1).to(torch.int32)
        if not torch.equal(engine.accumulators(codes, conv), exact):
            return False
    windows = torch.randint(0, 256, (2, 3, 11, 13), generator=generator, dtype=torch.uint8)
    with _one_thread():
        reference = ReferenceEngine(network)  # on the CPU: engines for other devices work on copies
        expected = {bits: reference(windows, bits) for bits in (4, 8)}
    return all(_agree(engine(windows, bits), pixels, network) for bits, pixels in expected.items())


def _agree(ours: torch.Tensor, theirs: torch.Tensor, network: Network) -> bool:
    """Equal pixels; where layers stay float32, one level on a value in a thousand."""
    if not isinstance(network, Srresnet):
        return torch.equal(ours, theirs)
    difference = (ours.int() - theirs.int()).abs()
    return int(difference.max()) <= 1 and float(difference.float().mean()) <= 1e-3
