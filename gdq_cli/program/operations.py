"""A network as a list of operations on numbered buffers: what every engine runs, whatever the network. NumPy alone.

Each value takes one way, and every step of it is one float32 operation that rounds by itself (docs/engines.md): sums of
a convolution times ``multiplier``, plus ``offset``; negative ones times ``slope``; plus a stream; kept as a stream, or
times ``factor``, plus ``shift``, rounded half to even and clamped to codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from gdq_cli.errors import WeightsError
from gdq_cli.program.layers import F32, IntegerConv, IntegerHead


@dataclass(frozen=True)
class Codes:
    """How values become the codes that a convolution reads.

    Attributes:
        to: buffer of the codes.
        bounds: smallest and largest code.
        factor: (C,) or scalar float32; None for values that are counted in steps already.
        shift: (C,) float32, or None.
        zero: what the values lie above their codes, because an ``offset`` brought it along.
    """

    to: int
    bounds: tuple[int, int]
    factor: F32 | None = None
    shift: F32 | None = None
    zero: int = 0


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a layer's values, in this order.

    Attributes:
        slope: (C,) or (1,) float32, factor of negative values (PReLU); ReLU is the range of codes from 0.
        add: stream that is added; ``add_factor``: float32 it is multiplied by before.
        keep: stream in which the values are kept.
        codes: which codes are made of them.
    """

    slope: F32 | None = None
    add: int | None = None
    add_factor: float = 1.0
    keep: int | None = None
    codes: Codes | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing but rounding lies between the layer's affine map and its codes."""
        codes = self.codes
        plain = codes is not None and codes.factor is None and codes.shift is None
        return plain and self.slope is None and self.add is None and self.keep is None


@dataclass(frozen=True)
class Head:
    """8-bit pixels -> values at LR size."""

    layer: IntegerHead
    epilogue: Epilogue

    @property
    def reads(self) -> tuple[int, ...]:
        return ()

    @property
    def writes(self) -> tuple[int, ...]:
        return _written(self.epilogue)


@dataclass(frozen=True)
class Quantize:
    """A stream -> codes, where no layer makes them on its way."""

    source: int
    codes: Codes

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.source,)

    @property
    def writes(self) -> tuple[int, ...]:
        return (self.codes.to,)


@dataclass(frozen=True)
class Conv:
    """Codes -> values. With a pixel ``shuffle`` they become codes and nothing else, r^2 channels one of r^2 pixels."""

    source: int
    layer: IntegerConv
    epilogue: Epilogue
    shuffle: int = 1

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.source,) if self.epilogue.add is None else (self.source, self.epilogue.add)

    @property
    def writes(self) -> tuple[int, ...]:
        return _written(self.epilogue)


@dataclass(frozen=True)
class Pixels:
    """Codes -> grey levels, shuffled by ``shuffle``; plus the input pixel each lies in, if ``enlarged``. The end."""

    source: int
    layer: IntegerConv
    shuffle: int = 1
    enlarged: bool = False

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.source,)

    @property
    def writes(self) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True)
class Float:
    """Layers that stay float32: sums may differ in the last bit between machines.

    Attributes:
        method: of the torch module.
        reads: streams it takes; none for one that takes pixels.
        to: stream it gives; None for grey levels.
        macs: per LR pixel.
        radius: LR pixels of context on each side.
    """

    method: str
    reads: tuple[int, ...]
    to: int | None
    macs: int
    radius: float

    @property
    def writes(self) -> tuple[int, ...]:
        return () if self.to is None else (self.to,)


Operation: TypeAlias = Head | Quantize | Conv | Pixels | Float
"""One step of a program, with the buffers that it ``reads`` and ``writes``."""


@dataclass(frozen=True)
class Program:
    """A lowered network.

    Attributes:
        scale: upscaling factor.
        operations: in order, by bit-width of the patch. All widths have the same list but for the layers whose width
            is the patch's; layers of one width for all patches are one object in every list. A buffer is written once.
    """

    scale: int
    operations: Mapping[int, tuple[Operation, ...]]

    def at(self, bit_width: int) -> tuple[Operation, ...]:
        """The operations for patches of a bit-width.

        Raises:
            WeightsError: if the checkpoint has none.
        """
        if bit_width not in self.operations:
            have = sorted(self.operations)
            raise WeightsError(f"this checkpoint has no {bit_width}-bit patches; it has {have}")
        return self.operations[bit_width]

    @property
    def convs(self) -> list[IntegerConv]:
        """Every convolution of every width, each once, in order."""
        every = (step.layer for steps in self.operations.values() for step in steps if isinstance(step, Conv | Pixels))
        return list({id(layer): layer for layer in every}.values())

    @property
    def is_exact(self) -> bool:
        """Whether all layers are integers, so that engines agree on every pixel."""
        return not any(isinstance(operation, Float) for operation in self._any)

    @property
    def radius(self) -> int:
        """LR pixels around a patch that its pixels depend on: with a halo of that size no seam is possible."""
        reach: dict[int, float] = {}
        density: dict[int, int] = {}  # pixels per LR pixel, along a side
        end = 0.0
        for operation in self._any:
            from_ = max((reach[buffer] for buffer in operation.reads), default=0.0)
            side = max((density[buffer] for buffer in operation.reads), default=1)
            here = from_
            if isinstance(operation, Float):
                here += operation.radius
            elif not isinstance(operation, Quantize):
                here += operation.layer.weight.shape[-1] // 2 / side
            for buffer in operation.writes:
                reach[buffer] = here
                density[buffer] = side * (operation.shuffle if isinstance(operation, Conv) else 1)
            end = max(end, here)
        return int(-(-end // 1))

    @property
    def _any(self) -> tuple[Operation, ...]:
        return next(iter(self.operations.values()))


def last_reads(operations: tuple[Operation, ...]) -> tuple[tuple[int, ...], ...]:
    """For each operation the buffers that nothing reads after it."""
    left: set[int] = set()
    dying = []
    for operation in reversed(operations):
        ends = tuple(buffer for buffer in dict.fromkeys(operation.reads) if buffer not in left)
        left.update(ends)
        dying.append(ends)
    return tuple(reversed(dying))


def place_buffers(operations: tuple[Operation, ...]) -> dict[int, int]:
    """From buffers to few places: one takes the place of another that nothing reads any more; streams and codes apart.

    A stream may take the place of the one that is added to it; codes never that of those they are computed from.
    """
    places: dict[int, int] = {}
    free: dict[bool, list[int]] = {True: [], False: []}
    used = {True: 0, False: 0}
    streams: set[int] = set()
    for operation, ends in zip(operations, last_reads(operations), strict=True):
        free[True] += [places[buffer] for buffer in ends if buffer in streams]
        for buffer in operation.writes:
            is_stream = buffer not in codes_of(operation)
            if is_stream:
                streams.add(buffer)
            if free[is_stream]:
                places[buffer] = free[is_stream].pop()
            else:
                places[buffer] = used[is_stream]
                used[is_stream] += 1
        free[False] += [places[buffer] for buffer in ends if buffer not in streams]
    return places


def codes_of(operation: Operation) -> tuple[int, ...]:
    """Those of the buffers it writes that hold codes."""
    if isinstance(operation, Quantize):
        return (operation.codes.to,)
    codes = operation.epilogue.codes if isinstance(operation, Head | Conv) else None
    return () if codes is None else (codes.to,)


def stretches(operations: tuple[Operation, ...]) -> list[slice]:
    """Where a list is cut so that every :class:`Float` is by itself and the others stay together."""
    runs = groupby(range(len(operations)), lambda at: at if isinstance(operations[at], Float) else None)
    return [slice((members := list(run))[0], members[-1] + 1) for _, run in runs]


def _written(epilogue: Epilogue) -> tuple[int, ...]:
    codes = () if epilogue.codes is None else (epilogue.codes.to,)
    return codes if epilogue.keep is None else (epilogue.keep, *codes)
