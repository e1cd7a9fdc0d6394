"""Files whose pixels are whole, and something else is not: read, and said. Files that lack a pixel are refused."""

from __future__ import annotations

import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.images import Picture, read_frames, read_image, write_image
from gdq_cli.options import Encoding
from tests.helpers.image_samples import photo, png_chunk, rgb_profile, saved

RGB = photo(48, 64)
PNG = saved(Image.fromarray(RGB), "PNG")
BIG = b"workflow " * 300_000


def read(data: bytes) -> Picture:
    return read_image(io.BytesIO(data))


def rewritten(picture: Picture, format: str) -> Picture:
    stream = io.BytesIO()
    write_image(stream, picture, Encoding(format=format))
    return read(stream.getvalue())


def with_chunk(chunk: bytes) -> bytes:
    return PNG[:33] + chunk + PNG[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tEXt", b"workflow\0" + BIG),
        png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(BIG)),
        png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(BIG)),
        b"".join(png_chunk(b"zTXt", b"part%d\0\0" % n + zlib.compress(BIG[:900_000])) for n in range(80)),
    ],
    ids=["tEXt", "zTXt", "iTXt", "many"],
)
def test_much_text_is_kept(chunk: bytes) -> None:
    picture = read(with_chunk(chunk))
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.warnings == ()
    assert rewritten(picture, "png").metadata == picture.metadata
    assert sum(len(payload) for _, payload in picture.metadata.png_chunks) >= len(chunk) * 0.9


def test_text_without_end_is_left_out_and_said() -> None:
    picture = read(with_chunk(png_chunk(b"tEXt", b"a\0" + bytes(9_000_000)) + png_chunk(b"tEXt", b"b\0c")))
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.warnings == ("more than 8 MB of text; what is beyond that is left out",)
    assert picture.metadata.png_chunks == ((b"tEXt", b"b\0c"),)


def test_a_large_profile_survives_our_own_png() -> None:
    profile = rgb_profile() + bytes(i * 7919 >> 3 & 255 for i in range(1_300_000))
    picture = read(saved(Image.fromarray(RGB), "JPEG", quality=95, icc_profile=profile))
    assert picture.metadata.icc == profile
    again = rewritten(picture, "png")
    assert (again.metadata.icc, again.warnings) == (profile, ())


@pytest.mark.parametrize("kind", [b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs", b"tIME", b"prVt"])
def test_a_damaged_chunk_that_no_pixel_needs_is_left_out_and_said(kind: bytes) -> None:
    chunk = png_chunk(kind, b"name\0\0" + zlib.compress(b"text"))
    picture = read(with_chunk(chunk[:-1] + bytes([chunk[-1] ^ 1])))
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.warnings == (f"the {kind.decode()} chunk is damaged; it is left out",)
    assert picture.metadata.png_chunks == ()


def test_nonsense_in_a_sound_chunk_is_no_hindrance() -> None:
    chunks = (b"gAMA", b""), (b"zTXt", b"a\0\7b"), (b"iCCP", b"p\0\0nonsense"), (b"cHRM", b"1"), (b"sRGB", b"")
    picture = read(with_chunk(b"".join(png_chunk(*chunk) for chunk in chunks)))
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.warnings == ("the colour profile is damaged or too large; it is left out",)


def test_damaged_pixels_of_a_png_are_still_an_error() -> None:
    at = PNG.index(b"IDAT")
    with pytest.raises(ImageError):
        read(PNG[: at + 40] + bytes([PNG[at + 40] ^ 255]) + PNG[at + 41 :])


JPEGS = {
    f"{name}{' progressive' if progressive else ''} {quality}": saved(
        Image.fromarray(pixels), "JPEG", quality=quality, progressive=progressive
    )
    for name, pixels in (("photo", RGB), ("grey", RGB[..., 0]), ("flat", np.full_like(RGB, 99)))
    for progressive in (False, True)
    for quality in (50, 95)
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_end_marker_is_read_and_said(name: str) -> None:
    whole = read(JPEGS[name])
    assert whole.warnings == ()
    for cut, filler in ((2, b""), (1, b""), (2, bytes(500)), (2, b"\xff" * 500)):
        picture = read(JPEGS[name][:-cut] + filler)
        np.testing.assert_array_equal(picture.rgb, whole.rgb)
        assert picture.warnings == ("the marker of its end is missing; all pixels are there",)
    assert read(JPEGS[name] + b"whatever comes behind the end").warnings == ()


@pytest.mark.parametrize("name", [name for name in JPEGS if "flat" not in name])
@pytest.mark.parametrize("filler", [b"", bytes(500), b"\xff" * 500])
def test_a_jpeg_that_lacks_a_pixel_is_refused(name: str, filler: bytes) -> None:
    """The last byte that holds more than padding belongs to the last block."""
    for cut in (4, 5, 9, 40, 200):
        with pytest.raises(ImageError, match="truncated file"):
            read(JPEGS[name][:-cut] + filler)


def test_a_progressive_jpeg_cut_between_two_scans_is_refused() -> None:
    data = JPEGS["photo progressive 50"]
    marker = data.rfind(b"\xff\xc4")
    with pytest.raises(ImageError, match="truncated file"):
        read(data[:marker])


def test_a_png_without_its_end_is_read_and_said() -> None:
    for cut in (1, 4, 5, 12, 13, 16):  # a part of the last chunk, all of it, the checksum of the data
        picture = read(PNG[:-cut])
        np.testing.assert_array_equal(picture.rgb, RGB)
        assert picture.warnings == ("the end of the file is missing; all pixels are there",)
    with pytest.raises(ImageError, match="truncated file"):
        read(PNG[:-60])


def test_a_gif_without_its_end_may_lack_frames_which_is_said() -> None:
    frames = [Image.fromarray(photo(20, 25, seed)) for seed in range(4)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40)
    starts = [match.start() for match in re.finditer(rb"\x21\xf9\x04", data)]
    note = "the end of the file is missing; it may have had more frames"
    for cut, count in ((len(data) - 1, 4), (starts[3], 3), (starts[2], 2)):
        read_back = list(read_frames(io.BytesIO(data[:cut])))
        assert len(read_back) == count
        assert all(frame.picture.warnings == (note,) for frame in read_back)
    with pytest.raises(ImageError, match="truncated file"):
        list(read_frames(io.BytesIO(data[: starts[3] - 40])))


def test_a_file_of_a_few_bytes_is_truncated() -> None:
    for data in (b"\xff\xd8\xff", b"GIF89a\1", PNG[:20]):
        with pytest.raises(ImageError, match="truncated file"):
            read(data)


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((255, marker)) + (2 + len(payload)).to_bytes(2, "big") + payload


@pytest.mark.parametrize(
    ("more", "behind", "note"),
    [
        (b"", b"MotionPhoto_Data\0\0\0\x18ftypmp42" + bytes(99), "an embedded video"),
        (
            segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x20jumb\0\0\0\x18jumdc2pa"),
            b"",
            "a C2PA manifest (content credentials)",
        ),
        (segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x20RESI"), b"", None),
        (segment(0xE1, b"FLIR\0\1\0\0" + bytes(99)), b"", "a thermal picture"),
        (segment(0xE7, b"Qualcomm Camera Attributes"), b"SEFT", None),
    ],
    ids=["Samsung's motion photo", "C2PA", "JPEG XT", "FLIR", "others"],
)
def test_parts_of_a_jpeg_that_no_output_has_are_said(more: bytes, behind: bytes, note: str | None) -> None:
    data = saved(Image.fromarray(RGB), "JPEG")
    picture = read(data[:2] + more + data[2:] + behind)
    assert picture.warnings == ((f"{note} in the file is left out",) if note else ())


def test_chunks_that_are_left_out_are_said() -> None:
    idle = [png_chunk(kind, bytes(7)) for kind in (b"tIME", b"bKGD", b"sBIT", b"oFFs", b"iDOT")]
    assert read(with_chunk(b"".join(idle))).warnings == ()
    lost = png_chunk(b"npTc", bytes(9)) + png_chunk(b"caBX", b"jumb") + png_chunk(b"npTc", bytes(9))
    assert read(with_chunk(lost)).warnings == ("chunks that are left out: npTc, caBX (C2PA, content credentials)",)
