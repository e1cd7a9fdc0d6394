"""SRResNet: exact accumulators in its blocks, agreement of the engines, and its way through the program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gdq_cli.bits.controller_release import ReleaseHead
from gdq_cli.engines import choose_engine, kernels, self_test
from gdq_cli.engines.onednn import OnednnEngine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import Srresnet, SrresnetConfig, lower_network, outline, parameters_of
from gdq_cli.networks.srresnet.weights import import_release
from gdq_cli.program import cost
from gdq_cli.program.cost import LayerCost
from gdq_cli.program.operations import Conv
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.engines import needs_onednn, windows_of
from tests.helpers.integers import exact_accumulators, extreme_codes
from tests.helpers.pictures import make_picture
from tests.helpers.release_state import make_release_state


@pytest.fixture(scope="module", params=[2, 4])
def converted(request: pytest.FixtureRequest) -> Checkpoint:
    network, controller, facts = import_release(make_release_state(request.param))
    return Checkpoint(parameters_of(network.eval()), controller, facts, "srresnet")


@needs_onednn
def test_accumulators_are_exact(converted: Checkpoint) -> None:
    reference, fast = ReferenceEngine(converted.network), OnednnEngine(converted.network)
    generator = torch.Generator().manual_seed(0)
    lows, weights = set(), set()
    for bits, operations in reference.parameters.program.operations.items():
        convs = [step.layer for step in operations if isinstance(step, Conv)]
        assert len(convs) == 4
        for conv in convs:
            low, high = conv.input_range
            assert high - low == 2**bits - 1
            lows.add(low)
            weights |= {int(conv.weight.min()), int(conv.weight.max())}
            codes = extreme_codes(conv, generator)
            exact = exact_accumulators(codes, conv)
            assert torch.equal(reference.accumulators(codes, conv), exact)
            assert torch.equal(fast.accumulators(codes, conv), exact)
    assert len(reference.parameters.program.convs) == 4 * 4
    assert lows >= {0, -8, -16, -32, -128}  # signed and unsigned inputs, every width
    assert -128 in weights


@needs_onednn
@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_engines_agree(converted: Checkpoint, bits: int) -> None:
    """The float32 layers may be summed in another order: at most one level, on fewer than 0.1 % of the values."""
    windows = windows_of(make_picture(31, 26, seed=3), make_picture(31, 26, seed=4))
    ours, theirs = (engine(converted.network)(windows, bits).int() for engine in (OnednnEngine, ReferenceEngine))
    difference = (ours - theirs).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).float().mean()) < 1e-3
    assert ours.float().std() > 10  # a picture, not a constant


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_integers_do_what_the_float_network_does(converted: Checkpoint, bits: int) -> None:
    windows = windows_of(make_picture(24, 20, seed=5))
    with torch.inference_mode():
        fake = converted.network(windows.float(), bits)
        full = converted.network(windows.float())
        real = ReferenceEngine(converted.network).grey_levels(windows.float(), bits)
    assert float((real - fake).square().mean().sqrt()) <= 0.02 * float((full - fake).square().mean().sqrt())


@pytest.mark.skipif(not kernels.report().chosen, reason="kernels not built")
def test_engine_choice(converted: Checkpoint) -> None:
    """The kernels run its integers, and its float layers around them."""
    assert choose_engine(converted.network).engine.name == "native"


class Brighter(ReferenceEngine):
    def __call__(self, windows: torch.Tensor, bit_width: int) -> torch.Tensor:
        return (super().__call__(windows, bit_width).int() + 1).clamp(0, 255).to(torch.uint8)


def test_the_self_test_refuses_a_level_everywhere(converted: Checkpoint) -> None:
    assert self_test(ReferenceEngine(converted.network), converted.network)
    assert not self_test(Brighter(converted.network), converted.network)


def test_upscaler(converted: Checkpoint) -> None:
    scale = converted.scale
    picture = make_picture(100, 150)
    upscaler = Upscaler(converted, choose_engine(converted.network).engine)
    result = upscaler.upscale(picture)
    assert result.image.shape == (100 * scale, 150 * scale, 3)
    assert {choice.reason for choice in result.plan.choices} <= {"controller", "entropy"}
    assert np.array_equal(result.image, upscaler.upscale(picture).image)
    forced = upscaler.upscale(picture, bits="4")
    assert forced.fab == 4
    assert forced.bitops_g < upscaler.upscale(picture, bits="8").bitops_g < result.bitops_fp32_g
    assert result.bitops_fp32_g > cost.bit_operations(converted.parameters.program, {8: 100 * 150})


def test_macs_by_hand() -> None:
    program = outline(SrresnetConfig(2))
    head, block, rest = 81 * 3 * 64, 9 * 64 * 64, 9 * 64 * 64 + 9 * 64 * 256 + 4 * 81 * 64 * 3
    expected = [LayerCost(head, 32), *[LayerCost(block, 5)] * 32, LayerCost(rest, 32)]
    assert cost.layer_costs(program.at(5)) == expected
    per_pixel = 32 * block * 8 * 5 + (rest + head) * 1024
    assert cost.bit_operations(program, {5: 1000}) == pytest.approx(per_pixel * 1000 / 1e9)


def test_mean_features_by_convolution() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3, 9, 9)).astype(np.float32)
    for height, width in ((8, 8), (9, 14), (31, 4), (4, 5), (3, 2)):
        core = make_picture(height, width, seed=height)
        pixels = torch.from_numpy(core).permute(2, 0, 1)[None].double()
        features = torch.nn.functional.conv2d(pixels, torch.from_numpy(weight).double(), padding=4)
        rows, cols = height // 4 * 4 or height, width // 4 * 4 or width
        expected = features[0, :, :rows, :cols].mean((1, 2)).numpy()
        found = ReleaseHead(weight).descriptors(core[None])
        assert found.shape == (1, 15)
        np.testing.assert_allclose(found[0].reshape(3, 5), [expected] * 3, rtol=1e-10)


def test_what_cannot_be_lowered() -> None:
    with pytest.raises(WeightsError, match="float32 checkpoint"):
        lower_network(Srresnet(SrresnetConfig(2, 1, 8, bit_widths=())))
    network = import_release(make_release_state(2, blocks=1))[0]
    with torch.no_grad():
        network.blocks[0].conv1.weight.fill_(1.0)
    with pytest.raises(WeightsError, match=r"2\^24"):
        lower_network(network)
    with pytest.raises(ValueError, match="scale must be 2 or 4"):
        SrresnetConfig(3)
    with pytest.raises(ValueError, match="bit_width must be one of"):
        network(torch.zeros(1, 3, 4, 4), 7)
