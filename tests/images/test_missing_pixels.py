"""Files that are well-formed from the first byte to the last and lack pixels all the same: refused, and said why."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.images import Picture, read_frames, read_image
from tests.helpers.image_samples import PNG_MAGIC, exif_block, photo, png_chunk, saved

RGB = photo(96, 128)
DAMAGED = "its coded data are damaged within; pixels may be wrong"
NOISE = np.random.default_rng(7).integers(0, 256, (96, 128, 3), np.uint8)


def read(data: bytes) -> Picture:
    return read_image(io.BytesIO(data))


def jpeg(pixels: np.ndarray = RGB, **options: object) -> bytes:
    return saved(Image.fromarray(pixels), "JPEG", **{"quality": 85, **options})


JPEGS = {
    "photo": jpeg(),
    "noise": jpeg(NOISE),
    "grey": jpeg(RGB[..., 0]),
    "4:4:4": jpeg(subsampling=0),
    "CMYK": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "progressive": jpeg(progressive=True),
    "restart markers": jpeg(restart_marker_rows=1),
    "restart markers, progressive": jpeg(restart_marker_blocks=3, progressive=True),
    "thumbnail": jpeg(exif=exif_block(1)),
    "MPO": saved(Image.fromarray(RGB), "MPO", save_all=True, append_images=[Image.fromarray(RGB[::2, ::2])]),
    "large": jpeg(np.random.default_rng(8).integers(0, 256, (800, 1200, 3), np.uint8), quality=98),
}


def coded_start(data: bytes) -> int:
    """Where a scan begins that is not a thumbnail's."""
    at = data.index(b"\xff\xda", data.index(b"\xff\xc0" if b"\xff\xc0" in data else b"\xff\xc2"))
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


@pytest.mark.parametrize("name", JPEGS)
def test_whole_jpegs_are_read_without_a_word(name: str) -> None:
    data = JPEGS[name]
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for whole in (
        data,
        data + b"\0" * 500,
        data + data,
        data[:-2] + bytes(64) + data[-2:],
        data[:-2] + b"\xff" + data[-2:],
    ):
        picture = read(whole)
        if name not in ("CMYK", "MPO"):
            np.testing.assert_array_equal(picture.rgb, expected)
            assert picture.warnings == ()


@pytest.mark.parametrize("name", [name for name in JPEGS if name != "MPO"])
@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.9, 0.99])
def test_a_cut_jpeg_with_an_end_marker_put_behind_it_is_refused(name: str, share: float) -> None:
    data = JPEGS[name]
    start = coded_start(data)
    cut = start + int((len(data) - start) * share)
    with pytest.raises(ImageError, match=r"end before the last pixel|restart markers are missing|scans are missing"):
        read(data[:cut].rstrip(b"\xff") + b"\xff\xd9")


@pytest.mark.parametrize("name", ["photo", "noise", "grey", "restart markers"])
def test_a_jpeg_that_lacks_its_very_last_bits_is_refused(name: str) -> None:
    data = JPEGS[name]
    for cut in (4, 5, 6, 9):
        with pytest.raises(ImageError, match="end before the last pixel"):
            read(data[:-cut].rstrip(b"\xff") + b"\xff\xd9")


@pytest.mark.parametrize("name", ["photo", "noise", "large"])
def test_most_holes_in_a_jpeg_are_found(name: str) -> None:
    data, found = JPEGS[name], 0
    holes = np.linspace(coded_start(data), len(data) - 202, 20).astype(int).tolist()
    for at in holes:
        try:
            found += DAMAGED in read(data[:at] + bytes(200) + data[at + 200 :]).warnings
        except ImageError:
            found += 1
    assert found >= len(holes) // 2


def test_restart_markers_must_be_there_and_in_order() -> None:
    data = JPEGS["restart markers"]
    for marker in (b"\xff\xd0", b"\xff\xd2"):
        at = data.index(marker, coded_start(data))
        with pytest.raises(ImageError, match="restart markers are missing"):
            read(data[:at] + data[at + 2 :])
        assert read(data[:at] + b"\xff\xd7" + data[at + 2 :]).warnings == (DAMAGED,)


@pytest.mark.parametrize("rows", [24, 600])
def test_a_jpeg_with_a_thumbnail_may_lack_its_end_marker(rows: int) -> None:
    """The thumbnail, a JPEG in a segment of another, has one of its own."""
    block = exif_block(1)
    thumbnail = jpeg(RGB[::4, ::4])
    pixels = np.random.default_rng(9).integers(0, 256, (rows, 128, 3), np.uint8)
    data = jpeg(pixels, exif=block + thumbnail)
    picture = read(data[:-2])
    np.testing.assert_array_equal(picture.rgb, read(data).rgb)
    assert picture.warnings == ("the marker of its end is missing; all pixels are there",)
    with pytest.raises(ImageError, match="truncated file"):
        read(data[:-40])


def short_png(rows: int, *, interlaced: int = 0, depth: int = 8, tail: bytes = png_chunk(b"IEND", b"")) -> bytes:
    """A black PNG of 32 x 24 pixels whose sound packed data hold some of its rows (without Adam7, 24 are all)."""
    head = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 32, 24, depth, 2, 0, 0, interlaced))
    packed = zlib.compress(bytes(1 + 12 * depth) * rows)
    return PNG_MAGIC + head + png_chunk(b"IDAT", packed[:5]) + png_chunk(b"IDAT", packed[5:]) + tail


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_whose_sound_data_hold_too_few_rows_is_refused(depth: int, interlaced: int) -> None:
    for rows in (0, 1, 12, 23):
        with pytest.raises(ImageError, match="packed data end before the last row"):
            read(short_png(rows, interlaced=interlaced, depth=depth))
    assert read(short_png(24 + interlaced, interlaced=interlaced, depth=depth)).rgb.max() == 0


@pytest.mark.parametrize("kept", [-4, None], ids=["no checksum of their own", "one"])
def test_a_png_of_changed_data_is_refused_by_whatever_checksum_tells(kept: int | None) -> None:
    png = saved(Image.fromarray(RGB), "PNG")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in RGB), 0)[:kept]
    changed = bytearray(data)
    changed[5000] ^= 1
    for packed in (data, bytes(changed)):
        chunk = bytearray(png_chunk(b"IDAT", packed))
        chunk[-4:] = png_chunk(b"IDAT", data)[-4:]
        file = png[:33] + bytes(chunk) + png_chunk(b"IEND", b"")
        if packed == data:
            np.testing.assert_array_equal(read(file).rgb, RGB)
        else:
            with pytest.raises(ImageError, match=r"wrong checksum|broken data stream"):
                read(file)
    file = png[:33] + png_chunk(b"IDAT", data)[:-4] + bytes(4) + png_chunk(b"IEND", b"")
    if kept is None:  # only the chunk's checksum is wrong
        np.testing.assert_array_equal(read(file).rgb, RGB)


def test_an_animated_png_with_a_short_frame_is_refused() -> None:
    frames = [Image.fromarray(photo(20, 25, seed)) for seed in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert len(list(read_frames(io.BytesIO(data)))) == 3
    at = data.rindex(b"fdAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    short = zlib.compress(zlib.decompress(data[at + 8 : at + 4 + length])[:-10])
    damaged = data[: at - 4] + png_chunk(b"fdAT", data[at + 4 : at + 8] + short) + data[at + 8 + length :]
    with pytest.raises(ImageError, match="packed data end before the last row"):
        list(read_frames(io.BytesIO(damaged)))
