"""Whole networks on the compiled kernels against the integer contract written down once more in plain torch."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from gdq_cli.bits.controller import band_sums, head_accumulators
from gdq_cli.bits.entropy import grey_sums
from gdq_cli.engines import kernels
from gdq_cli.program import operations as operations_
from gdq_cli.program.layers import IntegerConv, IntegerHead
from gdq_cli.program.operations import Codes, Epilogue, Head, Pixels, Program
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.skipif(kernels.report().chosen is None, reason="no compiled kernels for this processor")

RUNNABLE = [isa.name for isa in kernels.report().isas if isa.runnable]
BIT_WIDTHS = (4, 5, 6, 8)
FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}
FEATURES = 64


@dataclass
class Conv:
    weight: NDArray[np.int8] | NDArray[np.int16]
    multiplier: NDArray[np.float32]
    offset: NDArray[np.float32]
    mean: tuple[int, int, int] = (114, 111, 103)
    input_range: tuple[int, int] = (-128, 127)

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """fl(fl(a * m) + c) of integer codes carried by float32, (1, I, H, W) -> (1, O, H, W)."""
        sums = F.conv2d(codes.double(), torch.from_numpy(self.weight).double(), padding=1).float()
        return sums * channels(self.multiplier) + channels(self.offset)


@dataclass
class Block:
    inverse_step: float
    conv1: Conv
    conv2: Conv


@dataclass
class Static:
    body_inverse_steps: NDArray[np.float32]
    body_conv: Conv
    upsampler_inverse_steps: NDArray[np.float32]
    upsampler: list[tuple[Conv, int]]
    tail: Conv
    tail_factor: int


@dataclass
class Integers:
    scale: int
    head: Conv
    blocks: dict[int, list[Block]]
    static: Static


def channels(values: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(values).reshape(1, -1, 1, 1)


def quantize(x: torch.Tensor, low: int, high: int) -> torch.Tensor:
    return x.round().clamp(low, high)


def draw_conv(rng: np.random.Generator, outputs: int, inputs: int, peak: int, gain: float, shift: float = 0.0) -> Conv:
    """Weights with a bell shape; accumulators times the multiplier have a spread of about ``gain``."""
    weight = np.clip(np.rint(rng.normal(0, peak / 3, (outputs, inputs, 3, 3))), -peak, peak)
    multiplier = gain / (peak / 3 * np.sqrt(9 * inputs)) * rng.uniform(0.5, 1.5, outputs)
    offset = rng.normal(0, gain / 4, outputs) + shift
    return Conv(weight.astype(np.int8), multiplier.astype(np.float32), offset.astype(np.float32))


def draw_network(
    scale: int, blocks: int = 2, features: int = FEATURES, narrow_peak: int = 20, *, direct: bool = False
) -> Integers:
    rng = np.random.default_rng(scale)
    head = draw_conv(rng, features, 3, 127, 0.02)
    head.weight = rng.integers(-2047, 2048, head.weight.shape).astype(np.int16)
    widths: dict[int, list[Block]] = {}
    weights = {
        peak: [draw_conv(rng, features, features, peak, 1).weight for _ in range(2 * blocks)]
        for peak in (127, narrow_peak)
    }
    for bits in BIT_WIDTHS:
        widths[bits] = []
        for block in range(blocks):
            first = draw_conv(rng, features, features, 127 if bits == 8 else narrow_peak, 0.3, shift=2**bits / 6)
            second = draw_conv(rng, features, features, 127 if bits == 8 else narrow_peak, 0.5 / 2**bits)
            first.weight, second.weight = weights[127 if bits == 8 else narrow_peak][2 * block : 2 * block + 2]
            widths[bits].append(Block(float(np.float32(2**bits / 9)), first, second))
    upsampler = []
    tail_factor = scale if direct else 1
    for factor in () if direct else FACTORS[scale]:
        upsampler.append((draw_conv(rng, features * factor**2, features, 127, 0.5, shift=128), factor))
    static = Static(
        rng.uniform(10, 60, features).astype(np.float32),
        draw_conv(rng, features, features, 127, 0.02),
        rng.uniform(10, 60, features).astype(np.float32),
        upsampler,
        draw_conv(rng, 3 * tail_factor**2, features, 127, 1.0, shift=110),
        tail_factor,
    )
    return Integers(scale, head, widths, static)


def lowered(conv: Conv) -> IntegerConv:
    return IntegerConv(conv.weight, conv.multiplier, conv.offset, conv.input_range)  # type: ignore[arg-type]


def make(integers: Integers, isa: str | None = None) -> kernels.Network:
    """The same network as a program. Buffers: 0 features, 1 and 2 and so on in the order in which they are written."""
    static, operations = integers.static, {}
    head = IntegerHead(*(getattr(integers.head, key) for key in ("weight", "multiplier", "offset", "mean")))
    readers = [*(conv for conv, _ in static.upsampler), static.tail]
    end = 2 + 3 * len(integers.blocks[4])
    behind: list[operations_.Operation] = []
    for index, ((conv, factor), following) in enumerate(zip(static.upsampler, readers[1:], strict=True)):
        codes = Codes(end + index + 1, following.input_range, zero=128)
        behind.append(operations_.Conv(end + index, lowered(conv), Epilogue(codes=codes), factor))
    behind.append(Pixels(end + len(static.upsampler), lowered(static.tail), static.tail_factor))
    body = lowered(static.body_conv)
    for bits, blocks in integers.blocks.items():
        half = 2 ** (bits - 1)
        into = [Codes(3 * i + 1, (-half, half - 1), np.float32(block.inverse_step)) for i, block in enumerate(blocks)]
        into.append(Codes(3 * len(blocks) + 1, (-128, 127), static.body_inverse_steps))
        steps: list[operations_.Operation] = [Head(head, Epilogue(keep=0, codes=into[0]))]
        for i, block in enumerate(blocks):
            conv1, conv2 = (
                replace(block.conv1, input_range=(-half, half - 1)),
                replace(block.conv2, input_range=(0, 2 * half - 1)),
            )
            hidden = Epilogue(codes=Codes(3 * i + 2, (0, 2 * half - 1)))
            steps.append(operations_.Conv(3 * i + 1, lowered(conv1), hidden))
            joined = Epilogue(add=3 * i, keep=3 * i + 3, codes=into[i + 1])
            steps.append(operations_.Conv(3 * i + 2, lowered(conv2), joined))
        last = Codes(end, readers[0].input_range, static.upsampler_inverse_steps)
        steps.append(operations_.Conv(end - 1, body, Epilogue(add=0, codes=last)))
        operations[bits] = (*steps, *behind)
    return kernels.Network(Program(integers.scale, operations), isa)


def reference(integers: Integers, window: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (H * scale, W * scale, 3) uint8 by the contract, layer by layer."""
    static, half = integers.static, 2 ** (bits - 1)
    pixels = torch.from_numpy(window.astype(np.float32)).permute(2, 0, 1)[None]
    head = x = integers.head(pixels - channels(np.array(integers.head.mean, np.float32)))
    for block in integers.blocks[bits]:
        codes = quantize(x * block.inverse_step, -half, half - 1)
        codes = quantize(block.conv1(codes), 0, 2 * half - 1)
        x = block.conv2(codes) + x
    f = static.body_conv(quantize(x * channels(static.body_inverse_steps), -128, 127)) + head
    readers = [*(conv for conv, _ in static.upsampler), static.tail]
    codes = quantize(f * channels(static.upsampler_inverse_steps), *readers[0].input_range)
    for (conv, factor), following in zip(static.upsampler, readers[1:], strict=True):
        codes = F.pixel_shuffle(quantize(conv(codes) - 128, *following.input_range), factor)
    pixels = F.pixel_shuffle(quantize(static.tail(codes), 0, 255), static.tail_factor)
    return pixels[0].permute(1, 2, 0).numpy().astype(np.uint8)


def draw_windows(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def run(
    network: kernels.Network,
    windows: NDArray[np.uint8],
    widths: list[int],
    cores: list[tuple[int, int, int, int]],
    threads: int = 2,
) -> list[NDArray[np.uint8]]:
    """Upscaled cores of windows that lie one below the other in a picture; nothing is written elsewhere."""
    n, height, width, _ = windows.shape
    s, image = network.scale, windows.reshape(n * height, width, 3)
    picture = np.full((n * height * s, width * s, 3), 7, np.uint8)
    seen = np.array([(i * height, 0, height, width) for i in range(n)], np.int32)
    kept = np.array(cores, np.int32) + np.array([(i * height, 0, 0, 0) for i in range(n)], np.int32)
    network.run(image, seen, kept, np.array(widths, np.uint8), np.ones(n, np.int32), picture, threads=threads)
    places = [(slice(y * s, (y + h) * s), slice(x * s, (x + w) * s)) for y, x, h, w in kept]
    found = [picture[place].copy() for place in places]
    for place in places:
        picture[place] = 7
    assert (picture == 7).all()
    return found


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("isa", RUNNABLE)
def test_network_equals_contract(isa: str, scale: int, direct: bool) -> None:
    integers = draw_network(scale, direct=direct)
    network = make(integers, isa)
    windows = draw_windows(4, 13, 18)
    whole = (0, 0, 13, 18)
    found = run(network, windows, list(BIT_WIDTHS), [whole] * 4)
    for window, bits, pixels in zip(windows, BIT_WIDTHS, found, strict=True):
        expected = reference(integers, window, bits)
        assert 5 < expected.std() < 120, "a saturated picture proves nothing"
        np.testing.assert_array_equal(pixels, expected, err_msg=f"{bits} bits")


@pytest.mark.parametrize("isa", RUNNABLE)
def test_upsampler_of_fewer_bits(isa: str) -> None:
    """Static layers may have fewer bits."""
    integers = draw_network(4, blocks=1)
    for index, (outputs, bits) in enumerate(((256, 5), (256, 6))):
        conv = draw_conv(np.random.default_rng(index), outputs, FEATURES, 20, 2, shift=128)
        conv.input_range = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        integers.static.upsampler[index] = (conv, 2)
    integers.static.upsampler_inverse_steps[:] = 15
    windows = draw_windows(1, 13, 18)
    for tail in ((-128, 127), (-32, 31)):
        integers.static.tail.input_range = tail
        (pixels,) = run(make(integers, isa), windows, [6], [(0, 0, 13, 18)])
        expected = reference(integers, windows[0], 6)
        assert 5 < expected.std() < 120, "a saturated picture proves nothing"
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("isa", RUNNABLE)
def test_a_chain_with_slopes_on_the_enlarged_input(isa: str, scale: int) -> None:
    """No residual stream, PReLUs, a factor for every channel, and pixels that are added to those of the input."""
    rng = np.random.default_rng(scale)
    head = draw_conv(rng, FEATURES, 3, 127, 0.02)
    layers = [draw_conv(rng, FEATURES, FEATURES, 20, 0.5) for _ in range(3)]
    tail = draw_conv(rng, 3 * scale**2, FEATURES, 127, 12.0)
    slopes = [rng.uniform(-0.5, 1.5, FEATURES).astype(np.float32) for _ in range(4)]
    factors = [rng.uniform(6, 16, FEATURES).astype(np.float32) for _ in range(4)]
    bounds = [(-16, 15)] * 3 + [(-128, 127)]
    for layer, codes in zip([*layers, tail], bounds, strict=True):
        layer.input_range = codes
    epilogues = [Epilogue(slopes[i], codes=Codes(i, bounds[i], factors[i])) for i in range(4)]
    steps = [operations_.Conv(i, lowered(layer), epilogues[i + 1]) for i, layer in enumerate(layers)]
    first = Head(IntegerHead(head.weight.astype(np.int16), head.multiplier, head.offset, (0, 0, 0)), epilogues[0])
    program = Program(scale, {5: (first, *steps, Pixels(3, lowered(tail), scale, enlarged=True))})
    windows = draw_windows(1, 13, 18)
    core = (2, 5, 10, 9)
    whole, cut = (run(kernels.Network(program, isa), windows, [5], [part])[0] for part in ((0, 0, 13, 18), core))
    pixels = torch.from_numpy(windows[0].astype(np.float32)).permute(2, 0, 1)[None]
    x = head(pixels)
    for index, layer in enumerate([*layers, tail]):
        x = F.prelu(x, torch.from_numpy(slopes[index]))
        x = layer(quantize(x * channels(factors[index]), *bounds[index]))
    x = F.pixel_shuffle(x, scale) + F.interpolate(pixels, scale_factor=scale, mode="nearest")
    expected = quantize(x, 0, 255)[0].permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.abs(expected - windows[0].repeat(scale, 0).repeat(scale, 1).astype(int)).mean() > 3
    np.testing.assert_array_equal(whole, expected)
    top, left, height, width = (side * scale for side in core)
    np.testing.assert_array_equal(cut, expected[top : top + height, left : left + width])


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("isa", RUNNABLE[:1] + RUNNABLE[-1:])
def test_cores_are_cut_from_the_whole_window(isa: str, scale: int, direct: bool) -> None:
    """Only what a core needs is computed, and that is enough: at corners, borders, inside, for single pixels."""
    integers = draw_network(scale, blocks=1, direct=direct)
    network = make(integers, isa)
    cores = [(0, 0, 17, 23), (4, 4, 9, 15), (0, 5, 4, 18), (13, 0, 4, 4)]
    cores += [(8, 11, 1, 1), (16, 22, 1, 1), (0, 0, 1, 23), (1, 2, 15, 3)]
    windows = np.repeat(draw_windows(1, 17, 23), len(cores), axis=0)
    expected = reference(integers, windows[0], 6)
    for core, pixels in zip(cores, run(network, windows, [6] * len(cores), cores), strict=True):
        y, x, h, w = (side * scale for side in core)
        np.testing.assert_array_equal(pixels, expected[y : y + h, x : x + w], err_msg=str(core))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 1), (31, 52)])
def test_any_window_size(size: tuple[int, int]) -> None:
    integers = draw_network(2)
    network = make(integers)
    windows = draw_windows(2, *size)
    for window, bits, pixels in zip(windows, (8, 5), run(network, windows, [8, 5], [(0, 0, *size)] * 2), strict=True):
        np.testing.assert_array_equal(pixels, reference(integers, window, bits))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", RUNNABLE)
def test_rows_pass_through_several_layers(isa: str, threads: int) -> None:
    """Windows of more rows than go at a time: layers follow each other, each behind the one before, in two maps."""
    integers = draw_network(2, blocks=5)
    windows = draw_windows(2, 171, 7)
    cores = [(0, 0, 171, 7), (3, 1, 160, 5)]
    found = run(make(integers, isa), windows, [4, 8], cores, threads)
    for window, bits, (y, x, h, w), pixels in zip(windows, (4, 8), cores, found, strict=True):
        expected = reference(integers, window, bits)
        np.testing.assert_array_equal(pixels, expected[2 * y : 2 * (y + h), 2 * x : 2 * (x + w)])


@pytest.mark.parametrize("peak", [14, 127])
def test_every_weight_grid(peak: int) -> None:
    """Narrow weights that do not fit F(2x2) give the same pixels."""
    integers = draw_network(2, narrow_peak=peak)
    network = make(integers)
    if "winograd" in next(isa.algorithms for isa in kernels.report().isas if isa.name == network.isa):
        (wide,) = set(network.algorithms(8))
        assert wide in ("direct", "winograd_f4")
        assert set(network.algorithms(5)[:-1]) == {"winograd" if peak == 14 else wide}
    windows = draw_windows(3, 10, 11)
    found = run(network, windows, [4, 5, 6], [(0, 0, 10, 11)] * 3)
    for window, bits, pixels in zip(windows, (4, 5, 6), found, strict=True):
        np.testing.assert_array_equal(pixels, reference(integers, window, bits))


def test_more_features() -> None:
    integers = draw_network(2, blocks=1, features=128, narrow_peak=12)
    windows = draw_windows(1, 6, 9)
    (pixels,) = run(make(integers), windows, [6], [(0, 0, 6, 9)])
    np.testing.assert_array_equal(pixels, reference(integers, windows[0], 6))


def test_layouts() -> None:
    """Windows may come in any memory order."""
    network = make(draw_network(3))
    windows = draw_windows(3, 8, 13)
    planar = np.ascontiguousarray(windows.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    cores = [(0, 0, 8, 13)] * 3
    from_planar = run(network, planar, [4, 6, 8], cores, threads=1)
    for a, b in zip(run(network, windows, [4, 6, 8], cores), from_planar, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("count", "threads"), [(1, 2), (1, 5), (3, 2), (4, 7)])
def test_threads_that_help(count: int, threads: int) -> None:
    """Threads without a patch take parts of the others' layers: the same pixels, for any split of the rows."""
    network = make(draw_network(4, blocks=1))
    windows = draw_windows(count, 83, 20)
    cores = [(4, 3, 75, 17), (0, 0, 83, 20), (1, 0, 81, 1), (9, 5, 16, 15)][:count]
    widths = [6, 8, 4, 5][:count]
    alone = run(network, windows, widths, cores, threads=1)
    for _ in range(5):
        for a, b in zip(alone, run(network, windows, widths, cores, threads=threads), strict=True):
            np.testing.assert_array_equal(a, b)


CORES = [(0, 0, 70, 45), (3, 5, 8, 12), (60, 1, 7, 9), (0, 44, 3, 1), (69, 0, 1, 45), (0, 0, 4, 4)]


def draw_planar() -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture in another memory order, and its ``CORES``."""
    image = draw_windows(1, 70, 45)[0]
    image[:9, :9] = 255  # the largest accumulators
    image[:9, 9:20] = 0
    planar = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    return planar, [np.ascontiguousarray(image[y : y + h, x : x + w]) for y, x, h, w in CORES]


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("features", [64, 24])
def test_band_sums(isa: str, features: int) -> None:
    """Equal to the controller's own, for cores of any size."""
    head = draw_network(2).head
    weight, per_channel = head.weight[:features], (head.multiplier[:features], head.offset[:features])
    integer_head = IntegerHead(weight, *per_channel, head.mean)  # type: ignore[arg-type]
    image, cores = draw_planar()
    texture = kernels.Texture(integer_head, isa)
    found = texture.band_sums(image, np.array(CORES, np.int32), threads=3)
    for core, sums in zip(cores, found, strict=True):
        np.testing.assert_array_equal(sums, band_sums(head_accumulators(core[None], integer_head))[0])
    with pytest.raises(ValueError, match="rectangle 0"):
        texture.band_sums(image, np.array([(0, 0, 71, 45)], np.int32), threads=1)


def test_grey_sums() -> None:
    """Equal to those of the entropy in NumPy, to the last bit."""
    image, cores = draw_planar()
    found = kernels.grey_sums(image, np.array(CORES, np.int32), threads=3)
    for core, sums in zip(cores, found, strict=True):
        np.testing.assert_array_equal(sums, grey_sums(core))
    with pytest.raises(ValueError, match="rectangle 0"):
        kernels.grey_sums(image, np.array([(0, 0, 71, 45)], np.int32), threads=1)


def test_writes_only_its_place() -> None:
    network = make(draw_network(2))
    picture = np.full((40, 50, 3), 7, np.uint8)
    view = picture[2:38]
    image, window = draw_windows(1, 18, 25)[0], draw_windows(1, 9, 9)[0]
    image[2:11, 5:14] = window
    rectangles = np.array([[2, 5, 9, 9]], np.int32), np.array([[4, 8, 5, 4]], np.int32)
    network.run(image, *rectangles, np.array([6], np.uint8), np.ones(1, np.int32), view, threads=1)
    expected = reference(draw_network(2), window, 6)[4:14, 6:14]
    np.testing.assert_array_equal(picture[10:20, 16:24], expected)
    picture[10:20, 16:24] = 7
    assert (picture == 7).all()


def test_windows_of_all_sizes_at_once() -> None:
    """They overlap, their sides differ, and threads take them with workspaces that held others."""
    integers, network = draw_network(2), make(draw_network(2))
    image = draw_windows(1, 40, 50)[0]
    seen = [(0, 0, 20, 50), (12, 0, 28, 7), (12, 3, 9, 30), (39, 49, 1, 1), (0, 0, 40, 50)]
    core = [(0, 0, 12, 50), (20, 0, 20, 5), (12, 10, 5, 23), (39, 49, 1, 1), (25, 20, 3, 20)]
    widths = [8, 6, 5, 4, 6]
    for threads in (1, 3):
        found = np.zeros((80, 100, 3), np.uint8)
        seconds: list[int] = []
        arrays = np.array(seen, np.int32), np.array(core, np.int32), np.array(widths, np.uint8)
        patches = np.array([5, 1, 2, 1, 9], np.int32)
        network.run(image, *arrays, patches, found, threads=threads, progress=seconds.append)
        for (y, x, h, w), (top, left, high, wide), bits in zip(seen, core, widths, strict=True):
            expected = reference(integers, image[y : y + h, x : x + w], bits)
            inside = expected[2 * (top - y) :, 2 * (left - x) :][: 2 * high, : 2 * wide]
            np.testing.assert_array_equal(found[2 * top :, 2 * left :][: 2 * high, : 2 * wide], inside)
        assert seconds == sorted(seconds)
        assert seconds[-1] == 18


def test_bad_calls_are_refused() -> None:
    network = make(draw_network(2))
    good: dict[str, Any] = {
        "image": draw_windows(1, 8, 8)[0],
        "windows": np.array([[0, 0, 8, 7]], np.int32),
        "cores": np.array([[0, 0, 8, 7]], np.int32),
        "bit_widths": np.array([6], np.uint8),
        "patches": np.array([1], np.int32),
        "out": np.zeros((16, 16, 3), np.uint8),
    }
    bad: list[tuple[str, NDArray[Any], str]] = [
        ("windows", np.array([[1, 0, 8, 7]], np.int32), "windows"),
        ("windows", np.array([[0, 2, 8, 7]], np.int32), "windows"),
        ("windows", np.array([[0, 1, 8, 7]], np.int32), "cores: core 0 does not lie in its window"),
        ("windows", np.array([[0, 0, 8, 0]], np.int32), "windows"),
        ("patches", np.array([0], np.int32), "patches"),
        ("patches", np.array([1, 1], np.int32), "patches"),
        ("bit_widths", np.array([7], np.uint8), "7-bit"),
        ("bit_widths", np.array([6, 6], np.uint8), "bit_widths"),
        ("cores", np.array([[0, 0, 9, 8]], np.int32), "cores"),
        ("cores", np.array([[-1, 0, 8, 8]], np.int32), "cores"),
        ("cores", np.array([[0, 2**31 - 1, 8, 8]], np.int32), "cores"),
        ("out", np.zeros((16, 15, 3), np.uint8), "out"),
        ("out", np.zeros((16, 3, 16), np.uint8).transpose(0, 2, 1), "out"),
        ("out", as_strided(np.zeros((16, 3), np.uint8), (16, 16, 3), (0, 3, 1)), "out"),
    ]
    for name, value, message in bad:
        with pytest.raises(ValueError, match=message):
            network.run(**{**good, name: value}, threads=1)
    kinds: list[tuple[str, NDArray[Any]]] = [
        ("image", np.zeros((3, 8, 8), np.uint8)),
        ("image", np.zeros((8, 8, 3), np.int16)),
        ("cores", np.array([[0, 0, 8, 8]], np.int64)),
        ("out", np.frombuffer(bytes(16 * 16 * 3), np.uint8).reshape(16, 16, 3)),  # that cannot be written
    ]
    for name, value in kinds:
        with pytest.raises(TypeError, match=f"{name}: ndarray"):
            network.run(**{**good, name: value}, threads=1)
    with pytest.raises(ValueError, match="threads"):
        network.run(**good, threads=0)
    network.run(**good, threads=1)


def test_networks_that_do_not_fit_are_refused() -> None:
    for features in (32, 96):
        with pytest.raises(ValueError, match="multiples of 64"):
            make(draw_network(2, features=features))
    integers = draw_network(4)
    integers.static.upsampler.pop()
    with pytest.raises(ValueError, match="scale"):
        make(integers)
    integers = draw_network(2)
    integers.head.multiplier[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        make(integers)
    integers = draw_network(2)
    integers.static.body_inverse_steps[9] = 1e12
    with pytest.raises(ValueError, match="steps"):
        make(integers)


def long_run(network: kernels.Network, progress: Callable[[int], object] | None = None) -> None:
    count = 64
    rectangles = np.array([(96 * i, 0, 96, 96) for i in range(count)], np.int32)
    network.run(
        draw_windows(1, 96 * count, 96)[0],
        rectangles,
        rectangles,
        np.full(count, 8, np.uint8),
        np.ones(count, np.int32),
        np.zeros((192 * count, 192, 3), np.uint8),
        threads=2,
        progress=progress,
    )


def test_progress_counts_and_cancels() -> None:
    network = make(draw_network(2))
    seen: list[int] = []
    long_run(network, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 64

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        seen.append(done)
        raise StopError

    seen.clear()
    with pytest.raises(StopError):
        long_run(network, stop)
    assert len(seen) == 1


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_interrupt_stops_at_once_and_other_threads_go_on() -> None:
    network = make(draw_network(2, blocks=8))
    ticks: list[float] = []
    sent: list[float] = []

    def interrupt() -> None:
        for _ in range(10):
            time.sleep(0.01)
            ticks.append(time.monotonic())  # the interpreter lock is free while the kernels run
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

    thread = threading.Thread(target=interrupt)
    start = time.monotonic()
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        long_run(network)
    stopped = time.monotonic()
    thread.join()
    assert len(ticks) == 10
    assert ticks[-1] - start < 2
    assert stopped - sent[0] < 0.5  # 0.03 s on a quiet machine


def test_calls_that_need_the_same_weights_first() -> None:
    """A width's weights are packed by the call that runs it first, while others wait for them."""
    integers, windows = draw_network(2), draw_windows(4, 13, 18)
    expected = run(make(integers), windows, [6] * 4, [(0, 0, 13, 18)] * 4)
    network, found = make(integers), {}

    def call(number: int) -> None:
        found[number] = run(network, windows, [6] * 4, [(0, 0, 13, 18)] * 4)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(np.array_equal(pixels, expected) for pixels in found.values())


def test_no_windows() -> None:
    network = make(draw_network(2))
    none, out = np.empty((0, 4), np.int32), np.zeros((16, 16, 3), np.uint8)
    network.run(draw_windows(1, 8, 8)[0], none, none, np.empty(0, np.uint8), np.empty(0, np.int32), out, threads=2)
    assert not out.any()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are kept by Linux")
def test_memory_that_runs_out_in_a_thread() -> None:
    """Feature maps are made by the threads; one that gets none ends the call, not the process."""
    code = """
import os, resource, sys
import numpy as np
from tests.kernels import test_kernels_network as cases

network, side = cases.make(cases.draw_network(2)), 300
image, out = np.zeros((side, side, 3), np.uint8), np.zeros((2 * side, 2 * side, 3), np.uint8)
box = np.array([(0, 0, side, side)], np.int32)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
ends = []
for extra in range(8, 200, 12):
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (now + (extra << 20),) * 2)
        try:
            network.run(image, box, box, np.array([6], np.uint8), np.ones(1, np.int32), out, threads=2)
        except MemoryError:
            os._exit(3)
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*ends)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ends = [int(end) for end in done.stdout.split()]
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {0, 3}
