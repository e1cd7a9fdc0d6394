"""LR pictures as cameras and the web give them, for training and for scoring."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gdq_cli.measure.degradation import EVAL_DEGRADATIONS, degrade
from gdq_cli.measure.pairs import ImagePair, downscale, load_pairs
from gdq_cli.training import data
from gdq_cli.training.data import DEGRADED_MARGIN, PatchSampler
from tests.helpers.pictures import make_pairs, make_picture

KINDS = ("photo", *EVAL_DEGRADATIONS)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (9, 17), (31, 24)])
def test_shape_and_type(kind: str, scale: int, size: tuple[int, int]) -> None:
    hr = make_picture(size[0] * scale, size[1] * scale)
    for seed in range(4):
        lr = degrade(hr, scale, kind, rng(seed))
        assert (lr.shape, lr.dtype) == ((*size, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str) -> None:
    hr = make_picture(64, 80)
    first, again, other = (degrade(hr, 4, kind, rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (kind == "clean" or kind.startswith("jpeg"))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_clean_is_the_bicubic_alone(scale: int) -> None:
    hr = make_picture(20 * scale, 24 * scale)
    assert np.array_equal(degrade(hr, scale, "clean", rng(0)), downscale(hr, scale))


@pytest.mark.parametrize("quality", [90, 75, 45, 30])
def test_jpeg_is_pillows(quality: int) -> None:
    hr = make_picture(96, 130)
    packed = io.BytesIO()
    Image.fromarray(downscale(hr, 2)).save(packed, "JPEG", quality=quality, subsampling="4:2:0")
    said: list[str] = []
    assert np.array_equal(degrade(hr, 2, f"jpeg{quality}", rng(0), said.append), np.asarray(Image.open(packed)))
    assert said == [f"jpeg {quality} 4:2:0"]


@pytest.mark.parametrize("strength", [5, 10])
def test_noise_has_the_strength_of_its_name(strength: int) -> None:
    hr = np.full((256, 256, 3), 128, np.uint8)
    noise = degrade(hr, 2, f"noise{strength}", rng(0)).astype(float) - 128
    assert noise.std() == pytest.approx(strength, rel=0.03)
    assert abs(noise.mean()) < 0.1


def test_strong_loses_more_than_light() -> None:
    hr = make_picture(256, 256)
    clean = downscale(hr, 4).astype(float)
    lost = {
        kind: np.mean([np.square(degrade(hr, 4, kind, rng(seed)) - clean).mean() for seed in range(8)])
        for kind in ("light", "strong")
    }
    assert lost["strong"] > 1.5 * lost["light"] > 0


def test_what_was_drawn_is_said() -> None:
    said: list[str] = []
    degrade(make_picture(64, 64), 2, "light", rng(0), said.append)
    assert [step.split()[0] for step in said] == ["blur", "noise", "jpeg"]
    words = set()
    for seed in range(60):
        said = []
        degrade(make_picture(32, 32), 2, "photo", rng(seed), said.append)
        words |= {step.split()[0] for step in said}
    assert words == {"clean", "blur", "kept", "enlarged", "noise", "sharpened", "jpeg", "webp"}


def test_photo_keeps_the_mean_colour() -> None:
    hr = make_picture(192, 192)
    means = np.array([degrade(hr, 4, "photo", rng(seed)).mean(axis=(0, 1)) for seed in range(40)])
    assert np.abs(means.mean(axis=0) - hr.mean(axis=(0, 1))).max() < 1
    assert np.abs(means - hr.mean(axis=(0, 1))).mean() < 1


def test_pairs_are_drawn_from_seed_and_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hr")
    files = [folder / f"{index}.png" for index in range(2)]
    for index, file in enumerate(files):
        Image.fromarray(make_picture(41, 50, index)).save(file)
    pairs = load_pairs(files, 2, "photo", seed=7)
    assert [pair.hr.shape for pair in pairs] == [(40, 50, 3)] * 2
    for index, pair in enumerate(pairs):
        assert np.array_equal(pair.lr, degrade(pair.hr, 2, "photo", rng(7, index)))


def test_a_sampler_goes_on_where_it_was() -> None:
    first, second = (PatchSampler(make_pairs(2, side=48), 12, 3, vary=True, degradation="photo") for _ in range(2))
    first.draw(5)
    state = first.state
    expected = first.draw(5)
    second.state = state
    for a, b in zip(expected, second.draw(5), strict=True):
        assert torch.equal(a, b)
    assert first.settings["degradation"] == "photo"


def test_no_patch_shows_a_border_and_every_phase_of_blocks_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is degraded is marked: 255 in a border of half the margin, elsewhere its place modulo 8."""
    half = DEGRADED_MARGIN // 2

    def mark(hr: np.ndarray, scale: int, *_: object) -> np.ndarray:
        height, width = hr.shape[0] // scale, hr.shape[1] // scale
        marked = np.full((height, width, 3), 255, np.uint8)
        inside = np.stack([*np.mgrid[:height, :width] % 8, np.zeros((height, width))], axis=2)
        marked[half:-half, half:-half] = inside[half:-half, half:-half]
        return marked

    monkeypatch.setattr(data, "degrade", mark)
    for vary in (False, True):
        sampler = PatchSampler(make_pairs(2, side=48), 16, 0, vary=vary, degradation="photo")
        lr, _ = sampler.draw(200)
        assert lr.max() < 8
        corners = {(int(patch[0, 0, 0]), int(patch[1, 0, 0])) for patch in lr}
        assert len(corners) > 40


@pytest.mark.parametrize("scale", [2, 3])
def test_both_sides_of_a_patch_show_the_same_place(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "degrade", lambda hr, scale, *_: downscale(hr, scale))
    sampler = PatchSampler(make_pairs(scale, side=48), 16, 0, vary=True, degradation="photo")
    for lr, hr in zip(*sampler.draw(40), strict=True):
        made = downscale(hr.permute(1, 2, 0).numpy().astype(np.uint8), scale).astype(float)
        off = np.abs(made - lr.permute(1, 2, 0).numpy())[2:-2, 2:-2]  # at its border, HR cut first is another picture
        assert off.max() <= 2  # a turned patch is reduced along its other axis first


def test_a_picture_no_larger_than_a_patch_has_no_margin() -> None:
    hr = make_picture(32, 32)
    sampler = PatchSampler([ImagePair("small", hr, downscale(hr, 2))], 16, 0, degradation="photo")
    lr, hr_patch = sampler.draw(3)
    assert (tuple(lr.shape), tuple(hr_patch.shape)) == ((3, 3, 16, 16), (3, 3, 32, 32))
