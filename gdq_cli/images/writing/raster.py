"""A picture as an encoder wants it: rows of interleaved samples, made band by band so that nothing is held twice."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from gdq_cli.images.formats import Format
from gdq_cli.images.picture import Picture
from gdq_cli.images.planes import flatten, luma

Samples = npt.NDArray[Any]
"""uint8 or uint16, (rows, W, channels)."""
Band = TypeVar("Band")
Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class Raster:
    """A view of a picture with a decided layout: 1 to 4 channels (grey or RGB, alpha or not) of 8 or 16 bits."""

    picture: Picture
    grey: bool
    alpha: bool
    deep: bool
    background: tuple[int, int, int]
    """Shows through transparent pixels where ``alpha`` is False."""

    @property
    def height(self) -> int:
        """Rows."""
        return self.picture.size[0]

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return self.picture.size[1]

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return (1 if self.grey else 3) + self.alpha

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * self.channels * (2 if self.deep else 1)

    def rows(self, top: int, bottom: int) -> Samples:
        """Rows ``top`` to ``bottom`` (excluded), C-contiguous (rows, W, channels), uint16 when ``deep``, else uint8."""
        picture, span = self.picture, slice(top, bottom)
        colour: Samples = picture.rgb[span]
        if self.deep and picture.samples16 is not None:
            colour = picture.samples16[span]
        if picture.has_alpha and not self.alpha:
            colour = self._flattened(colour, span)
        if self.grey and colour.ndim == 3:
            colour = luma(colour)[..., None]
        elif colour.ndim == 2:
            colour = colour[..., None] if self.grey else np.repeat(colour[..., None], 3, axis=2)
        if not self.alpha:
            return np.ascontiguousarray(colour)
        out = np.empty((*colour.shape[:2], self.channels), colour.dtype)
        out[..., :-1] = colour
        opacity = picture.alpha[span] if picture.alpha is not None else np.uint8(picture.alpha_value)
        out[..., -1] = opacity.astype(np.uint16) * np.uint16(257) if self.deep else opacity
        return out

    def _flattened(self, colour: Samples, span: slice) -> Samples:
        alpha = self.picture.alpha
        opacity = np.full(colour.shape[:2], self.picture.alpha_value, np.uint8) if alpha is None else alpha[span]
        return flatten(colour, opacity, self.background)

    def image(self, top: int = 0, bottom: int | None = None) -> Image.Image:
        """Rows as a Pillow image of 8 bits (or of 16 for grey)."""
        samples = self.rows(top, self.height if bottom is None else bottom)
        return Image.fromarray(samples[..., 0] if self.channels == 1 else samples)


def lay_out(picture: Picture, format: Format, background: tuple[int, int, int], *, keep_rgb: bool) -> Raster:
    """Decide how a picture is stored in a format.

    Args:
        picture: to be written.
        format: of the output.
        background: for formats without alpha.
        keep_rgb: store a grey picture as RGB with equal channels (a profile or a format demands it).
    """
    flattened = picture.has_alpha and not format.alpha
    tinted = flattened and len(set(background)) > 1
    alpha = picture.has_alpha and format.alpha
    deep = format.depth16 and picture.samples16 is not None and not flattened
    # Pillow, and with it this package, cannot read 16-bit grey with alpha from TIFF.
    unreadable = deep and alpha and format.name == "tiff"
    grey = picture.grey and not (keep_rgb or tinted or unreadable)
    return Raster(picture, grey, alpha, deep, background)


def spans(height: int, rows: int) -> list[tuple[int, int]]:
    """Consecutive (top, bottom) bands of ``rows`` rows; the last one may be shorter."""
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def default_threads() -> int:
    """Threads that encode the bands of one picture, when nobody says otherwise."""
    return min(4, os.cpu_count() or 1)


def map_bands(encode: Callable[[Band], Encoded], bands: list[Band], threads: int) -> Iterator[Encoded]:
    """Encode bands in threads, in order, with ``threads + 1`` in memory at most; the result is always the same."""
    if threads <= 1 or len(bands) <= 1:
        yield from map(encode, bands)
        return
    waiting: deque[Future[Encoded]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="gdq-encode") as pool:
        try:
            for band in bands:
                waiting.append(pool.submit(encode, band))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
