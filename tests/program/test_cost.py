"""Costs against the multiplications that the modules really do, and the formula written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gdq_cli.networks import CompactConfig, EdsrConfig, NetworkConfig, SrresnetConfig, build_network, outline
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.srresnet.network import TensorQuantConv2d
from gdq_cli.program import cost
from gdq_cli.program.cost import LayerCost
from gdq_cli.program.operations import Codes, Conv, Epilogue, Head, Pixels, Quantize

EXACT = [
    EdsrConfig(2, 3, 16),
    EdsrConfig(3, 3, 16),
    EdsrConfig(4, 3, 16, static_bits=(8, 8, 6, 8)),
    EdsrConfig(2, 3, 16, upsampler="pixelshuffledirect"),
    EdsrConfig(3, 3, 16, upsampler="pixelshuffledirect"),
    EdsrConfig(4, 3, 16, upsampler="pixelshuffledirect"),
    CompactConfig(2, 5, 16),
    CompactConfig(3, 5, 16),
    CompactConfig(4, 5, 16),
]


def counted_layers(config: NetworkConfig) -> list[tuple[int, tuple[int, ...]]]:
    """MACs per LR pixel that each convolution does on a small input, and its bit-widths, in the order they run."""
    network, counted = build_network(config), []

    def hook(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        macs = output.numel() * module.weight[0].numel()  # type: ignore[index]
        assert macs % 35 == 0
        sizes = module.config if isinstance(module, QuantConv2d) else module
        counted.append((macs // 35, getattr(sizes, "bit_widths", ())))

    for module in network.modules():
        if isinstance(module, QuantConv2d | TensorQuantConv2d | torch.nn.Conv2d):
            module.register_forward_hook(hook)
    with torch.inference_mode():
        network(torch.zeros(1, 3, 5, 7))
    return counted


@pytest.mark.parametrize("config", EXACT, ids=str)
def test_macs_are_those_of_the_layers(config: NetworkConfig) -> None:
    """Layer by layer; the head counts as float32, a static layer with its own width."""
    counted = counted_layers(config)
    for bits in (4, 5, 6, 8):
        expected = [LayerCost(macs, 32 if not own else own[0] if len(own) == 1 else bits) for macs, own in counted]
        assert cost.layer_costs(outline(config).at(bits)) == expected
    assert cost.macs(outline(config)) == sum(macs for macs, _ in counted)
    assert [own for _, own in counted if len(own) != 4] == [(), *((bits,) for bits in config.static_bits)]


@pytest.mark.parametrize("scale", [2, 4])
def test_macs_of_layers_that_stay_float(scale: int) -> None:
    """One before the quantized blocks, the others together behind them."""
    config = SrresnetConfig(scale, 3, 16)
    (head, _), *counted = counted_layers(config)
    blocks, rest = [macs for macs, own in counted if own], [macs for macs, own in counted if not own]
    assert len(blocks) == 6
    assert len(rest) == 2 + len(config.stages)
    for bits in (4, 5, 6, 8):
        expected = [LayerCost(head, 32), *(LayerCost(macs, bits) for macs in blocks), LayerCost(sum(rest), 32)]
        assert cost.layer_costs(outline(config).at(bits)) == expected
    assert cost.macs(outline(config)) == head + sum(blocks) + sum(rest)


def test_macs_behind_a_pixel_shuffle() -> None:
    """At four times the pixels everything costs four times as much, whichever way its codes took."""
    head, conv = next(iter(outline(EdsrConfig(2, 1, 4)).at(4))), outline(EdsrConfig(2, 1, 4)).convs[0]
    assert isinstance(head, Head)
    codes = [Codes(buffer, conv.input_range) for buffer in range(9)]
    shuffled = replace(conv, weight=conv.weight.repeat(4, 0))
    steps = (
        replace(head, epilogue=Epilogue(codes=codes[0])),
        Conv(0, shuffled, Epilogue(codes=codes[1]), 2),
        Conv(1, conv, Epilogue(keep=2, codes=codes[3])),
        Quantize(2, codes[4]),
        Conv(3, conv, Epilogue(add=2, codes=codes[5])),
        Conv(4, shuffled, Epilogue(codes=codes[6]), 2),
        Pixels(6, conv),
    )
    macs, bits = conv.weight.size, 4
    expected = [(4 * macs, bits), (4 * macs, bits), (4 * macs, bits), (16 * macs, bits), (16 * macs, bits)]
    assert cost.layer_costs(steps)[1:] == [LayerCost(*layer) for layer in expected]


def test_bit_operations_add_up() -> None:
    program = outline(EdsrConfig(4, 16, 64))
    head, dynamic = 27 * 64, 32 * 9 * 64 * 64
    static = [9 * 64 * 64, 9 * 64 * 256, 4 * 9 * 64 * 256, 16 * 9 * 64 * 3]
    alone = {bits: cost.bit_operations(program, {bits: 1000}) for bits in (4, 5, 6, 8, 32)}
    assert alone[4] < alone[5] < alone[6] < alone[8] < alone[32]
    assert alone[6] - alone[4] == pytest.approx(dynamic * 8 * 2 * 1000 / 1e9)
    assert cost.bit_operations(program, {4: 1000, 8: 2000}) == pytest.approx(alone[4] + 2 * alone[8])
    assert alone[4] == pytest.approx((head * 1024 + (dynamic * 4 + sum(static) * 8) * 8) * 1000 / 1e9)
    assert alone[32] == pytest.approx((head + dynamic + sum(static)) * 1024 * 1000 / 1e9)
    fewer = cost.bit_operations(outline(EdsrConfig(4, 16, 64, static_bits=(8, 8, 6, 8))), {4: 1000})
    assert alone[4] - fewer == pytest.approx(static[2] * 8 * 2 * 1000 / 1e9)


def test_a_float_network_costs_what_it_would_without_bit_widths() -> None:
    for kind in (EdsrConfig, CompactConfig, SrresnetConfig):
        plain, quantized = (cost.bit_operations(outline(c), {32: 100}) for c in (kind(2, 3, 8, ()), kind(2, 3, 8)))
        assert plain == quantized > 0
