"""Two pictures compared, by hand."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import Frames, read_frames
from gdq_cli.measure.comparison import compare_files, compare_images, difference_picture
from tests.helpers.image_samples import png16, png_chunk, rgb_profile, saved
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


def test_pictures_of_unlike_kinds_compare() -> None:
    grey = make_picture(30, 40)[..., 0]
    rgb = np.repeat(grey[..., None], 3, axis=2)
    opaque = np.full((30, 40), 255, np.uint8)
    kinds = [grey, rgb, np.dstack([rgb, opaque])]
    kinds += [kind.astype(np.uint16) * np.uint16(257) for kind in kinds]
    for a in kinds:
        for b in kinds:
            found = compare_images(a, b)
            deep = np.uint16 in (a.dtype, b.dtype)
            assert (found.largest, found.psnr_y, found.peak) == (0, np.inf, 65535 if deep else 255)
            assert not difference_picture(a, b)[0].any()
    faint = np.dstack([rgb, opaque - 1])
    assert compare_images(grey, faint).in_alpha
    assert compare_images(kinds[3], faint).largest == 257
    for unfit in (rgb.astype(np.float32), rgb[..., :2], rgb[0, 0]):
        with pytest.raises(ValueError, match="an image is"):
            compare_images(rgb, unfit)


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


def test_shapes_of_pixels_count_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    square, wide, turned = (
        read_frames(io.BytesIO(saved(Image.fromarray(pixels), "PNG", **options)))
        for pixels, options in (
            (RGB, {"dpi": (300, 300)}),
            (RGB, {"dpi": (100, 200)}),
            (np.rot90(RGB), {"dpi": (200, 100), "exif": exif.tobytes()}),
        )
    )
    told = "the shapes of pixels differ, so equal samples look different"
    assert compare_files(square, wide, ("a", "b")).remarks == (told,)
    found = compare_files(wide, turned, ("a", "b"))
    assert (found.frames[0].largest, found.remarks) == (0, ())


@pytest.mark.parametrize("channels", [2, 4])
def test_a_constant_16_bit_alpha_is_not_called_equal_to_another(channels: int) -> None:
    """gdq keeps 8 bits of alpha: both values are the same to it, and it says that it did not look further."""
    samples = np.full((20, 20, channels), 20000, np.uint16)
    other = samples + np.array([*[0] * (channels - 1), 1], np.uint16)
    files = [read_frames(io.BytesIO(png16(array))) for array in (samples, other)]
    found = compare_files(files[0], files[1], ("a", "b"))
    assert not found.frames[0].largest
    assert "a: 16-bit alpha is kept with 8 bits" in found.remarks


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([(b"gAMA", struct.pack(">L", 100000))], True),
        ([(b"cHRM", struct.pack(">8L", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))], True),
        ([(b"gAMA", struct.pack(">L", 45455))], False),  # sRGB's own
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">L", 100000))], False),  # what sRGB says counts more
    ],
)
def test_colour_tags_compare_as_upscale_heeds_them(chunks: list[tuple[bytes, bytes]], says: bool) -> None:
    plain = saved(Image.fromarray(RGB), "PNG")
    tagged = plain[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + plain[33:]
    files = [read_frames(io.BytesIO(data)) for data in (plain, tagged)]
    remarks = compare_files(files[0], files[1], ("a", "b")).remarks
    assert any("colour profiles differ" in remark for remark in remarks) == says
    assert not compare_files(files[1], files[1], ("a", "b")).remarks


def test_how_often_an_animation_plays_is_remarked(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{loop}.webp", RGB, OTHER, lossless=True, loop=loop) for loop in (0, 1, 3)]
    assert compare_files(files[0], files[2], ("a", "b")).remarks == ("a plays endlessly and b plays 3 times",)
    assert compare_files(files[1], files[2], ("a", "b")).remarks == ("a plays once and b plays 3 times",)
    assert not compare_files(files[2], files[2], ("a", "b")).remarks


def test_other_numbers_or_sizes_of_frames_do_not_compare(tmp_path: Path) -> None:
    two, three = (write(tmp_path / f"{n}.tif", *[RGB] * n) for n in (2, 3))
    with pytest.raises(ImageError, match=r"^a has 2 and b has 3 frames or pages: only equal numbers compare$"):
        compare_files(two, three, ("a", "b"))
    odd = write(tmp_path / "odd.tif", RGB, RGB[:20])
    with pytest.raises(ImageError, match=r"^frame or page 2: a is 40x30 and b is 40x20 pixels: only equal sizes"):
        compare_files(two, odd, ("a", "b"))
    with pytest.raises(OptionsError, match="leaves nothing"):
        compare_files(two, two, ("a", "b"), 15)
