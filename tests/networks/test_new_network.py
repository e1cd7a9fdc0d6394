"""What a new network takes: the four parts of its folder, here in one file, and one line of ``KINDS``.

This one has what none of the others has: leaky activations with a skip behind each, over two layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import BIT_WIDTHS, FP32_BITS
from gdq_cli.engines import choose_engine, kernels, self_test
from gdq_cli.engines.native import NativeEngine
from gdq_cli.engines.onednn import OnednnEngine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks import KINDS, Network, NetworkConfig, NetworkKind, build_network, lower_network, outline
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.options import ControllerOptions
from gdq_cli.program import cost
from gdq_cli.program.cost import LayerCost
from gdq_cli.program.layers import ConvConfig, QuantLayer, Tensors, check_quantized, conv_shapes, lower_head
from gdq_cli.program.operations import Codes, Conv, Epilogue, Head, Operation, Pixels, Program
from gdq_cli.training.calibration.calibrate import calibrate_checkpoint
from gdq_cli.training.start import float_copy
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.engines import OffByOne, needs_onednn, onednn_is_exact, windows_of
from tests.helpers.integers import with_integer_head
from tests.helpers.pictures import make_pairs, make_picture

SLOPE = 0.25


@dataclass(frozen=True)
class StrideConfig(NetworkConfig):  # config.py
    name: ClassVar = "stride"
    depth: ClassVar = "layers"
    scale: int
    layers: int
    features: int = 64
    bit_widths: tuple[int, ...] = BIT_WIDTHS
    static_bits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "static_bits", (8,) if self.bit_widths else ())

    @property
    def quant_convs(self) -> dict[str, ConvConfig]:
        layer = ConvConfig(self.features, self.features, self.bit_widths)
        tail = ConvConfig(self.features, 3 * self.scale**2, self.static_bits)
        return {**{f"body.{i}": layer for i in range(self.layers)}, "tail": tail}

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        return conv_shapes({"head": ConvConfig(3, self.features, ()), **self.quant_convs})


class Stride(Network):  # network.py
    def __init__(self, config: StrideConfig) -> None:
        super().__init__(config)
        *layers, tail = config.quant_convs.values()
        self.head = nn.Conv2d(3, config.features, 3, padding=1)
        self.body = nn.ModuleList(map(QuantConv2d, layers))
        self.tail = QuantConv2d(tail)

    def features(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.head(pixels / 255)
        return output

    def forward(self, pixels: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        before, x = None, self.features(pixels)
        for conv in self.body:
            y = F.leaky_relu(conv(x, bit_width), SLOPE)
            before, x = x, y if before is None else y + before
        enlarged = F.interpolate(pixels, scale_factor=self.config.scale)
        return F.pixel_shuffle(self.tail(x, bit_width) * 255, self.config.scale) + enlarged


def lower_stride(config: StrideConfig, tensors: Tensors) -> Program:  # lowering.py
    """Buffer 2i holds the stream that layer i reads, 2i + 1 its codes."""
    check_quantized(config.bit_widths)
    *layers, tail = (QuantLayer(name, tensors, conv) for name, conv in config.quant_convs.items())
    head = lower_head(tensors, (0, 0, 0))
    end = Pixels(2 * config.layers + 1, tail.lower(8, gain=255), config.scale, True)
    operations: dict[int, tuple[Operation, ...]] = {}
    for bits in config.bit_widths:
        program: list[Operation] = []
        for i, reader in enumerate([*layers, tail]):
            made = Epilogue(
                slope=np.full(1, SLOPE, np.float32) if i else None,
                add=2 * (i - 2) if i > 1 else None,
                keep=2 * i if i < config.layers - 1 else None,
                codes=Codes(2 * i + 1, reader.config.input_range(bits), reader.inverse_steps(bits)),
            )
            program.append(Conv(2 * i - 1, layers[i - 1].lower(bits), made) if i else Head(head, made))
        operations[bits] = (*program, end)
    return Program(config.scale, operations)


class Kind(NetworkKind):
    network = Stride  # in a folder it is found by its name


KIND = Kind(StrideConfig, lower_stride, "Stride")  # __init__.py


# --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, KIND.name, KIND)


@pytest.fixture(scope="module")
def stride() -> Checkpoint:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, KIND.name, KIND)
        network = build_network(StrideConfig(2, 3, bit_widths=()))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, value in network.named_parameters():
                fan_in = value[0].numel() if value.dim() == 4 else 64
                gain = 0.3 if name.startswith("tail") else 1.2
                value.copy_(torch.randn(value.shape, generator=generator) * gain * fan_in**-0.5)
        return calibrate_checkpoint(network.eval(), make_pairs(2, 3), ControllerOptions(5.5), name="small", patches=8)


def test_it_is_read_as_it_was_written(stride: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "stride.safetensors"
    write_checkpoint(path, stride)
    read = read_checkpoint(path)
    assert isinstance(read.config, StrideConfig)
    assert read.config == stride.config
    windows = windows_of(make_picture(11, 14))
    for bits in (4, 5, 6, 8, 32):
        assert torch.equal(ReferenceEngine(read.network)(windows, bits), ReferenceEngine(stride.network)(windows, bits))
    state = stride.network.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == read.config.tensor_shapes()


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_integers_do_what_the_float_network_does(stride: Checkpoint, bits: int) -> None:
    network, pixels = with_integer_head(stride.network), windows_of(make_picture(24, 20, seed=5)).float()
    with torch.inference_mode():
        fake, full = network(pixels, bits), network(pixels)
        real = ReferenceEngine(stride.network).grey_levels(pixels, bits)
    assert float((real - fake).abs().median()) < 1e-2
    assert float((real - fake).square().mean()) <= 0.05 * float((full - fake).square().mean())
    assert float((full - F.interpolate(pixels, scale_factor=2)).std()) > 3  # the layers do something


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(NativeEngine, marks=pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")),
        pytest.param(OnednnEngine, marks=needs_onednn),
    ],
)
def test_engines_give_equal_pixels(engine: type[NativeEngine] | type[OnednnEngine], stride: Checkpoint) -> None:
    fast, reference = engine(stride.network), ReferenceEngine(stride.network)
    assert self_test(fast, stride.network)
    for size in ((1, 1), (3, 20), (31, 26)):
        windows = windows_of(make_picture(*size, seed=3), make_picture(*size, seed=4))
        for bits in (4, 5, 6, 8):
            assert torch.equal(fast(windows, bits), reference(windows, bits))


def test_it_goes_its_way_through_the_program(stride: Checkpoint) -> None:
    engine = choose_engine(stride.network).engine
    assert (engine.name == "reference") == (not kernels.report().chosen and not onednn_is_exact())
    assert not self_test(OffByOne(stride.network), stride.network)
    picture = make_picture(100, 150)
    result = Upscaler(stride, engine).upscale(picture, budget=4.5)
    assert result.image.shape == (200, 300, 3)
    assert 4 <= result.fab <= 4.5
    slow = Upscaler(stride, ReferenceEngine(stride.network)).upscale(picture, budget=4.5)
    assert np.array_equal(result.image, slow.image)
    assert result.bitops_g == pytest.approx(slow.bitops_g)


def test_costs_and_reach() -> None:
    program = outline(StrideConfig(4, 5, 8))
    head, layer, tail = LayerCost(27 * 8, 32), LayerCost(9 * 8 * 8, 6), LayerCost(9 * 8 * 48, 8)
    assert cost.layer_costs(program.at(6)) == [head, *[layer] * 5, tail]
    assert program.radius == 7
    assert program.is_exact


def test_its_float_network_is_refused(stride: Checkpoint) -> None:
    plain = float_copy(stride.network)
    assert plain.config == StrideConfig(2, 3, bit_widths=())
    with pytest.raises(WeightsError, match="float32 checkpoint"):
        lower_network(plain)
