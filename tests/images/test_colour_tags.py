"""Colour tags without a profile (CICP): kept where the format can, said where it cannot."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gdq_cli.images import FORMATS, Picture, read_image, write_image
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


@needs_avif
def test_srgb_needs_no_tag_and_a_profile_counts_more() -> None:
    plain = read_image(io.BytesIO(saved(Image.fromarray(RGB), "AVIF")))
    assert plain.metadata.cicp is None
    profiled = read_image(io.BytesIO(saved(Image.fromarray(RGB), "AVIF", icc_profile=rgb_profile())))
    assert profiled.metadata.cicp is None
    assert profiled.metadata.icc == rgb_profile()
