"""Damaged files and many threads: a picture or an ImageError, never anything else, and nothing on stderr.

`GDQ_FUZZ=2000` runs as many mutated files; the default is 200. The seed is fixed.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.images import Picture, read_frames, read_image, write_image
from gdq_cli.images.turn import Turn
from gdq_cli.images.xmp import refresh
from gdq_cli.options import Encoding
from tests.helpers.damage import mutate
from tests.helpers.image_samples import photo, png_chunk, saved, small_files

FILES = small_files()
MUTANTS = int(os.environ.get("GDQ_FUZZ", "200"))
MAX_PIXELS = 1_000_000
IPTC, RDF = b"http://iptc.org/std/Iptc4xmpExt/2008-02-29/", b"http://www.w3.org/1999/02/22-rdf-syntax-ns#"
SECONDS = 5.0


def read_all(data: bytes) -> str | None:
    """Read every frame; the error's text, or None."""
    started = time.perf_counter()
    try:
        for frame in read_frames(io.BytesIO(data), max_pixels=MAX_PIXELS, name="file"):
            assert frame.picture.rgb.dtype == np.uint8
        text = None
    except ImageError as e:
        text = str(e)
        assert text.startswith("file: ")
        assert "\n" not in text
        assert len(text) < 250
    assert time.perf_counter() - started < SECONDS
    return text


@pytest.mark.parametrize("name", FILES)
def test_truncated_anywhere(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = FILES[name]
    cuts = sorted({*range(0, min(len(data), 64), 3), *np.linspace(0, len(data) - 1, 40).astype(int).tolist()})
    results = [read_all(data[:cut]) for cut in cuts]
    assert all(result is not None for result in results[: len(results) // 2])
    assert read_all(data) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", ["jpg", "gif"])
def test_a_large_file_damaged_at_its_start_is_refused_soon(format: str) -> None:
    data = FILES[format]
    text = read_all(data[:20] + bytes(range(1, 32)) * 1_000_000 + data[20:])
    assert text is not None
    assert "damaged data" in text


def test_padding_between_jpeg_segments_is_harmless() -> None:
    data = FILES["jpg"]
    assert read_all(data[:20] + b"\0\0junk\xff\xff\xff" + data[20:]) is None


def test_xmp_made_to_keep_a_search_busy() -> None:
    started = time.perf_counter()
    turn = Turn((5, 5), 1, (5, 5))
    head = b'<x xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
    for packet in (
        b"<xmp:Thumbnails" * 200_000 + b"tiff:Orientation " * 100_000,
        head + b"<xmp:Thumbnails>" * 9_000 + b"</xmp:Thumbnails>" * 9_000 + b"</x>",
        head + b"<xmp:Thumbnails/>" * 19_000 + b"</x>",
        b'<x xmlns:e="%b" xmlns:r="%b">' % (IPTC, RDF)
        + b"<e:RegionBoundary>" * 100
        + b'<r:li e:rbX="1" e:rbY="1"/>' * 5_000
        + b"</e:RegionBoundary>" * 100
        + b"</x>",
        b'<x xmlns:e="%b" xmlns:r="%b"><e:RegionBoundary>' % (IPTC, RDF)
        + b'<r:li e:rbX="1" e:rbY="1">' * 400
        + b"<e:rbX/>" * 18_000
        + b"</r:li>" * 400
        + b"</e:RegionBoundary></x>",
        head
        + b"".join(b"<a%d>" % n for n in range(800))
        + b"<b/>" * 16_000
        + b"".join(b"</a%d>" % n for n in reversed(range(800)))
        + b"</x>",
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><x>&b;</x>',
    ):
        with contextlib.suppress(ValueError, RecursionError):
            refresh(packet, turn, "image/png", [])
    assert time.perf_counter() - started < SECONDS


def test_mutated_files_are_read_or_refused(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(20240501)
    names = list(FILES)
    refused = 0
    for index in range(MUTANTS):
        name = names[index % len(names)]
        data = mutate(FILES[name], rng)
        try:
            refused += read_all(data) is not None
        except BaseException as e:
            raise AssertionError(f"mutant {index} of {name}: {data[:40]!r}...") from e
    assert 0.3 * MUTANTS < refused < 0.95 * MUTANTS
    assert capfd.readouterr() == ("", "")


def warning_png(seed: int) -> bytes:
    """A PNG that makes Pillow warn: it announces an animation of no frames."""
    data = saved(Image.fromarray(photo(24, 33, seed)), "PNG")
    return data[:33] + png_chunk(b"acTL", bytes(8)) + data[33:]


def test_warnings_of_pillow_belong_to_the_picture(capfd: pytest.CaptureFixture[str]) -> None:
    show, filters = warnings.showwarning, list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            picture = read_image(io.BytesIO(warning_png(0)))
            assert picture.warnings == ("Invalid APNG, will use default PNG image if possible",)
    assert warnings.showwarning is show
    assert list(warnings.filters) == filters
    assert capfd.readouterr() == ("", "")


def test_warnings_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            inside.set()
            go_on.wait(10)
            return super().read(size)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *rest: seen.append(str(message)))
        results: list[Picture] = []
        stream = Slow(warning_png(0))
        reader = threading.Thread(target=lambda: results.append(read_image(stream)))
        reader.start()
        assert inside.wait(10)
        warnings.warn("mine", UserWarning, stacklevel=1)
        go_on.set()
        reader.join(10)
    assert seen == ["mine"]
    assert len(results[0].warnings) == 1


def test_many_threads_read_and_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread gets its own picture and warnings; the switches of Pillow are back in place afterwards."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # below 24 x 33: lifted by every reader
    show = warnings.showwarning
    failures: list[object] = []

    def work(seed: int) -> None:
        try:
            for turn in range(15):
                warned = (seed + turn) % 2 == 0
                clean = saved(Image.fromarray(photo(24, 33, seed)), "PNG")
                picture = read_image(io.BytesIO(warning_png(seed) if warned else clean))
                assert (len(picture.warnings) == 1) == warned, picture.warnings
                np.testing.assert_array_equal(picture.rgb, photo(24, 33, seed))
                with pytest.raises(ImageError):
                    read_image(io.BytesIO(FILES["jpg"][:-300]))
                stream = io.BytesIO()
                encoding = Encoding(format=("png", "tiff", "webp")[turn % 3], lossless=True)
                write_image(stream, picture, encoding, threads=2)
                stream.seek(0)
                np.testing.assert_array_equal(read_image(stream).rgb, picture.rgb)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert Image.MAX_IMAGE_PIXELS == 700
    assert warnings.showwarning is show
