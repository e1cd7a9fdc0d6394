"""The bound of 2^24, below which float32 sums of integers are exact, and what else a layer's lowering refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.errors import WeightsError
from gdq_cli.networks import SrresnetConfig, build_network, lower_network
from gdq_cli.program.grids import Grid
from gdq_cli.program.layers import EXACT, ConvConfig, IntegerConv, QuantLayer, Tensors, conv_shapes, lower_head
from tests.helpers.integers import exact_accumulators


def made_tensors(config: ConvConfig, code: int) -> Tensors:
    """Of a layer whose weights all have one code, on steps of 1."""
    tensors = {key: np.ones(shape, np.float32) for key, shape in conv_shapes({"conv": config}).items()}
    tensors["conv.weight"] *= code
    return tensors


def made_layer(
    code: int, inputs: int = 4, bit_widths: tuple[int, ...] = BIT_WIDTHS, signed: bool = True, four: Grid = "narrow"
) -> QuantLayer:
    config = ConvConfig(inputs, 2, bit_widths, signed, four_bits=four)
    return QuantLayer("conv", made_tensors(config, code), config)


def largest(conv: IntegerConv) -> int:
    """The largest accumulator that a code in its range makes."""
    low, high = conv.input_range
    inner = (0, 0, 1, 1)  # a pixel that has all its neighbours
    sums = [exact_accumulators(torch.full((1, conv.weight.shape[1], 3, 3), code), conv)[inner] for code in (low, high)]
    return max(abs(int(total)) for total in sums)


@pytest.mark.parametrize(
    ("bit_width", "signed", "inputs"),
    [(8, False, 57), (8, True, 114), (6, True, 458), (6, False, 232), (4, True, 1834)],
)
def test_the_last_channel_that_is_exact(bit_width: int, signed: bool, inputs: int) -> None:
    """Weights of 127 everywhere: one input channel more, and the sums could pass 2^24."""
    for code in (127, -127):
        layer = made_layer(code, inputs, (bit_width,), signed)
        assert 0.95 * EXACT < largest(layer.lower(bit_width)) < EXACT
        layer = made_layer(code, inputs + 1, (bit_width,), signed)
        peak = 127 * 9 * (inputs + 1) * (2 ** (bit_width - 1) if signed else 2**bit_width - 1)
        with pytest.raises(WeightsError, match=rf"^accumulators of conv reach {peak}, beyond 2\^24: .* exactly$"):
            layer.lower(bit_width)


def test_each_width_is_judged_by_its_own_codes() -> None:
    """Weights that 8-bit codes take beyond 2^24 are fine with fewer bits."""
    layer = made_layer(14, 256)
    layer = replace(layer, tensors={**layer.tensors, "conv.wide_step": np.full(2, 14 / 127, np.float32)})
    for bits in (4, 5, 6):
        conv = layer.lower(bits)
        assert int(conv.weight.max()) == 14
        assert largest(conv) == 14 * 9 * 256 * 2 ** (bits - 1)
    with pytest.raises(WeightsError, match=r"2\^24"):
        layer.lower(8)


def test_narrow_weights_that_the_winograd_kernel_cannot_hold() -> None:
    layer = made_layer(15)  # 9 of them: 135
    with pytest.raises(WeightsError, match="narrow weights of conv leave the range of the Winograd kernel"):
        layer.lower(4)
    assert int(layer.lower(8).weight.max()) == 15


def test_four_bits_have_a_grid_of_their_own() -> None:
    """Where the checkpoint says so; in older ones they share that of 5 and 6 bits."""
    layer = made_layer(14, four="coarse")
    tensors = {**layer.tensors, "conv.coarse_step": np.full(2, 2, np.float32)}
    layer = replace(layer, tensors=tensors)
    assert [layer.config.weight_grid(bits) for bits in BIT_WIDTHS] == ["coarse", "narrow", "narrow", "wide"]
    assert [int(layer.lower(bits).weight.max()) for bits in BIT_WIDTHS] == [7, 14, 14, 14]
    assert layer.lower(4).multiplier.tolist() == [2, 2]
    older = made_layer(14)
    assert [older.config.weight_grid(bits) for bits in BIT_WIDTHS] == ["narrow", "narrow", "narrow", "wide"]
    mixed = np.zeros((2, 4, 3, 3), np.float32)
    mixed[0, 0] = [[30, 30, -30], [30, 30, -30], [-30, -30, -30]]  # fits 16 sums of nine, but not a complex one
    layer = replace(layer, tensors={**tensors, "conv.weight": mixed, "conv.coarse_step": np.ones(2, np.float32)})
    assert int(layer.lower(5).weight.max()) == 30
    with pytest.raises(WeightsError, match="coarse weights of conv leave the range of the Winograd kernel"):
        layer.lower(4)


@pytest.mark.parametrize(("code", "features"), [(127, 114), (-128, 113)])
def test_the_bound_of_srresnet(code: int, features: int) -> None:
    """Its weights may be -128, its codes are signed."""
    for channels in (features, features + 1):
        network = build_network(SrresnetConfig(2, 1, channels))
        with torch.no_grad():
            for conv in (network.body[0].conv1, network.body[0].conv2):  # type: ignore[index, union-attr]
                conv.weight.fill_(code)
                conv.weight_step.fill_(1)
        if channels == features:
            assert 0.95 * EXACT < max(map(largest, lower_network(network).convs)) < EXACT
            continue
        peak = abs(code) * 9 * 128 * channels
        with pytest.raises(WeightsError, match=rf"^accumulators of body.0.conv1 reach {peak}, beyond 2\^24"):
            lower_network(network)


@pytest.mark.parametrize("mean", [(0, 0, 0), (114, 111, 103)])
def test_a_head_of_3x3_is_exact_whatever_its_weights(mean: tuple[int, int, int]) -> None:
    weight = np.ones((2, 3, 3, 3), np.float32)
    head = lower_head({"head.weight": weight, "head.bias": np.zeros(2, np.float32)}, mean)
    assert int(head.weight.max()) == 2047
    peak = int(np.abs(head.weight.astype(np.int64)).sum((1, 2, 3)).max()) * 255
    assert 0.8 * EXACT < peak < EXACT


def test_a_head_that_sums_too_much_is_refused() -> None:
    """Of 5x5 or more: 12-bit weights may pass 2^24, and do not if few of them are large."""
    weight, bias = np.ones((2, 3, 5, 5), np.float32), np.zeros(2, np.float32)
    with pytest.raises(WeightsError, match=r"^accumulators of head reach 39148875, beyond 2\^24: .* exactly$"):
        lower_head({"head.weight": weight, "head.bias": bias}, (0, 0, 0))
    weight[:, :, [0, 4]] /= 100
    weight[..., [0, 4]] /= 100
    assert lower_head({"head.weight": weight, "head.bias": bias}, (0, 0, 0)).weight.shape == (2, 3, 5, 5)
