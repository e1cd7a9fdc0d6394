"""HEIC and JPEG XL, where the packages that read them are installed."""

from __future__ import annotations

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from gdq_cli.images import Picture, default_format, probe_image, read_image
from tests.helpers.image_samples import photo, saved, xmp_packet

RGB = photo(48, 64)


def written(module: str, format: str, **options: object) -> bytes:
    pytest.importorskip(module.partition(".")[0])
    importlib.import_module(module)
    return saved(Image.fromarray(RGB), format, **options)


def heic(**options: object) -> bytes:
    return written("pillow_heif.HeifImagePlugin", "HEIF", quality=95, **options)


def near(picture: Picture, expected: np.ndarray) -> bool:
    return bool(picture.rgb.shape == expected.shape and np.abs(picture.rgb.astype(int) - expected).mean() < 8)


def test_heic_is_read_upright_and_becomes_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = heic(exif=exif.tobytes())
    header = probe_image(io.BytesIO(data))
    assert (header.format, header.width, header.height, header.compression.lossless) == ("heic", 48, 64, False)
    picture = read_image(io.BytesIO(data))
    assert near(picture, np.rot90(RGB, -1))
    assert picture.metadata.exif is not None
    assert default_format("heic") == "png"


def test_heic_is_not_turned_by_its_xmp() -> None:
    unknown = xmp_packet(6).replace(b'"', b"'")  # to the package that writes here, and turns the picture otherwise
    assert near(read_image(io.BytesIO(heic(xmp=unknown))), RGB)


def test_heic_tells_its_colours() -> None:
    data = heic(save_nclx_profile=True, color_primaries=12, transfer_characteristics=13)
    assert read_image(io.BytesIO(data)).metadata.cicp == bytes((12, 13, 0, 1))


def test_of_several_pictures_in_a_heic_the_main_one_is_read() -> None:
    data = heic(save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())])
    picture = read_image(io.BytesIO(data))
    assert near(picture, RGB)
    assert picture.warnings == ("holds 2 pictures; only the main one is read",)


@pytest.mark.parametrize("kind", [b"urn:mpeg:hevc:2015:auxid:2", b"urn:apple:aux:hdrgainmap:1"], ids=["depth", "gain"])
def test_maps_in_a_heic_are_said_to_be_left_out(kind: bytes) -> None:
    pytest.importorskip("pillow_heif")
    importlib.import_module("pillow_heif.HeifImagePlugin")
    data = saved(Image.fromarray(np.dstack([RGB, RGB[..., 0]])), "HEIF", quality=95)
    picture = read_image(io.BytesIO(data.replace(b"urn:mpeg:hevc:2015:auxid:1", kind)))  # alpha as something else
    assert near(picture, RGB)
    assert picture.warnings == ("holds 2 pictures (depth or gain maps, previews); only the main one is read",)
    assert read_image(io.BytesIO(data)).warnings == ()


def test_jpeg_xl_is_read_with_all_its_bits() -> None:
    data = written("pillow_jxl", "JXL", lossless=True)
    picture = read_image(io.BytesIO(data))
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.format == "jxl"
    deep = RGB[..., 0].astype(np.uint16) * 256
    picture = read_image(io.BytesIO(saved(Image.fromarray(deep), "JXL", lossless=True)))
    np.testing.assert_array_equal(picture.samples16, deep)
