"""Geometry by properties: cores tile the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdq_cli.bits.patches import plan_patches

SIDES = st.integers(1, 400)


@given(SIDES, SIDES, st.integers(5, 200))
def test_cores_tile_the_image_once(height: int, width: int, patch_size: int) -> None:
    plan = plan_patches((height, width), patch_size=patch_size)
    seen = np.zeros((height, width), np.int32)
    for patch in plan:
        seen[patch.core_slices] += 1
    assert (seen == 1).all()
    assert len(plan) == plan.grid[0] * plan.grid[1]


@pytest.mark.parametrize(
    ("side", "cores", "core_size"),
    [(1, 1, 1), (95, 1, 95), (143, 1, 143), (144, 2, 72), (192, 2, 96), (256, 3, 86), (4000, 42, 96)],
)
def test_even_division(side: int, cores: int, core_size: int) -> None:
    plan = plan_patches((side, side))
    assert plan.grid == (cores, cores)
    assert plan[0].core.size == (core_size, core_size)


@pytest.mark.parametrize("arguments", [((0, 5), 96, 4), ((5, 5), 0, 4), ((5, 5), 96, -1)])
def test_nonsense_is_refused(arguments: tuple[tuple[int, int], int, int]) -> None:
    size, patch_size, halo = arguments
    with pytest.raises(ValueError, match="cannot divide"):
        plan_patches(size, patch_size=patch_size, halo=halo)


def test_index_out_of_range() -> None:
    with pytest.raises(IndexError):
        plan_patches((10, 10))[1]
