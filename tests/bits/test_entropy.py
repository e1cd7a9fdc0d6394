"""Patch entropy against the formula written out and, where they are at hand, values of the released code."""

from pathlib import Path

import numpy as np
import pytest

from gdq_cli.bits.entropy import BINS, SIGMA, entropy_to_bit, patch_entropy
from tests.helpers.paths import SHARED
from tests.helpers.pictures import make_picture


def soft_histogram_entropy(patch: np.ndarray) -> float:
    """The definition of method.md, pixel by pixel."""
    grey = (patch.reshape(-1, 3) @ np.array([0.2989, 0.5870, 0.1140])) / 255
    kernel = np.maximum(np.exp(-0.5 * ((grey[:, None] - np.linspace(0, 1, BINS)) / SIGMA) ** 2), 1e-40)
    share = kernel.mean(0)
    share = share / share.sum() + 1e-40
    return float(-(share * np.log(share)).sum())


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_definition(seed: int) -> None:
    picture = make_picture(40 + seed, 37, seed)
    assert patch_entropy(picture) == pytest.approx(soft_histogram_entropy(picture), abs=2e-6)


@pytest.mark.parametrize(("value", "expected"), [(0, 0.7315), (255, 0.7330), (128, 1.1839)])
def test_constant_patches(value: int, expected: float) -> None:
    assert patch_entropy(np.full((8, 8, 3), value, np.uint8)) == pytest.approx(expected, abs=1e-4)


def test_uniform_grey_is_close_to_the_maximum() -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.log(BINS) - 0.02 < patch_entropy(ramp) <= np.log(BINS)


def test_order_of_pixels_does_not_matter() -> None:
    picture = make_picture(32, 32).reshape(-1, 3)
    shuffled = np.random.default_rng(1).permutation(picture)
    assert patch_entropy(picture.reshape(32, 32, 3)) == patch_entropy(shuffled.reshape(8, 128, 3))


@pytest.mark.parametrize(("entropy", "bits"), [(2.0, 4), (2.5, 4), (2.6, 5), (3.0, 5), (3.0001, 8)])
def test_thresholds_include_their_value(entropy: float, bits: int) -> None:
    assert entropy_to_bit(entropy, (2.5, 3.0)) == bits


def test_released_code() -> None:
    vectors = SHARED / "parity" / "aux_vectors.npz"
    if not Path(vectors).is_file():
        pytest.skip("the authors' reference vectors (../shared/parity) are not here")
    data = np.load(vectors)
    for lr, expected in zip(data["ent_lr"], data["ent_H"], strict=True):
        patch = np.asarray(lr)
        patch = patch.transpose(1, 2, 0) if patch.shape[0] == 3 else patch
        assert patch_entropy(patch.astype(np.uint8)) == pytest.approx(float(expected), abs=2e-5)
