"""Alpha, colour bleed, flattening, luma, and the low bits of 16-bit pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gdq_cli.images import bleed_colour, flatten, is_grey, luma, to_8bit, upscale_samples16
from tests.helpers.image_samples import photo


def test_bleed_fills_holes_from_their_neighbours_and_changes_nothing_else() -> None:
    rgb = np.zeros((50, 61, 3), np.uint8)
    rgb[:, :30], rgb[:, 30:] = (200, 40, 10), (20, 90, 240)
    alpha = np.full((50, 61), 255, np.uint8)
    alpha[5:45, 5:25] = 0
    alpha[5:45, 35:55] = 0
    rgb[alpha == 0] = (0, 255, 0)
    filled = bleed_colour(rgb, alpha)
    np.testing.assert_array_equal(filled[alpha > 0], rgb[alpha > 0])
    for x in (5, 6, 7, 22, 23, 24):
        assert (filled[5:45, x] == (200, 40, 10)).all()
    for x in (35, 36, 37, 52, 53, 54):
        assert (filled[5:45, x] == (20, 90, 240)).all()
    assert filled[..., 1].max() == 90


def test_bleed_weighs_by_alpha() -> None:
    rgb = np.array([[[0, 0, 0], [250, 250, 250]], [[9, 9, 9], [9, 9, 9]]], np.uint8)
    alpha = np.array([[1, 249], [0, 0]], np.uint8)
    assert (bleed_colour(rgb, alpha)[1] >= 245).all()


@pytest.mark.parametrize("low", [0, 1, 3, 8, 15])
def test_hardly_visible_colours_make_no_halo(low: int) -> None:
    y, x = np.mgrid[0:64, 0:64]
    disc = np.clip((24 - np.hypot(x - 31.5, y - 31.5)) * 64, 0, 255).astype(np.uint8)
    alpha = np.maximum(disc, low).astype(np.uint8)
    rgb = np.repeat(np.where(disc > 0, 250, 0).astype(np.uint8)[..., None], 3, axis=2)
    filled = bleed_colour(rgb, alpha)
    assert (filled[alpha >= 16] == rgb[alpha >= 16]).all()
    on_white = [(c * (alpha / 255)[..., None] + 255 - alpha[..., None]) for c in (rgb.astype(float), filled)]
    assert np.abs(on_white[0] - on_white[1]).max() <= 4  # what is seen of the picture itself stays
    size = (256, 256)
    colour, opacity = (np.asarray(Image.fromarray(p).resize(size, Image.Resampling.LANCZOS)) for p in (filled, alpha))
    assert (colour * (opacity / 255)[..., None] + 255 - opacity[..., None]).min() >= min(246, 253 - low)


def test_a_faint_picture_keeps_its_colours() -> None:
    rgb, alpha = photo(24, 33), np.full((24, 33), 9, np.uint8)
    alpha[0, 0] = 8
    np.testing.assert_array_equal(bleed_colour(rgb, alpha), rgb)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_bleed_returns_the_picture_itself_when_there_is_nothing_to_do(value: int) -> None:
    rgb = photo(9, 7)
    assert bleed_colour(rgb, np.full((9, 7), value, np.uint8)) is rgb


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_bleed_stays_within_the_visible_colours(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = (rng.integers(0, 256, (height, width)) * (rng.random((height, width)) < 0.2)).astype(np.uint8)
    rgb = rng.integers(60, 100, (height, width, 3), np.uint8)
    rgb[alpha == 0] = 255
    filled = bleed_colour(rgb, alpha)
    clear = alpha * 255.0 >= 16 * int(alpha.max())
    np.testing.assert_array_equal(filled[clear & (alpha > 0)], rgb[clear & (alpha > 0)])
    if alpha.any():
        assert filled.max() < 100
        assert filled.min() >= 60


def test_bleed_holds_on_a_long_picture() -> None:
    alpha = np.zeros((1, 70001), np.uint8)
    alpha[0, 0] = 1
    rgb = np.zeros((1, 70001, 3), np.uint8)
    rgb[0, 0] = (7, 130, 255)
    assert (bleed_colour(rgb, alpha) == (7, 130, 255)).all()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_flatten_rounds_exactly(value: int, alpha: int, background: int) -> None:
    out = flatten(np.full((1, 1, 3), value, np.uint8), np.full((1, 1), alpha, np.uint8), (background, 0, 255))
    exact = [(value * alpha + back * (255 - alpha)) / 255 for back in (background, 0, 255)]
    assert np.abs(out[0, 0] - np.array(exact)).max() <= 0.5


def test_luma_of_grey_is_exact() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(luma(ramp), ramp[..., 0])
    np.testing.assert_array_equal(luma(photo(9, 8)), np.asarray(Image.fromarray(photo(9, 8)).convert("L")))


def test_is_grey_sees_one_odd_pixel() -> None:
    grey = np.repeat(photo(300, 400)[..., :1], 3, axis=2)
    assert is_grey(grey)
    grey[299, 399, 1] ^= 1
    assert not is_grey(grey)


def test_to_8bit_rounds_and_inverts() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_8bit(values), np.rint(values / 257).astype(np.uint8))
    np.testing.assert_array_equal(to_8bit(np.arange(256, dtype=np.uint16) * 257), np.arange(256))


def lanczos(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS)).astype(np.float64)


def test_16_bit_result_is_lanczos_plus_the_networks_detail() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(3000, 60000, (18, 23), np.uint16)
    sr8 = rng.integers(20, 230, (72, 92), np.uint8)
    detail = 257.0 * sr8 - lanczos(257.0 * to_8bit(samples), (72, 92))
    expected = np.clip(np.rint(lanczos(samples, (72, 92)) + detail), 0, 65535)
    assert np.abs(upscale_samples16(samples, sr8) - expected).max() <= 1


def test_16_bit_gradient_gets_its_steps_back() -> None:
    samples = np.tile(np.arange(19920, 20172, 4, dtype=np.uint16), (16, 1))  # all of it within one 8-bit step
    sr8 = np.repeat(np.repeat(to_8bit(samples), 4, 0), 4, 1)
    deep = upscale_samples16(samples, sr8)
    assert len(np.unique(sr8)) == 1
    assert len(np.unique(deep)) > 180
    assert np.abs(deep - lanczos(samples, (64, 252))).max() <= 1


def test_16_bit_result_takes_grey_from_rgb_and_clamps() -> None:
    samples = np.full((4, 4), 65535, np.uint16)
    samples[0] = 0
    white = np.full((8, 8, 3), 255, np.uint8)
    assert upscale_samples16(samples, white).shape == (8, 8)
    colour = upscale_samples16(np.dstack([samples] * 3), white)
    assert colour.shape == (8, 8, 3)
    assert colour.dtype == np.uint16
    assert colour.max() == 65535
