"""Two pictures compared, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import Frames, read_frames
from gdq_cli.measure.comparison import compare_files, compare_images, difference_picture
from tests.helpers.image_samples import rgb_profile
from tests.helpers.pictures import make_picture


def test_comparison_by_hand() -> None:
    a = make_picture(30, 40)
    b = a.copy()
    b[7, 9] = np.where(a[7, 9] > 100, a[7, 9] - 20, a[7, 9] + 20)
    found = compare_images(a, b)
    assert (found.largest, found.where) == (20, (7, 9))
    assert found.share == pytest.approx(3 / (30 * 40 * 3))
    assert found.ssim_y is not None
    assert found.ssim_y < 1
    assert compare_images(a, b, shave=8).largest == 0
    assert compare_images(a[:10], b[:10]).ssim_y is None
    picture, gain = difference_picture(a, b)
    assert gain == 8
    assert picture[7, 9].tolist() == [160, 160, 160]
    assert picture.sum() == 480
    assert difference_picture(a, a)[0].max() == 0
    assert not found.in_alpha
    assert found.peak == 255


def test_16_bits_and_alpha_by_hand() -> None:
    a = make_picture(30, 40).astype(np.uint16) * 257
    b = a.copy()
    b[3, 5, 1] ^= 1
    found = compare_images(a, b)
    assert (found.largest, found.where, found.peak) == (1, (3, 5), 65535)
    assert 100 < found.psnr_y < np.inf
    picture, gain = difference_picture(a, b)
    assert gain == 64 * 256
    assert picture[3, 5].tolist() == [0, 64, 0]
    veils = [np.dstack([make_picture(30, 40), np.full((30, 40), value, np.uint8)]) for value in (255, 245)]
    found = compare_images(*veils)
    assert (found.largest, found.in_alpha, found.psnr_y) == (10, True, np.inf)
    assert (difference_picture(*veils)[0] == 160).all()


def write(path: Path, *arrays: np.ndarray, **options: Any) -> Frames:
    images = [Image.fromarray(array) for array in arrays]
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(path, **more, **options)
    return read_frames(path)


RGB = make_picture(30, 40)
OTHER = np.where(RGB > 100, RGB - 1, RGB + 1).astype(np.uint8)
OPAQUE = np.dstack([RGB, np.full((30, 40), 255, np.uint8)])
VEILED = np.dstack([RGB, np.full((30, 40), 254, np.uint8)])
DEEP = np.full((40, 40), 20000, np.uint16)
FLOAT = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)


@pytest.mark.parametrize(
    ("suffix", "first", "second", "differing"),
    [
        (".png", [DEEP], [DEEP + np.uint16(1)], [1]),
        (".tif", [DEEP], [DEEP + np.uint16(100)], [1]),
        (".tif", [FLOAT], [FLOAT * np.float32(0.9999)], [1]),
        (".png", [OPAQUE], [VEILED], [1]),
        (".webp", [RGB, RGB, RGB], [RGB, OTHER, RGB], [2]),
        (".png", [RGB, RGB, RGB, RGB], [RGB, OTHER, RGB, OTHER], [2, 4]),
        (".tif", [RGB, RGB], [RGB, OTHER], [2]),
    ],
)
def test_what_differs_is_found(
    suffix: str, first: list[np.ndarray], second: list[np.ndarray], differing: list[int], tmp_path: Path
) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    if len(first) > 1:
        for frames in (first, second):
            frames[:] = [np.concatenate([np.full_like(f[:1], n), f[1:]]) for n, f in enumerate(frames)]  # none repeats
    files = [write(tmp_path / f"{n}{suffix}", *arrays, **options) for n, arrays in enumerate((first, second))]
    found = compare_files(files[0], files[1], ("a", "b"))
    assert [number for number, frame in enumerate(found.frames, 1) if frame.largest] == differing
    assert found.worst + 1 in differing


def test_remarks_tell_what_the_samples_do_not(tmp_path: Path) -> None:
    bright = np.where(FLOAT == 1, np.float32(7), FLOAT)
    files = [write(tmp_path / f"{n}.tif", array) for n, array in enumerate((FLOAT, bright))]
    found = compare_files(files[0], files[1], ("a", "b"))
    assert not found.frames[0].largest
    assert "b: 1 samples outside 0 to 1 are clipped" in found.remarks
    shallow = write(tmp_path / "8.png", np.full((40, 40), 9, np.uint8))
    deep = write(tmp_path / "16.png", np.full((40, 40), 9 * 257, np.uint16))
    assert compare_files(shallow, deep, ("a", "b")).remarks == ("a has 8 bits per sample and b has 16",)
    plain, tagged = write(tmp_path / "p.png", RGB), write(tmp_path / "t.png", RGB, icc_profile=rgb_profile())
    assert "colour profiles differ" in compare_files(plain, tagged, ("a", "b")).remarks[0]


def test_other_numbers_or_sizes_of_frames_do_not_compare(tmp_path: Path) -> None:
    two, three = (write(tmp_path / f"{n}.tif", *[RGB] * n) for n in (2, 3))
    with pytest.raises(ImageError, match=r"^a has 2 and b has 3 frames or pages: only equal numbers compare$"):
        compare_files(two, three, ("a", "b"))
    odd = write(tmp_path / "odd.tif", RGB, RGB[:20])
    with pytest.raises(ImageError, match=r"^frame or page 2: a is 40x30 and b is 40x20 pixels: only equal sizes"):
        compare_files(two, odd, ("a", "b"))
    with pytest.raises(OptionsError, match="leaves nothing"):
        compare_files(two, two, ("a", "b"), 15)
