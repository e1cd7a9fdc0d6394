"""No small file takes a large machine: less than 1 MiB never takes 2 GiB or 20 seconds to read or to refuse.

Mutants of small files of every format, and files made to cost: a thousand with a small pixel limit by default, ten
thousand with the command line's own limit in the slow test. Seeds are fixed.
"""

from __future__ import annotations

import io
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.images import read_frames
from gdq_cli.options import UpscaleOptions
from tests.helpers.damage import mutate, twist
from tests.helpers.image_samples import png_chunk, saved, small_files

resource = pytest.importorskip("resource")  # POSIX's
FILES = small_files()
SECONDS, BYTES, FILE = 20.0, 2 << 30, 1 << 20
FRAMES = 20  # of an animation that are read: each costs the same, and a run shows how far it is


def peak() -> int:
    """Most bytes that this process has ever held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most << 10)


def read_within_bounds(data: bytes, max_pixels: int) -> bool:
    """Read or refuse a file; whether it was read."""
    assert len(data) <= FILE
    started = time.process_time()
    try:
        for index, frame in enumerate(read_frames(io.BytesIO(data), max_pixels=max_pixels, name="file")):
            assert frame.picture.rgb.dtype == np.uint8
            if index == FRAMES:
                break
        readable = True
    except ImageError as error:
        text = str(error)
        assert text.startswith("file: ")
        assert "\n" not in text
        assert len(text) < 250
        readable = False
    assert time.process_time() - started < SECONDS
    assert peak() < BYTES
    return readable


def read_mutants(count: int, seed: int, max_pixels: int) -> None:
    rng = np.random.default_rng(seed)
    names, readable = list(FILES), 0
    for index in range(count):
        name, other = names[index % len(names)], names[int(rng.integers(0, len(names)))]
        data = mutate(FILES[name], rng) if index % 2 else twist(FILES[name], FILES[other], rng)
        try:
            readable += read_within_bounds(data[:FILE], max_pixels)
        except BaseException as error:
            raise AssertionError(f"mutant {index} of {name}, seed {seed}: {data[:60]!r}...") from error
    assert 0.05 * count < readable < 0.7 * count


def test_a_thousand_mutants(capfd: pytest.CaptureFixture[str]) -> None:
    read_mutants(1000, 1911, 1_000_000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_ten_thousand_mutants(capfd: pytest.CaptureFixture[str]) -> None:
    read_mutants(10_000, 2718, UpscaleOptions.max_pixels)
    assert capfd.readouterr() == ("", "")


def flat_png(width: int, height: int, depth: int, colour: int, channels: int, share: float = 1) -> bytes:
    """One colour, of any size; cut after a share of its rows."""
    head = png_chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0))
    packer, row = zlib.compressobj(9), bytes(1 + width * channels * depth // 8)
    pixels = b"".join(packer.compress(row) for _ in range(int(height * share))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def segments() -> bytes:
    data = FILES["jpg"]
    return data[:2] + b"\xff\xe9\0\2" * 250_000 + data[2:]


def markers() -> bytes:
    """Segments behind the pixels, and no end: what mends such files looks at each."""
    data = FILES["jpg"]
    return data[:-2] + b"\xff\xe9\0\2" * 250_000


def chunks(kind: bytes) -> bytes:
    data = FILES["png"]
    return data[:33] + png_chunk(kind, b"") * 80_000 + data[33:]


def blocks() -> bytes:
    data = FILES["gif"]
    return data[:-1] + b"!\xfe" + b"\1a" * 500_000 + b"\0;"


def pages() -> bytes:
    """Directories of a TIFF, one after the other, all of one pixel."""
    entries = b"".join(
        struct.pack("<HHLL", tag, 4, 1, value)
        for tag, value in ((256, 1), (257, 1), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1))
    )
    size, parts = 2 + len(entries) + 4, [b"II*\0", struct.pack("<L", 12), bytes(4)]
    for index in range(10_500):
        parts.append(struct.pack("<H", 7) + entries + struct.pack("<L", 12 + (index + 1) * size))
    return b"".join(parts)


def ring() -> bytes:
    """A TIFF whose directory comes after itself."""
    return pages()[: 12 + 90 - 4] + struct.pack("<L", 12)


def canvas() -> bytes:
    """A WebP animation of 44 x 2,097,152 pixels, with frames of one pixel."""
    frame = io.BytesIO()
    Image.new("RGB", (2, 2)).save(frame, "WEBP", lossless=True)
    bitstream = frame.getvalue()[12:]
    header = struct.pack("<B3x", 2) + (43).to_bytes(3, "little") + (2_097_151).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<L", 10) + header + b"ANIM" + struct.pack("<LLH", 6, 0, 0)
    piece = bytes(6) + (1).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0" + bitstream
    body += (b"ANMF" + struct.pack("<L", len(piece)) + piece) * 5
    return b"RIFF" + struct.pack("<L", len(body)) + body


def wide_gif() -> bytes:
    frames = [Image.new("P", (4, 4), index) for index in range(3)]
    data = bytearray(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    data[6:10] = struct.pack("<HH", 12_000, 12_000)
    return bytes(data)


COSTLY = {
    "a JPEG of empty segments": segments,
    "a JPEG of segments without end": markers,
    "a PNG of empty chunks": lambda: chunks(b"teSt"),
    "a PNG of empty pixel chunks": lambda: chunks(b"IDAT"),
    "a GIF of short blocks": blocks,
    "a TIFF of pages": pages,
    "a TIFF in a ring": ring,
    "a WebP of a high canvas": canvas,
    "a GIF of a large canvas": wide_gif,
    "16-bit RGBA": lambda: flat_png(8000, 7000, 16, 6, 4, 0.01),
    "RGBA": lambda: flat_png(15_000, 13_000, 8, 6, 4, 0.01),
    "1-bit": lambda: flat_png(8_000, 8_000, 1, 0, 1),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_files_made_to_cost(kind: str) -> None:
    read_within_bounds(COSTLY[kind](), UpscaleOptions.max_pixels)


def test_large_flat_pictures_can_be_read(tmp_path: Path) -> None:
    """The limit can be raised, and drawings of few bits are no bombs."""
    data = flat_png(5000, 5000, 8, 6, 4, 0.1)
    with pytest.raises(ImageError, match="so small a file"):
        read_frames(io.BytesIO(data), max_pixels=26_000_000, name="file")
    assert read_frames(io.BytesIO(data), max_pixels=60_000_000, name="file").header.width == 5000
    assert read_frames(io.BytesIO(flat_png(8_000, 8_000, 1, 0, 1, 0.1)), max_pixels=64_000_000, name="file").header
