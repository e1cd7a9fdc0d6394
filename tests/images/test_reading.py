"""Reading: every mode, depth and orientation; headers, limits and errors."""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from gdq_cli.errors import ImageError
from gdq_cli.images import FORMATS, Picture, probe_image, read_image
from tests.helpers.image_samples import (
    PNG_MAGIC,
    cmyk_profile,
    exif_block,
    photo,
    png16,
    png_chunk,
    rgb_profile,
    saved,
    small_files,
    tiff16_rgb,
    tiff_file,
    xmp_packet,
)

RGB = photo(24, 33)
ALPHA = photo(24, 33, 9)[..., 1]
GREY = RGB[..., 0]
SAMPLES = np.random.default_rng(1).integers(0, 65536, (11, 14, 4), np.uint16)


def read(data: bytes, **options: object) -> Picture:
    return read_image(io.BytesIO(data), **options)  # type: ignore[arg-type]


def rgba() -> Image.Image:
    return Image.fromarray(np.dstack([RGB, ALPHA]))


def as_grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2)


MODES: dict[str, tuple[bytes, np.ndarray, np.ndarray | int, bool]] = {
    # file, expected rgb, expected alpha (plane or value), grey
    "RGB": (saved(Image.fromarray(RGB), "PNG"), RGB, 255, False),
    "RGB that is grey": (saved(Image.fromarray(as_grey(GREY)), "PNG"), as_grey(GREY), 255, True),
    "L": (saved(Image.fromarray(GREY), "PNG"), as_grey(GREY), 255, True),
    "L, transparent value": (
        saved(Image.fromarray(GREY), "PNG", transparency=int(GREY[0, 0])),
        as_grey(GREY),
        np.where(GREY[0, 0] == GREY, 0, 255).astype(np.uint8),
        True,
    ),
    "LA": (saved(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), as_grey(GREY), ALPHA, True),
    "1": (
        saved(Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE), "PNG"),
        as_grey(np.where(GREY > 127, 255, 0).astype(np.uint8)),
        255,
        True,
    ),
    "1, transparent value": (
        saved(Image.fromarray(GREY > 127), "PNG", transparency=0),
        as_grey(np.where(GREY > 127, 255, 0).astype(np.uint8)),
        np.where(GREY > 127, 255, 0).astype(np.uint8),
        True,
    ),
    "RGBA": (saved(rgba(), "PNG"), RGB, ALPHA, False),
    "RGBA, all opaque": (saved(Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)])), "PNG"), RGB, 255, False),
    "RGBA, all half": (saved(Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 128)])), "PNG"), RGB, 128, False),
    "RGB, transparent value": (
        saved(Image.fromarray(RGB), "PNG", transparency=tuple(int(v) for v in RGB[10, 10])),
        RGB,
        np.where((RGB[10, 10] == RGB).all(2), 0, 255).astype(np.uint8),
        False,
    ),
    "RGBA in TIFF": (saved(rgba(), "TIFF"), RGB, ALPHA, False),
    "LA in TIFF": (saved(Image.fromarray(np.dstack([GREY, ALPHA])), "TIFF"), as_grey(GREY), ALPHA, True),
    "RGBA in WebP": (saved(rgba(), "WEBP", lossless=True, exact=True), RGB, ALPHA, False),
    "white is 0": (
        tiff_file(
            {256: (3, (33,)), 257: (3, (24,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (0,)), 278: (3, (24,))},
            (255 - GREY).tobytes(),
        ),
        as_grey(GREY),
        255,
        True,
    ),
    "PPM": (saved(Image.fromarray(RGB), "PPM"), RGB, 255, False),
    "PGM": (saved(Image.fromarray(GREY), "PPM"), as_grey(GREY), 255, True),
    "BMP": (saved(Image.fromarray(RGB), "BMP"), RGB, 255, False),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb_alpha_and_grey(name: str) -> None:
    data, rgb, alpha, grey = MODES[name]
    picture = read(data)
    np.testing.assert_array_equal(picture.rgb, rgb)
    assert picture.rgb.flags.c_contiguous
    assert picture.grey is grey
    assert picture.warnings == ()
    if isinstance(alpha, int):
        assert picture.alpha is None
        assert picture.alpha_value == alpha
    else:
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.has_alpha == (not isinstance(alpha, int) or alpha != 255)


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_are_expanded(format: str, transparent: bool) -> None:
    paletted = Image.fromarray(RGB).quantize(20)
    options = {"transparency": 4} if transparent and format in ("PNG", "GIF") else {}
    data = saved(paletted, format, **options)
    picture = read(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    np.testing.assert_array_equal(picture.rgb, expected[..., :3])
    assert (picture.alpha is not None) == bool(options)
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, expected[..., 3])
        assert (picture.alpha == 0).any()


def test_a_palette_with_an_alpha_per_colour_keeps_it() -> None:
    alphas = bytes(range(0, 200, 10))
    data = saved(Image.fromarray(RGB).quantize(20), "PNG", transparency=alphas)
    picture = read(data)
    np.testing.assert_array_equal(picture.alpha, np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3])


@pytest.mark.parametrize(
    ("colours", "extra", "left_out"),
    [(2, (), 0), (2, (0,), 1), (2, (2, 0), 1), (2, (0, 0), 2), (1, (0,), 1), (2, (2,), 0)],
)
def test_extra_channels_of_a_tiff_that_are_left_out_are_said(
    colours: int, extra: tuple[int, ...], left_out: int
) -> None:
    count = (3 if colours == 2 else 1) + max(1, len(extra))
    fields = {256: (3, (4,)), 257: (3, (4,)), 258: (3, (8,) * count), 259: (3, (1,)), 262: (3, (colours,))}
    fields |= {277: (3, (count,)), 278: (3, (4,))} | ({338: (3, extra)} if extra else {})
    picture = read(tiff_file(fields, bytes(range(16 * count))))
    said = f"extra channels that are not transparency are left out: {left_out}"
    assert picture.warnings == ((said,) if left_out else ())


def test_premultiplied_alpha_is_divided_out() -> None:
    half = np.dstack([np.full((4, 4, 3), 100, np.uint8), np.full((4, 4), 128, np.uint8)])
    fields = {256: (3, (4,)), 257: (3, (4,)), 258: (3, (8,) * 4), 259: (3, (1,)), 262: (3, (2,)), 277: (3, (4,))}
    picture = read(tiff_file(fields | {278: (3, (4,)), 338: (3, (1,))}, half.tobytes()))
    assert picture.alpha_value == 128
    assert abs(int(picture.rgb[0, 0, 0]) - round(100 * 255 / 128)) <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
def test_premultiplied_alpha_of_16_bits_is_divided_out_with_all_bits(order: str, packed: bool) -> None:
    colours, alpha = SAMPLES[..., :3].astype(np.int64), np.maximum(SAMPLES[..., 3:], 3000).astype(np.int64)
    stored = np.dstack([(colours * alpha + 32767) // 65535, alpha]).astype(order + "u2")
    fields = {256: (3, (14,)), 257: (3, (11,)), 258: (3, (16,) * 4), 259: (3, (8 if packed else 1,)), 262: (3, (2,))}
    fields |= {277: (3, (4,)), 278: (3, (11,)), 338: (3, (1,))}
    data = zlib.compress(stored.tobytes()) if packed else stored.tobytes()
    picture = read(tiff_file(fields, data, order))
    assert picture.samples16 is not None
    error = np.abs(picture.samples16.astype(int) - colours)
    assert (error * alpha <= 65535).all()  # what rounding before the division leaves
    np.testing.assert_array_equal(picture.alpha, np.rint(alpha[..., 0] / 257).astype(np.uint8))


@pytest.mark.parametrize("opacity", [0, 7])
def test_alpha_of_a_bmp_counts_unless_all_of_it_is_zero(opacity: int) -> None:
    """Windows' clipboard and others announce it and leave it 0; browsers and viewers show the picture."""
    pixels = np.dstack([RGB[..., ::-1], np.zeros_like(GREY)])
    pixels[0, 0, 3] = opacity
    masks = struct.pack("<4L", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<LllHHL20x16s4s48x", 108, 33, -24, 1, 32, 3, masks, b"BGRs")
    picture = read(b"BM" + struct.pack("<L4xL", 122 + pixels.size, 122) + head + pixels.tobytes())
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.has_alpha == (opacity > 0)


@pytest.mark.parametrize("alpha", [0, 0x8000])
def test_alpha_of_a_16_bit_bmp_that_is_not_read_is_said(alpha: int) -> None:
    head = struct.pack("<LllHHLLllLL4L", 56, 4, 2, 1, 16, 3, 16, 0, 0, 0, 0, 0x7C00, 0x3E0, 0x1F, alpha)
    picture = read(b"BM" + struct.pack("<LLL", 14 + 56 + 16, 0, 14 + 56) + head + bytes(16))
    assert picture.warnings == (("the transparency of 16-bit pixels is not read",) if alpha else ())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_all_bits(channels: int) -> None:
    samples = SAMPLES[..., 0] if channels == 1 else SAMPLES[..., :channels]
    picture = read(png16(samples))
    assert picture.bit_depth == 16
    colour = samples if channels == 1 else samples[..., 0] if channels == 2 else samples[..., :3]
    np.testing.assert_array_equal(picture.samples16, colour)
    rounded = np.rint(colour / 257).astype(np.uint8)
    np.testing.assert_array_equal(picture.rgb, as_grey(rounded) if colour.ndim == 2 else rounded)
    assert (colour.ndim == 2) == (channels < 3) == picture.grey
    assert (picture.alpha is not None) == (channels in (2, 4))
    assert picture.warnings == (("16-bit alpha is kept with 8 bits",) if channels in (2, 4) else ())
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, np.rint(samples[..., -1] / 257).astype(np.uint8))


def test_16_bit_png_whose_channels_are_equal_is_grey() -> None:
    picture = read(png16(np.repeat(SAMPLES[..., :1], 3, axis=2)))
    assert picture.grey
    np.testing.assert_array_equal(picture.samples16, SAMPLES[..., 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_with_a_transparent_value(channels: int) -> None:
    samples = SAMPLES[..., 0] if channels == 1 else SAMPLES[..., :3]
    key = samples[3, 4]
    trns = png_chunk(b"tRNS", np.atleast_1d(key).astype(">u2").tobytes())
    picture = read(png16(samples, trns))
    assert picture.alpha is not None
    assert picture.alpha[3, 4] == 0
    assert (picture.alpha == 0).sum() == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_keeps_all_bits(order: str) -> None:
    picture = read(tiff16_rgb(SAMPLES[..., :3], order))
    np.testing.assert_array_equal(picture.samples16, SAMPLES[..., :3])
    assert picture.bit_depth == 16


def test_16_bit_grey_tiff_keeps_all_bits_in_both_polarities() -> None:
    fields = {256: (3, (14,)), 257: (3, (11,)), 258: (3, (16,)), 259: (3, (1,)), 278: (3, (11,))}
    black, white = (read(tiff_file(fields | {262: (3, (kind,))}, SAMPLES[..., 0].tobytes())) for kind in (1, 0))
    np.testing.assert_array_equal(black.samples16, SAMPLES[..., 0])
    np.testing.assert_array_equal(white.samples16, 65535 - SAMPLES[..., 0])


def test_12_bit_tiff_fills_the_16_bit_range() -> None:
    packed = bytes((0xFF, 0xF0, 0x00))  # 4095, 0
    fields = {256: (3, (2,)), 257: (3, (1,)), 258: (3, (12,)), 259: (3, (1,)), 262: (3, (1,)), 278: (3, (1,))}
    picture = read(tiff_file(fields, packed))
    assert picture.samples16 is not None
    assert picture.samples16.tolist() == [[65535, 0]]


def test_16_bit_planes_that_pillow_would_garble_are_refused() -> None:
    with pytest.raises(ImageError, match="separate planes"):
        read(tiff16_rgb(SAMPLES[..., :3], planar=True))


@pytest.mark.parametrize("alpha", [1, 2])
def test_planes_of_grey_and_alpha_are_refused_as_pillow_loses_the_alpha(alpha: int) -> None:
    fields = {256: (3, (4,)), 257: (3, (2,)), 258: (3, (8, 8)), 259: (3, (8,)), 262: (3, (1,)), 277: (3, (2,))}
    fields |= {278: (3, (2,)), 338: (3, (alpha,))}
    with pytest.raises(ImageError, match="grey and alpha samples in separate planes"):
        read(tiff_file({**fields, 284: (3, (2,))}, zlib.compress(bytes(8))))
    samples = bytes(range(16))
    assert read(tiff_file({**fields, 284: (3, (1,))}, zlib.compress(samples))).alpha.tolist()[0] == [1, 3, 5, 7]


@pytest.mark.parametrize(("top", "expected"), [(65535, 1.0), (1023, 65535 / 1023)])
def test_16_bit_ppm_is_scaled_to_the_full_range(top: int, expected: float) -> None:
    samples = np.minimum(SAMPLES[..., :3], top).astype(np.uint16)
    data = b"P6\n# by hand\n14 11\n%d\n" % top + samples.astype(">u2").tobytes()
    picture = read(data)
    np.testing.assert_array_equal(picture.samples16, np.rint(samples * expected).astype(np.uint16))


@pytest.mark.parametrize(
    ("mode", "values", "expected", "note"),
    [
        ("F", [0.0, 0.5, 1.0], [0, 32768, 65535], "taking 1 for white"),
        ("F", [0.0, 0.5, 1.02], [0, 32768, 65535], "1 samples outside 0 to 1 are clipped"),
        ("F", [-0.5, 0.5, 255.0], [0, 32768, 65535], "2 samples outside 0 to 1 are clipped"),
        ("F", [float("nan"), 0.5, 1.0], [0, 32768, 65535], "1 samples are not numbers"),
        ("F", [float("inf"), 0.5, -float("inf")], [65535, 32768, 0], "2 samples outside 0 to 1 are clipped"),
        ("I", [-5, 0, 2**31 - 1], [0, 0, 65535], "1 samples outside 0 to 2147483647 are clipped"),
        ("I", [0, 400000, 2**30], [0, 12, 32768], "taking 2147483647 for white"),
    ],
)
def test_32_bit_grey_is_converted_and_said(mode: str, values: list[float], expected: list[int], note: str) -> None:
    array = np.asarray([values], np.float32 if mode == "F" else np.int32)
    picture = read(saved(Image.fromarray(array), "TIFF"))
    assert picture.samples16 is not None
    assert picture.samples16.tolist() == [expected]
    assert any(note in warning for warning in picture.warnings)


def test_unsigned_32_bit_grey_takes_the_whole_range_of_its_type() -> None:
    values = np.array([[0, 2**16, 2**31, 2**32 - 1]], "<u4")
    tags = {256: (3, (4,)), 257: (3, (1,)), 258: (3, (32,)), 259: (3, (1,)), 262: (3, (1,)), 339: (3, (1,))}
    picture = read(tiff_file(tags, values.tobytes()))
    assert picture.samples16 is not None
    assert picture.samples16.tolist() == [[0, 1, 32768, 65535]]
    assert picture.warnings == ("32-bit integer samples read as 16 bits, taking 4294967295 for white",)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(
    ("kind", "sample_format", "white"),
    [("u2", 1, 65535), ("i2", 2, 32767), ("u4", 1, 2**32 - 1), ("i4", 2, 2**31 - 1), ("f4", 3, 1), ("f8", 3, 1)],
)
def test_wide_grey_tiff_reads_alike_in_each_byte_order(
    order: str, packed: bool, white_is_zero: bool, kind: str, sample_format: int, white: int
) -> None:
    values = (np.array([[0, 0.2, 0.6, 1]]) * white).astype(order + kind)
    data = zlib.compress(values.tobytes()) if packed else values.tobytes()
    tags = {256: (3, (4,)), 257: (3, (1,)), 258: (3, (8 * values.itemsize,)), 259: (3, (8 if packed else 1,))}
    tags |= {262: (3, (0 if white_is_zero else 1,)), 339: (3, (sample_format,))}
    picture = read(tiff_file(tags, data, order))
    assert picture.samples16 is not None
    expected = np.array([[0, 13107, 39321, 65535]])
    error = picture.samples16.astype(int) - (65535 - expected if white_is_zero else expected)
    assert np.abs(error).max() <= 2  # 16-bit signed samples are half as fine


def test_a_pfm_is_clipped_not_stretched() -> None:
    values = np.array([[0.25, 0.5], [1.02, -0.5]], "<f4")
    picture = read(b"Pf\n2 2\n-1.0\n" + values[::-1].tobytes())
    assert picture.samples16 is not None
    assert picture.samples16.tolist() == [[16384, 32768], [65535, 0]]
    assert "2 samples outside 0 to 1 are clipped" in picture.warnings


def test_cmyk_with_a_profile_is_converted_by_it_and_the_profile_goes() -> None:
    ink = np.zeros((2, 3, 4), np.uint8)
    ink[0, 1], ink[0, 2], ink[1, 0] = (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)
    data = saved(Image.fromarray(ink, "CMYK"), "TIFF", icc_profile=cmyk_profile())
    picture = read(data)
    assert picture.warnings == ("converted from CMYK to sRGB with the embedded profile",)
    assert picture.metadata.icc is None
    assert (picture.rgb[0, 0] > 245).all()
    assert (picture.rgb[1, 0] < 10).all()
    red, cyan = picture.rgb[0, 2].astype(int), picture.rgb[0, 1].astype(int)
    assert red[0] > red[2] + 60
    assert cyan[1] > cyan[0] + 60
    assert not np.array_equal(picture.rgb, read(saved(Image.fromarray(ink, "CMYK"), "TIFF")).rgb)


@pytest.mark.parametrize("profile", [None, cmyk_profile()[:200], rgb_profile()])
def test_cmyk_without_a_usable_profile_is_converted_approximately_and_said(profile: bytes | None) -> None:
    data = saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95, icc_profile=profile)
    picture = read(data)
    assert any("colours are approximate" in warning for warning in picture.warnings)
    assert picture.metadata.icc is None
    assert np.abs(picture.rgb.astype(int) - RGB).mean() < 12


def test_lab_is_converted_and_said() -> None:
    lab = np.full(
        (3, 3, 3), (255, 128, 128), np.uint8
    )  # Pillow stores a and b with 0 as neutral in TIFF's signed bytes
    lab[..., 1:] = 0
    fields = {256: (3, (3,)), 257: (3, (3,)), 258: (3, (8,) * 3), 259: (3, (1,)), 262: (3, (8,)), 277: (3, (3,))}
    picture = read(tiff_file(fields | {278: (3, (3,))}, lab.tobytes()))
    assert picture.warnings == ("converted from Lab to sRGB",)
    assert (picture.rgb > 250).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(RGB), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = read(data)
    np.testing.assert_array_equal(picture.rgb, upright)
    assert picture.rgb.flags.c_contiguous
    header = probe_image(io.BytesIO(data))
    assert (header.height, header.width) == picture.size


@pytest.mark.parametrize("orientation", [3, 6])
def test_all_planes_turn_together(orientation: int) -> None:
    block = png_chunk(b"eXIf", exif_block(orientation))
    picture, plain = read(png16(SAMPLES, block)), read(png16(SAMPLES))
    turns = {3: 2, 6: 3}[orientation]
    for name in ("rgb", "alpha", "samples16"):
        np.testing.assert_array_equal(getattr(picture, name), np.rot90(getattr(plain, name), turns))


def test_orientation_from_xmp_counts_only_where_exif_has_none() -> None:
    image = Image.fromarray(RGB)
    both = read(saved(image, "JPEG", exif=b"Exif\0\0" + exif_block(1), xmp=xmp_packet(6)))
    xmp_only = read(saved(image, "JPEG", exif=b"Exif\0\0" + exif_block(None), xmp=xmp_packet(6)))
    assert both.size == (24, 33)
    assert xmp_only.size == (33, 24)
    other_prefix = read(saved(image, "JPEG", xmp=xmp_packet(6).replace(b"tiff:", b"t-1:").replace(b":tiff=", b":t-1=")))
    assert other_prefix.size == (33, 24)


@pytest.mark.skipif("avif" not in FORMATS, reason="this Pillow reads no AVIF")
def test_orientation_from_xmp_does_not_count_in_an_avif() -> None:
    assert read(saved(Image.fromarray(RGB), "AVIF", xmp=xmp_packet(6))).size == (24, 33)
    assert read(saved(Image.fromarray(RGB), "AVIF", exif=b"Exif\0\0" + exif_block(6))).size == (33, 24)


def test_late_chunks_of_a_png_are_found() -> None:
    data = saved(Image.fromarray(RGB), "PNG")
    end = len(data) - 12
    late = png_chunk(b"eXIf", exif_block(6)) + png_chunk(b"tEXt", b"Author\0Somebody")
    picture = read(data[:end] + late + data[end:])
    assert picture.size == (33, 24)
    assert (b"tEXt", b"Author\0Somebody") in picture.metadata.png_chunks


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(Image.fromarray(RGB), "PNG"))
    picture = read_image(path)
    assert picture.format == "png"
    np.testing.assert_array_equal(picture.rgb, RGB)


@pytest.mark.parametrize("name", ["фото.png", "写真 写真.png", "a\u0301 b'\"%s.png", "-x.png", "n" * 200 + ".png"])
def test_any_file_name_can_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(saved(Image.fromarray(RGB), "PNG"))
    np.testing.assert_array_equal(read_image(str(path)).rgb, RGB)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_one_pixel(format: str) -> None:
    picture = read(saved(Image.new("RGB", (1, 1), (200, 30, 60)), format))
    assert picture.size == (1, 1)
    assert np.abs(picture.rgb[0, 0].astype(int) - (200, 30, 60)).max() <= 6


def test_a_pipe_is_read_like_a_file() -> None:
    data = saved(Image.fromarray(RGB), "TIFF")
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with open(reader, "rb") as stream:
        np.testing.assert_array_equal(read_image(stream).rgb, RGB)


def test_probing_leaves_a_stream_where_it_was() -> None:
    stream = io.BytesIO(saved(Image.fromarray(RGB), "PNG"))
    header = probe_image(stream)
    assert (header.format, header.width, header.height, header.frames, header.has_alpha) == ("png", 33, 24, 1, False)
    assert stream.tell() == 0
    np.testing.assert_array_equal(read_image(stream).rgb, RGB)


def huge_headers() -> dict[str, bytes]:
    """Small files that announce huge pictures."""
    files = small_files()
    jpg = bytearray(files["jpg"])
    sof = jpg.index(b"\xff\xc0")
    jpg[sof + 5 : sof + 9] = struct.pack(">HH", 65000, 65000)
    bmp = bytearray(files["bmp"])
    bmp[18:26] = struct.pack("<ll", 60000, 60000)
    gif = bytearray(files["gif"])
    at = gif.index(b",", 13 + 3 * 32)
    gif[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    animated = bytearray(files["gif-animated"])
    animated[6:10] = struct.pack("<HH", 65535, 65535)
    ihdr = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    vp8x = b"VP8X" + struct.pack("<LL", 10, 0) + (16382).to_bytes(3, "little") * 2
    webp = files["webp-lossless"]
    body = b"WEBP" + vp8x + webp[12:]
    fields = {
        256: (4, (60000,)),
        257: (4, (60000,)),
        258: (3, (8,) * 3),
        259: (3, (1,)),
        262: (3, (2,)),
        277: (3, (3,)),
    }
    return {
        "png": PNG_MAGIC + ihdr + files["png"][33:],
        "jpg": bytes(jpg),
        "bmp": bytes(bmp),
        "gif, frame": bytes(gif),
        "gif, screen": bytes(animated),
        "webp": b"RIFF" + struct.pack("<L", len(body)) + body,
        "tiff": tiff_file(fields | {278: (4, (60000,))}, b"pixels"),
        "ppm": b"P6 60000 60000 255\n" + bytes(100),
    }


@pytest.mark.parametrize("name", huge_headers())
def test_the_pixel_limit_acts_on_the_header(name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ImageError, match=r"^huge: .* pixels are more than the limit of 100000000; raise `max_pixels`"):
        read(huge_headers()[name], max_pixels=100_000_000, name="huge")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("name", small_files())
def test_pillows_own_limit_is_not_applied_and_stays_in_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_files()[name]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    picture = read(data)
    assert not any("bomb" in warning.lower() for warning in picture.warnings)
    assert Image.MAX_IMAGE_PIXELS == 5


ERRORS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "text": (b"Hello, this is not a picture at all.", "unknown format"),
    "pdf": (b"%PDF-1.7\n" + bytes(64), "PDF is not supported"),
    "png, only magic": (PNG_MAGIC, "truncated file"),
    "png, half": (small_files()["png"][:2000], "truncated file"),
    "jpg, half": (small_files()["jpg"][:-300], "truncated file"),
    "gif, half": (small_files()["gif"][:-200], "truncated file"),
    "webp, half": (small_files()["webp"][:-300], "truncated file"),
    "tiff, half": (small_files()["tiff"][:1500], "truncated file"),
    "ppm, half": (small_files()["ppm"][:800], "truncated file"),
    "ppm 16, half": (b"P6 9 9 65535\n" + bytes(99), "truncated file"),
    "bmp, half": (small_files()["bmp"][:800], "truncated file"),
    "no pixels": (b"P6 0 5 255\n" + bytes(99), "readable image"),
    "lossless jpeg": (small_files()["jpg"].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "pixel layout"),
    "tiff, unknown compression": (
        tiff_file({256: (3, (3,)), 257: (3, (3,)), 258: (3, (8,)), 259: (3, (34712,)), 262: (3, (1,))}, bytes(9)),
        "not a readable image",
    ),
    "tiff, floating-point colour": (
        tiff_file(
            {256: (3, (1,)), 257: (3, (1,)), 258: (3, (32,) * 3), 262: (3, (2,)), 277: (3, (3,)), 339: (3, (3,) * 3)},
            bytes(12),
        ),
        "unsupported pixel layout: RGB, 3 x 32-bit floating-point samples",
    ),
    "camera raw": (
        tiff_file(
            {254: (4, (1,)), 256: (3, (3,)), 257: (3, (3,)), 258: (3, (8,)), 262: (3, (1,)), 330: (4, (8,))}, bytes(9)
        ),
        "camera raw",
    ),
}


@pytest.mark.parametrize(
    ("name", "data", "remedy"),
    [
        ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is read after `pip install pillow-heif`"),
        ("heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC is read after `pip install pillow-heif`"),
        ("jxl", b"\xff\x0a", "JPEG XL is read after `pip install pillow-jxl-plugin`"),
        ("jxl", b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL is read after `pip install pillow-jxl-plugin`"),
        ("avif", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "AVIF is read after `pip install pillow>=11.3`"),
    ],
)
def test_a_format_whose_package_is_missing_names_it(
    name: str, data: bytes, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(FORMATS, name, raising=False)
    with pytest.raises(ImageError) as caught:
        read(data + bytes(64))
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_read_gets_one_clear_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, expected = ERRORS[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=expected) as caught:
        read_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert caught.value.exit_code == 3
    assert capfd.readouterr() == ("", "")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    for path, words in [
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "no such file"),
        (Path("/dev/zero"), "device"),
    ]:
        if path.exists() or words == "no such file":
            with pytest.raises(ImageError, match=words):
                read_image(path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("a\0b.png")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs an account that permissions bind")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(saved(Image.fromarray(RGB), "PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="no permission"):
        read_image(path)


def test_pages_by_number() -> None:
    data = small_files()["tiff-pages"]
    np.testing.assert_array_equal(read(data, page=2).rgb, photo(20, 25, 2))
    for page in (3, -1):
        with pytest.raises(ImageError, match="has 3 pages or frames"):
            read(data, page=page)


def test_a_picture_checks_its_planes() -> None:
    with pytest.raises(ValueError, match="rgb must be"):
        Picture(np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="alpha must be"):
        Picture(RGB, np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="samples16 must be"):
        Picture(RGB, samples16=np.zeros((24, 33, 4), np.uint16))


@pytest.mark.skipif("avif" not in FORMATS, reason="this Pillow reads no AVIF")
def test_avif() -> None:
    picture = read(saved(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4"))
    assert picture.format == "avif"
    assert np.abs(picture.rgb.astype(int) - RGB).mean() < 3


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("key", [0, 1, 3])
def test_the_transparent_value_of_grey_with_few_bits(depth: int, key: int) -> None:
    values = np.arange(32 * 24, dtype=np.uint8).reshape(24, 32) % 4
    bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(24, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    head = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 32, 24, depth, 0, 0, 0, 0))
    chunks = head + png_chunk(b"tRNS", struct.pack(">H", key)) + png_chunk(b"IDAT", zlib.compress(raw))
    picture = read(PNG_MAGIC + chunks + png_chunk(b"IEND", b""))
    np.testing.assert_array_equal(picture.rgb[..., 0], values * (255 // (2**depth - 1)))
    np.testing.assert_array_equal(picture.alpha, np.where(values == key, 0, 255))


def test_signed_8_bit_tiff_is_scaled_and_said() -> None:
    values = np.array([[-128, -1, 0, 64], [126, 127, 1, 2]], np.int8)
    fields = {256: (3, (4,)), 257: (3, (2,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (1,)), 278: (3, (2,))}
    picture = read(tiff_file({**fields, 339: (3, (2,))}, values.tobytes()))
    expected = np.array([[0, 0, 0, 128], [252, 255, 2, 4]], np.uint8)
    np.testing.assert_array_equal(picture.rgb[..., 0], expected)
    notes = ("signed 8-bit samples, taking 127 for white", "2 samples outside 0 to 127 are clipped")
    assert picture.warnings == notes


@pytest.mark.parametrize("scale", [1, 257])
def test_a_colour_map_may_have_8_bits(scale: int) -> None:
    colours = np.random.default_rng(4).integers(0, 256, (3, 256))
    fields = {256: (3, (16,)), 257: (3, (16,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (3,)), 278: (3, (16,))}
    data = tiff_file({**fields, 320: (3, tuple((colours * scale).ravel().tolist()))}, bytes(range(256)))
    np.testing.assert_array_equal(read(data).rgb.reshape(-1, 3), colours.T)


def test_what_is_not_read_is_named() -> None:
    fields = {256: (3, (4,)), 257: (3, (2,)), 258: (3, (8, 8, 8)), 259: (3, (1,)), 262: (3, (6,)), 277: (3, (3,))}
    subsampled = tiff_file({**fields, 278: (3, (2,)), 530: (3, (2, 2))}, bytes(12))
    for data, why in ((subsampled, "uncompressed YCbCr samples with subsampling"), (b"PF\n4 2\n", "colour PFM is not")):
        with pytest.raises(ImageError, match=why):
            read(data)
