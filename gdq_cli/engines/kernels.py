"""Face of the compiled kernels ``gdq_cli._kernels``: which of them run here, single layers, whole networks.

The extension is optional. Without it this module still imports; ``report()`` says what is missing, everything else
raises ``DeviceError``. Kernels compute the integer contract (docs/engines.md) bit for bit, by direct convolution or
exact integer Winograd, whichever is faster on a processor. Weights and steps are NumPy arrays or CPU tensors; nothing
here imports torch.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.entropy import BINS, grey_kernel
from gdq_cli.errors import DeviceError
from gdq_cli.program.layers import ZERO, IntegerConv, IntegerHead
from gdq_cli.program.operations import (
    Conv,
    Epilogue,
    Float,
    Head,
    Operation,
    Pixels,
    Program,
    Quantize,
    codes_of,
    place_buffers,
)

_kernels: Any = None
_PROBLEM = ""
try:
    _kernels = import_module("gdq_cli._kernels")
except ImportError as error:  # not built, or built for another Python
    _PROBLEM = str(error)
_MISSING = f"the compiled kernels are missing ({_PROBLEM}); install a C++ compiler and reinstall"

ALGORITHMS = ("direct", "winograd", "winograd_f4", "winograd_gauss")
"""Convolution algorithms by their number in csrc/types.h."""

_TIMES = dict(zip(ALGORITHMS, (2.0, 1.0, 1.25, 0.87), strict=True))
"""About how long their layers take next to each other in a network with VNNI; without it there is one for all."""

LARGEST_GIVEN = 2.0**16
"""Values of a stream that other layers made must stay below it in magnitude, so that their codes are proved exact."""

_running: set[int] = set()  # threads that are in the extension
_ending = threading.Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)

PORTABLE = "portable"
"""Plain C++, the oracle of the others."""


@atexit.register
def _end_daemons() -> None:
    """Have daemon threads leave the extension: one that came out of it after the interpreter's end would abort all."""
    _ending.set()
    while _running:
        time.sleep(0.005)


def _end_daemon() -> None:
    """End this thread, without a word, if it is one that the interpreter does not wait for, and ends."""
    if _ending.is_set() and threading.current_thread().daemon:
        raise SystemExit


@contextmanager
def _inside() -> Iterator[None]:
    """While a thread is in the extension, without the interpreter lock."""
    _running.add(threading.get_ident())
    try:
        _end_daemon()
        yield
    finally:
        _running.discard(threading.get_ident())


@dataclass(frozen=True)
class IsaReport:
    """One instruction set of this build.

    Attributes:
        name: for example "avx512-vnni".
        runnable: whether processor and operating system allow it.
        problem: which kernel failed its self-test; empty if none did or if it cannot run.
        algorithms: those of ``ALGORITHMS`` that it has.
    """

    name: str
    runnable: bool
    problem: str
    algorithms: tuple[str, ...]


@dataclass(frozen=True)
class KernelReport:
    """What ``gdq doctor`` tells.

    Attributes:
        built: whether the extension can be imported.
        problem: why not.
        cpu_features: names of the processor features that matter here.
        isas: all instruction sets of this build, fastest first.
        chosen: the one in use, or None; never the portable one, which is there to be right: torch is far faster.
    """

    built: bool
    problem: str
    cpu_features: tuple[str, ...]
    isas: tuple[IsaReport, ...]
    chosen: str | None


@cache
def _problem(isa: str) -> str:
    """Which kernel of a runnable instruction set fails its self-test of some 10 ms; empty if none does."""
    return "" if isa == PORTABLE else _kernels.self_test(isa) or ""


def _fastest() -> str | None:
    """The first instruction set that passes; slower ones are not tested."""
    isas = (name for name, runnable, _ in _kernels.isas() if runnable and name != PORTABLE)
    return next((name for name in isas if not _problem(name)), None)


def report() -> KernelReport:
    """Find out what runs here: every runnable instruction set passes or fails its self-test, once."""
    if _kernels is None:
        return KernelReport(False, _PROBLEM, (), (), None)
    isas = tuple(
        IsaReport(
            name,
            runnable,
            _problem(name) if runnable else "",
            tuple(algorithm for number, algorithm in enumerate(ALGORITHMS) if bits >> number & 1),
        )
        for name, runnable, bits in _kernels.isas()
    )
    return KernelReport(True, "", tuple(_kernels.cpu_features().split()), isas, _fastest())


def choose_isa(name: str | None = None) -> str:
    """The fastest instruction set that passes its self-test, or ``name`` if it does.

    Raises:
        DeviceError: if the kernels are not built, or not fit to be used here.
    """
    if _kernels is None:
        raise DeviceError(_MISSING)
    if name is None:
        fastest = _fastest()
        if fastest is None:
            raise DeviceError("no compiled kernel is made for this processor and passes its self-test")
        return fastest
    runnable = {isa: can_run for isa, can_run, _ in _kernels.isas()}
    if name not in runnable:
        raise DeviceError(f"there are no {name} kernels; this build has {', '.join(runnable)}")
    if not runnable[name]:
        raise DeviceError(f"this processor cannot run the {name} kernels")
    if _problem(name):
        raise DeviceError(f"the {name} kernels are wrong on this machine ({_problem(name)}); use another engine")
    return name


def _array(values: Any, dtype: type) -> NDArray[Any]:
    """C-contiguous array of a dtype the values already have: a silent conversion could change integers."""
    array = np.ascontiguousarray(values)
    if array.dtype != dtype:
        raise ValueError(f"expected {np.dtype(dtype)} values, not {array.dtype}")
    return array


def _across(operations: tuple[Operation, ...], span: slice) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The streams that a span of operations reads from before it, and those that are read after it.

    Raises:
        ValueError: if it has float layers, or codes would have to pass through its ends.
    """
    inside = operations[span]
    if any(isinstance(one, Float) for one in inside):
        raise ValueError("the compiled kernels run integers only, and this network has layers in float32")
    written = [buffer for one in inside for buffer in one.writes]
    given = tuple(dict.fromkeys(buffer for one in inside for buffer in one.reads if buffer not in written))
    after = operations[span.stop :] if span.stop is not None else ()
    made = tuple(buffer for buffer in written if any(buffer in one.reads for one in after))
    if any(buffer in codes_of(one) for one in operations for buffer in (*given, *made)):
        raise ValueError("the compiled kernels exchange streams with float layers, not codes")
    return given, made


def _shuffle(operation: Operation) -> int:
    return operation.shuffle if isinstance(operation, Conv) else 1


def _constants(layer: IntegerConv | IntegerHead, dtype: type = np.int8) -> tuple[NDArray[Any], ...]:
    return _array(layer.weight, dtype), _array(layer.multiplier, np.float32), _array(layer.offset, np.float32)


class Network:
    """Integer operations of a program, prepared once; several threads may call ``run`` at a time.

    The kernels take a head, streams that become codes, and convolutions at LR size, all of as many channels (a
    multiple of 64); then nothing, or convolutions with a pixel shuffle and a tail, or a tail shuffled into pixels.

    Args:
        program: lowered.
        isa: instruction set, or None for the fastest.
        span: which of its operations; without a ``Float`` among them.

    Raises:
        DeviceError: if the kernels cannot be used here.
        ValueError: if the operations are none that the kernels run, or run exactly.
    """

    def __init__(self, program: Program, isa: str | None = None, span: slice = slice(None)) -> None:
        self.isa = choose_isa(isa)
        self.scale = program.scale
        self.bit_widths = tuple(sorted(program.operations))
        every = program.operations[self.bit_widths[0]]
        layers = [one.layer for one in every[span] if isinstance(one, Conv | Pixels)]
        heads = [one.layer for one in every[span] if isinstance(one, Head)]
        if not layers or len(heads) > 1:
            raise ValueError("the compiled kernels need convolutions, and one head at most")
        self.features = layers[0].weight.shape[1]
        self._places = place_buffers(every)
        self._given, self._made = _across(every, span)
        self._outer = tuple(dict.fromkeys(self._places[buffer] for buffer in (*self._given, *self._made)))
        given = len(self._given)
        self._network = _kernels.Network(self.isa, self.features, self.scale, self._outer, given, LARGEST_GIVEN)
        for head in heads:
            self._network.set_head(*_constants(head, np.int16), head.mean)
        for bit_width in self.bit_widths:
            behind = self._place_layers(bit_width, program.operations[bit_width][span])
        self._macs_behind = 0
        self._place_end(behind)
        self._network.finish()

    def _place_layers(self, bit_width: int, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        """Hand over the operations at LR size; returns those behind, which all bit-widths share."""
        here = list(takewhile(lambda one: isinstance(one, Head | Quantize | Conv) and _shuffle(one) == 1, operations))
        behind = operations[len(here) :]
        self._network.begin(bit_width, self._places[behind[0].reads[0]] if behind else -1)
        for operation in here:
            if isinstance(operation, Head):
                self._network.add_head(bit_width, self._ending(operation.epilogue))
            elif isinstance(operation, Quantize):
                ending = self._ending(Epilogue(add=operation.source, codes=operation.codes))
                self._network.add_pass(bit_width, ending)
            elif isinstance(operation, Conv):
                layer = (*_constants(operation.layer), *operation.layer.input_range)
                source, ending = self._places[operation.source], self._ending(operation.epilogue)
                self._network.add_conv(bit_width, source, *layer, ending)
        return behind

    def _place_end(self, behind: tuple[Operation, ...]) -> None:
        """Hand over what makes pixels of the codes at LR size."""
        source, area = behind[0].reads if behind else (), 1
        for operation in behind:
            if operation.reads != source or not isinstance(operation, Conv | Pixels):
                raise ValueError("behind a pixel shuffle the compiled kernels run a chain of convolutions only")
            layer = (*_constants(operation.layer), operation.shuffle, *operation.layer.input_range)
            if isinstance(operation, Pixels):
                self._network.set_tail(*layer, operation.enlarged)
            else:
                codes = operation.epilogue.codes
                if codes is None or not operation.epilogue.is_plain or codes.zero != ZERO:
                    raise ValueError(
                        "behind a pixel shuffle the compiled kernels make signed codes without a factor only"
                    )
                self._network.add_up(*layer, *codes.bounds)
            source = operation.writes
            self._macs_behind += operation.layer.weight.size * area
            area *= operation.shuffle**2

    def _ending(self, epilogue: Epilogue) -> Any:
        """An epilogue as the extension takes it."""
        add, keep = (-1 if buffer is None else self._places[buffer] for buffer in (epilogue.add, epilogue.keep))
        slope = None if epilogue.slope is None else self._widen(epilogue.slope)
        codes = epilogue.codes
        if codes is None:
            return _kernels.Ending(slope, add, epilogue.add_factor, keep, -1, None, None, 0, 0)
        is_stored = epilogue.is_plain and codes.zero == (ZERO if codes.bounds[0] < 0 else 0)
        if codes.zero and not is_stored:
            raise ValueError("the compiled kernels have no such epilogue")
        factor = None if is_stored else self._widen(np.float32(1) if codes.factor is None else codes.factor)
        shift = None if is_stored else self._widen(np.float32(0) if codes.shift is None else codes.shift)
        to = self._places[codes.to]
        return _kernels.Ending(slope, add, epilogue.add_factor, keep, to, factor, shift, *codes.bounds)

    def _widen(self, values: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
        """One value for each channel."""
        return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float32), self.features))

    def algorithms(self, bit_width: int) -> tuple[str, ...]:
        """Algorithm of each block convolution at a bit-width, in order."""
        return tuple(ALGORITHMS[number] for number in self._network.algorithms(bit_width))

    def price(self, bit_width: int) -> float:
        """About how long a pixel takes, next to other bit-widths: MACs by algorithm, F(2x2) behind a shuffle."""
        layers: float = sum(_TIMES[algorithm] for algorithm in self.algorithms(bit_width))
        macs: int = 9 * self.features**2
        return layers * macs + self._macs_behind

    def run(
        self,
        image: NDArray[np.uint8],
        windows: NDArray[np.int32],
        cores: NDArray[np.int32],
        bit_widths: NDArray[np.uint8],
        patches: NDArray[np.int32],
        out: NDArray[np.uint8],
        *,
        threads: int,
        streams: dict[int, NDArray[np.float32]] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Upscale windows of a picture and write their cores into the upscaled one.

        The interpreter lock is released. Windows go to threads one by one, the longest first. Ctrl-C stops within a
        layer; ``progress`` cancels by raising. After either, ``out`` is partly written.

        Args:
            image: (H, W, 3), any strides.
            windows: (N, 4) rows (y, x, h, w) of ``image``: what the network sees.
            cores: (N, 4) rows alike: the part of each window to keep; they must not overlap.
            bit_widths: (N,) of the network's bit-widths.
            patches: (N,) patches that a window stands for in ``progress``.
            out: (H * scale, W * scale, 3), rows at any distance; pixels outside the cores stay as they are.
            threads: number of threads.
            streams: (pixels of all windows one after the other, features) by buffer. Those that are read are taken from
                it and may be overwritten where nothing reads them afterwards; those that operations behind read are put
                there, where the cores are.
            progress: called on the calling thread with the share of the work begun so far, in patches, every 20 ms and
                at the end.

        Raises:
            DeviceError: if values of a stream are too large for the kernels, or no numbers.
            MemoryError: if the feature maps of a window for each thread do not fit.
            TypeError: if an array has another type or number of axes,
            ValueError: or does not fit the others, before anything is computed.
        """
        streams = {} if streams is None else streams
        by_place = {self._places[buffer]: streams[buffer] for buffer in self._given}
        for values in by_place.values():
            if values.size and not max(values.max(), -values.min()) < LARGEST_GIVEN:
                raise DeviceError("float layers gave values that are too large, or no numbers; try another `bits`")
        for place in self._outer:
            if place not in by_place:
                by_place[place] = np.empty((int(windows[:, 2:].prod(axis=1).sum()), self.features), np.float32)
        outer = [by_place[place] for place in self._outer]

        def poll(done: int) -> None:
            _end_daemon()
            if progress is not None:
                progress(done)

        with _inside():
            self._network.run(image, windows, cores, bit_widths, patches, out, outer, threads, poll)
        streams.update({buffer: by_place[self._places[buffer]] for buffer in self._made})


class Texture:
    """Texture of patches by the head of a network, for the controller; several threads may use it at a time.

    Args:
        head: of 3x3.
        isa: instruction set, or None for the fastest.

    Attributes:
        multiplier: that of the head.

    Raises:
        DeviceError: if the kernels cannot be used here.
        ValueError: if the head is none that the kernels run exactly.
    """

    def __init__(self, head: IntegerHead, isa: str | None = None) -> None:
        self.multiplier = head.multiplier
        self._texture = _kernels.Texture(choose_isa(isa), _array(head.weight, np.int16), head.mean)

    def band_sums(self, image: NDArray[np.uint8], cores: NDArray[np.int32], *, threads: int) -> NDArray[np.int64]:
        """What the controller's band energies are made of, for patches of an image, each seen alone.

        Args:
            image: (H, W, 3), any strides.
            cores: (N, 4) rows (y, x, h, w).
            threads: number of threads.

        Returns:
            (N, 3, C): as from ``gdq_cli.bits.controller.band_sums``.

        Raises:
            ValueError: if a core does not lie in the image.
        """
        out = np.empty((len(cores), 3, len(self.multiplier)), np.int64)
        with _inside():
            self._texture.sums(image, cores, out, threads)
        return out


def grey_sums(image: NDArray[np.uint8], cores: NDArray[np.int32], *, threads: int) -> NDArray[np.float64]:
    """What the entropy of patches is made of: (N, bins) as from ``gdq_cli.bits.entropy.grey_sums``.

    Args:
        image: (H, W, 3), any strides.
        cores: (N, 4) rows (y, x, h, w).
        threads: number of threads.

    Raises:
        DeviceError: if the extension is not built.
        ValueError: if a core does not lie in the image.
    """
    if _kernels is None:
        raise DeviceError(_MISSING)
    out = np.empty((len(cores), BINS))
    with _inside():
        _kernels.grey_sums(grey_kernel(), image, cores, out, threads)
    return out


class Layer:
    """A single 3x3 convolution, for tests and benchmarks.

    Args:
        weight: (O, I, 3, 3) int8.
        code_range: smallest and largest input code; 0 as the smallest means unsigned codes.
        isa: instruction set, or None for the fastest.
        algorithm: one of ``ALGORITHMS``, or None for the fastest that is exact.
        shuffle: pixel-shuffle factor of ``codes``.

    Raises:
        DeviceError: if the kernels cannot be used here.
        ValueError: if the algorithm would not be exact for these weights and codes.
    """

    def __init__(
        self,
        weight: NDArray[np.int8],
        code_range: tuple[int, int],
        *,
        isa: str | None = None,
        algorithm: str | None = None,
        shuffle: int = 1,
    ) -> None:
        self._outputs, self._shuffle = len(weight), shuffle
        number = -1 if algorithm is None else ALGORITHMS.index(algorithm)
        self._conv = _kernels.Conv(choose_isa(isa), _array(weight, np.int8), *code_range, number, shuffle)
        self.algorithm = ALGORITHMS[self._conv.algorithm]
        self.seconds = 0.0
        """Time of the latest convolution, without copies into and out of the kernels' layout."""

    def accumulators(self, codes: NDArray[np.uint8], *, repeat: int = 1) -> NDArray[np.int32]:
        """Stored codes (H, W, I) -> raw sums (H, W, O)."""
        out = np.empty((*codes.shape[:2], self._outputs), np.int32)
        self.seconds = self._conv.sums(codes, out, repeat)
        return out

    def codes(
        self,
        codes: NDArray[np.uint8],
        multiplier: NDArray[np.float32],
        offset: NDArray[np.float32],
        bounds: tuple[int, int],
        *,
        repeat: int = 1,
    ) -> NDArray[np.uint8]:
        """clamp(rne(fl(fl(a * multiplier) + offset)), *bounds), as stored; pixel-shuffled if the layer says so."""
        height, width, _ = codes.shape
        r = self._shuffle
        out = np.empty((height * r, width * r, self._outputs // r**2), np.uint8)
        multiplier, offset = self._order(multiplier), self._order(offset)
        self.seconds = self._conv.codes(codes, out, multiplier, offset, *bounds, repeat)
        return out

    def stream(
        self,
        codes: NDArray[np.uint8],
        multiplier: NDArray[np.float32],
        offset: NDArray[np.float32],
        x: NDArray[np.float32],
        inverse_step: NDArray[np.float32],
        bounds: tuple[int, int],
        *,
        x_factor: float = 1.0,
        shift: NDArray[np.float32] | None = None,
        repeat: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """x' = fl(fl(fl(a * multiplier) + offset) + fl(x * x_factor)), and its codes as they are stored.

        They are clamp(rne(fl(fl(x' * inverse_step) + shift))), plus ``ZERO`` if they are signed.
        """
        out = np.empty((*codes.shape[:2], self._outputs), np.uint8)
        after = np.empty_like(x)
        epilogue = multiplier, offset, inverse_step, shift, x, x_factor, after
        self.seconds = self._conv.stream(codes, out, *epilogue, *bounds, repeat)
        return after, out

    def _order(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels in the order in which a shuffling layer stores them: sub-pixel by sub-pixel."""
        return np.ascontiguousarray(values.reshape(-1, self._shuffle**2).T).reshape(-1)


def tail_pixels(
    weight: NDArray[np.int8],
    multiplier: NDArray[np.float32],
    offset: NDArray[np.float32],
    codes: NDArray[np.uint8],
    *,
    isa: str | None = None,
) -> NDArray[np.uint8]:
    """The last convolution on its own: stored codes (H, W, I) -> pixels (H, W, 3)."""
    out = np.empty((*codes.shape[:2], 3), np.uint8)
    _kernels.tail_run(choose_isa(isa), weight, multiplier, offset, codes, out)
    return out
