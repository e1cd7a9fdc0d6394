"""Engines against a plain interpreter in NumPy, on random programs with what no network of ours has yet."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gdq_cli.engines import kernels
from gdq_cli.engines.native import NativeEngine
from gdq_cli.engines.onednn import OnednnEngine, is_available
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.engines.tensor import TensorEngine
from gdq_cli.networks import Parameters
from gdq_cli.program.grids import code_range
from gdq_cli.program.layers import ZERO, IntegerConv, IntegerHead
from gdq_cli.program.operations import Codes, Conv, Epilogue, Float, Head, Operation, Pixels, Program, Quantize
from tests.helpers.engines import windows_of
from tests.helpers.integers import parameters_with, program_of
from tests.helpers.pictures import make_picture

FEATURES = 64
F32 = NDArray[np.float32]


class FloatLayers(torch.nn.Module):
    """Exact float layers: no value is a sum of more than two. They look at neighbours, so that borders count."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def stem(self, pixels: torch.Tensor) -> torch.Tensor:
        channels = pixels.repeat(1, FEATURES // 3 + 1, 1, 1)[:, :FEATURES]
        return channels.roll((1, 2), (2, 3)) * torch.linspace(0.01, 0.05, FEATURES).reshape(1, -1, 1, 1) - 2.5

    def between(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return x.roll((-1, 1), (2, 3)) * 0.7 + skip.flip(1)

    def finish(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        levels = (x.roll(1, 3) + skip)[:, : 3 * self.scale**2] * 17 + 120
        return torch.nn.functional.pixel_shuffle(levels, self.scale)


# --- The interpreter: one sample, arrays (C, h, w), every step one float32 operation --------------------------------


def interpret(program: Program, picture: NDArray[np.uint8], bits: int) -> F32:
    """Grey levels, (3, h * scale, w * scale), before they are rounded."""
    buffers: dict[int, Any] = {}
    pixels = picture.transpose(2, 0, 1)
    for step in program.at(bits):
        if isinstance(step, Head):
            centred = pixels.astype(np.int64) - np.array(step.layer.mean).reshape(3, 1, 1)
            finish(affine(convolve(centred, step.layer.weight), step.layer), step.epilogue, buffers)
        elif isinstance(step, Quantize):
            buffers[step.codes.to] = to_codes(buffers[step.source], step.codes)
        elif isinstance(step, Conv):
            finish(affine(convolve(buffers[step.source], step.layer.weight), step.layer), step.epilogue, buffers)
            if step.shuffle > 1:
                (made,) = step.writes
                buffers[made] = shuffle(buffers[made], step.shuffle)
        elif isinstance(step, Float):
            read = [torch.from_numpy(values.copy())[None] for values in [buffers[i] for i in step.reads] or [pixels]]
            found: F32 = getattr(FloatLayers(program.scale), step.method)(*read)[0].numpy()
            if step.to is None:
                return found
            buffers[step.to] = found
        else:
            assert isinstance(step, Pixels)
            levels: F32 = shuffle(affine(convolve(buffers[step.source], step.layer.weight), step.layer), step.shuffle)
            enlarged = pixels.repeat(program.scale, 1).repeat(program.scale, 2).astype(np.float32)
            return levels + enlarged if step.enlarged else levels
    raise AssertionError


def convolve(values: NDArray[np.int64], weight: NDArray[Any]) -> NDArray[np.int64]:
    margin, (height, width) = weight.shape[-1] // 2, values.shape[1:]
    padded = np.pad(values, ((0, 0), (margin, margin), (margin, margin)))
    sums = np.zeros((len(weight), height, width), np.int64)
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            taps = weight[:, :, y, x].astype(np.int64)
            sums += np.einsum("oi,ihw->ohw", taps, padded[:, y : y + height, x : x + width])
    return sums


def affine(sums: NDArray[np.int64], layer: IntegerConv | IntegerHead) -> F32:
    assert np.abs(sums).max() < 1 << 24
    scaled: F32 = sums.astype(np.float32) * layer.multiplier.reshape(-1, 1, 1)
    return scaled + layer.offset.reshape(-1, 1, 1)


def finish(values: F32, epilogue: Epilogue, buffers: dict[int, Any]) -> None:
    if epilogue.slope is not None:
        values = np.where(values < 0, values * epilogue.slope.reshape(-1, 1, 1), values)
    if epilogue.add is not None:
        values = values + buffers[epilogue.add] * np.float32(epilogue.add_factor)
    if epilogue.keep is not None:
        buffers[epilogue.keep] = values
    if epilogue.codes is not None:
        buffers[epilogue.codes.to] = to_codes(values, epilogue.codes)


def to_codes(values: F32, codes: Codes) -> NDArray[np.int64]:
    for constants, operation in ((codes.factor, np.multiply), (codes.shift, np.add)):
        if constants is not None:
            values = operation(values, constants.reshape(-1, 1, 1) if constants.ndim else constants)
    assert values.dtype == np.float32
    return np.clip(np.rint(values).astype(np.int64) - codes.zero, *codes.bounds)


def shuffle(values: Any, factor: int) -> Any:
    channels, height, width = values.shape
    split = values.reshape(channels // factor**2, factor, factor, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(-1, height * factor, width * factor)


# --- Random programs ------------------------------------------------------------------------------------------------


class Maker:
    """Draws a program of what an engine says it runs: the tensor engines all of it, the CUDA kernels least."""

    def __init__(self, seed: int, engine: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.everything, self.least = engine == "tensor", engine == "cuda"
        self.bits = (4, 5, 6, 8)[seed % 4]
        self.buffers = 0
        self.streams: list[int] = []

    def new(self) -> int:
        self.buffers += 1
        return self.buffers - 1

    def some(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def channels(self, typical: float, count: int = FEATURES) -> F32:
        return (typical * np.exp(self.rng.normal(0, 0.3, count))).astype(np.float32)

    def codes(self, bits: int, *, last: bool = False) -> Codes:
        """Of values of about 3 in magnitude."""
        signed = self.least or (last and not self.everything)
        bounds = code_range(bits, signed=signed or self.some(True, False))
        factor = self.some(self.channels(bounds[1] / 6), self.channels(bounds[1] / 6, 1)[0])
        shift = self.some(None, None if self.least else self.channels(1.5))
        return Codes(self.new(), bounds, np.asarray(factor), shift)

    def conv(self, codes: Codes, typical: float, outputs: int = FEATURES, offset: float = 0.0) -> IntegerConv:
        """Weights small enough for every kernel; values of about ``typical``."""
        weight = self.rng.integers(-14, 15, (outputs, FEATURES, 3, 3)).astype(np.int8)
        spread = 24 * 8 * (codes.bounds[1] - codes.bounds[0]) / 4
        shift = self.rng.normal(offset, typical / 3, outputs).astype(np.float32)
        return IntegerConv(weight, self.channels(typical / spread, outputs), shift, codes.bounds)

    def layer(self, operations: list[Operation], source: Codes, bits: int, *, last: bool = False) -> Codes:
        """A convolution, and the codes that the next one reads."""
        if self.some(True, False, False) and (self.everything or not last):  # requantized at once
            bounds = (0, 2**bits - 1)
            codes = Codes(self.new(), bounds)
            operations.append(Conv(source.to, self.conv(source, bounds[1] / 2), Epilogue(codes=codes)))
            return codes
        epilogue = self.epilogue(bits, last=last)
        operations.append(Conv(source.to, self.conv(source, 3.0), epilogue))
        return self.quantized(operations, epilogue, bits, last=last)

    def kept(self, operations: list[Operation], source: Codes) -> tuple[int, int]:
        """A convolution that gives a stream alone; that stream and another."""
        add, keep = self.some(None, *self.streams[-3:]), self.new()
        add_factor = 1.0 if add is None else self.some(1.0, -0.6)
        operations.append(Conv(source.to, self.conv(source, 3.0), Epilogue(None, add, add_factor, keep)))
        self.streams.append(keep)
        return keep, self.some(*self.streams)

    def epilogue(self, bits: int, *, last: bool = False) -> Epilogue:
        add = self.some(None, *self.streams[-3:]) if self.streams else None
        keep = self.some(None, self.new())
        direct = self.least or keep is None or self.some(True, True, False)
        if keep is not None:
            self.streams.append(keep)
        slope = self.some(None, self.channels(0.2), -self.channels(0.2), self.channels(0.2, 1))
        add_factor = 0.7 if add is not None and self.some(not self.least, False) else 1.0
        return Epilogue(slope, add, add_factor, keep, self.codes(bits, last=last) if direct else None)

    def quantized(self, operations: list[Operation], epilogue: Epilogue, bits: int, *, last: bool = False) -> Codes:
        if epilogue.codes is not None:
            return epilogue.codes
        assert epilogue.keep is not None
        codes = self.codes(bits, last=last)
        operations.append(Quantize(epilogue.keep, codes))
        return codes

    def floats(self, operations: list[Operation], method: str, *reads: int) -> Codes:
        """Float layers, and codes of what they give."""
        stream, codes = self.new(), self.codes(self.bits)
        operations += [Float(method, reads, stream, 0, 0), Quantize(stream, codes)]
        self.streams.append(stream)
        return codes

    def head(self, operations: list[Operation]) -> Codes:
        weight = self.rng.integers(-2047, 2048, (FEATURES, 3, 3, 3)).astype(np.int16)
        mean = self.some((0, 0, 0), (114, 111, 103))
        head = IntegerHead(weight, self.channels(5e-6), self.channels(0.1), mean)
        first = self.epilogue(self.bits)
        operations.append(Head(head, first))
        return self.quantized(operations, first, self.bits)

    def program(self) -> Program:
        operations: list[Operation] = []
        begins, between, ends = (not self.least and self.some(True, False) for _ in range(3))
        codes = self.floats(operations, "stem") if begins else self.head(operations)
        for _ in range(self.rng.integers(2, 6)):
            codes = self.layer(operations, codes, self.bits)
        if between:
            codes = self.floats(operations, "between", *self.kept(operations, codes))
            codes = self.layer(operations, codes, self.bits)
        if ends:
            operations.append(Float("finish", self.kept(operations, codes), None, 0, 0))
            return program_of(*operations, scale=self.some(2, 3, 4), bits=self.bits)
        codes = self.layer(operations, codes, 8, last=True)
        scale = 1
        if self.some(True, False):
            for factor in self.some((2,), (3,), (2, 2)):
                made = Codes(self.new(), code_range(self.some(8, 6), signed=True), zero=ZERO)
                conv = self.conv(codes, made.bounds[1] / 2, FEATURES * factor**2, ZERO)
                operations.append(Conv(codes.to, conv, Epilogue(codes=made), factor))
                codes, scale = made, scale * factor
            enlarged = self.some(self.everything, False)
            operations.append(Pixels(codes.to, self.conv(codes, 60.0, 3, 120.0), 1, enlarged))
        else:
            scale = self.some(2, 3, 4)
            tail = self.conv(codes, 60.0, 3 * scale**2, 120.0)
            operations.append(Pixels(codes.to, tail, scale, self.some(True, False)))
        return program_of(*operations, scale=scale, bits=self.bits)


def made(seed: int, engine: str) -> tuple[Program, int, NDArray[np.uint8]]:
    """A program, its bit-width, and a picture for it."""
    maker = Maker(seed, engine)
    return maker.program(), maker.bits, make_picture(7, 10, seed)


def parameters_for(program: Program) -> Parameters:
    parameters = parameters_with(program, FEATURES)
    parameters.__dict__["module"] = FloatLayers(program.scale)
    return parameters


# --- Tests ----------------------------------------------------------------------------------------------------------

TENSORS = [
    pytest.param(ReferenceEngine, id="reference"),
    # The weights are small, so no pair of products saturates: exact without VNNI, too.
    pytest.param(OnednnEngine, id="onednn", marks=pytest.mark.skipif(not is_available(), reason="no oneDNN")),
]


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("engine", TENSORS)
def test_tensor_engines(engine: Callable[[Parameters], TensorEngine], seed: int) -> None:
    """The float32 values before they are rounded."""
    program, bits, picture = made(seed, ("native", "tensor", "tensor")[seed % 3])
    expected = interpret(program, picture, bits)
    assert expected.std() > 20, "a flat picture proves nothing"
    pixels = windows_of(picture, picture[::-1].copy()).float().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = engine(parameters_for(program)).grey_levels(pixels, bits).numpy()
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[1], interpret(program, picture[::-1], bits))


@pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")
@pytest.mark.parametrize("seed", range(36))
@pytest.mark.parametrize("isa", [None, kernels.PORTABLE])
def test_the_compiled_kernels(isa: str | None, seed: int) -> None:
    program, bits, picture = made(seed, "native")
    expected = np.clip(np.rint(interpret(program, picture, bits)), 0, 255).astype(np.uint8)
    engine = NativeEngine(parameters_for(program), isa)
    found = engine.run_windows(np.stack([picture, picture[::-1]]), bits)
    assert np.array_equal(found[0].transpose(2, 0, 1), expected)
    assert not np.array_equal(found[0], found[1])


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton, and no GPU, so that it interprets its kernels",
)
@pytest.mark.parametrize("seed", [8, 9, 14, 15, 16, 18, 20, 23])
def test_the_cuda_kernels(seed: int) -> None:
    from gdq_cli.engines.cuda.engine import CudaEngine

    program, bits, picture = made(seed, "cuda")
    expected = np.clip(np.rint(interpret(program, picture, bits)), 0, 255).astype(np.uint8)
    found = CudaEngine(parameters_with(program, FEATURES), "cpu")(windows_of(picture), bits)
    assert np.array_equal(found[0].numpy(), expected)


@pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")
def test_what_the_compiled_kernels_do_not_run_is_refused() -> None:
    """With one line, after which another engine is chosen; never with other pixels."""
    problems = []
    for seed in range(48):
        program, bits, picture = made(seed, "tensor")
        try:
            engine = NativeEngine(parameters_for(program))
        except ValueError as error:
            problems.append(str(error))
            continue
        expected = np.clip(np.rint(interpret(program, picture, bits)), 0, 255)
        assert np.array_equal(engine.run_windows(picture[None], bits)[0].transpose(2, 0, 1), expected)
    assert len(problems) > 12
    assert all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("engine", TENSORS)
def test_values_above_their_codes_are_rounded_first(engine: Callable[[Parameters], TensorEngine]) -> None:
    """Less 128, the float32 next to a half is a half, and would be rounded to the other side."""
    nothing, unit = np.zeros((FEATURES, FEATURES, 3, 3), np.int8), np.ones(FEATURES, np.float32)
    halves = np.arange(0.5, FEATURES / 2, dtype=np.float32)
    values = np.nextafter(halves, np.array([[-1], [99]], np.float32)).ravel()
    head = IntegerHead(np.zeros((FEATURES, 3, 3, 3), np.int16), unit, unit, (0, 0, 0))
    every = np.zeros((3, FEATURES, 3, 3), np.int8)
    every[:, :, 1, 1] = np.arange(FEATURES) % 14 + 1  # not alike: errors to both sides must not cancel
    weighted = IntegerConv(every, unit[:3], unit[:3], (-128, 127))
    program = program_of(
        Head(head, Epilogue(codes=Codes(0, (0, 15)))),
        Conv(0, IntegerConv(nothing, unit, values, (0, 15)), Epilogue(keep=1, codes=Codes(2, (-128, 127), zero=ZERO))),
        Pixels(2, weighted),
    )
    expected = interpret(program, make_picture(2, 3), 8)
    assert set(expected.ravel()) == {every[0, :, 1, 1].astype(np.int64) @ (np.rint(values) - ZERO) + 1}
    with torch.inference_mode():
        found = engine(parameters_with(program, FEATURES)).grey_levels(windows_of(make_picture(2, 3)).float(), 8)
    assert np.array_equal(found[0].numpy(), expected)


def test_what_the_random_programs_hold() -> None:
    """Else they would prove less than they seem to."""
    seen = set()
    for seed in range(36):
        program, bits, _ = made(seed, "native")
        for step in program.at(bits):
            seen.add(type(step).__name__)
            if isinstance(step, Float):
                seen.add(step.method)
            epilogue = getattr(step, "epilogue", Epilogue())
            if epilogue.slope is not None and epilogue.add is not None and epilogue.keep is not None:
                seen.add("slope, add, keep")
            if epilogue.add_factor != 1:
                seen.add("add_factor")
            if epilogue.codes is not None and epilogue.codes.shift is not None:
                seen.add("shift")
            if epilogue.codes is not None and epilogue.codes.factor is not None and epilogue.codes.bounds[0] == 0:
                seen.add("unsigned by a factor")
            if isinstance(step, Conv) and epilogue.codes is None:
                seen.add("a stream alone")
            if isinstance(step, Conv) and epilogue.is_plain:
                seen.add("plain, shuffled" if step.shuffle > 1 else "plain")
            if isinstance(step, Pixels) and step.enlarged:
                seen.add("enlarged")
    assert seen >= {"Head", "Quantize", "Conv", "Pixels", "slope, add, keep", "add_factor", "shift"}
    assert seen >= {"plain", "plain, shuffled", "enlarged", "unsigned by a factor", "a stream alone"}
    assert seen >= {"stem", "between", "finish"}
