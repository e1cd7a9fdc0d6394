"""Colour profiles that files hold in odd ways: used where they are whole, left out with a note where not."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from gdq_cli.images import read_image
from tests.helpers.image_samples import cmyk_profile, photo, rgb_profile, saved

IMAGE = Image.fromarray(photo(24, 32))
DAMAGED = "the colour profile is damaged; it is left out"
Segment = tuple[int, int, bytes]
"""Number, announced count, and a part of the profile."""


def jpeg(*segments: Segment, image: Image.Image = IMAGE) -> bytes:
    data = saved(image, "JPEG")
    packed = b"".join(
        b"\xff\xe2" + struct.pack(">H", 16 + len(part)) + b"ICC_PROFILE\0" + bytes((number, count)) + part
        for number, count, part in segments
    )
    return data[:2] + packed + data[2:]


def parts(profile: bytes) -> tuple[bytes, bytes]:
    return profile[:300], profile[300:]


def numbered(case: str, profile: bytes) -> list[Segment]:
    """The segments of a profile, whose numbers are odd in one way."""
    first, second = parts(profile)
    cases = {
        "as it should be": [(1, 2, first), (2, 2, second)],
        "out of order": [(2, 2, second), (1, 2, first)],
        "whole, 1 of 2": [(1, 2, profile)],
        "from 0": [(0, 1, first), (1, 1, second)],
        "all 1 of 1": [(1, 1, first), (1, 1, second)],
        "count too high": [(1, 3, first), (2, 3, second)],
        "twice": [(1, 1, profile), (1, 1, profile)],
        "one part twice": [(1, 2, first), (1, 2, first), (2, 2, second)],
        "followed by another": [(1, 1, profile), (2, 1, cmyk_profile())],
    }
    return cases[case]


CASES = (
    "as it should be",
    "out of order",
    "whole, 1 of 2",
    "from 0",
    "all 1 of 1",
    "count too high",
    "twice",
    "one part twice",
    "followed by another",
)


@pytest.mark.parametrize("case", CASES)
def test_a_whole_profile_is_used_whatever_the_numbers_of_its_segments(case: str) -> None:
    picture = read_image(io.BytesIO(jpeg(*numbered(case, rgb_profile()))))
    assert (picture.metadata.icc, picture.warnings) == (rgb_profile(), ())


def test_a_cmyk_picture_is_converted_by_such_a_profile() -> None:
    image = IMAGE.convert("CMYK")
    odd, sound = (
        read_image(io.BytesIO(jpeg(*numbered(case, cmyk_profile()), image=image))) for case in (CASES[3], CASES[0])
    )
    assert (odd.rgb == sound.rgb).all()
    assert odd.warnings == sound.warnings == ("converted from CMYK to sRGB with the embedded profile",)


@pytest.mark.parametrize(
    "segments",
    [
        [(1, 2, parts(rgb_profile())[0])],
        [(2, 2, parts(rgb_profile())[1])],
        [(1, 3, parts(rgb_profile())[0]), (3, 3, parts(rgb_profile())[1][100:])],
        [(1, 1, b"")],
    ],
)
def test_parts_of_a_profile_are_left_out_and_said(segments: list[Segment]) -> None:
    picture = read_image(io.BytesIO(jpeg(*segments)))
    assert (picture.metadata.icc, picture.warnings) == (None, (DAMAGED,))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [1, 100, 131, 140, 300])
def test_a_profile_cut_short_is_left_out_and_said(size: int, format: str) -> None:
    picture = read_image(io.BytesIO(saved(IMAGE, format, icc_profile=rgb_profile()[:size])))
    assert (picture.metadata.icc, picture.warnings) == (None, (DAMAGED,))


def test_what_is_no_profile_is_left_out_and_said() -> None:
    picture = read_image(io.BytesIO(saved(IMAGE, "JPEG", icc_profile=rgb_profile().replace(b"acsp", b"none"))))
    assert (picture.metadata.icc, picture.warnings) == (None, (DAMAGED,))


def test_the_profile_of_a_bmp_is_found() -> None:
    profile, plain = rgb_profile(), saved(IMAGE, "BMP")
    head, pixels = plain[14:54], plain[54:]
    offset = 124 + len(pixels)
    longer = (
        struct.pack("<L", 124)
        + head[4:]
        + bytes(16)
        + b"DEBM"
        + bytes(48)
        + struct.pack("<4L", 4, offset, len(profile), 0)
    )
    data = plain[:10] + struct.pack("<L", 14 + 124) + longer + pixels + profile
    picture = read_image(io.BytesIO(data))
    assert (picture.metadata.icc, picture.warnings) == (profile, ())
    assert (picture.rgb == photo(24, 32)).all()
    cut = read_image(io.BytesIO(data[:-8]))
    assert (cut.metadata.icc, cut.warnings) == (None, (DAMAGED,))


def blocks(data: bytes) -> bytes:
    """A chain of GIF data blocks."""
    return b"".join(bytes((len(data[at : at + 255]),)) + data[at : at + 255] for at in range(0, len(data), 255)) + b"\0"


@pytest.mark.parametrize("frames", [1, 2])
def test_what_a_gif_tells_beside_its_pixels_is_kept(frames: int) -> None:
    profile, packet = rgb_profile(), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    more = {"save_all": True, "append_images": [IMAGE.rotate(180)]} if frames == 2 else {}
    plain = saved(IMAGE, "GIF", **more)
    at = 13 + (3 << (plain[10] & 7) + 1)  # behind the palette
    told = b"!\xff\x0bICCRGBG1012" + blocks(profile)
    told += b"!\xff\x0bXMP DataXMP" + packet + bytes((1, *range(255, -1, -1), 0))
    told += b"!\xfe" + blocks(b"made by hand") + b"!\xff\1X\0"
    picture = read_image(io.BytesIO(plain[:at] + told + plain[at:]))
    assert (picture.metadata.icc, picture.metadata.xmp) == (profile, packet)
    assert picture.metadata.png_chunks == ((b"tEXt", b"Comment\0made by hand"),)
    assert picture.warnings == ()
    assert (picture.rgb == read_image(io.BytesIO(plain)).rgb).all()
