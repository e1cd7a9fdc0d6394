"""Writing the frames of an animation, or the pages of a document, to one file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.files import check_target
from gdq_cli.images.formats import check_format_limits, default_format
from gdq_cli.images.mark import append_mark
from gdq_cli.images.picture import Frame, Metadata
from gdq_cli.images.reading.container import ImageHeader
from gdq_cli.images.writing.png import encode_apng
from gdq_cli.images.writing.raster import Raster, default_threads
from gdq_cli.images.writing.tiff import TiffWriter
from gdq_cli.images.writing.writer import (
    Target,
    choose_format,
    deliver,
    keep_metadata,
    pillow_metadata,
    pillow_options,
    prepare,
    save_by_pillow,
    write_image,
)
from gdq_cli.options import DEFAULT_ENCODING, Encoding

_WEBP_PLAYS, _WEBP_DURATION = 2**16 - 1, 2**24 - 1  # of an animation and of a frame in milliseconds, at most


def write_frames(
    target: Target,
    frames: Iterable[Frame],
    header: ImageHeader,
    encoding: Encoding = DEFAULT_ENCODING,
    *,
    overwrite: bool = False,
    threads: int | None = None,
) -> tuple[str, ...]:
    """Write an animation (png, webp) or a document (tiff). Frames are taken one at a time, as they are encoded.

    Args:
        target: as for `write_image`.
        frames: all of them; those of an animation have one size. What this iterable raises passes through.
        header: of the source: how many frames, how often it plays, whether any frame has transparency.
        encoding: as for `write_image`; without a format, that of a stream is `default_format` of the source.

    The other arguments, the result and the errors are those of `write_image`.
    """
    if isinstance(target, (str, os.PathLike)):
        check_target(Path(target), overwrite=overwrite)  # before the first frame is asked for, which may take long
    feed = iter(frames)
    try:
        first = next(feed)
    except StopIteration:
        raise ValueError("there are no frames") from None
    every = itertools.chain((first,), feed)
    animated = header.animated
    chosen = choose_format(target, encoding, default_format(header.format, animated=animated))
    height, width = first.picture.size
    check_format_limits(chosen.name, width, height, frames=header.frames)
    if header.frames > 1 and animated != chosen.animation:
        kind = "animations" if animated else "documents of several pages"
        raise ImageError(f"{chosen.name} holds no {kind}; use {'webp or png' if animated else 'tiff'}")
    if header.frames == 1 or not (chosen.animation or chosen.pages):
        encoding = replace(encoding, format=chosen.name)
        return write_image(target, first.picture, encoding, overwrite=overwrite, threads=threads)
    options = pillow_options(chosen, encoding, first.picture)
    notes: list[str] = []
    threads = default_threads() if threads is None else threads

    def encode(stream: BinaryIO) -> None:
        if chosen.pages:
            writer: TiffWriter | None = None
            for frame in every:
                raster, metadata = prepare(frame.picture, chosen, encoding, notes)
                size = raster.row_bytes * raster.height * header.frames
                writer = writer or TiffWriter(stream, size, threads)
                writer.add_page(raster, metadata)
            return
        metadata = keep_metadata(first.picture, chosen, encoding, notes)
        rasters = _animation_rasters(every, header.has_alpha, (height, width), notes)
        if chosen.name == "png":
            encode_apng(stream, rasters, metadata, header.frames, header.plays, threads)
        else:
            _encode_webp_animation(stream, rasters, metadata, header, options)
            append_mark(stream, chosen.name, metadata.mark)

    deliver(target, encode, overwrite)
    return tuple(dict.fromkeys(notes))


def _animation_rasters(
    frames: Iterable[Frame], alpha: bool, size: tuple[int, int], notes: list[str]
) -> Iterator[tuple[Raster, float]]:
    """Frames in one common layout: RGB, or RGBA when any frame may have transparency."""
    for frame in frames:
        picture = frame.picture
        if picture.size != size:
            raise ValueError(f"frames of an animation have one size, got {picture.size} after {size}")
        if picture.bit_depth > 8:
            notes.append("16 bits per sample written as 8")
        yield Raster(picture, grey=False, alpha=alpha, deep=False, background=Encoding.background), frame.duration_ms


class _FrameFeed(Image.Image):
    """Lets Pillow's animation encoder pull frames one at a time, where it would take a list of all of them."""

    def __init__(self, frames: Iterator[tuple[Raster, float]], count: int) -> None:
        super().__init__()
        self._frames, self.n_frames, self.is_animated = frames, count, count > 1
        self.durations: list[float] = []  # grows as the frames come; the encoder reads each after its frame
        self.failure: BaseException | None = None
        self.seek(0)

    def seek(self, frame: int) -> None:
        while len(self.durations) <= frame:
            try:
                raster, duration = next(self._frames)
            except BaseException as e:
                self.failure = e if not isinstance(e, StopIteration) else ValueError("fewer frames than announced")
                raise self.failure from e
            image = raster.image()
            self.im, self._mode, self._size = image.im, image.mode, image.size
            self.durations.append(min(duration, _WEBP_DURATION))

    def tell(self) -> int:
        return max(0, len(self.durations) - 1)


def _encode_webp_animation(
    stream: BinaryIO,
    rasters: Iterator[tuple[Raster, float]],
    metadata: Metadata,
    header: ImageHeader,
    options: dict[str, Any],
) -> None:
    feed = _FrameFeed(rasters, header.frames)
    options = options | pillow_metadata(metadata)
    try:
        save_by_pillow(
            feed,
            stream,
            "WEBP",
            save_all=True,
            duration=feed.durations,
            loop=min(header.plays, _WEBP_PLAYS),
            background=(0, 0, 0, 0),
            **options,
        )
    except Exception:
        if feed.failure is not None:
            raise feed.failure from None
        raise
    if next(rasters, None) is not None:
        raise ValueError(f"announced {header.frames} frames, got more")
