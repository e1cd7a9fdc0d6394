"""Geometry by properties: cores tile the image, windows contain them and have one shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdq_cli.bits.patches import cut_windows, paste_core, plan_patches

SIDES = st.integers(1, 400)


@given(SIDES, SIDES, st.integers(5, 200), st.integers(0, 12))
def test_cores_tile_the_image_once(height: int, width: int, patch_size: int, halo: int) -> None:
    plan = plan_patches((height, width), patch_size=patch_size, halo=halo)
    seen = np.zeros((height, width), np.int32)
    for patch in plan:
        seen[patch.core_slices] += 1
    assert (seen == 1).all()
    assert len(plan) == plan.grid[0] * plan.grid[1]


@given(SIDES, SIDES, st.integers(5, 200), st.integers(0, 12))
def test_windows_have_one_shape_and_hold_their_core_with_its_halo(
    height: int, width: int, patch_size: int, halo: int
) -> None:
    plan = plan_patches((height, width), patch_size=patch_size, halo=halo)
    for patch in plan:
        for segment, window, side in zip((patch.row, patch.col), plan.window, (height, width), strict=True):
            assert segment.window >= 0
            assert segment.window + window <= side
            assert segment.window <= max(0, segment.core - halo)
            assert segment.window + window >= min(side, segment.core_stop + halo)


@pytest.mark.parametrize(
    ("side", "cores", "window"),
    [(1, 1, 1), (95, 1, 95), (143, 1, 143), (144, 2, 80), (192, 2, 104), (256, 3, 94), (4000, 42, 104)],
)
def test_even_division(side: int, cores: int, window: int) -> None:
    plan = plan_patches((side, side))
    assert plan.grid == (cores, cores)
    assert plan.window == (window, window)


@given(st.integers(1, 150), st.integers(1, 150), st.integers(3, 60), st.integers(0, 5), st.integers(1, 4))
def test_cutting_and_joining_gives_the_image_back(
    height: int, width: int, patch_size: int, halo: int, scale: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    plan = plan_patches((height, width), patch_size=patch_size, halo=halo)
    target = np.zeros((height * scale, width * scale, 3), np.uint8)
    for patch, window in zip(plan, cut_windows(image, plan, list(range(len(plan)))), strict=True):
        paste_core(target, window.repeat(scale, 0).repeat(scale, 1), patch, scale)
    assert np.array_equal(target, image.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("arguments", [((0, 5), 96, 4), ((5, 5), 0, 4), ((5, 5), 96, -1)])
def test_nonsense_is_refused(arguments: tuple[tuple[int, int], int, int]) -> None:
    size, patch_size, halo = arguments
    with pytest.raises(ValueError, match="cannot divide"):
        plan_patches(size, patch_size=patch_size, halo=halo)


def test_index_out_of_range() -> None:
    with pytest.raises(IndexError):
        plan_patches((10, 10))[1]
