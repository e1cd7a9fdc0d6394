"""The controller: descriptors against the formula in float64, exactness, and the budget."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gdq_cli.bits import controller as gbc
from gdq_cli.networks import controller_head
from gdq_cli.program.layers import IntegerHead
from tests.helpers.integers import as_tensors
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture


@pytest.fixture(scope="module")
def head() -> IntegerHead:
    return controller_head(make_network(2))


def controller(descriptor: gbc.Descriptor, seed: int = 0) -> gbc.Controller:
    rng = np.random.default_rng(seed)
    return gbc.Controller(descriptor, rng.normal(size=(3, 192)), rng.normal(size=3), (2.5, 3.0))


def float_features(core: np.ndarray, head: IntegerHead) -> torch.Tensor:
    """Head features of a core with repeated borders, in float64."""
    head = as_tensors(head)
    x = torch.from_numpy(core).permute(2, 0, 1)[None].double() - torch.tensor(head.mean).reshape(1, 3, 1, 1)
    x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), head.weight.double())
    return x * head.multiplier.double().reshape(1, -1, 1, 1)


@pytest.mark.parametrize("size", [(16, 24), (48, 44)])
def test_band_energy_is_the_detail_each_granularity_adds(head: IntegerHead, size: tuple[int, int]) -> None:
    core = make_picture(*size, seed=1)
    fine = float_features(core, head)
    medium, coarse = F.avg_pool2d(fine, 2), F.avg_pool2d(fine, 4)

    def up(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")

    bands = [fine - up(medium), medium - up(coarse), coarse - coarse.mean((2, 3), keepdim=True)]
    expected = torch.cat([band.abs().mean((2, 3)).sqrt() for band in bands], dim=1).numpy()
    got = controller("band_energy").descriptors(core[None], head)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_mean_descriptor_is_three_times_the_mean_feature(head: IntegerHead) -> None:
    core = make_picture(20, 20)
    expected = (float_features(core, head).mean((2, 3)) + as_tensors(head).offset.double()).numpy()
    got = controller("mean").descriptors(core[None], head)
    np.testing.assert_allclose(got, np.concatenate([expected] * 3, axis=1), rtol=1e-9)


def test_a_flat_patch_has_no_texture(head: IntegerHead) -> None:
    assert not controller("band_energy").descriptors(np.full((1, 12, 12, 3), 77, np.uint8), head).any()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 3), (7, 97)])
def test_any_size_of_core_gives_finite_logits(head: IntegerHead, size: tuple[int, int]) -> None:
    choice = controller("band_energy").choose(make_picture(*size)[None], head)
    assert len(choice) == 1
    assert np.isfinite(choice[0].logits).all()


def test_logits_do_not_depend_on_batch_or_threads(head: IntegerHead) -> None:
    cores = np.stack([make_picture(32, 32, seed) for seed in range(5)])
    together = controller("band_energy").descriptors(cores, head)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = np.concatenate([controller("band_energy").descriptors(core[None], head) for core in cores])
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(together, alone)


def test_only_eight_bits_go_to_the_entropy_step(head: IntegerHead) -> None:
    cores = np.stack([make_picture(32, 32, seed) for seed in range(4)])
    zero = np.zeros((3, 192))
    for index, bits in enumerate(gbc.GBC_BITS):
        bias = np.eye(3)[index]
        for thresholds, by_entropy in (((9.0, 9.0), 4), ((0.0, 9.0), 5), ((0.0, 0.0), 8)):
            chosen = gbc.Controller("band_energy", zero, bias, thresholds).choose(cores, head)
            assert {choice.bit_width for choice in chosen} == {by_entropy if bits == 8 else bits}
            assert {choice.reason for choice in chosen} == {"entropy" if bits == 8 else "controller"}


def test_a_patch_by_itself_is_best_off_as_it_was_chosen() -> None:
    rng = np.random.default_rng(0)
    zero, thresholds = np.zeros((3, 1)), (2.0, 3.0)
    price = np.array([4.0, 5, 6, 8])
    for bias in rng.normal(0, 3, (400, 3)):
        controller = gbc.Controller("mean", zero, bias - bias[0], thresholds)
        for entropy in (1.0, 2.5, 3.2):
            (choice,) = controller.decide(np.zeros((1, 1)), [entropy])
            (losses,) = gbc.bit_losses([choice])
            assert (np.diff(losses) <= 0).all()
            assert losses[-1] == 0
            costs = losses + price
            assert costs[int(np.searchsorted(price, choice.bit_width))] <= costs.min() + 2 / 1024


LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(-20, 20))


@given(LOGITS, st.floats(4, 8), st.floats(4, 8))
def test_budget_is_kept_and_nested(logits: np.ndarray, one: float, other: float) -> None:
    small, large = (gbc.spend_budget(logits, budget) for budget in sorted((one, other)))
    assert np.mean(small) <= min(one, other) + 1e-9
    assert set(small) <= {4, 5, 6, 8}
    assert all(a <= b for a, b in zip(small, large, strict=True))
    assert sum(large) > 8 * len(logits) - 1e-9 or max(one, other) * len(logits) - sum(large) < 2 + 1e-6


def test_budget_goes_where_the_controller_wants_it() -> None:
    logits = np.array([[0.0, -3, -5], [0, 4, 9], [0, 1, 1]])
    assert gbc.spend_budget(logits, 4.4) == [4, 5, 4]
    assert gbc.spend_budget(logits, 5) == [4, 5, 6]
    assert gbc.spend_budget(logits, 5.7) == [6, 5, 6]  # its third logit lies below the line of the other two
    assert gbc.spend_budget(logits, 6) == [6, 5, 6]  # the next step is 6 -> 8, two bits for the one left
    assert gbc.spend_budget(logits, 6.4) == [6, 5, 8]
    assert gbc.spend_budget(logits, 4) == [4, 4, 4]
    assert gbc.spend_budget(logits, 8) == [8, 8, 8]


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(-1, 1), unique=True))
def test_budget_of_the_controllers_own_average_is_its_own_choice(logits: np.ndarray) -> None:
    widths = [(4, 6, 5)[index] for index in logits.argmax(1)]
    assert gbc.spend_budget(logits, float(np.mean(widths))) == widths


@pytest.mark.parametrize("budget", [3.9, 8.1, float("nan")])
def test_budget_out_of_range(budget: float) -> None:
    with pytest.raises(ValueError, match="between 4 and 8"):
        gbc.spend_budget(np.zeros((1, 3)), budget)
