import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.measure.metrics import luma, psnr_y, ssim_y
from tests.helpers.paths import SHARED

SET5 = SHARED / "data" / "bench" / "Set5" / "x4"


def noisy_pair(seed: int, height: int, width: int, noise: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A smooth picture and the same with noise, as in the run of scikit-image that gave REFERENCE."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([127 + 90 * np.sin(x / 9 + c) * np.cos(y / (5 + c)) for c in range(3)], -1)
    sr = base + np.random.default_rng(seed).normal(0, noise, base.shape)
    return np.clip(np.rint(sr), 0, 255).astype(np.uint8), np.clip(np.rint(base), 0, 255).astype(np.uint8)


# scikit-image 0.26.0: peak_signal_noise_ratio and structural_similarity(gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, data_range=255) of the unrounded luma
REFERENCE = [
    ((0, 11, 11, 10), 0, 32.83086560887942, 0.9137327834581565),
    ((1, 40, 60, 3), 0, 43.37586950623568, 0.9845346281007145),
    ((1, 40, 60, 3), 3, 43.29036953964031, 0.9842137620181807),
    ((2, 97, 133, 25), 0, 25.05374133960445, 0.47031188477300123),
    ((2, 97, 133, 25), 3, 25.064575067279126, 0.47000220804839427),
    ((3, 200, 75, 80), 3, 16.286496163983948, 0.0976779161956457),
]


@pytest.mark.parametrize(("pair", "shave", "psnr", "ssim"), REFERENCE)
def test_agrees_with_scikit_image(pair: tuple[int, int, int, float], shave: int, psnr: float, ssim: float) -> None:
    sr, hr = noisy_pair(*pair)
    assert psnr_y(sr, hr, shave) == pytest.approx(psnr, abs=1e-6)
    assert ssim_y(sr, hr, shave) == pytest.approx(ssim, abs=1e-6)


def test_agrees_with_an_installed_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    sr, hr = noisy_pair(7, 130, 61, 12)
    a, b = luma(sr)[2:-2, 2:-2], luma(hr)[2:-2, 2:-2]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert ssim_y(sr, hr, 2) == pytest.approx(metrics.structural_similarity(a, b, **options), abs=1e-6)
    assert psnr_y(sr, hr, 2) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=255), abs=1e-6)


def test_luma_is_bt601_studio_range() -> None:
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(luma(colors)[0], [16, 235, 81.481, 144.553, 40.966], atol=1e-9)


def test_psnr_of_a_known_difference() -> None:
    hr = np.full((8, 8, 3), 100, np.uint8)
    assert psnr_y(hr + 10, hr, 0) == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)), abs=1e-9)


def test_identical_images() -> None:
    image, _ = noisy_pair(3, 30, 20, 40)
    assert psnr_y(image, image, 4) == math.inf
    assert ssim_y(image, image, 4) == pytest.approx(1, abs=1e-12)


def test_flat_images_have_no_division_by_zero() -> None:
    black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    assert ssim_y(black, black, 0) == pytest.approx(1, abs=1e-12)
    assert 0 < ssim_y(black, white, 0) < 0.2
    assert psnr_y(black, white, 0) == pytest.approx(20 * math.log10(255 / 219), abs=1e-9)


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_border_is_shaved(metric: object) -> None:
    assert callable(metric)
    sr, hr = noisy_pair(4, 40, 50, 9)
    changed = sr.copy()
    changed[:4], changed[-4:], changed[:, :4], changed[:, -4:] = 0, 255, 7, 9
    assert metric(changed, hr, 4) == metric(sr, hr, 4)
    assert metric(changed, hr, 3) < metric(sr, hr, 3)


def test_strips_do_not_show_in_ssim() -> None:
    """Transposed, the rows that a strip ends on are other pixels."""
    sr, hr = noisy_pair(5, 200, 23, 15)
    assert ssim_y(sr, hr, 0) == pytest.approx(ssim_y(sr.transpose(1, 0, 2), hr.transpose(1, 0, 2), 0), abs=1e-12)


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
@pytest.mark.parametrize(
    ("sr", "hr", "shave", "message"),
    [
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8), 0, "differ in size"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), 0, "sr must be"),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.float32), 0, "hr must be"),
        (np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 4), np.uint8), 0, "sr must be"),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8), 10, "less than"),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8), -1, "at least 0"),
    ],
)
def test_unfit_images_are_refused(
    metric: object, sr: NDArray[np.uint8], hr: NDArray[np.uint8], shave: int, message: str
) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match=message):
        metric(sr, hr, shave)


def test_ssim_needs_a_whole_window() -> None:
    small = np.zeros((18, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="11x11"):
        ssim_y(small, small, 4)
    assert psnr_y(small, small, 4) == math.inf


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not part of the repository (../shared/data/bench)")
def test_bicubic_on_set5_is_the_literatures() -> None:
    """28.42 dB and 0.8104 stand in every table since SRCNN; Pillow's bicubic is MATLAB's up to rounding."""
    scores = []
    for path in sorted((SET5 / "HR").glob("*.png")):
        hr = np.asarray(Image.open(path).convert("RGB"))
        lr = Image.open(SET5 / "LR" / path.name).convert("RGB")
        sr = np.asarray(lr.resize((hr.shape[1], hr.shape[0]), Image.Resampling.BICUBIC))
        scores.append((psnr_y(sr, hr, 4), ssim_y(sr, hr, 4)))
    assert len(scores) == 5
    psnr, ssim = np.mean(scores, axis=0)
    assert psnr == pytest.approx(28.42, abs=0.02)
    assert ssim == pytest.approx(0.8104, abs=0.001)
