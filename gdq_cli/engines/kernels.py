"""Face of the compiled kernels ``gdq_cli._kernels``: which of them run here, single layers, whole networks.

The extension is optional. Without it this module still imports; ``report()`` says what is missing, everything else
raises ``DeviceError``. Kernels compute the integer contract (docs/engines.md) bit for bit: 8-bit codes by direct
convolution, codes of at most 6 bits by exact integer Winograd F(2x2, 3x3). Weights and steps are NumPy arrays or CPU
tensors; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import DeviceError
from gdq_cli.program.layers import ZERO, IntegerConv, IntegerHead
from gdq_cli.program.operations import Conv, Epilogue, Head, Operation, Pixels, Program, place_buffers

_kernels: Any = None
_PROBLEM = ""
try:
    _kernels = import_module("gdq_cli._kernels")
except ImportError as error:  # not built, or built for another Python
    _PROBLEM = str(error)

ALGORITHMS = ("direct", "winograd", "winograd_corners", "winograd_plain", "winograd_split")
"""Convolution algorithms by their number in csrc/types.h; per 36 multiplications they need 36, 16, 16, 16 and 20."""

PORTABLE = "portable"
"""Plain C++, the oracle of the others."""


@dataclass(frozen=True)
class IsaReport:
    """One instruction set of this build.

    Attributes:
        name: for example "avx512-vnni".
        runnable: whether processor and operating system allow it.
        problem: which kernel failed its self-test; empty if none did or if it cannot run.
    """

    name: str
    runnable: bool
    problem: str


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
def report() -> KernelReport:
    """Find out what runs here; every runnable instruction set passes or fails a self-test of some 10 ms, once."""
    if _kernels is None:
        return KernelReport(False, _PROBLEM, (), (), None)
    isas = tuple(
        IsaReport(name, runnable, (_kernels.self_test(name) or "") if runnable else "")
        for name, runnable in _kernels.isas()
    )
    chosen = next((isa.name for isa in isas if isa.runnable and not isa.problem and isa.name != PORTABLE), None)
    return KernelReport(True, "", tuple(_kernels.cpu_features().split()), isas, chosen)


def choose_isa(name: str | None = None) -> str:
    """The fastest instruction set that passes its self-test, or ``name`` if it does.

    Raises:
        DeviceError: if the kernels are not built, or not fit to be used here.
    """
    found = report()
    if not found.built:
        raise DeviceError(f"the compiled kernels are missing ({found.problem}); install a C++ compiler and reinstall")
    if name is None:
        if found.chosen is None:
            raise DeviceError("no compiled kernel is made for this processor and passes its self-test")
        return found.chosen
    for isa in found.isas:
        if isa.name == name:
            if not isa.runnable:
                raise DeviceError(f"this processor cannot run the {name} kernels")
            if isa.problem:
                raise DeviceError(f"the {name} kernels are wrong on this machine ({isa.problem}); use another engine")
            return name
    raise DeviceError(f"there are no {name} kernels; this build has {', '.join(isa.name for isa in found.isas)}")


def _array(values: Any, dtype: type) -> NDArray[Any]:
    """C-contiguous array of a dtype the values already have: a silent conversion could change integers."""
    array = np.ascontiguousarray(values)
    if array.dtype != dtype:
        raise ValueError(f"expected {np.dtype(dtype)} values, not {array.dtype}")
    return array


def _constants(layer: IntegerConv | IntegerHead, dtype: type = np.int8) -> tuple[NDArray[Any], ...]:
    return _array(layer.weight, dtype), _array(layer.multiplier, np.float32), _array(layer.offset, np.float32)


class Network:
    """A program, prepared once; several threads may call ``run`` at a time.

    The kernels take a head, convolutions at LR size of as many channels as the head has (a multiple of 64), then either
    convolutions with a pixel shuffle and a tail, or a tail that is shuffled into pixels.

    Args:
        program: of integers only.
        isa: instruction set, or None for the fastest.

    Raises:
        DeviceError: if the kernels cannot be used here.
        ValueError: if the program is not one that the kernels run, or run exactly.
    """

    def __init__(self, program: Program, isa: str | None = None) -> None:
        self.isa = choose_isa(isa)
        self.scale = program.scale
        self.bit_widths = tuple(sorted(program.operations))
        head = next(iter(program.operations.values()))[0]
        if not isinstance(head, Head):
            raise ValueError("the compiled kernels run integers only, and this network begins in float32")
        self.features = len(head.layer.weight)
        self._handle = _kernels.network_new(self.isa, self.features, self.scale)
        _kernels.network_head(self._handle, *_constants(head.layer, np.int16), tuple(head.layer.mean))
        for bit_width in self.bit_widths:
            behind = self._place_layers(bit_width, program.operations[bit_width])
        source = behind[0].reads
        for operation in behind:
            if operation.reads != source or not isinstance(operation, Conv | Pixels):
                raise ValueError("behind a pixel shuffle the compiled kernels run a chain of convolutions only")
            layer = (*_constants(operation.layer), operation.shuffle, *operation.layer.input_range)
            if isinstance(operation, Pixels):
                _kernels.network_tail(self._handle, *layer, operation.enlarged)
            else:
                codes = operation.epilogue.codes
                if codes is None or not operation.epilogue.is_plain or codes.zero != ZERO:
                    raise ValueError(
                        "behind a pixel shuffle the compiled kernels make signed codes without a factor only"
                    )
                _kernels.network_up(self._handle, *layer, *codes.bounds)
            source = operation.writes
        _kernels.network_finish(self._handle)

    def _place_layers(self, bit_width: int, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        """Hand over the layers at LR size; returns those behind, which all bit-widths share."""
        places = place_buffers(operations)
        first, *following = operations
        convs = list(takewhile(lambda one: isinstance(one, Conv) and one.shuffle == 1, following))
        behind = operations[1 + len(convs) :]
        assert isinstance(first, Head)

        def number(buffer: int | None) -> int:
            return -1 if buffer is None else places[buffer]

        def ending(epilogue: Epilogue) -> tuple[Any, ...]:
            codes = epilogue.codes
            if codes is None or codes.shift is not None or codes.zero or epilogue.add_factor != 1:
                raise ValueError("the compiled kernels have no such epilogue")
            plain = epilogue.is_plain and codes.bounds[0] == 0
            factor = None if plain else self._widen(codes.factor)
            slope = None if epilogue.slope is None else self._widen(epilogue.slope)
            return slope, number(epilogue.add), number(epilogue.keep), places[codes.to], factor, *codes.bounds

        _kernels.network_begin(self._handle, bit_width, number(behind[0].reads[0]), *ending(first.epilogue))
        for conv in convs:
            assert isinstance(conv, Conv)
            constants, bounds = _constants(conv.layer), conv.layer.input_range
            _kernels.network_conv(
                self._handle, bit_width, places[conv.source], *constants, *bounds, *ending(conv.epilogue)
            )
        return behind

    def _widen(self, values: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """One value for each channel."""
        one = np.float32(1) if values is None else np.asarray(values, np.float32)
        return np.ascontiguousarray(np.broadcast_to(one, self.features))

    def algorithms(self, bit_width: int) -> tuple[str, ...]:
        """Algorithm of each block convolution at a bit-width, in order."""
        return tuple(ALGORITHMS[number] for number in _kernels.network_algorithms(self._handle, bit_width))

    def run(
        self,
        patches: NDArray[np.uint8],
        bit_widths: NDArray[np.uint8],
        cores: NDArray[np.int32],
        out: NDArray[np.uint8],
        places: NDArray[np.int32],
        *,
        threads: int,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Upscale windows and write their cores into a picture.

        The interpreter lock is released. Patches go to threads one by one, those of 8 bits first. Ctrl-C stops within a
        layer; ``progress`` cancels by raising. After either, ``out`` is partly written.

        Args:
            patches: (N, H, W, 3) windows, any strides (so a permuted NCHW array will do).
            bit_widths: (N,) of the network's bit-widths.
            cores: (N, 4) rows (y, x, h, w): the part of each window to keep, in window pixels.
            out: (H', W', 3), rows at any distance; pixels outside the cores stay as they are.
            places: (N, 2) rows (y, x) of ``out`` where the upscaled cores begin; they must not overlap there.
            threads: number of threads.
            progress: called on the calling thread with the number of finished patches, every 20 ms and at the end.

        Raises:
            ValueError: if an array does not fit the others, before anything is computed.
        """
        _kernels.network_run(self._handle, patches, bit_widths, cores, out, places, threads, progress)

    def band_sums(self, image: NDArray[np.uint8], cores: NDArray[np.int32], *, threads: int) -> NDArray[np.int64]:
        """What the controller's band energies are made of, for patches of an image, each seen alone.

        Args:
            image: (H, W, 3), any strides.
            cores: (N, 4) rows (y, x, h, w).
            threads: number of threads.

        Returns:
            (N, 3, features): sums of absolute details, fine then medium then coarse, in the units of
            ``gdq_cli.bits.controller.band_sums``.

        Raises:
            ValueError: if a core does not lie in the image.
        """
        out = np.empty((len(cores), 3, self.features), np.int64)
        _kernels.network_bands(self._handle, image, cores, out, threads)
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
        self._handle = _kernels.conv_new(choose_isa(isa), _array(weight, np.int8), *code_range, number, shuffle)
        self.algorithm = ALGORITHMS[_kernels.conv_algorithm(self._handle)]
        self.seconds = 0.0
        """Time of the latest convolution, without copies into and out of the kernels' layout."""

    def accumulators(self, codes: NDArray[np.uint8], *, repeat: int = 1) -> NDArray[np.int32]:
        """Stored codes (H, W, I) -> raw sums (H, W, O)."""
        out = np.empty((*codes.shape[:2], self._outputs), np.int32)
        self._run(codes, out, 0, None, None, None, None, None, (0, 0), repeat)
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
        self._run(codes, out, 1, multiplier, offset, None, None, None, bounds, repeat)
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
        repeat: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """x' = fl(fl(fl(a * multiplier) + offset) + x), and its codes clamp(rne(fl(x' * inverse_step))) + ZERO."""
        out = np.empty((*codes.shape[:2], self._outputs), np.uint8)
        after = np.empty_like(x)
        self._run(codes, out, 2, multiplier, offset, inverse_step, x, after, bounds, repeat)
        return after, out

    def _order(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Channels in the order in which a shuffling layer stores them: sub-pixel by sub-pixel."""
        return np.ascontiguousarray(values.reshape(-1, self._shuffle**2).T).reshape(-1)

    def _run(
        self,
        codes: Any,
        out: Any,
        store: int,
        m: Any,
        c: Any,
        inv: Any,
        x_in: Any,
        x_out: Any,
        bounds: Any,
        repeat: int,
    ) -> None:
        self.seconds = _kernels.conv_run(self._handle, codes, out, store, m, c, inv, x_in, x_out, *bounds, repeat)


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
