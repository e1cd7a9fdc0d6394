"""A network that keeps layers in float32, on the compiled kernels: integers bit for bit, pixels as on any engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from gdq_cli.engines import choose_engine, kernels, self_test
from gdq_cli.engines.native import NativeEngine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import Srresnet, parameters_of
from gdq_cli.networks.srresnet.weights import import_release
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.engines import windows_of
from tests.helpers.pictures import make_picture
from tests.helpers.release_state import make_release_state

pytestmark = pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")

RUNNABLE = [isa.name for isa in kernels.report().isas if isa.runnable]
BIT_WIDTHS = (4, 5, 6, 8)


@pytest.fixture(scope="module", params=[2, 4])
def converted(request: pytest.FixtureRequest) -> Checkpoint:
    network, controller, facts = import_release(make_release_state(request.param))
    return Checkpoint(parameters_of(network.eval()), controller, facts, "srresnet")


Streams = list[tuple[Tensor, ...]]


@pytest.fixture
def streams(converted: Checkpoint) -> Iterator[Streams]:
    """What the float layers behind the blocks were given, by call."""
    seen: Streams = []
    network = converted.network
    assert isinstance(network, Srresnet)

    def reconstruct(*read: Tensor) -> Tensor:
        seen.append(tuple(stream.clone() for stream in read))
        return Srresnet.reconstruct(network, *read)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "reconstruct", reconstruct)
        yield seen


def alike(ours: Tensor, theirs: Tensor) -> bool:
    """The float32 layers may be summed in another order: at most one level, on fewer than 0.1 % of the values."""
    difference = (ours.int() - theirs.int()).abs()
    return int(difference.max()) <= 1 and float((difference > 0).float().mean()) < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 20), (31, 26)])
@pytest.mark.parametrize("bits", BIT_WIDTHS)
@pytest.mark.parametrize("isa", RUNNABLE)
def test_streams_are_equal(converted: Checkpoint, streams: Streams, isa: str, bits: int, size: tuple[int, int]) -> None:
    windows = windows_of(*(make_picture(*size, seed=seed) for seed in (3, 4, 5)))
    ours = NativeEngine(converted.network, isa, [bits])(windows, bits)
    theirs = ReferenceEngine(converted.network)(windows, bits)
    assert len(streams) == 2
    for found, expected in zip(*streams, strict=True):
        assert torch.equal(found, expected)
    assert ours.shape == theirs.shape == (3, 3, size[0] * converted.scale, size[1] * converted.scale)
    assert alike(ours, theirs)


def test_weights_of_every_code_are_among_them(converted: Checkpoint) -> None:
    """Among them -128, whose negative is no byte."""
    weights = [conv.weight for conv in converted.parameters.program.convs]
    assert min(weight.min() for weight in weights) == -128
    assert all(
        layer[0] in (0, -8, -16, -32, -128) for layer in (c.input_range for c in converted.parameters.program.convs)
    )


def test_the_float_network(converted: Checkpoint) -> None:
    windows = windows_of(make_picture(12, 13))
    assert alike(NativeEngine(converted.network)(windows, 32), ReferenceEngine(converted.network)(windows, 32))


def test_it_is_chosen_and_passes_its_self_test(converted: Checkpoint) -> None:
    choice = choose_engine(converted.network)
    assert (choice.engine.name, choice.rejected) == ("native", ())
    assert self_test(choice.engine, converted.network)


def test_whole_pictures(converted: Checkpoint) -> None:
    """Patches of all widths, in batches, float ones among them."""
    picture = make_picture(100, 150)
    found, expected = (
        Upscaler(converted, choose_engine(converted.network, name=name).engine).upscale(picture)
        for name in ("native", "reference")
    )
    assert [choice.bit_width for choice in found.plan.choices] == [choice.bit_width for choice in expected.plan.choices]
    assert alike(torch.from_numpy(found.image), torch.from_numpy(expected.image))


@pytest.mark.parametrize("value", [kernels.LARGEST_GIVEN, -1e9, np.inf, np.nan])
def test_values_that_the_kernels_would_not_turn_into_codes_exactly(
    converted: Checkpoint, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    stem = converted.network.stem  # type: ignore[attr-defined]

    def one_is_large(pixels: Tensor) -> Tensor:
        features: Tensor = stem(pixels)
        features[0, 3, 2, 1] = value
        return features

    monkeypatch.setattr(converted.network, "stem", one_is_large)
    with pytest.raises(DeviceError, match="too large, or no numbers"):
        NativeEngine(converted.network)(windows_of(make_picture(5, 6)), 4)


def test_threads_that_help(converted: Checkpoint, streams: Streams) -> None:
    """More threads than windows: the same values."""
    engine = NativeEngine(converted.network)
    windows = windows_of(make_picture(83, 20), make_picture(83, 20, seed=1))
    before = torch.get_num_threads()
    try:
        for threads in (1, 5):
            torch.set_num_threads(threads)
            engine(windows, 8)
    finally:
        torch.set_num_threads(before)
    (one, skip), (five, other_skip) = streams
    if torch.equal(skip, other_skip):  # else torch itself summed in another order
        assert torch.equal(one, five)
