"""Which patches run together, by properties, and that cutting and joining loses nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdq_cli.bits.patches import PatchPlan, plan_patches
from gdq_cli.bits.windows import MOST_PATCHES, Window, cut_windows, map_bits, paste_core, plan_windows


@st.composite
def maps(draw: st.DrawFn) -> tuple[PatchPlan, list[int]]:
    """A division and widths, often alike."""
    size = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    plan = plan_patches(size, patch_size=draw(st.integers(8, 60)), halo=draw(st.integers(0, 12)))
    widths = draw(st.sampled_from([(6,), (4, 6), (4, 5, 6, 8)]))
    return plan, draw(st.lists(st.sampled_from(widths), min_size=len(plan), max_size=len(plan)))


def cover(plan: PatchPlan, windows: tuple[Window, ...]) -> np.ndarray:
    """Bit-width by pixel; every pixel is in one core."""
    found = np.zeros(plan.size, np.int32)
    for window in windows:
        assert (found[window.core.slices()] == 0).all()
        found[window.core.slices()] = window.bit_width
    return found


@given(maps())
def test_every_patch_runs_once_at_its_width(case: tuple[PatchPlan, list[int]]) -> None:
    plan, widths = case
    windows = plan_windows(plan, widths)
    found = cover(plan, windows)
    for patch in plan:
        assert (found[patch.core_slices] == widths[patch.index]).all()
    assert sum(window.patches for window in windows) == len(plan)
    assert max(window.patches for window in windows) <= MOST_PATCHES**2


@given(maps())
def test_windows_hold_their_core_with_its_context(case: tuple[PatchPlan, list[int]]) -> None:
    """They stay in the image, and as many patches have windows of one shape."""
    plan, widths = case
    height, width = plan.size
    side = plan[0].core.size
    shapes: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for window in plan_windows(plan, widths):
        core, seen = window.core, window.seen
        assert 0 <= seen.y <= max(0, core.y - plan.halo)
        assert 0 <= seen.x <= max(0, core.x - plan.halo)
        assert min(height, core.y + core.height + plan.halo) <= seen.y + seen.height <= height
        assert min(width, core.x + core.width + plan.halo) <= seen.x + seen.width <= width
        shapes.setdefault((-(-core.height // side[0]), -(-core.width // side[1])), set()).add(seen.size)
    assert all(len(sizes) == 1 for sizes in shapes.values())


@pytest.mark.parametrize(
    ("grid", "expected"),
    [((1, 1), [1]), ((3, 3), [9]), ((4, 4), [4, 4, 4, 4]), ((1, 7), [3, 3, 1]), ((5, 3), [9, 6])],
)
def test_a_picture_of_one_width_is_divided_evenly(grid: tuple[int, int], expected: list[int]) -> None:
    plan = plan_patches((96 * grid[0], 96 * grid[1]), halo=16)
    assert [window.patches for window in plan_windows(plan, [6] * len(plan))] == expected


def price(windows: tuple[Window, ...], prices: dict[int, float]) -> float:
    return sum(prices[window.bit_width] * window.seen.pixels for window in windows)


@given(maps(), st.sampled_from([{4: 1, 5: 1, 6: 1, 8: 1}, {4: 4, 5: 5, 6: 6, 8: 8}, {4: 3, 5: 4, 6: 4, 8: 5}]))
def test_patches_get_more_bits_where_that_is_cheaper(
    case: tuple[PatchPlan, list[int]], prices: dict[int, float]
) -> None:
    """Never fewer, and never at a higher price than at their own widths, or all at the widest."""
    plan, widths = case
    windows = plan_windows(plan, widths, prices)
    found = map_bits(plan, windows)
    assert (found.ravel() >= widths).all()
    cover(plan, windows)
    paid = price(windows, prices)
    assert paid <= price(plan_windows(plan, widths), prices)
    assert paid <= price(plan_windows(plan, [max(widths)] * len(plan)), prices)


def test_a_patch_that_would_split_a_window_joins_it() -> None:
    """With little context it keeps its own bits; of equal prices the widest is taken."""
    prices = {4: 4.0, 5: 5.0, 6: 6.0, 8: 8.0}
    widths = [6, 6, 6, 6, 4, 6, 6, 6, 5]
    wide, narrow = (plan_patches((288, 288), halo=halo) for halo in (30, 0))
    assert map_bits(wide, plan_windows(wide, widths, prices)).tolist() == [[6] * 3] * 3
    assert map_bits(narrow, plan_windows(narrow, widths, prices)).ravel().tolist() == widths
    assert map_bits(narrow, plan_windows(narrow, widths, {4: 1.0, 5: 2.0, 6: 2.0, 8: 3.0}))[2, 2] == 6
    assert map_bits(wide, plan_windows(wide, [4] * 9, dict.fromkeys(prices, 1.0))).tolist() == [[8] * 3] * 3


PRICES = {4: 4.0, 5: 5.0, 6: 6.0, 8: 8.0}


def seen_alike(plan: PatchPlan) -> int:
    """Pixels that the network sees for a patch of a picture whose patches are all alike."""
    return sum(window.seen.pixels for window in plan_windows(plan, [6] * len(plan))) // len(plan)


@given(
    maps(), st.sampled_from([PRICES, {4: 3.0, 5: 4.0, 6: 4.0, 8: 5.0}, dict.fromkeys(PRICES, 1.0)]), st.integers(0, 99)
)
def test_windows_weigh_bits_against_their_price(
    case: tuple[PatchPlan, list[int]], prices: dict[int, float], seed: int
) -> None:
    """No map of one width, and not the one that was chosen either, costs less with what is lost by it."""
    plan, _ = case
    steps = np.sort(np.random.default_rng(seed).exponential(1, (len(plan), 3)))
    losses = np.concatenate([np.cumsum(steps, axis=1)[:, ::-1], np.zeros((len(plan), 1))], axis=1)
    bits, at = np.array(list(prices)), np.array(list(prices.values()))
    bit_price = (at[-1] - at[0]) / 4
    widths = bits[(losses * bit_price + at).argmin(1)].tolist()

    def cost(windows: tuple[Window, ...]) -> float:
        chosen = np.searchsorted(bits, map_bits(plan, windows).ravel())
        lost = losses[np.arange(len(plan)), chosen].sum()
        return price(windows, prices) + float(lost) * bit_price * seen_alike(plan)

    windows = plan_windows(plan, widths, prices, losses)
    cover(plan, windows)
    others = [plan_windows(plan, widths), *(plan_windows(plan, [width] * len(plan)) for width in prices)]
    assert cost(windows) <= min(map(cost, others)) * (1 + 1e-9)


def test_a_patch_that_would_split_a_window_goes_by_what_bits_are_worth() -> None:
    """One of nine asks for 5 bits: it gets 4 as its neighbours, or they get 5, or it stays alone."""
    wide = plan_patches((288, 288), halo=30)
    narrow = plan_patches((288, 288), halo=0)
    widths = [4] * 8 + [5]

    def map_of(plan: PatchPlan, alone: float, others: float) -> list[int]:
        losses = np.array([[worth, 0.0, 0.0, 0.0] for worth in [others] * 8 + [alone]])
        return sorted(map_bits(plan, plan_windows(plan, widths, PRICES, losses)).ravel().tolist())

    assert map_of(wide, 1.2, 0.1) == [4] * 9
    assert map_of(wide, 1.5, 0.99) == [5] * 9
    assert map_of(narrow, 1.2, 0.1) == [4] * 8 + [5]


def test_neighbours_of_one_width_run_together() -> None:
    plan = plan_patches((288, 288), halo=16)
    widths = [4, 6, 6, 4, 6, 6, 4, 8, 5]
    found = [(w.bit_width, w.core, w.seen) for w in plan_windows(plan, widths)]
    assert found == [
        (4, (0, 0, 288, 96), (0, 0, 288, 128)),
        (6, (0, 96, 192, 192), (0, 64, 224, 224)),
        (8, (192, 96, 96, 96), (160, 80, 128, 128)),
        (5, (192, 192, 96, 96), (160, 160, 128, 128)),
    ]


@given(maps(), st.integers(1, 4))
def test_cutting_and_joining_gives_the_image_back(case: tuple[PatchPlan, list[int]], scale: int) -> None:
    plan, widths = case
    image = np.random.default_rng(0).integers(0, 256, (*plan.size, 3), np.uint8)
    target = np.zeros((plan.size[0] * scale, plan.size[1] * scale, 3), np.uint8)
    for window in plan_windows(plan, widths):
        cut = cut_windows(image, [window])[0]
        assert cut.shape[:2] == window.seen.size
        paste_core(target, cut.repeat(scale, 0).repeat(scale, 1), window, scale)
    assert np.array_equal(target, image.repeat(scale, 0).repeat(scale, 1))
