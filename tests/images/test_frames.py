"""Animations and documents: every frame, its time, and the way back into a file."""

from __future__ import annotations

import io
import struct
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import FileError, ImageError, OptionsError
from gdq_cli.files import OutputExistsError
from gdq_cli.images import (
    FORMATS,
    Frame,
    Frames,
    Metadata,
    Picture,
    probe_image,
    read_frames,
    read_image,
    write_frames,
)
from gdq_cli.options import Encoding
from tests.helpers.image_samples import exif_block, photo, rgb_profile, saved, small_files, tiff16_rgb

TIMES = [40, 80, 120]


def moving(count: int = 3, size: tuple[int, int] = (20, 25)) -> list[Image.Image]:
    """A square that moves over a transparent ground."""
    frames = []
    for index in range(count):
        array = np.zeros((*size, 4), np.uint8)
        array[4:12, 3 * index : 3 * index + 8] = (250, 20 * index, 10, 255)
        frames.append(Image.fromarray(array))
    return frames


def animation(format: str, frames: list[Image.Image], **options: object) -> bytes:
    return saved(frames[0], format, save_all=True, append_images=frames[1:], duration=TIMES, **options)


def composited(data: bytes) -> list[np.ndarray]:
    """What Pillow shows, RGBA."""
    image = Image.open(io.BytesIO(data))
    result = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        result.append(np.asarray(image.convert("RGBA")))
    return result


def rewound(stream: io.BytesIO) -> io.BytesIO:
    stream.seek(0)
    return stream


def rgba_of(picture: Picture) -> np.ndarray:
    alpha = np.full(picture.size, picture.alpha_value, np.uint8) if picture.alpha is None else picture.alpha
    return np.dstack([picture.rgb, alpha])


def visible(rgba: np.ndarray) -> np.ndarray:
    """Colours where they show: what lies under full transparency is the decoder's affair."""
    return np.where(rgba[..., 3:] > 0, rgba, 0)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_frames_come_composited_with_their_times(format: str, disposal: int) -> None:
    options = {"disposal": disposal} if format != "WEBP" else {"lossless": True}
    data = animation(format, moving(), loop=0, **options)
    frames = read_frames(io.BytesIO(data))
    assert (len(frames), frames.header.animated, frames.header.plays) == (3, True, 0)
    assert (frames.header.width, frames.header.height) == (25, 20)
    assert frames.header.has_alpha
    for frame, shown, duration in zip(frames, composited(data), TIMES, strict=True):
        np.testing.assert_array_equal(visible(rgba_of(frame.picture)), visible(shown))
        assert frame.duration_ms == pytest.approx(duration)


def test_frames_can_be_read_twice() -> None:
    frames = read_frames(io.BytesIO(animation("GIF", moving())))
    first, second = ([frame.picture.rgb for frame in frames] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("format", "loop", "plays"), [("GIF", None, 1), ("GIF", 0, 0), ("GIF", 2, 3), ("PNG", 2, 2)])
def test_how_often_it_plays(format: str, loop: int | None, plays: int) -> None:
    data = animation(format, moving(), **({} if loop is None else {"loop": loop}))
    assert probe_image(io.BytesIO(data)).plays == plays
    stream = io.BytesIO()
    frames = read_frames(io.BytesIO(data))
    for target in ("png", "webp"):
        stream = io.BytesIO()
        write_frames(stream, frames, frames.header, Encoding(format=target))
        assert probe_image(rewound(stream)).plays == plays


def test_a_webp_takes_what_it_can_hold_of_plays_and_times(tmp_path: Path) -> None:
    """GIFs that mean to play for ever often say 65535 repeats, which makes one play more than fits."""
    source = read_frames(io.BytesIO(animation("GIF", moving(), loop=65535)))
    assert source.header.plays == 65536
    frames = [replace(frame, duration_ms=duration) for frame, duration in zip(source, (30e6, 0, 40), strict=True)]
    write_frames(tmp_path / "a.webp", frames, source.header)
    written = read_frames(tmp_path / "a.webp")
    assert written.header.plays == 65535
    assert [frame.duration_ms for frame in written] == [2**24 - 1, 0, 40]


@pytest.mark.skipif("avif" not in FORMATS, reason="needs Pillow's AVIF")
@pytest.mark.parametrize(
    ("repeats", "whole", "plays"), [(1, b"\xff" * 8, 0), (1, (720).to_bytes(8, "big"), 3), (0, b"\xff" * 8, 1)]
)
def test_how_often_an_avif_plays(repeats: int, whole: bytes, plays: int) -> None:
    data = bytearray(animation("AVIF", moving()))
    edit, track = data.index(b"elst"), data.index(b"tkhd")
    assert int.from_bytes(data[edit + 12 : edit + 20], "big") == sum(TIMES)
    data[edit + 7], data[track + 32 : track + 40] = repeats, whole
    assert probe_image(io.BytesIO(bytes(data))).plays == plays
    without = bytes(data).replace(b"edts", b"free").replace(b"elst", b"none")
    assert probe_image(io.BytesIO(without)).plays == 0


def test_the_default_picture_of_an_apng_is_no_frame() -> None:
    frames = moving()
    still = Image.fromarray(np.full((20, 25, 4), 255, np.uint8))
    data = saved(still, "PNG", save_all=True, append_images=frames, default_image=True, duration=TIMES)
    read = read_frames(io.BytesIO(data))
    assert len(read) == 3
    for frame, expected in zip(read, frames, strict=True):
        np.testing.assert_array_equal(rgba_of(frame.picture), np.asarray(expected))


def test_a_still_picture_is_one_frame() -> None:
    frames = read_frames(io.BytesIO(small_files()["jpg"]))
    assert (len(frames), frames.header.animated) == (1, False)
    assert [frame.duration_ms for frame in frames] == [0.0]


@pytest.mark.parametrize("target", ["png", "webp"])
@pytest.mark.parametrize("source", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_written_with_all_frames_and_times(source: str, target: str) -> None:
    frames = read_frames(io.BytesIO(animation(source, moving(), loop=0)))
    stream = io.BytesIO()
    assert write_frames(stream, frames, frames.header, Encoding(format=target, lossless=target == "webp")) == ()
    again = read_frames(rewound(stream))
    assert again.header.plays == 0
    for old, new in zip(frames, again, strict=True):
        np.testing.assert_array_equal(visible(rgba_of(new.picture)), visible(rgba_of(old.picture)))
        assert new.duration_ms == pytest.approx(old.duration_ms)
    shown = composited(stream.getvalue())
    for old, pillow in zip(frames, shown, strict=True):
        np.testing.assert_array_equal(visible(pillow), visible(rgba_of(old.picture)))


def test_an_opaque_animation_is_written_without_alpha() -> None:
    frames = [Image.fromarray(photo(20, 25, seed)) for seed in range(3)]
    read = read_frames(io.BytesIO(animation("PNG", frames)))
    assert not read.header.has_alpha
    stream = io.BytesIO()
    write_frames(stream, read, read.header, Encoding(format="png"))
    assert Image.open(stream).mode == "RGB"
    for frame, expected in zip(read_frames(rewound(stream)), frames, strict=True):
        np.testing.assert_array_equal(frame.picture.rgb, np.asarray(expected))


def test_equal_frames_and_odd_times_survive_in_apng() -> None:
    picture = Picture(photo(9, 9))
    times = [0.0, 10.0, 33.0, 1000.0, 70_000.0, 700_000.0]
    header = read_frames(io.BytesIO(animation("PNG", moving()))).header
    header = type(header)("png", 9, 9, header.compression, len(times), True, 0, False)
    stream = io.BytesIO()
    write_frames(stream, [Frame(picture, time) for time in times], header, Encoding(format="png"))
    assert [frame.duration_ms for frame in read_frames(rewound(stream))] == pytest.approx(times)


@pytest.mark.parametrize("target", ["png", "webp"])
def test_metadata_of_an_animation_is_kept(target: str) -> None:
    metadata = Metadata(exif=exif_block(1), icc=rgb_profile())
    header = probe_image(io.BytesIO(animation("PNG", moving())))
    stream = io.BytesIO()
    frames = [Frame(Picture(photo(20, 25, seed), metadata=metadata), 50.0) for seed in range(3)]
    write_frames(stream, frames, header, Encoding(format=target))
    image = Image.open(stream)
    assert image.info["icc_profile"] == rgb_profile()
    assert image.getexif()[0x010F] == "Camera Makers"


def document() -> list[Image.Image]:
    pages: list[Image.Image] = [Image.fromarray(photo(20, 25, 1)), Image.fromarray(photo(31, 8, 2)[..., 0])]
    pages.append(Image.fromarray(np.dstack([photo(9, 14, 3), photo(9, 14, 4)[..., 0]])))
    return pages


def test_every_page_of_a_document_is_read_and_written() -> None:
    pages = document()
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], dpi=(200, 200))
    frames = read_frames(io.BytesIO(data))
    assert (len(frames), frames.header.animated) == (3, False)
    stream = io.BytesIO()
    assert write_frames(stream, frames, frames.header, Encoding(format="tiff")) == ()
    for source in (frames, read_frames(rewound(stream))):
        for frame, page in zip(source, pages, strict=True):
            np.testing.assert_array_equal(rgba_of(frame.picture), np.asarray(page.convert("RGBA")))
    written = Image.open(stream)
    modes = []
    for index in range(3):
        written.seek(index)
        modes.append((written.mode, written.size, round(float(written.info["dpi"][0]))))
    assert modes == [("RGB", (25, 20), 200), ("L", (8, 31), 200), ("RGBA", (14, 9), 200)]


def test_pages_turn_by_their_own_orientation() -> None:
    pages = [Image.fromarray(photo(20, 25, seed)) for seed in range(2)]
    buffer = io.BytesIO()
    tags = Image.Exif()
    tags[0x0112] = 6
    pages[0].save(buffer, "TIFF", exif=tags, save_all=True, append_images=pages[1:])
    sizes = [frame.picture.size for frame in read_frames(rewound(buffer))]
    image = Image.open(buffer)
    expected = []
    for index in range(2):
        image.seek(index)
        image.load()
        expected.append(image.size[::-1])
    assert sizes == expected


def test_reduced_copies_in_a_tiff_are_no_pages() -> None:
    page, copy = Image.fromarray(photo(20, 25)), Image.fromarray(photo(10, 12))
    buffer = io.BytesIO()
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(buffer, "TIFF", save_all=True, append_images=[copy], tiffinfo={})
    image = Image.open(buffer)
    image.seek(1)
    if image.tag_v2.get(254) != 1:  # type: ignore[attr-defined]
        pytest.skip("this Pillow does not write the tag for one page")
    assert len(read_frames(rewound(buffer))) == 1


def test_16_bit_pages() -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (9, 11, 3), np.uint16)
    one = read_frames(io.BytesIO(tiff16_rgb(samples)))
    header = type(one.header)("tiff", 11, 9, 2, bit_depth=16)
    stream = io.BytesIO()
    pages = [frame for _ in range(2) for frame in one]
    write_frames(stream, pages, header, Encoding(format="tiff"))
    for frame in read_frames(rewound(stream)):
        np.testing.assert_array_equal(frame.picture.samples16, samples)


@pytest.mark.parametrize(
    ("source", "target"), [("gif-animated", "jpg"), ("gif-animated", "tiff"), ("tiff-pages", "png")]
)
def test_formats_that_hold_no_such_thing_are_refused(source: str, target: str) -> None:
    frames = read_frames(io.BytesIO(small_files()[source]))
    with pytest.raises(ImageError, match="holds"):
        write_frames(io.BytesIO(), frames, frames.header, Encoding(format=target))


@pytest.mark.parametrize("name", ["out.gif", "out.xyz", "out"])
def test_a_name_that_tells_no_format_to_write_is_refused(name: str, tmp_path: Path) -> None:
    frames = read_frames(io.BytesIO(small_files()["gif-animated"]))
    with pytest.raises(OptionsError, match="which format"):
        write_frames(tmp_path / name, frames, frames.header)
    assert not list(tmp_path.iterdir())


def test_frames_are_taken_one_at_a_time() -> None:
    """No encoder collects all frames before it starts: memory stays that of a frame."""
    header = probe_image(io.BytesIO(animation("PNG", moving(3))))
    header = type(header)("png", 25, 20, header.compression, 12, True, 0, False)
    for target in ("png", "webp"):
        alive: list[int] = []

        def source(alive: list[int] = alive) -> Iterator[Frame]:
            living: weakref.WeakSet[Picture] = weakref.WeakSet()
            for seed in range(12):
                picture = Picture(photo(20, 25, seed))
                living.add(picture)
                alive.append(len(living))
                yield Frame(picture, 20.0)

        write_frames(io.BytesIO(), source(), header, Encoding(format=target))
        assert max(alive) <= 4


@pytest.mark.parametrize("target", ["png", "webp", "tiff"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ImageError("x"), ValueError("a bug"), RuntimeError("a bug")])
def test_what_the_frames_raise_passes_through(target: str, failure: type[BaseException] | BaseException) -> None:
    header = probe_image(io.BytesIO(animation("PNG", moving(3))))
    header = type(header)("png", 25, 20, header.compression, 3, target != "tiff", 0, False)

    def source() -> Iterator[Frame]:
        yield Frame(Picture(photo(20, 25)), 20.0)
        raise failure

    with pytest.raises(failure if isinstance(failure, type) else type(failure)):
        write_frames(io.BytesIO(), source(), header, Encoding(format=target))


@pytest.mark.parametrize("target", ["png", "webp"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_frames_is_a_bug_of_the_caller(target: str, count: int) -> None:
    header = replace(probe_image(io.BytesIO(small_files()["apng"])), width=25, height=20, frames=count)
    with pytest.raises(ValueError, match="frames"):
        write_frames(io.BytesIO(), [Frame(Picture(photo(20, 25)), 20.0)] * 3, header, Encoding(format=target))


def test_no_frame_is_made_for_a_target_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "out.webp").write_bytes(b"precious")
    header = probe_image(io.BytesIO(small_files()["apng"]))

    made: list[int] = []

    def source() -> Iterator[Frame]:
        made.append(1)
        yield Frame(Picture(photo(20, 25)))

    with pytest.raises(OutputExistsError):
        write_frames(tmp_path / "out.webp", source(), header)
    with pytest.raises(FileError, match="no folder"):
        write_frames(tmp_path / "none" / "out.webp", source(), header)
    assert made == []


def test_animations_and_documents_go_to_files(tmp_path: Path) -> None:
    for name, target in [("gif-animated", "a.webp"), ("apng", "b.png"), ("tiff-pages", "c.tif")]:
        frames = read_frames(io.BytesIO(small_files()[name]))
        write_frames(tmp_path / target, frames, frames.header)
        assert len(read_frames(tmp_path / target)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.webp", "b.png", "c.tif"]


def test_a_damaged_frame_is_named() -> None:
    data = small_files()["gif-animated"]
    frames = iter(Frames(io.BytesIO(data[: len(data) - 400]), None, "a.gif"))
    next(frames)
    with pytest.raises(ImageError, match=r"^a\.gif: not a readable image \(frame [23] of 3, truncated file\)"):
        list(frames)


Block = tuple[tuple[int, int, int, int], tuple[int, int, int], int]
"""Left, top, width and height of a frame of one colour; the colour; what becomes of its area."""


def gif(size: tuple[int, int], *blocks: Block) -> bytes:
    """A GIF of frames of one opaque colour each, with palettes of their own."""
    parts = [b"GIF89a" + struct.pack("<HHBBB", *size, 0, 0, 0)]
    for (x, y, w, h), colour, disposal in blocks:
        codes = [4, 0] * (w * h) + [5]  # of 3 bits: "start afresh" and colour 0 for each pixel, the end
        packed = sum(code << 3 * place for place, code in enumerate(codes)).to_bytes(-(-3 * len(codes) // 8), "little")
        parts += [b"!\xf9\4" + bytes((disposal << 2, 5, 0, 0, 0)), b"," + struct.pack("<HHHHB", x, y, w, h, 0x81)]
        parts += [bytes(colour) + bytes(9), bytes((2, len(packed))) + packed + b"\0"]
    return b"".join((*parts, b";"))


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_gif_frames_leave_behind_what_browsers_show(first: int, second: int) -> None:
    """0 and 1 leave a frame's pixels, 2 leaves nothing, 3 what was there before: nothing, before the first one."""
    red, green, blue, nothing = (200, 0, 0, 255), (0, 200, 0, 255), (0, 0, 200, 255), (0, 0, 0, 0)
    blocks = (((0, 0, 6, 4), red[:3], first), ((1, 1, 2, 2), green[:3], second), ((0, 0, 2, 1), blue[:3], 0))
    frames = read_frames(io.BytesIO(gif((6, 4), *blocks)))
    ground = red if first < 2 else nothing
    expected = np.empty((3, 4, 6, 4), np.uint8)
    expected[0], expected[1:] = red, ground
    expected[1, 1:3, 1:3] = green
    expected[2, 1:3, 1:3] = {2: nothing, 3: ground}.get(second, green)
    expected[2, 0, 0:2] = blue
    for frame, shown in zip(frames, expected, strict=True):
        picture = frame.picture
        alpha = picture.alpha if picture.alpha is not None else np.full(picture.size, picture.alpha_value, np.uint8)
        np.testing.assert_array_equal(alpha, shown[..., 3])
        np.testing.assert_array_equal(picture.rgb * (alpha > 0)[..., None], shown[..., :3])
        assert frame.duration_ms == 50
    assert frames.header.has_alpha == bool((expected[..., 3] == 0).any())


def test_a_gif_shows_nothing_around_a_first_frame_that_is_smaller() -> None:
    picture = read_image(io.BytesIO(gif((6, 4), ((1, 1, 2, 2), (9, 9, 9), 0))))
    assert picture.size == (4, 6)
    assert picture.alpha is not None
    assert picture.alpha.sum() == 4 * 255
    assert picture.alpha[1:3, 1:3].all()


def test_a_gif_frame_beyond_the_canvas_is_cut() -> None:
    data = bytearray(animation("GIF", [Image.fromarray(photo(20, 25, seed)).quantize(8) for seed in range(3)]))
    first = Image.open(io.BytesIO(bytes(data)))
    assert first.size == (25, 20)
    data[6:10] = (10).to_bytes(2, "little") * 2  # the screen; browsers grow it to the first frame
    frames = read_frames(io.BytesIO(bytes(data)))
    assert {frame.picture.size for frame in frames} == {(20, 25)}
    assert (frames.header.width, frames.header.height) == (25, 20)
