import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdq_cli.bitmaps.overlay import overlay_image
from gdq_cli.bitmaps.terminal import FP32_BITS, PALETTE
from gdq_cli.bits.patches import plan_patches
from tests.helpers.pictures import make_picture

WIDTHS = (4, 5, 6, 8)


def make_map(grid: tuple[int, int], seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(WIDTHS, grid)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    patch_size=st.integers(1, 40),
    zoom=st.sampled_from([1, 2, 3]),
)
def test_full_opacity_gives_the_map_on_exactly_the_cores(height: int, width: int, patch_size: int, zoom: int) -> None:
    plan = plan_patches((height, width), patch_size=patch_size)
    bit_map = make_map(plan.grid)
    picture = make_picture(height * zoom, width * zoom)
    result = overlay_image(picture, bit_map, plan, opacity=1, legend=False)
    assert result.shape == picture.shape
    for patch in plan:
        row, col = divmod(patch.index, plan.grid[1])
        rows, cols = patch.core.slices(zoom)
        assert (result[rows, cols] == PALETTE[int(bit_map[row, col])]).all()


@pytest.mark.parametrize("size", [(1000, 1414), (150, 212), (37, 53)])
def test_a_picture_of_any_size_is_covered(size: tuple[int, int]) -> None:
    plan = plan_patches((300, 424), patch_size=100)
    bit_map = make_map(plan.grid)
    result = overlay_image(make_picture(*size), bit_map, plan, opacity=1, legend=False)
    for patch in plan:
        row, col = divmod(patch.index, plan.grid[1])
        y = (2 * patch.core.y + patch.core.height) * size[0] // (2 * 300)
        x = (2 * patch.core.x + patch.core.width) * size[1] // (2 * 424)
        assert (result[y, x] == PALETTE[int(bit_map[row, col])]).all()
    packed = result.astype(int) @ (65536, 256, 1)
    assert np.isin(packed, [np.dot(color, (65536, 256, 1)) for color in PALETTE.values()]).all()


def test_no_opacity_gives_the_picture_back_and_input_is_never_written() -> None:
    picture = make_picture(60, 90)
    picture.flags.writeable = False
    plan = plan_patches((60, 90), patch_size=30)
    np.testing.assert_array_equal(overlay_image(picture, make_map(plan.grid), plan, opacity=0, legend=False), picture)


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 4)])
def test_grey_and_alpha_are_taken_as_the_api_gives_them(shape: tuple[int, ...]) -> None:
    picture, bit_map, plan = make_picture(40, 40), make_map((1, 1)), plan_patches((40, 40))
    given = picture[..., 0] if len(shape) == 2 else np.dstack([picture, picture[..., :1]])
    rgb = np.repeat(given[..., None], 3, axis=2) if len(shape) == 2 else picture
    np.testing.assert_array_equal(overlay_image(given, bit_map, plan), overlay_image(rgb, bit_map, plan))


def test_borders_divide_patches_of_one_width() -> None:
    plan = plan_patches((60, 60), patch_size=30)
    result = overlay_image(np.zeros((60, 60, 3), np.uint8), np.full((2, 2), 8), plan, legend=False).astype(int)
    inside = result[5, 5]
    for y, x in [(0, 5), (5, 0), (29, 5), (30, 5), (5, 29), (59, 59)]:
        assert (result[y, x] > inside).all()
    assert (result[28, 5] == inside).all()


def test_tints_stay_apart_on_a_colourful_picture() -> None:
    """Whatever is below, two widths differ: the hue of the tint decides, not that of the picture."""
    colors = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    plan = plan_patches((40, 40), patch_size=40)
    tinted = {
        bits: overlay_image(colors, np.array([[bits]]), plan, legend=False)[4:-4, 4:-4].astype(float) for bits in WIDTHS
    }
    for a in WIDTHS:
        for b in WIDTHS:
            if a < b:
                assert np.abs(tinted[a] - tinted[b]).max(-1).min() > 25


@pytest.mark.parametrize("width", [1, 20, 96, 300, 500, 1000, 3000])
def test_the_legend_is_below_and_the_picture_untouched(width: int) -> None:
    picture = make_picture(50, width)
    plan = plan_patches((50, width), patch_size=25)
    bit_map = make_map(plan.grid)
    bare = overlay_image(picture, bit_map, plan, legend=False)
    full = overlay_image(picture, bit_map, plan)
    assert full.shape[0] > 50 + 10
    assert full.shape[1] == width or width < 110
    np.testing.assert_array_equal(full[:50, :width], bare)
    strip = full[50:].reshape(-1, 3)
    for bits in WIDTHS:
        assert (strip == PALETTE[bits]).all(1).any()
    assert not (strip == PALETTE[FP32_BITS]).all(1).any()


def test_a_legend_fits_one_line_on_a_usual_picture() -> None:
    plan = plan_patches((100, 500))
    heights = [
        overlay_image(make_picture(100, width), make_map(plan.grid), plan).shape[0] - 100 for width in (500, 200)
    ]
    assert heights[0] < 30 < heights[1]


def test_numbers_only_where_there_is_room() -> None:
    plan = plan_patches((120, 120), patch_size=40)
    bit_map = make_map(plan.grid)
    large, small = make_picture(120, 120), make_picture(57, 57)  # 40 and 19 pixels a patch
    for picture, drawn in ((large, True), (small, False)):
        plain = overlay_image(picture, bit_map, plan, legend=False)
        numbered = overlay_image(picture, bit_map, plan, legend=False, numbers=True)
        changed = (plain != numbered).any(-1)
        assert changed.any() == drawn
        if drawn:
            for patch in plan:
                assert changed[patch.core_slices].any()
                assert changed[patch.core_slices].mean() < 0.4


@pytest.mark.parametrize("grid", [(1, 1), (1, 200), (200, 1), (130, 130)])
def test_extreme_grids(grid: tuple[int, int]) -> None:
    plan = plan_patches(grid, patch_size=1)
    picture = make_picture(*grid)
    result = overlay_image(picture, make_map(plan.grid), plan, numbers=True)
    assert result.shape[0] > grid[0]
    assert result.dtype == np.uint8


def test_fp32_is_grey() -> None:
    plan = plan_patches((40, 40))
    result = overlay_image(make_picture(40, 40), np.full((1, 1), FP32_BITS), plan, opacity=1, numbers=True)
    assert (result[30, 30] == PALETTE[FP32_BITS]).all()


@pytest.mark.parametrize(
    ("shape", "grid", "opacity", "message"),
    [
        ((40,), (1, 1), 0.5, "an image is"),
        ((40, 40, 2), (1, 1), 0.5, "an image is"),
        ((40, 0, 3), (1, 1), 0.5, "an image is"),
        ((40, 40, 3), (1, 2), 0.5, "plan of"),
        ((40, 40, 3), (1, 1), 1.5, "opacity"),
        ((40, 40, 3), (1, 1), float("nan"), "opacity"),
    ],
)
def test_unfit_arguments_are_refused(
    shape: tuple[int, ...], grid: tuple[int, int], opacity: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        overlay_image(np.zeros(shape, np.uint8), np.full(grid, 4), plan_patches((40, 40)), opacity=opacity)


def test_the_pictures_own_colour_gives_way_to_the_tint() -> None:
    """Red against green of one lightness: a plain mixture would keep 1 - opacity of their distance."""
    red, green = (200, 0, 0), (0, 102, 0)
    picture = np.empty((8, 16, 3), np.uint8)
    picture[:, :8], picture[:, 8:] = red, green
    plan = plan_patches((8, 16))
    tinted = overlay_image(picture, np.array([[4]]), plan, opacity=0.5, legend=False).astype(int)
    left = np.abs(tinted[4, 4] - tinted[4, 12]).max()
    assert 0.2 * 200 < left < 0.3 * 200
