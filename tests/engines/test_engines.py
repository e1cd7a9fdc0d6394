"""Engines against each other: equal accumulators, equal pixels, and a self-test that catches a wrong one."""

from collections.abc import Callable

import pytest
import torch

from gdq_cli.engines import choose_device, choose_engine, kernels, self_test
from gdq_cli.engines.base import Engine
from gdq_cli.engines.native import NativeEngine
from gdq_cli.engines.onednn import OnednnEngine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError, WeightsError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import lower_network
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.program.layers import EXACT, IntegerConv
from gdq_cli.training.calibration.calibrate import quantized_copy
from gdq_cli.training.calibration.steps import calibrate_steps
from gdq_cli.training.data import PatchSampler
from tests.helpers.engines import OffByOne, needs_onednn, windows_of
from tests.helpers.integers import as_tensors, exact_accumulators
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_pairs, make_picture

FAST = [
    pytest.param(NativeEngine, marks=pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")),
    pytest.param(OnednnEngine, marks=needs_onednn),
]


@pytest.mark.parametrize("engine", FAST)
def test_accumulators_are_equal(checkpoint: Checkpoint, engine: Callable[[Edsr], Engine]) -> None:
    reference, fast = ReferenceEngine(checkpoint.network), engine(checkpoint.network)
    generator = torch.Generator().manual_seed(0)
    for conv in checkpoint.parameters.program.convs:
        low, high = conv.input_range
        shape = (2, conv.weight.shape[1], 7, 9)
        random = torch.randint(low, high + 1, shape, generator=generator).to(torch.int16)
        extreme = torch.where(torch.rand(shape, generator=generator) < 0.5, low, high).to(torch.int16)
        for codes in (random, extreme, torch.full(shape, low, dtype=torch.int16)):
            exact = exact_accumulators(codes, conv)
            assert int(exact.abs().max()) < EXACT
            assert torch.equal(reference.accumulators(codes, conv), exact)
            assert torch.equal(fast.accumulators(codes, conv), exact)


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("bit_width", [4, 5, 6, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 20), (31, 26)])
def test_pixels_are_equal(
    checkpoint: Checkpoint, engine: Callable[[Edsr], Engine], bit_width: int, size: tuple[int, int]
) -> None:
    windows = windows_of(make_picture(*size, seed=3), make_picture(*size, seed=4))
    expected = ReferenceEngine(checkpoint.network)(windows, bit_width)
    assert expected.shape == (2, 3, size[0] * checkpoint.scale, size[1] * checkpoint.scale)
    assert torch.equal(engine(checkpoint.network)(windows, bit_width), expected)


@pytest.mark.parametrize("engine", FAST)
def test_a_static_layer_of_six_bits(engine: Callable[[Edsr], Engine]) -> None:
    network = quantized_copy(make_network(4), static_bits=(8, 8, 6, 8))
    calibrate_steps(network, PatchSampler(make_pairs(4), 32), patches=12)
    windows = windows_of(make_picture(19, 22, seed=6))
    expected = ReferenceEngine(network)(windows, 6)
    assert float(expected.float().std()) > 10, "a flat picture proves nothing"
    assert torch.equal(engine(network)(windows, 6), expected)


@pytest.mark.parametrize("bit_width", [4, 5, 6, 8])
def test_integers_do_what_the_trained_network_does(checkpoint: Checkpoint, bit_width: int) -> None:
    """The fake-quantized float network and the integers differ by less than quantization itself changes."""
    windows = windows_of(make_picture(24, 24, seed=5))
    with torch.inference_mode():
        fake = checkpoint.network(windows.float(), bit_width).round().clamp(0, 255)
        full = checkpoint.network(windows.float()).round().clamp(0, 255)
    integers = ReferenceEngine(checkpoint.network)(windows, bit_width).float()
    assert float((integers - fake).square().mean()) <= 0.3 * float((full - fake).square().mean()) + 0.05


def test_float_network_on_the_reference_engine(checkpoint: Checkpoint) -> None:
    windows = windows_of(make_picture(12, 12))
    with torch.inference_mode():
        expected = checkpoint.network(windows.float()).round().clamp(0, 255).to(torch.uint8)
    difference = ReferenceEngine(checkpoint.network)(windows, 32).int() - expected.int()
    assert int(difference.abs().max()) <= 1


class Saturating(ReferenceEngine):
    """An engine as on a CPU without VNNI: pairs of products saturate at 16 bits."""

    def accumulators(self, codes: torch.Tensor, conv: IntegerConv) -> torch.Tensor:
        weight = as_tensors(conv).weight.float()
        total = torch.zeros(codes.shape[0], conv.weight.shape[0], *codes.shape[2:])
        for first in range(0, codes.shape[1], 2):
            pair = slice(first, first + 2)
            product = torch.nn.functional.conv2d(codes[:, pair].float(), weight[:, pair], padding=1)
            total += product.clamp(-32768 * 9, 32767 * 9)
        return total.to(torch.int32)


def test_self_test_accepts_the_right_and_refuses_the_wrong(small_checkpoint: Checkpoint) -> None:
    network = small_checkpoint.network
    assert self_test(ReferenceEngine(network), network)
    assert not self_test(Saturating(network), network)
    assert not self_test(OffByOne(network), network)


def test_a_wrong_engine_is_not_chosen(small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_checkpoint.network

    def engines(*_: object) -> list[tuple[str, object]]:
        def broken() -> Engine:
            raise RuntimeError("no such instruction\nsecond line")

        return [("broken", broken), ("wrong", lambda: OffByOne(network))]

    monkeypatch.setattr("gdq_cli.engines.choice._fast_engines", engines)
    choice = choose_engine(network)
    assert choice.engine.name == "reference"
    assert choice.rejected == (
        "broken: no such instruction",
        "wrong: its self-test gave other integers than the reference",
    )


def test_engine_by_name(small_checkpoint: Checkpoint) -> None:
    assert choose_engine(small_checkpoint.network, name="reference").engine.name == "reference"
    with pytest.raises(DeviceError, match="no engine named warp"):
        choose_engine(small_checkpoint.network, name="warp")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", "cuda:99"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(DeviceError, match="device"):
        choose_device(device)


def test_a_float_checkpoint_has_no_integers() -> None:
    with pytest.raises(WeightsError, match="float32 checkpoint"):
        lower_network(make_network(2))


def test_accumulators_that_could_leave_the_exact_range_are_refused(small_checkpoint: Checkpoint) -> None:
    network = Edsr(small_checkpoint.network.config)
    network.load_state_dict(small_checkpoint.network.state_dict())
    with torch.no_grad():
        conv = network.blocks[0].conv2
        conv.weight[0] = conv.wide_step[0] * 127
        conv.narrow_step[0] = conv.wide_step[0] * 127
        conv.coarse_step[0] = conv.wide_step[0] * 127
    with pytest.raises(WeightsError, match=r"2\^24"):
        lower_network(network)
