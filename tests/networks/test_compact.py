"""Compact: the float network against plain torch, engines against each other, its checkpoint and its costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdq_cli.engines import choose_engine, kernels, self_test
from gdq_cli.engines.onednn import OnednnEngine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError, WeightsError
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks import Compact, CompactConfig, controller_head, lower_network, outline, parameters_of
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.compact.weights import import_compact
from gdq_cli.options import ControllerOptions
from gdq_cli.program import cost
from gdq_cli.program.operations import Conv, Head, Pixels
from gdq_cli.training.calibration.calibrate import calibrate_checkpoint, quantized_copy
from gdq_cli.training.calibration.steps import calibrate_steps
from gdq_cli.training.data import PatchSampler
from gdq_cli.training.start import float_copy
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.attacks import assert_refused, config, one, tensor
from tests.helpers.checkpoints import rewrite
from tests.helpers.compact_state import compact_output, compact_state, make_compact
from tests.helpers.engines import OffByOne, needs_onednn, onednn_is_exact, windows_of
from tests.helpers.integers import as_tensors, exact_accumulators, extreme_codes, with_integer_head
from tests.helpers.pictures import make_pairs, make_picture


@pytest.fixture(scope="module", params=[2, 3, 4])
def compact(request: pytest.FixtureRequest) -> Checkpoint:
    """A small calibrated checkpoint at each scale."""
    scale: int = request.param
    network = import_compact(compact_state(make_compact(scale)))
    return calibrate_checkpoint(network, make_pairs(scale, 4), ControllerOptions(5.5), name="small", patches=8)


@pytest.fixture(scope="module")
def file(compact: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compact") / "small.safetensors"
    write_checkpoint(path, compact)
    return path


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_float_network_is_that_of_plain_torch(scale: int) -> None:
    body = make_compact(scale, seed=scale)
    pixels = windows_of(make_picture(17, 23)).float()
    with torch.inference_mode():
        found = import_compact(compact_state(body))(pixels)
    expected = compact_output(body, pixels, scale)
    assert found.shape == expected.shape == (1, 3, 17 * scale, 23 * scale)
    assert float((found - expected).abs().max()) < 1e-3  # of 255 grey levels
    enlarged = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    assert float((expected - enlarged).std()) > 3  # the layers do something


@needs_onednn
@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 20), (31, 26)])
def test_engines_agree_on_every_bit(compact: Checkpoint, bits: int, size: tuple[int, int]) -> None:
    """Not only the pixels: the float32 values before they are rounded."""
    windows = windows_of(make_picture(*size, seed=3), make_picture(*size, seed=4))
    pixels = windows.float().contiguous(memory_format=torch.channels_last)
    reference, fast = ReferenceEngine(compact.network), OnednnEngine(compact.network)
    with torch.inference_mode():
        ours, theirs = (engine.grey_levels(pixels, bits) for engine in (fast, reference))
    assert torch.equal(ours, theirs)
    assert torch.equal(fast(windows, bits), reference(windows, bits))
    assert fast(windows, bits).shape == (2, 3, size[0] * compact.scale, size[1] * compact.scale)


@needs_onednn
def test_accumulators_are_exact(compact: Checkpoint) -> None:
    reference, fast = ReferenceEngine(compact.network), OnednnEngine(compact.network)
    program = reference.parameters.program
    for width, operations in program.operations.items():
        for step in operations:
            if isinstance(step, Conv | Pixels):
                bits = width if isinstance(step, Conv) else 8
                assert step.layer.input_range == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert len(program.convs) == 4 * 3 + 1
    generator = torch.Generator().manual_seed(0)
    for conv in program.convs:
        codes = extreme_codes(conv, generator)
        exact = exact_accumulators(codes, conv)
        assert torch.equal(reference.accumulators(codes, conv), exact)
        assert torch.equal(fast.accumulators(codes, conv), exact)


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_integers_do_what_the_float_network_does(compact: Checkpoint, bits: int) -> None:
    """With the head's 12-bit weights in both, only the order of roundings differs: hardly a code is another one.

    A chain without skips hands every other code on, so those few may show; nearly all values are the same.
    """
    network = with_integer_head(compact.network)
    windows = windows_of(make_picture(24, 20, seed=5))
    engine = ReferenceEngine(compact.network)
    with torch.inference_mode():
        fake = network(windows.float(), bits)
        full = network(windows.float())
        real = engine.grey_levels(windows.float(), bits)
    assert float((real - fake).abs().median()) < 1e-3
    assert float((real - fake).square().mean()) <= 0.05 * float((full - fake).square().mean())


def test_more_bits_are_closer_to_the_float_network(compact: Checkpoint) -> None:
    windows = windows_of(make_picture(40, 40, seed=6))
    with torch.inference_mode():
        full = compact.network(windows.float())
        errors = [float((compact.network(windows.float(), bits) - full).square().mean()) for bits in (4, 5, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.25 * errors[0]
    assert errors[-1] ** 0.5 < 1.5  # grey levels


def test_the_heads_of_engine_and_controller_are_one(compact: Checkpoint) -> None:
    """Pixels are not centred: a head that subtracts a mean would see other features at the border."""
    network = compact.network
    assert isinstance(network, Compact)
    first, *others = (operations[0] for operations in parameters_of(network).program.operations.values())
    assert isinstance(first, Head)
    assert all(isinstance(other, Head) and other.layer is first.layer for other in others)
    head, ours = as_tensors(first.layer), as_tensors(controller_head(network))
    assert head.mean == (0, 0, 0)
    assert torch.equal(head.weight, ours.weight)
    pixels = windows_of(make_picture(9, 9)).float()
    sums = torch.nn.functional.conv2d(pixels, head.weight.float(), padding=1)
    found = sums * head.multiplier.reshape(1, -1, 1, 1) + head.offset.reshape(1, -1, 1, 1)
    with torch.inference_mode():
        expected = network.features(pixels)
    assert float((found - expected).abs().max()) < 5e-3 * float(expected.abs().max())
    white = torch.full((3,), 255.0)
    peak = (head.weight.abs().sum((2, 3)).double() @ white.double()).max()
    assert float(peak) < 2**24


@pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")
def test_engine_choice(compact: Checkpoint) -> None:
    choice = choose_engine(compact.network)
    assert choice.engine.name == ("onednn" if onednn_is_exact() else "reference")
    assert "native: the kernels take features in multiples of 64 up to 1024, not 32" in choice.rejected
    with pytest.raises(DeviceError, match="the kernels take features in multiples of 64 up to 1024, not 32"):
        choose_engine(compact.network, name="native")
    assert not self_test(OffByOne(compact.network), compact.network)


@pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_compiled_kernels(scale: int) -> None:
    """Where the features are as many as they take, they run it, and give the reference's pixels."""
    network = quantized_copy(import_compact(compact_state(make_compact(scale, convs=2, features=64))))
    calibrate_steps(network, PatchSampler(make_pairs(scale, 4), 32), patches=8)
    choice = choose_engine(network, name="native")
    assert (choice.engine.name, choice.rejected) == ("native", ())
    reference = ReferenceEngine(network)
    for size in ((1, 1), (3, 20), (31, 26)):
        windows = windows_of(make_picture(*size, seed=3), make_picture(*size, seed=4))
        for bits in (4, 5, 6, 8):
            found = choice.engine(windows, bits)
            assert found.shape == (2, 3, size[0] * scale, size[1] * scale)
            assert torch.equal(found, reference(windows, bits))
    assert float(found.float().std()) > 10, "a flat picture proves nothing"


def test_upscaler(compact: Checkpoint) -> None:
    scale, picture = compact.scale, make_picture(100, 150)
    upscaler = Upscaler(compact, choose_engine(compact.network).engine)
    result = upscaler.upscale(picture, budget=4.5)
    assert result.image.shape == (100 * scale, 150 * scale, 3)
    assert 4 <= result.fab <= 4.5
    slow = Upscaler(compact, ReferenceEngine(compact.network)).upscale(picture, budget=4.5)
    assert np.array_equal(result.image, slow.image)
    assert np.array_equal(result.bit_map, slow.bit_map)
    four, eight = (upscaler.upscale(picture, bits=bits).bitops_g for bits in ("4", "8"))
    assert four < eight < result.bitops_fp32_g


def test_macs_are_those_of_the_layers() -> None:
    network = import_compact(compact_state(make_compact(3, convs=5, features=16)))
    counted = {"dynamic": 0, "static": 0, "head": 0}
    for name, module in network.named_modules():
        if isinstance(module, QuantConv2d | torch.nn.Conv2d):
            kind = "head" if name == "head" else "dynamic" if name.startswith("body.") else "static"
            counted[kind] += module.weight.numel()  # every layer runs once per LR pixel
    head, *dynamic, tail = cost.layer_costs(outline(network.config).at(5))
    assert (head.bits, {layer.bits for layer in dynamic}, tail.bits) == (32, {5}, 8)
    assert counted["dynamic"] == sum(layer.macs for layer in dynamic)
    assert counted["static"] == tail.macs
    assert counted["head"] == head.macs


# --- Checkpoint -----------------------------------------------------------------------------------------------------


def test_round_trip(compact: Checkpoint, file: Path) -> None:
    read = read_checkpoint(file)
    assert read.config.name == "compact"
    assert read.network.config == compact.network.config
    assert read.facts == compact.facts
    windows = windows_of(make_picture(20, 20))
    for bits in (4, 5, 6, 8, 32):
        assert torch.equal(
            ReferenceEngine(read.network)(windows, bits), ReferenceEngine(compact.network)(windows, bits)
        )


def test_float_copy(compact: Checkpoint, tmp_path: Path) -> None:
    network = compact.network
    assert isinstance(network, Compact)
    plain = float_copy(network)
    assert plain.config == replace(network.config, bit_widths=(), static_bits=())
    write_checkpoint(tmp_path / "float.safetensors", Checkpoint(parameters_of(plain), None))
    read = read_checkpoint(tmp_path / "float.safetensors")
    assert not read.is_quantized
    with pytest.raises(WeightsError, match="float32 checkpoint"):
        lower_network(read.network)


ATTACKS: dict[str, tuple[Any, str]] = {
    "10^9 convolutions": (config(convs=10**9), "out of range"),
    "no convolutions": (config(convs=0), "out of range"),
    "convolutions as a truth value": (config(convs=True), "not an integer"),
    "largest sizes without the data": (config(convs=64, features=256), "not those of the network"),
    "scale of 1": (config(scale=1), "scale must be"),
    "two static widths": (config(static_bits=[8, 8]), "static_bits needs one entry"),
    "a static width without dynamic ones": (config(bit_widths=[], static_bits=[8]), "static_bits needs one entry"),
    "sizes of an EDSR": (lambda path: rewrite(path, metadata={"network": "edsr"}), "configuration is damaged"),
    "NaN slope": (tensor("body.0.act.weight", one(float("nan"))), "not finite"),
    "zero step": (tensor("body.1.conv.activation_step", one(0.0)), "not positive"),
    "slopes of another shape": (tensor("head_act.weight", lambda x: x[:1]), "shape"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused(name: str, file: Path, tmp_path: Path) -> None:
    attack, message = ATTACKS[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(file.read_bytes())
    attack(path)
    assert_refused(path, message)


def test_configurations() -> None:
    assert CompactConfig(4).static_bits == (8,)
    assert CompactConfig(4, bit_widths=()).static_bits == ()
    with pytest.raises(ValueError, match="scale must be"):
        CompactConfig(1)
