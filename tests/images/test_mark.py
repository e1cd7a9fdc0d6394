"""The mark in written files: read back from every format, seen by no reader, never copied from an input."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdq_cli.images import Frame, ImageHeader, Metadata, Picture, read_frames, read_image, write_frames, write_image
from gdq_cli.images.mark import Mark, digest, fingerprint, read_mark
from gdq_cli.images.reading.compression import Compression
from gdq_cli.options import Encoding
from tests.helpers.image_samples import exif_block, photo, rgb_profile, saved, xmp_packet

RGB = photo(40, 31)
MARK = Mark(*(digest(word) for word in (b"name", b"source", b"options")))
FULL = Metadata(
    exif=exif_block(1) + bytes(9_000), icc=rgb_profile() + bytes(9_000), xmp=xmp_packet(1), comments=(b"hello",)
)
FORMATS = ("png", "jpg", "webp", "tiff", "avif", "bmp", "ppm")


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_carries_it_unseen(tmp_path: Path, format: str, strip: bool) -> None:
    path = tmp_path / f"a.{format}"
    picture = Picture(RGB, metadata=FULL)
    write_image(path, picture, Encoding(format, strip_metadata=strip, mark=MARK.line))
    assert read_mark(path) == MARK
    plain = io.BytesIO()
    write_image(plain, picture, Encoding(format, strip_metadata=strip))
    plain.seek(0)
    marked, unmarked = read_image(path), read_image(plain)
    assert np.array_equal(marked.rgb, unmarked.rgb)
    assert marked.warnings == unmarked.warnings
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(plain)))
    again = tmp_path / f"again.{format}"
    write_image(again, marked, Encoding(format))
    assert read_mark(again) is None


@pytest.mark.parametrize("format", ["png", "webp", "tiff"])
def test_sequences_carry_it(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format}"
    animated = format != "tiff"
    header = ImageHeader(format, 31, 40, Compression(format, lossless=True), frames=2, animated=animated)
    frames = [Frame(Picture(photo(40, 31, seed)), 50.0) for seed in range(2)]
    write_frames(path, frames, header, Encoding(format, mark=MARK.line))
    assert read_mark(path) == MARK
    assert len(read_frames(path)) == 2


def test_files_of_others_have_none(tmp_path: Path) -> None:
    for index, data in enumerate(
        (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\0", saved(Image.fromarray(RGB), "JPEG"), MARK.line[:-1])
    ):
        path = tmp_path / str(index)
        path.write_bytes(data)
        assert read_mark(path) is None
    assert read_mark(tmp_path / "nothing") is None


def test_a_fingerprint_tells_contents_and_sizes_apart(tmp_path: Path) -> None:
    large = np.random.default_rng(0).bytes(3 << 20)
    contents = [b"", b"a", b"b", b"ab", large, large[:-1] + b"x", b"x" + large[1:], large + b"x"]
    paths = [tmp_path / str(index) for index in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    assert len({fingerprint(path) for path in paths}) == len(contents)
    stream = io.BytesIO(large)
    stream.seek(5)
    assert fingerprint(stream) == fingerprint(paths[4])
    assert stream.tell() == 5
