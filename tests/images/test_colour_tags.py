"""Colour tags without a profile (CICP): kept where the format can, said where it cannot."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from gdq_cli.images import FORMATS, Metadata, Picture, read_image, write_image
from gdq_cli.options import Encoding
from tests.helpers.image_samples import photo, png_chunk, rgb_profile, saved

RGB = photo(48, 64)
TAGS = {"Display P3": (12, 13), "BT.2100 PQ": (9, 16), "BT.2100 HLG": (9, 18), "BT.709": (1, 1)}
needs_avif = pytest.mark.skipif("avif" not in FORMATS, reason="this Pillow has no AVIF")


def tagged(tag: tuple[int, int]) -> Picture:
    data = saved(Image.fromarray(RGB), "PNG")
    return read_image(io.BytesIO(data[:33] + png_chunk(b"cICP", bytes((*tag, 0, 1))) + data[33:]))


def write(picture: Picture, format: str) -> tuple[bytes, tuple[str, ...]]:
    stream = io.BytesIO()
    notes = write_image(stream, picture, Encoding(format=format))
    return stream.getvalue(), notes


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("format", ["png", pytest.param("avif", marks=needs_avif)])
def test_cicp_is_kept(tag: tuple[int, int], format: str) -> None:
    data, notes = write(tagged(tag), format)
    assert notes == ()
    picture = read_image(io.BytesIO(data))
    assert picture.metadata.cicp == bytes((*tag, 0, 1))
    assert np.abs(picture.rgb.astype(int) - RGB).mean() < 6
    assert write(picture, "png")[1] == ()
    if format == "avif":  # in the container, and in the coded picture itself
        assert b"colrnclx" + bytes((0, tag[0], 0, tag[1])) in data
        bits = bin(int.from_bytes(data[data.index(b"mdat") :][:40], "big"))
        assert f"1{tag[0]:08b}{tag[1]:08b}" in bits


@pytest.mark.parametrize("format", ["jpg", "webp", "tiff", "bmp", "ppm"])
@pytest.mark.parametrize("title", ["Display P3", "BT.2100 PQ"])
def test_cicp_that_cannot_be_kept_is_said(title: str, format: str) -> None:
    _, notes = write(tagged(TAGS[title]), format)
    numbers = "/".join(map(str, TAGS[title]))
    assert notes == (
        f"{format} holds no colour tag CICP {numbers} ({title}); left out, the picture may look different",
    )


SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE = (*SRGB[:4], 21000, 71000, *SRGB[6:])
D50 = (34570, 35850, *SRGB[2:])


def chunked(*chunks: tuple[bytes, bytes]) -> Picture:
    data = saved(Image.fromarray(RGB), "PNG")
    return read_image(io.BytesIO(data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]))


@pytest.mark.parametrize("payload", [b"\xff\x0d\0\1", b"\x0c\0\0\1", b"\2\2\0\1", b"\x0c\x0d"])
def test_cicp_without_a_meaning_is_left_out_before_an_encoder_refuses_it(payload: bytes) -> None:
    picture = chunked((b"cICP", payload))
    assert picture.metadata.cicp is None
    assert picture.warnings == ("the cICP chunk tells of no known colours; it is left out",)


@needs_avif
def test_each_colour_tag_with_a_meaning_can_be_written() -> None:
    tags = {(12, number) for number in range(256)} | {(number, 13) for number in range(256)}
    told = [tag for tag in tags if chunked((b"cICP", bytes((*tag, 0, 1)))).metadata.cicp]
    assert len(told) == 26  # one of them twice
    for tag in told:
        write(Picture(RGB[:8, :8].copy(), metadata=Metadata(cicp=bytes((*tag, 0, 1)))), "avif")


@pytest.mark.parametrize("format", ["jpg", "webp", "tiff", "bmp", "ppm"])
@pytest.mark.parametrize(
    ("gamma", "primaries", "title"),
    [
        (45455, ADOBE, "cHRM"),
        (45455, D50, "cHRM"),
        (None, ADOBE, "cHRM"),
        (100000, ADOBE, "gAMA, cHRM"),
        (100000, SRGB, "gAMA"),
        (45455, SRGB, None),
        (45455, tuple(value + 13 for value in SRGB), None),
    ],
)
def test_the_loss_of_other_primaries_is_said(
    gamma: int | None, primaries: tuple[int, ...], title: str | None, format: str
) -> None:
    chunks = [(b"gAMA", struct.pack(">L", gamma))] if gamma else []
    picture = chunked(*chunks, (b"cHRM", struct.pack(">8L", *primaries)))
    lost = f"{format} holds no colour tag {title}; left out, the picture may look different"
    assert write(picture, format)[1] == ((lost,) if title else ())
    assert write(picture, "png")[1] == ()


def test_what_counts_more_than_primaries_needs_no_note() -> None:
    primaries = (b"cHRM", struct.pack(">8L", *ADOBE))
    assert write(chunked(primaries, (b"sRGB", b"\0")), "jpg")[1] == ()
    assert write(chunked(primaries, (b"iCCP", b"p\0\0" + zlib.compress(rgb_profile()))), "jpg")[1] == ()
    assert write(chunked((b"cHRM", b"short")), "jpg")[1] == ()


@pytest.mark.parametrize(("mode", "kept"), [("RGB", True), ("L", True), ("CMYK", False), ("LAB", False)])
def test_primaries_of_tiff_go_along_unless_the_pixels_are_converted(mode: str, kept: bool) -> None:
    page = TiffImagePlugin.ImageFileDirectory_v2()
    page.update({318: (0.3127, 0.329), 319: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)})
    image = Image.fromarray(RGB) if mode != "LAB" else Image.new("LAB", (64, 48), (128, 3, 200))
    picture = read_image(io.BytesIO(saved(image.convert(mode), "TIFF", tiffinfo=page)))
    for format in ("tiff", "jpg", "png"):
        tags = Image.open(io.BytesIO(write(picture, format)[0])).getexif()
        assert ([float(value) for value in tags.get(319, ())] == [0.64, 0.33, 0.21, 0.71, 0.15, 0.06]) == kept
        assert (318 in tags) == kept


@needs_avif
def test_srgb_needs_no_tag_and_a_profile_counts_more() -> None:
    plain = read_image(io.BytesIO(saved(Image.fromarray(RGB), "AVIF")))
    assert plain.metadata.cicp is None
    profiled = read_image(io.BytesIO(saved(Image.fromarray(RGB), "AVIF", icc_profile=rgb_profile())))
    assert profiled.metadata.cicp is None
    assert profiled.metadata.icc == rgb_profile()
