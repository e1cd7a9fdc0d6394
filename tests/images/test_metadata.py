"""EXIF, ICC, XMP, resolution and text on their way from one file to another."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from gdq_cli.images import Metadata, Picture, exif, metadata, read_image, write_image
from gdq_cli.options import Encoding
from tests.helpers.image_samples import exif_block, fake_profile, photo, rgb_profile, saved, tiff_file, xmp_packet

RGB = photo(40, 30)
PREFIXED = b"Exif\0\0" + exif_block(6)
NATIVE = ("png", "jpg", "webp", "tiff")
PILLOW = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}


def source_file(format: str, **extra: Any) -> bytes:
    """A file with an EXIF orientation, an ICC profile and XMP."""
    options: dict[str, Any] = {"exif": PREFIXED, "icc_profile": rgb_profile()} | extra
    if format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp_packet().decode())
        options["pnginfo"] = info
    elif format == "TIFF":
        tags = Image.Exif()
        tags.load(PREFIXED)
        tags[700] = xmp_packet()
        options["exif"] = tags
    else:
        options["xmp"] = xmp_packet()
    return saved(Image.fromarray(RGB), format, **options)


def doubled(picture: Picture, format: str, **options: Any) -> tuple[bytes, tuple[str, ...]]:
    """The picture at twice its size, written."""
    stream = io.BytesIO()
    larger = picture.with_pixels(picture.rgb.repeat(2, 0).repeat(2, 1))
    notes = write_image(stream, larger, Encoding(format=format, **options))
    return stream.getvalue(), notes


def xmp_of(image: Image.Image) -> bytes:
    packet = image.info.get("xmp", b"")
    return packet if isinstance(packet, bytes) else b""


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_metadata_survives_and_tells_the_truth(source: str, target: str) -> None:
    picture = read_image(io.BytesIO(source_file(source)))
    assert picture.size == (30, 40)
    data, notes = doubled(picture, target)
    image = Image.open(io.BytesIO(data))
    tags = image.getexif()
    assert tags.get(0x0112, 1) == 1
    assert tags[0x010F] == "Camera Makers"
    sub = tags.get_ifd(0x8769)
    assert (sub[0xA002], sub[0xA003]) == (80, 60) == image.size
    assert tags.get_ifd(0x014A) == {}
    assert b"THUMBNAIL-OF-THE-ORIGINAL" not in data
    assert image.info["icc_profile"] == rgb_profile()
    packet = xmp_of(image)
    assert b'tiff:Orientation="1"' in packet
    assert b'exif:PixelXDimension="80"' in packet
    assert b"<exif:PixelYDimension>60<" in packet
    assert b"BASE64PIXELS" not in packet
    assert "Titel ä".encode() in packet
    assert notes == picture.warnings == ()
    again = read_image(io.BytesIO(data))
    assert again.size == (60, 80)


def test_the_profile_is_the_same_bytes_after_a_walk_through_formats() -> None:
    profile = rgb_profile()
    data = saved(Image.fromarray(RGB), "JPEG", icc_profile=profile)
    for format in ("png", "webp", "tiff", "jpg", "png"):
        stream = io.BytesIO()
        write_image(stream, read_image(io.BytesIO(data)), Encoding(format=format))
        data = stream.getvalue()
        assert Image.open(io.BytesIO(data)).info["icc_profile"] == profile


def test_a_large_profile_is_split_over_jpeg_segments() -> None:
    profile = rgb_profile()[:132] + np.random.default_rng(0).bytes(150_000)
    stream = io.BytesIO()
    write_image(stream, Picture(RGB, metadata=Metadata(icc=profile)), Encoding(format="jpg"))
    assert Image.open(stream).info["icc_profile"] == profile


@pytest.mark.parametrize("target", [*NATIVE, "bmp", "ppm"])
def test_strip_metadata_drops_everything(target: str) -> None:
    picture = read_image(io.BytesIO(source_file("PNG", dpi=(300, 300))))
    data, notes = doubled(picture, target, strip_metadata=True)
    image = Image.open(io.BytesIO(data))
    assert not image.getexif().get_ifd(0x8769)
    assert not {"icc_profile", "exif", "xmp"} & set(image.info)
    assert image.info.get("dpi", (1, 1))[0] < 100
    assert b"Camera" not in data
    assert notes == ()


@pytest.mark.parametrize(("target", "words"), [("bmp", "bmp holds no EXIF, ICC, XMP"), ("ppm", "ppm holds no EXIF")])
def test_what_a_format_cannot_hold_is_said(target: str, words: str) -> None:
    _, notes = doubled(read_image(io.BytesIO(source_file("JPEG"))), target)
    assert any(words in note for note in notes)


@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("target", ["png", "jpg", "tiff", "bmp"])
def test_resolution_is_kept(source: str, target: str) -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), source, dpi=(300, 150))))
    data, _ = doubled(picture, target)
    x, y = Image.open(io.BytesIO(data)).info["dpi"]
    assert abs(x - 300) < 0.1
    assert abs(y - 150) < 0.1


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (1e9, 1e9), None, "72", (72,)])
def test_nonsense_resolutions_are_left_out(dpi: object) -> None:
    assert metadata._sound_dpi(dpi) is None


def test_png_text_and_colour_chunks_go_from_png_to_png() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle, steps: 20, seed: 7")
    info.add_itxt("Title", "Schloß 城", zip=True)
    info.add(b"gAMA", struct.pack(">L", 100000))
    info.add(b"sRGB", b"\1")
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info)))
    data, notes = doubled(picture, "png")
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.text == {"parameters": "a castle, steps: 20, seed: 7", "Title": "Schloß 城"}  # type: ignore[attr-defined]
    assert image.info["gamma"] == 1.0
    assert image.info["srgb"] == 1
    assert notes == ()


def test_losing_an_unusual_gamma_is_said() -> None:
    for gamma, said in [(100000, True), (45455, False)]:
        info = PngImagePlugin.PngInfo()
        info.add(b"gAMA", struct.pack(">L", gamma))
        picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info)))
        assert any("gAMA" in note for note in doubled(picture, "jpg")[1]) == said


def test_jpeg_comment() -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "JPEG", comment=b"hello")))
    assert Image.open(io.BytesIO(doubled(picture, "jpg")[0])).info["comment"] == b"hello"


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_edited_in_place(order: str) -> None:
    block = exif_block(8, order=order)
    edited = exif.rewrite(block, 70_000, 123_456)
    thumbnail = block.index(b"\xff\xd8THUMB")
    changed = [at for at in range(min(len(edited), len(block))) if edited[at] != block[at]]
    assert len(edited) < thumbnail
    assert block.index(b"MakerNote") == edited.index(b"MakerNote")
    assert len(changed) < 40
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + edited)
    assert tags[0x0112] == 1
    assert tags.get_ifd(0x8769)[0xA002] == 123_456
    assert tags.get_ifd(0x8769)[0xA003] == 70_000
    assert tags.get_ifd(0x927C) is not None
    assert tags._info is not None
    assert tags._info.next == 0


def test_a_thumbnail_in_the_middle_is_blanked() -> None:
    block = exif_block(1) + b"something that follows"
    edited = exif.rewrite(block, 10, 10)
    assert b"THUMBNAIL" not in edited
    assert edited.endswith(b"something that follows")
    assert len(edited) == len(block)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_damaged_exif_raises_only_value_errors(noise: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = bytearray(exif_block(6))
    for _ in range(int(rng.integers(1, 10))):
        block[rng.integers(0, len(block))] = rng.integers(0, 256)
    for data in (bytes(block), bytes(block[: rng.integers(0, len(block))]), b"II*\0\x08\0\0\0" + noise):
        for call in (exif.read_orientation, lambda data: exif.rewrite(data, 5, 5), exif.entries_of):
            with contextlib.suppress(ValueError):
                call(data)


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_is_left_out_and_said(source: str) -> None:
    data = saved(Image.fromarray(RGB), source, exif=b"Exif\0\0II*\0\xff\xff\xff\x00 nonsense")
    picture = read_image(io.BytesIO(data))
    assert picture.metadata.exif is None
    assert "the EXIF block is damaged; it is left out" in picture.warnings


def test_exif_packed_as_text_is_heeded() -> None:
    packed = PREFIXED.hex()
    lines = "\n".join(packed[at : at + 72] for at in range(0, len(packed), 72))
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(PREFIXED):8}\n{lines}\n")
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "PNG", pnginfo=info)))
    assert picture.size == (30, 40)
    data, _ = doubled(picture, "png")
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 1
    assert b"Raw profile" not in data


def test_blocks_too_large_for_jpeg_are_left_out_and_said() -> None:
    block = exif_block(1) + bytes(70_000)
    picture = Picture(RGB, metadata=Metadata(exif=block, xmp=xmp_packet() + b" " * 70_000))
    data, notes = doubled(picture, "jpg")
    assert [re.sub(r" block.*", "", note) for note in notes] == ["the EXIF", "the XMP"]
    assert not {"exif", "xmp"} & set(Image.open(io.BytesIO(data)).info)
    assert doubled(picture, "png")[1] == ()


@pytest.mark.parametrize("space", [b"CMYK", b"Lab ", b"GRAY"])
def test_a_profile_of_another_colour_space_never_goes_with_rgb(space: bytes) -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "JPEG", icc_profile=fake_profile(space))))
    data, notes = doubled(picture, "jpg")
    assert "icc_profile" not in Image.open(io.BytesIO(data)).info
    assert any("colour profile" in line for line in (*picture.warnings, *notes))


def test_xmp_that_is_not_utf8_is_left_out_and_said() -> None:
    picture = read_image(io.BytesIO(saved(Image.fromarray(RGB), "JPEG", xmp=b"\xff\xfe<\0x\0")))
    assert picture.metadata.xmp is None
    assert "the XMP packet is not UTF-8; it is left out" in picture.warnings


def test_gps_and_interoperability_survive_in_tiff() -> None:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x8825] = {1: "N", 2: (50.0, 3.0, 59.0)}
    tags[0x8769] = {0x9003: "2024:05:06 07:08:09"}
    data = saved(Image.fromarray(RGB), "JPEG", exif=tags)
    for format in ("tiff", "png", "tiff"):
        data, _ = doubled(read_image(io.BytesIO(data)), format)
        found = Image.open(io.BytesIO(data)).getexif()
        assert found.get_ifd(0x8825)[1] == "N"
        assert tuple(map(float, found.get_ifd(0x8825)[2])) == (50.0, 3.0, 59.0)
        assert found.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"


def test_layout_tags_of_a_tiff_do_not_leak_into_exif() -> None:
    fields = {256: (3, (4,)), 257: (3, (4,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (1,)), 278: (3, (4,))}
    picture = read_image(io.BytesIO(tiff_file(fields, bytes(range(16)))))
    assert picture.metadata.exif is None
