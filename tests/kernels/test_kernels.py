"""The compiled kernels: every instruction set against the integer contract, at random and at the ends of the range."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdq_cli.engines import kernels
from gdq_cli.errors import DeviceError

pytestmark = pytest.mark.skipif(kernels.report().chosen is None, reason="no compiled kernels for this processor")

ALGORITHMS = {isa.name: isa.algorithms for isa in kernels.report().isas if isa.runnable}
RUNNABLE = list(ALGORITHMS)
WINOGRAD = [(isa, name) for isa, names in ALGORITHMS.items() for name in names if name != "direct"]
ANY_CODES = ("direct", "winograd_f4")
"""Algorithms that take all weights, and codes of 8 bits."""


def code_widths(algorithm: str) -> tuple[int, ...]:
    """Bit-widths of the codes that an algorithm takes, narrow to wide."""
    return (2, 3, 4) if algorithm == "winograd_gauss" else (4, 5, 6, 8) if algorithm in ANY_CODES else (4, 5, 6)


ZERO = kernels.ZERO


def signed_range(bit_width: int) -> tuple[int, int]:
    return -(1 << (bit_width - 1)), (1 << (bit_width - 1)) - 1


def unsigned_range(bit_width: int) -> tuple[int, int]:
    return 0, (1 << bit_width) - 1


def draw_codes(
    rng: np.random.Generator, shape: tuple[int, ...], bounds: tuple[int, int], kind: str
) -> NDArray[np.uint8]:
    """Stored codes; the extreme kinds are those that overflow a byte or a saturating instruction first."""
    low, high = bounds
    if kind == "max":
        codes = np.full(shape, high)
    elif kind == "min":
        codes = np.full(shape, low)
    elif kind == "alternating":
        codes = np.where(np.indices(shape[:2]).sum(0) % 2, low, high)[..., None] + np.zeros(shape, int)
    elif kind == "ends":
        codes = np.where(rng.random(shape) < 0.5, low, high)
    else:
        codes = rng.integers(low, high + 1, shape)
    return (codes + (ZERO if low < 0 else 0)).astype(np.uint8)


def draw_weight(rng: np.random.Generator, outputs: int, inputs: int, peak: int, kind: str) -> NDArray[np.int8]:
    shape = (outputs, inputs, 3, 3)
    if kind == "ends":
        return np.where(rng.random(shape) < 0.5, -peak, peak).astype(np.int8)
    if kind == "max":
        return np.full(shape, peak, np.int8)
    return rng.integers(-peak, peak + 1, shape).astype(np.int8)


PEAKS = {"direct": 127, "winograd": 14, "winograd_f4": 127, "winograd_gauss": 14}
"""Weight bounds under which any weight fits: nine weights sum to at most 127."""

KINDS = ("uniform", "ends", "max", "min", "alternating")


def reference_accumulators(
    codes: NDArray[np.uint8], weight: NDArray[np.int8], bounds: tuple[int, int]
) -> NDArray[np.int64]:
    """The convolution of the contract, in float64 (exact far beyond 2^24)."""
    values = torch.from_numpy(codes.astype(np.float64) - (ZERO if bounds[0] < 0 else 0)).permute(2, 0, 1)[None]
    sums = F.conv2d(values, torch.from_numpy(weight.astype(np.float64)), padding=1)
    return sums[0].permute(1, 2, 0).numpy().astype(np.int64)


def quantize(v: NDArray[np.float32], bounds: tuple[int, int]) -> NDArray[np.int64]:
    return np.clip(np.rint(v), *bounds).astype(np.int64)


@dataclass
class Affine:
    multiplier: NDArray[np.float32]
    offset: NDArray[np.float32]

    def __call__(self, sums: NDArray[np.int64]) -> NDArray[np.float32]:
        return sums.astype(np.float32) * self.multiplier + self.offset  # NumPy rounds both operations


def draw_affine(rng: np.random.Generator, outputs: int, peak: float) -> Affine:
    multiplier = rng.uniform(0.2, 2.0, outputs) * peak * rng.choice([-1, 1], outputs)
    return Affine(multiplier.astype(np.float32), rng.uniform(-40, 200, outputs).astype(np.float32))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("isa", RUNNABLE)
def test_convolution_equals_contract(isa: str, data: st.DataObject) -> None:
    """All algorithms and stores, random sizes, widths, signs and extreme values, against NumPy and torch float64."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    algorithm = data.draw(st.sampled_from(ALGORITHMS[isa]))
    height, width = data.draw(st.integers(1, 11)), data.draw(st.integers(1, 17))
    inputs, outputs = data.draw(st.sampled_from([(16, 16), (48, 32), (64, 64), (64, 256), (128, 80), (64, 3)]))
    bits = data.draw(st.sampled_from(code_widths(algorithm)))
    signed = data.draw(st.booleans())
    bounds = signed_range(bits) if signed else unsigned_range(bits)
    exact = (2**24 - 1) // (9 * inputs * max(-bounds[0], bounds[1]))
    peak = min(PEAKS[algorithm], exact)
    weight = draw_weight(rng, outputs, inputs, peak, data.draw(st.sampled_from(["uniform", "ends", "max"])))
    codes = draw_codes(rng, (height, width, inputs), bounds, data.draw(st.sampled_from(KINDS)))
    layer = kernels.Layer(weight, bounds, isa=isa, algorithm=algorithm)
    sums = reference_accumulators(codes, weight, bounds)
    np.testing.assert_array_equal(layer.accumulators(codes), sums)

    affine = draw_affine(rng, outputs, 100 / max(100, int(np.abs(sums).max())))  # 2^24 times it must stay below 2^30
    out_bits = data.draw(st.sampled_from([4, 5, 6, 8]))
    expected = quantize(affine(sums), unsigned_range(out_bits))
    found = layer.codes(codes, affine.multiplier, affine.offset, unsigned_range(out_bits))
    np.testing.assert_array_equal(found, expected)

    x = rng.normal(0, 50, sums.shape).astype(np.float32)
    inverse_step = rng.uniform(0.01, 3, outputs).astype(np.float32)
    x_factor, shift = np.float32(data.draw(st.sampled_from([1, 0.7, -2]))), rng.normal(0, 9, outputs).astype(np.float32)
    out_bounds = data.draw(st.sampled_from([signed_range(out_bits), unsigned_range(out_bits)]))
    after, streamed = layer.stream(
        codes, affine.multiplier, affine.offset, x, inverse_step, out_bounds, x_factor=float(x_factor), shift=shift
    )
    expected_x = affine(sums) + x * x_factor
    assert after.tobytes() == expected_x.tobytes()
    expected = quantize(expected_x * inverse_step + shift, out_bounds)
    np.testing.assert_array_equal(streamed.astype(int) - (ZERO if out_bounds[0] < 0 else 0), expected)


@pytest.mark.parametrize(("isa", "algorithm"), WINOGRAD)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_winograd_holds_at_the_ends_of_the_range(isa: str, algorithm: str, signed: bool, kind: str) -> None:
    """Largest weights that fit with codes at both ends: F(2x2)'s data reach 0 and 254, its products 2^15 a pair."""
    rng = np.random.default_rng(7)
    bits = code_widths(algorithm)[-1]
    bounds = signed_range(bits) if signed else unsigned_range(bits)
    weight = draw_weight(rng, 64, 64, min(PEAKS[algorithm], (2**24 - 1) // (576 * max(-bounds[0], bounds[1]))), "ends")
    codes = draw_codes(rng, (9, 37, 64), bounds, kind)
    layer = kernels.Layer(weight, bounds, isa=isa, algorithm=algorithm)
    np.testing.assert_array_equal(layer.accumulators(codes), reference_accumulators(codes, weight, bounds))


@pytest.mark.parametrize("isa", [isa for isa, names in ALGORITHMS.items() if "winograd_f4" in names])
@pytest.mark.parametrize("channels", [64, 192])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_of_f4_near_the_bound(isa: str, channels: int, sign: int) -> None:
    """Within F(4x4) they leave 32 bits many times over; what comes out is right up to 2^24."""
    weight = np.zeros((64, channels, 3, 3), np.int8)
    weight.reshape(64, -1)[:, : (2**24 - 1) // (127 * 255)] = 127 * sign  # as many as the bound admits
    codes = draw_codes(np.random.default_rng(1), (6, 9, channels), (0, 255), "max")
    sums = reference_accumulators(codes, weight, (0, 255))
    assert np.abs(sums).max() > 2**24 - 2**17
    layer = kernels.Layer(weight, (0, 255), isa=isa, algorithm="winograd_f4")
    np.testing.assert_array_equal(layer.accumulators(codes), sums)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("bounds", [signed_range(8), unsigned_range(8), signed_range(4)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0005, 0.1, 1])
def test_weights_of_minus_128(isa: str, bounds: tuple[int, int], kind: str, share: float) -> None:
    """Their negatives are no bytes."""
    rng = np.random.default_rng(11)
    weight = draw_weight(rng, 80, 32, 127, "uniform")
    weight[rng.random(weight.shape) < share] = -128
    weight[79, 31, 2, 2] = -128
    codes = draw_codes(rng, (4, 7, 32), bounds, kind)
    layer = kernels.Layer(weight, bounds, isa=isa)
    assert layer.algorithm in ANY_CODES
    np.testing.assert_array_equal(layer.accumulators(codes), reference_accumulators(codes, weight, bounds))


@pytest.mark.parametrize("isa", RUNNABLE)
def test_a_tail_with_weights_of_minus_128(isa: str) -> None:
    """Exact, or refused."""
    weight, ones = np.full((3, 64, 3, 3), -128, np.int8), np.ones(3, np.float32)
    scale, bounds = ones * np.float32(1e-4), signed_range(8)
    codes = draw_codes(np.random.default_rng(0), (3, 4, 64), bounds, "ends")
    if isa == "avx2":
        with pytest.raises(ValueError, match="no weight of -128 in the tail"):
            kernels.tail_pixels(weight, scale, ones, codes, isa=isa)
        return
    expected = quantize(reference_accumulators(codes, weight, bounds).astype(np.float32) * scale + ones, (0, 255))
    np.testing.assert_array_equal(kernels.tail_pixels(weight, scale, ones, codes, isa=isa), expected)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_on_store(isa: str, factor: int) -> None:
    rng = np.random.default_rng(factor)
    outputs, bounds = 64 * factor**2, signed_range(8)
    weight = draw_weight(rng, outputs, 64, 127, "uniform")
    codes = draw_codes(rng, (5, 7, 64), bounds, "uniform")
    affine = draw_affine(rng, outputs, 1e-4)
    layer = kernels.Layer(weight, bounds, isa=isa, shuffle=factor)
    flat = quantize(affine(reference_accumulators(codes, weight, bounds)), (0, 255))
    expected = F.pixel_shuffle(torch.from_numpy(flat).permute(2, 0, 1)[None], factor)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(layer.codes(codes, affine.multiplier, affine.offset, (0, 255)), expected)


@pytest.mark.parametrize("isa", RUNNABLE)
def test_rounding_and_saturation(isa: str) -> None:
    """Halves go to even, values far beyond 16 bits to the bounds, values beyond 30 bits are refused."""
    weight = np.zeros((64, 64, 3, 3), np.int8)
    codes = np.full((1, 1, 64), ZERO, np.uint8)
    offsets = np.array([0.5, 1.5, 2.5, -0.5, 254.5, 255.5, 1e9, -1e9, 4e4, -4e4, 255.49998, 0.49999997], np.float32)
    offsets = np.pad(offsets, (0, 52))
    layer = kernels.Layer(weight, signed_range(8), isa=isa)
    found = layer.codes(codes, np.ones(64, np.float32), offsets, (0, 255))[0, 0, :12]
    assert found.tolist() == [0, 2, 2, 0, 254, 255, 255, 0, 255, 0, 255, 0]
    assert layer.codes(codes, np.ones(64, np.float32), offsets, (0, 15))[0, 0, :5].tolist() == [0, 2, 2, 0, 15]
    ones, zeros = np.ones(64, np.float32), np.zeros(64, np.float32)
    x, signed = layer.stream(codes, ones, zeros, offsets.reshape(1, 1, 64), ones, (-8, 7))
    assert x.tobytes() == offsets.tobytes()
    assert (signed[0, 0, :12].astype(int) - ZERO).tolist() == [0, 2, 2, 0, 7, 7, 7, -8, 7, -8, 7, 0]
    for bad in (2.0**30, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"finite|quantization"):
            layer.codes(codes, ones, np.full(64, bad, np.float32), (0, 255))
        with pytest.raises(ValueError, match="quantization"):
            layer.stream(codes, ones, zeros, np.full((1, 1, 64), bad, np.float32), ones, (-8, 7))


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 13), (4, 40)])
def test_tail(isa: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    weight = draw_weight(rng, 3, 64, 127, "uniform")
    codes = draw_codes(rng, (*size, 64), signed_range(8), "ends")
    affine = draw_affine(rng, 3, 1e-3)
    expected = quantize(affine(reference_accumulators(codes, weight, signed_range(8))), (0, 255))
    found = kernels.tail_pixels(weight, affine.multiplier, affine.offset, codes, isa=isa)
    np.testing.assert_array_equal(found, expected)


def test_fastest_exact_algorithm_is_chosen() -> None:
    names = ALGORITHMS[kernels.choose_isa()]
    if "winograd" not in names:
        weight = np.ones((64, 64, 3, 3), np.int8)
        assert {kernels.Layer(weight, signed_range(bits)).algorithm for bits in (4, 8)} == set(names)
        return
    rng = np.random.default_rng(0)

    def chosen(weight: NDArray[np.int8], bounds: tuple[int, int]) -> str:
        return kernels.Layer(weight, bounds).algorithm

    small = draw_weight(rng, 64, 64, 14, "uniform")
    assert chosen(small, signed_range(6)) == "winograd"
    assert chosen(small, unsigned_range(6)) == "winograd"
    wide = chosen(small, signed_range(8))  # measured
    assert wide in ("direct", "winograd_f4")
    assert all(chosen(small, bounds) == wide for bounds in (signed_range(8), unsigned_range(8)))
    corner = small.copy()
    corner[5, 6] = 0
    corner[5, 6, 0, 0] = 127
    assert chosen(corner, signed_range(6)) == "winograd"
    centre = small.copy()
    centre[5, 6] = 14
    centre[5, 6, 1, 1] = 15  # sums to 127
    assert chosen(centre, signed_range(6)) == "winograd"
    centre[5, 6, 1, 1] = 16
    assert chosen(centre, signed_range(6)) == wide
    four = chosen(small, signed_range(4))  # measured, too
    assert four in ("winograd", "winograd_gauss")
    assert chosen(small, unsigned_range(4)) == four
    assert chosen(centre, signed_range(4)) == wide


@pytest.mark.parametrize("isa", RUNNABLE)
def test_inexact_layers_are_refused(isa: str) -> None:
    weight = np.full((64, 64, 3, 3), 127, np.int8)
    with pytest.raises(ValueError, match=r"2\^24"):
        kernels.Layer(weight, unsigned_range(8), isa=isa)  # 576 * 127 * 255 = 18.7 million
    absent = next(name for name in (*kernels.ALGORITHMS, "") if name not in ALGORITHMS[isa])
    if absent:
        with pytest.raises(ValueError, match="no such convolution"):
            kernels.Layer(np.ones((64, 64, 3, 3), np.int8), signed_range(6), isa=isa, algorithm=absent)
    if "winograd" in ALGORITHMS[isa]:
        with pytest.raises(ValueError, match="int8"):
            kernels.Layer(weight, signed_range(6), isa=isa, algorithm="winograd")
        with pytest.raises(ValueError, match="6 bits"):
            kernels.Layer(np.ones((64, 64, 3, 3), np.int8), signed_range(8), isa=isa, algorithm="winograd")
        with pytest.raises(ValueError, match="int8"):
            kernels.Layer(weight, signed_range(4), isa=isa, algorithm="winograd_gauss")
        with pytest.raises(ValueError, match="4 bits"):
            kernels.Layer(np.ones((64, 64, 3, 3), np.int8), signed_range(5), isa=isa, algorithm="winograd_gauss")


def test_bad_buffers_are_refused() -> None:
    layer = kernels.Layer(np.ones((64, 64, 3, 3), np.int8), signed_range(8))
    good = np.zeros((4, 4, 64), np.uint8)
    ones = np.ones(64, np.float32)
    for codes in (good[:, :, :63].copy(), good[:0]):
        with pytest.raises(ValueError, match="codes"):
            layer.accumulators(codes)
    kinds: list[NDArray[Any]] = [good[0], good.astype(np.int16), good[:, ::2]]
    for codes in kinds:  # no copy is made of them
        with pytest.raises(TypeError, match="codes: ndarray"):
            layer.accumulators(codes)
    with pytest.raises(ValueError, match="multiplier: memory is not aligned"):
        layer.codes(good, np.frombuffer(bytearray(64 * 4 + 1), np.float32, offset=1), ones, (0, 255))
    with pytest.raises(ValueError, match="multiplier"):
        layer.codes(good, ones[:5], ones, (0, 255))
    with pytest.raises(ValueError, match="bytes"):
        layer.codes(good, ones, ones, (0, 256))
    with pytest.raises(ValueError, match="int8"):
        kernels.Layer(np.ones((64, 64, 3, 3), np.int16), signed_range(8))
    with pytest.raises(ValueError, match="weight"):
        kernels.Layer(np.ones((64, 64, 5, 5), np.int8), signed_range(8))


def test_report_and_choice() -> None:
    found = kernels.report()
    assert [isa.problem for isa in found.isas] == [""] * len(found.isas)
    assert found.chosen == RUNNABLE[0] == kernels.choose_isa()
    assert found.isas[-1].name == "portable"
    with pytest.raises(DeviceError, match="no mmx kernels"):
        kernels.choose_isa("mmx")


def test_portable_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is all there is, torch's engines are faster."""
    module = SimpleNamespace(isas=lambda: [("portable", True, 1)], self_test=lambda _: None, cpu_features=lambda: "")
    monkeypatch.setattr(kernels, "_kernels", module)
    assert kernels.report().built
    with pytest.raises(DeviceError, match="no compiled kernel"):
        kernels.choose_isa()
    assert kernels.choose_isa("portable") == "portable"
