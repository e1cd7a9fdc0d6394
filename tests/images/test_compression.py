"""Whether a file holds its pixels exactly, and the quality of a JPEG, as headers tell."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from gdq_cli.errors import ImageError
from gdq_cli.images import Compression, probe_image, read_compression
from gdq_cli.images.reading.compression import estimate_quality
from tests.helpers.image_samples import photo, saved, small_files
from tests.helpers.pictures import make_picture

IMAGE = Image.fromarray(make_picture(24, 40))

ROBIDOUX = [
    *(16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75, 16, 20, 24, 31, 43, 62, 91, 135),
    *(18, 27, 31, 40, 53, 74, 106, 156, 25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238),
    *(56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418),
]
"""The luminance table that mozjpeg scales, which is not the standard one."""


def probed(data: bytes) -> Compression:
    return probe_image(io.BytesIO(data)).compression


@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0", "grey", "cmyk", "progressive"])
def test_quality_of_libjpegs_own_tables(mode: str) -> None:
    image = {"grey": IMAGE.convert("L"), "cmyk": IMAGE.convert("CMYK")}.get(mode, IMAGE)
    options = {"subsampling": mode} if ":" in mode else {"progressive": mode == "progressive"}
    for quality in range(1, 101):
        assert probed(saved(image, "JPEG", quality=quality, **options)) == Compression("JPEG", False, quality)


PRESETS = {"web_low": 52, "web_medium": 70, "web_high": 87, "web_very_high": 94, "web_maximum": 99, "maximum": 94}
"""Photoshop's tables, as Pillow has them: the quality by the quotient of the sums, another measure than ours."""


@pytest.mark.parametrize("name", PRESETS)
def test_quality_of_tables_that_are_not_libjpegs(name: str) -> None:
    quality = probed(saved(IMAGE, "JPEG", quality=name)).quality
    assert quality is not None
    assert abs(quality - PRESETS[name]) < 10


@pytest.mark.parametrize("quality", [30, 60, 75, 90])
def test_quality_of_another_table_scaled_as_libjpeg_does(quality: int) -> None:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = [min(255, max(1, (step * percent + 50) // 100)) for step in ROBIDOUX]
    found = probed(saved(IMAGE, "JPEG", qtables=[table, table])).quality
    assert found is not None
    assert quality - 14 < found < quality  # coarser than the standard table at the same quality


def test_a_slightly_changed_table_keeps_its_quality() -> None:
    rng = np.random.default_rng(0)
    with Image.open(io.BytesIO(saved(IMAGE, "JPEG", quality=50))) as image:
        table = image.quantization[0]  # type: ignore[attr-defined]
    assert abs(estimate_quality([step + int(rng.integers(-1, 2)) for step in table]) - 50) <= 2


@pytest.mark.parametrize(("step", "quality"), [(0, 100), (1, 100), (65535, 1)])
def test_tables_without_sense(step: int, quality: int) -> None:
    assert estimate_quality([step] * 64) == quality


def test_the_first_components_table_counts() -> None:
    coarse, fine = [50] * 64, [1] * 64
    data = saved(IMAGE, "JPEG", qtables=[fine, coarse])
    frame = data.index(b"\xff\xc0") + 10  # three components: number, sampling, table
    swapped = bytearray(data)
    for at, table in zip(range(frame + 2, frame + 11, 3), (1, 0, 0), strict=True):
        swapped[at] = table
    assert probed(data).quality == 100
    assert probed(bytes(swapped)).quality != 100
    swapped[frame + 2] = 3  # there is no such table
    assert probed(bytes(swapped)) == Compression("JPEG", False)


def test_a_jpeg_cut_anywhere_is_refused_or_told() -> None:
    data = saved(IMAGE, "JPEG", quality=85)
    for end in range(len(data)):
        try:
            assert probed(data[:end]).quality == 85
        except ImageError:
            assert end < data.index(b"\xff\xda") + 20


# WebP


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<L", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<L", len(body)) + body


def animation(lossless: bool | None) -> bytes:
    """Three frames; with None each coded in the shorter way, which makes the flat one lossless and the others lossy."""
    frames = [Image.fromarray(photo(64, 64, seed)) for seed in range(2)]
    frames.insert(1, Image.new("RGB", (64, 64), "red"))
    options = {"allow_mixed": True, "quality": 20} if lossless is None else {"lossless": lossless}
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("kind", ["plain", "alpha", "metadata", "animated"])
def test_webp(kind: str, lossless: bool) -> None:
    image = IMAGE.copy()
    if kind == "alpha":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = (
        animation(lossless)
        if kind == "animated"
        else saved(image, "WEBP", lossless=lossless, exif=b"Exif\0\0odd" if kind == "metadata" else b"")
    )
    assert (data[12:16] == b"VP8X") == (kind != "plain" and (kind, lossless) != ("alpha", True))
    assert probed(data) == Compression("WebP", lossless)


def test_one_lossy_frame_makes_an_animation_lossy() -> None:
    data = animation(None)
    assert {b"VP8 ", b"VP8L"} == {kind for kind in (b"VP8 ", b"VP8L") if kind in data}
    assert probed(data) == Compression("WebP", False)


def test_what_lies_behind_a_webp_does_not_count() -> None:
    data = animation(True)
    assert probed(data + b"VP8 " + bytes(8)) == Compression("WebP", True)


def test_a_webp_of_endless_empty_chunks_is_refused_soon() -> None:
    head = (b"VP8X", bytes(4) + b"\x07\0\0\x07\0\0")
    with pytest.raises(ImageError):
        probed(riff(head, *[(b"JUNK", b"")] * 200_000))


def test_a_webp_cut_anywhere_is_refused() -> None:
    data = animation(False)
    for end in (*range(0, 100), len(data) // 2, len(data) - 1):
        with pytest.raises(ImageError):
            probed(data[:end])


# Others


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "PPM", "TIFF"])
def test_lossless_formats(format: str) -> None:
    found = probed(saved(IMAGE, format))
    assert found == Compression(format, True)
    assert str(found) == f"lossless {format}"


@pytest.mark.parametrize(
    ("compression", "lossless"), [("jpeg", False), ("tiff_lzw", True), ("tiff_adobe_deflate", True), ("raw", True)]
)
def test_tiff_by_its_compression(compression: str, lossless: bool) -> None:
    assert probed(saved(IMAGE, "TIFF", compression=compression)) == Compression("TIFF", lossless)


@pytest.mark.skipif("avif" not in features.get_supported_modules(), reason="a Pillow without AVIF")
def test_avif_is_lossy() -> None:
    assert str(probed(saved(IMAGE, "AVIF"))) == "lossy AVIF"


def test_every_format_tells_and_a_stream_stays_where_it_is() -> None:
    for name, data in small_files().items():
        stream = io.BytesIO(data)
        assert isinstance(probe_image(stream).compression.lossless, bool), name
        assert stream.tell() == 0


# Images that Pillow has opened


def test_a_pillow_image_is_judged_while_it_knows_its_file() -> None:
    with Image.open(io.BytesIO(saved(IMAGE, "JPEG", quality=70))) as image:
        assert read_compression(image) == Compression("JPEG", False, 70)
        image.load()
        assert read_compression(image) == Compression("JPEG", False, 70)
        assert read_compression(image.convert("RGB").rotate(90)) is None
        image.quantization = {0: [1, 2, 3]}  # type: ignore[attr-defined]
        assert read_compression(image) == Compression("JPEG", False)
    assert read_compression(IMAGE) is None
