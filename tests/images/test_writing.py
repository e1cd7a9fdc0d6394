"""Writing: formats and their limits, layouts, the encoders against Pillow's decoders."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import (
    FORMATS,
    IMAGE_SUFFIXES,
    WRITABLE,
    Metadata,
    Picture,
    check_format_limits,
    default_format,
    find_format,
    format_of_suffix,
    is_image_name,
    parse_colour,
    read_image,
    suffix_of_format,
    to_8bit,
    write_image,
)
from gdq_cli.images.writing import jpeg, png, tiff
from gdq_cli.options import Encoding
from tests.helpers.image_samples import exif_block, fake_profile, photo, rgb_profile

RGB = photo(24, 33)
ALPHA = photo(24, 33, 9)[..., 1]
GREY = np.repeat(RGB[..., :1], 3, axis=2)
DEEP = np.random.default_rng(1).integers(0, 65536, (24, 33, 3), np.uint16)
LOSSLESS = ("png", "tiff", "bmp", "ppm", "webp")


def written(
    picture: Picture, format: str, *, threads: int | None = None, **options: Any
) -> tuple[bytes, tuple[str, ...]]:
    stream = io.BytesIO()
    notes = write_image(stream, picture, Encoding(format=format, **options), threads=threads)
    return stream.getvalue(), notes


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("format", LOSSLESS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (24, 33)])
def test_lossless_formats_return_the_pixels(format: str, size: tuple[int, int]) -> None:
    rgb = np.ascontiguousarray(RGB[: size[0], : size[1]])
    data, notes = written(Picture(rgb), format, lossless=True)
    np.testing.assert_array_equal(np.asarray(opened(data).convert("RGB")), rgb)
    assert opened(data).format == FORMATS[format].pillow
    assert notes == ()


@pytest.mark.parametrize("format", WRITABLE)
def test_every_format_reads_its_own_output_closely(format: str) -> None:
    data, notes = written(Picture(photo(64, 80)), format)
    picture = read_image(io.BytesIO(data))
    assert picture.format == format
    assert np.abs(picture.rgb.astype(int) - photo(64, 80)).mean() < 5
    assert notes == picture.warnings == ()


@pytest.mark.parametrize("format", ["png", "tiff", "jpg", "bmp", "ppm"])
def test_grey_is_written_as_grey(format: str) -> None:
    data, notes = written(Picture(GREY, grey=True), format)
    assert opened(data).mode == "L"
    assert notes == ()


def test_the_luma_of_a_network_output_is_written_for_a_grey_source() -> None:
    tinted = GREY.copy()
    tinted[..., 2] ^= 1
    data, _ = written(Picture(tinted, grey=True), "png")
    np.testing.assert_array_equal(np.asarray(opened(data)), GREY[..., 0])


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_is_kept(format: str, grey: bool) -> None:
    data, notes = written(Picture(GREY if grey else RGB, ALPHA, grey=grey), format)
    assert opened(data).mode == ("LA" if grey else "RGBA")
    picture = read_image(io.BytesIO(data))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, ALPHA)
    np.testing.assert_array_equal(picture.rgb, GREY if grey else RGB)
    assert notes == ()


@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_constant_alpha_is_kept(format: str) -> None:
    data, _ = written(Picture(RGB, alpha_value=77), format)
    assert read_image(io.BytesIO(data)).alpha_value == 77


@pytest.mark.parametrize("format", ["jpg", "bmp", "ppm"])
def test_transparency_is_flattened_on_the_background_and_said(format: str) -> None:
    alpha = np.zeros_like(ALPHA)
    alpha[:, 20:] = 255
    data, notes = written(Picture(RGB, alpha), format, background=(255, 0, 128))
    assert notes == (f"{format} holds no transparency; flattened on #ff0080",)
    rgb = np.asarray(opened(data).convert("RGB")).astype(int)
    assert np.abs(rgb[:, :14] - (255, 0, 128)).max() <= 12
    assert np.abs(rgb[:, 28:] - RGB[:, 28:]).mean() < 6


def test_grey_flattened_on_a_colour_becomes_colour_and_on_white_stays_grey() -> None:
    picture = Picture(GREY, ALPHA, grey=True)
    assert opened(written(picture, "jpg", background=(255, 0, 0))[0]).mode == "RGB"
    assert opened(written(picture, "jpg")[0]).mode == "L"


@pytest.mark.parametrize("format", ["png", "tiff", "ppm"])
@pytest.mark.parametrize("grey", [False, True])
def test_16_bits_are_kept(format: str, grey: bool) -> None:
    samples = DEEP[..., 0].copy() if grey else DEEP
    rgb = np.repeat(to_8bit(DEEP[..., :1]), 3, axis=2) if grey else to_8bit(DEEP)
    data, notes = written(Picture(rgb, grey=grey, samples16=samples, bit_depth=16), format)
    picture = read_image(io.BytesIO(data))
    assert picture.samples16 is not None
    np.testing.assert_array_equal(picture.samples16, samples)
    assert notes == ()


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_16_bits_are_kept_with_alpha(format: str) -> None:
    data, _ = written(Picture(to_8bit(DEEP), ALPHA, samples16=DEEP, bit_depth=16), format)
    picture = read_image(io.BytesIO(data))
    np.testing.assert_array_equal(picture.samples16, DEEP)
    np.testing.assert_array_equal(picture.alpha, ALPHA)


@pytest.mark.parametrize(("format", "cure"), [("jpg", "; png and tiff keep 16"), ("webp", "; png and tiff keep 16")])
def test_lost_16_bits_are_said(format: str, cure: str) -> None:
    _, notes = written(Picture(to_8bit(DEEP), samples16=DEEP, bit_depth=16), format)
    assert notes == (f"16 bits per sample written as 8{cure}",)


def test_16_bits_that_were_dropped_on_the_way_are_said() -> None:
    _, notes = written(Picture(RGB, bit_depth=16), "png")
    assert notes == ("16 bits per sample written as 8",)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_png_of_many_bands_decodes_to_the_same(
    channels: int, deep: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "_BAND_BYTES", 600)
    monkeypatch.setattr(png, "_BLOCK_BYTES", 150)
    rgb = photo(61, 47) if channels > 2 else np.repeat(photo(61, 47)[..., :1], 3, axis=2)
    alpha = photo(61, 47, 4)[..., 0] if channels in (2, 4) else None
    samples = np.maximum(rgb, 1).astype(np.uint16) * 257 - 3
    rgb = to_8bit(samples)
    deep_samples = (samples if channels > 2 else samples[..., 0].copy()) if deep else None
    picture = Picture(rgb, alpha, grey=channels < 3, samples16=deep_samples)
    data, _ = written(picture, "png", threads=threads)
    assert data.count(b"IDAT") > 3
    again = read_image(io.BytesIO(data))
    np.testing.assert_array_equal(again.rgb, rgb)
    if deep_samples is not None:
        np.testing.assert_array_equal(again.samples16, deep_samples)
    if alpha is not None:
        np.testing.assert_array_equal(again.alpha, alpha)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["png", "tiff", "ppm"]), st.integers(0, 2**32 - 1))
def test_any_small_picture_survives(height: int, width: int, format: str, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(read_image(io.BytesIO(written(Picture(rgb), format)[0])).rgb, rgb)


def test_png_filters_compress_a_gradient() -> None:
    ramp = np.add.outer(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    data, _ = written(Picture(np.dstack([ramp, ramp, ramp]) + np.array([0, 9, 77], np.uint8)), "png")
    assert len(data) < 256 * 256 * 3 / 100


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [(331, 77), (8, 33), (1, 1), (17, 16)])
def test_jpeg_of_many_bands_decodes_like_one_of_a_piece(
    size: tuple[int, int], grey: bool, quality: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg, "_BAND_PIXELS", 1)  # a band per row of coded units: more than eight restart markers
    rgb = np.repeat(photo(*size)[..., :1], 3, axis=2) if grey else photo(*size)
    data, _ = written(Picture(rgb, grey=grey), "jpg", quality=quality, threads=threads)
    whole = io.BytesIO()
    image = Image.fromarray(rgb[..., 0] if grey else rgb)
    image.save(whole, "JPEG", quality=quality, subsampling=0 if quality == 95 else 2)
    np.testing.assert_array_equal(np.asarray(opened(data)), np.asarray(opened(whole.getvalue())))
    assert opened(data).size == (size[1], size[0])


def test_jpeg_of_one_band_is_plain() -> None:
    assert b"\xff\xdd\0\x04" not in written(Picture(RGB), "jpg")[0]


def test_jpeg_of_noise_at_full_quality(capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    data, _ = written(Picture(noise), "jpg", quality=100)
    assert np.abs(np.asarray(opened(data)).astype(int) - noise).mean() < 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_quality_bears_on_size_and_defaults_are_high(format: str) -> None:
    sizes = [len(written(Picture(photo(128, 128)), format, quality=quality)[0]) for quality in (40, None, 100)]
    assert sizes[0] * 1.3 < sizes[1] < sizes[2]


def test_jpeg_chroma_is_whole_by_default_and_halved_at_low_quality() -> None:
    components = [opened(written(Picture(RGB), "jpg", quality=quality)[0]).layer for quality in (None, 80)]  # type: ignore[attr-defined]
    assert [layer[0][1:3] for layer in components] == [(1, 1), (2, 2)]


def test_lossless_webp() -> None:
    forced, _ = written(Picture(RGB), "webp", lossless=True)
    kept, _ = written(Picture(RGB, lossless=True), "webp")
    lossy, _ = written(Picture(RGB, lossless=True), "webp", quality=80)
    assert forced == kept
    np.testing.assert_array_equal(np.asarray(opened(kept)), RGB)
    assert not np.array_equal(np.asarray(opened(lossy)), RGB)
    assert read_image(io.BytesIO(kept)).lossless
    assert not read_image(io.BytesIO(lossy)).lossless


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_strips_and_byte_orders(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_STRIP_BYTES", 500)
    metadata = Metadata(exif=exif_block(order=order))
    data, _ = written(Picture(to_8bit(DEEP), samples16=DEEP, bit_depth=16, metadata=metadata), "tiff")
    assert data[:2] == (b"II" if order == "<" else b"MM")
    picture = read_image(io.BytesIO(data))
    np.testing.assert_array_equal(picture.samples16, DEEP)
    assert opened(data).getexif()[0x010F] == "Camera Makers"
    assert len(opened(data).tag_v2[273]) == 12  # type: ignore[attr-defined]


def test_big_tiff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC_BYTES", 0)
    metadata = Metadata(icc=rgb_profile(), dpi=(300, 300))
    data, _ = written(Picture(RGB, metadata=metadata), "tiff")
    assert data[:4] == b"II\x2b\0"
    np.testing.assert_array_equal(np.asarray(opened(data)), RGB)
    assert opened(data).info["icc_profile"] == metadata.icc


LIMITS = [
    ("webp", 16383, 16384, "16383"),
    ("jpg", 65500, 65501, "65500"),
    ("png", 2**31 - 1, 2**31, "2147483647"),
    ("tiff", 2**31 - 1, 2**31, "2147483647"),
    ("bmp", 1_000_000_000, 2**31, "2147483647"),
    ("bmp", 1_000_000_000, 1_500_000_000, "4 GiB"),
]


@pytest.mark.parametrize(("format", "fits", "exceeds", "words"), LIMITS)
def test_format_limits(format: str, fits: int, exceeds: int, words: str) -> None:
    check_format_limits(format, fits, 1)
    check_format_limits(format, 1, fits)
    for size in ((exceeds, 1), (1, exceeds)):
        with pytest.raises(ImageError, match=words):
            check_format_limits(format, *size)


def test_format_limits_name_a_format_that_would_do() -> None:
    with pytest.raises(ImageError, match=r"webp holds at most 16383 pixels a side.* 20000 x 10; use png or tiff$"):
        check_format_limits("webp", 20000, 10)
    with pytest.raises(ImageError, match="holds one picture"):
        check_format_limits("jpg", 10, 10, frames=2)
    check_format_limits("webp", 10, 10, frames=2)


def test_writing_checks_the_limits_before_it_encodes(tmp_path: Path) -> None:
    wide = Picture(np.zeros((1, 16384, 3), np.uint8))
    with pytest.raises(ImageError, match="16383"):
        write_image(tmp_path / "wide.webp", wide)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "xyz"}, "does not write 'xyz'; choose one of png, jpg"),
        ({"format": "gif"}, "does not write 'gif'"),
        ({"format": "jpg", "lossless": True}, "never lossless"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        write_image(io.BytesIO(), Picture(RGB), Encoding(**options))


@pytest.mark.parametrize("failure", [ValueError("encoding error 5"), RuntimeError("boom"), OSError("encoder error -2")])
def test_what_pillows_encoders_raise_is_reported(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError, match=rf"out\.webp: the encoder failed \({failure}\)"):
        write_image(tmp_path / "out.webp", Picture(RGB))
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_decides_the_format(tmp_path: Path) -> None:
    for name, format in {"a.png": "PNG", "b.JPEG": "JPEG", "c.tif": "TIFF", "d.webp": "WEBP", "e.pgm": "PPM"}.items():
        write_image(tmp_path / name, Picture(RGB))
        with Image.open(tmp_path / name) as image:
            assert image.format == format
    for name in ("f.gif", "g", "h.txt"):
        with pytest.raises(OptionsError, match="which format"):
            write_image(tmp_path / name, Picture(RGB))


def test_a_stream_gets_the_format_of_the_source() -> None:
    stream = io.BytesIO()
    write_image(stream, Picture(RGB, format="tiff"))
    assert stream.getvalue().startswith(b"II*\0")


def test_a_pipe_can_be_written() -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as stream:
        write_image(stream, Picture(RGB), Encoding(format="tiff"))
    with open(reader, "rb") as stream:
        np.testing.assert_array_equal(read_image(stream).rgb, RGB)


def test_names_suffixes_and_defaults() -> None:
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm"} <= IMAGE_SUFFIXES
    assert find_format("JPEG").name == find_format(".jpg").name == "jpg"
    assert suffix_of_format("tif") == ".tif"
    assert format_of_suffix(Path("x.JPG")) is FORMATS["jpg"]
    assert format_of_suffix(".gif") is FORMATS["gif"]
    assert format_of_suffix("x.txt") is None
    assert [default_format(name) for name in ("png", "jpg", "gif", "bmp")] == ["png", "jpg", "png", "bmp"]
    assert [default_format(name, animated=True) for name in ("png", "gif", "webp")] == ["png", "webp", "webp"]
    table = {"a.png": True, "b.JPG": True, "._c.png": False, ".d.png.0f.part": False, "notes.txt": False, "png": False}
    assert {name: is_image_name(name) for name in table} == table


def test_colours() -> None:
    assert parse_colour("white") == (255, 255, 255)
    assert parse_colour("#1e90ff") == (30, 144, 255)
    with pytest.raises(OptionsError, match="'whtie' is not a colour"):
        parse_colour("whtie")


def test_a_grey_profile_and_a_grey_picture_stay_together() -> None:
    picture = Picture(GREY, grey=True, metadata=Metadata(icc=fake_profile(b"GRAY")))
    data, notes = written(picture, "png")
    assert opened(data).mode == "L"
    assert opened(data).info["icc_profile"] == picture.metadata.icc
    assert notes == ()
    assert "does not fit" in written(picture, "webp")[1][0]


def test_a_grey_picture_with_an_rgb_profile_is_stored_as_rgb() -> None:
    picture = Picture(GREY, grey=True, metadata=Metadata(icc=rgb_profile()))
    data, notes = written(picture, "png")
    assert opened(data).mode == "RGB"
    assert opened(data).info["icc_profile"] == picture.metadata.icc
    np.testing.assert_array_equal(np.asarray(opened(data)), GREY)
    assert notes == ()
    assert opened(written(picture, "png", strip_metadata=True)[0]).mode == "L"


def test_encoding_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_BAND_BYTES", 3000)
    monkeypatch.setattr(tiff, "_STRIP_BYTES", 3000)
    monkeypatch.setattr(jpeg, "_BAND_PIXELS", 1)
    for format in ("png", "tiff", "jpg"):
        files = {written(Picture(photo(90, 60)), format, threads=threads)[0] for threads in (1, 2, 5)}
        assert len(files) == 1


def test_a_mapped_array_can_be_written(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=RGB.shape)
    mapped[:] = RGB
    np.testing.assert_array_equal(np.asarray(opened(written(Picture(mapped), "png")[0])), RGB)
