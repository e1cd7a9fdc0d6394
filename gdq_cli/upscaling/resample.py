"""Lanczos resampling band by band, so that no size needs a second copy of the picture. No torch here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.images import upscale_samples16

_BAND_PIXELS = 1 << 21
_REACH = 3  # of Lanczos, in pixels of the coarser of the two grids
_MARGIN16 = 4  # LR rows around a band of 16-bit samples: Lanczos sees 3 when it enlarges


def _spans(height: int, rows: int) -> list[tuple[int, int]]:
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def resize_into(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Resample a plane or picture with Lanczos to the size of another, which is overwritten: first columns, then rows.

    Args:
        source: uint8 (H, W) or (H, W, 3).
        target: uint8 (H', W') or (H', W', 3).
    """
    height, width = source.shape[:2]
    rows_out, columns_out = target.shape[:2]
    step = height / rows_out
    reach = _REACH * max(step, 1.0) + 2
    for start, stop in _spans(rows_out, max(1, _BAND_PIXELS // max(columns_out, width))):
        top, bottom = max(0, math.floor(start * step - reach)), min(height, math.ceil(stop * step + reach))
        band = Image.fromarray(np.ascontiguousarray(source[top:bottom]))
        box = (0.0, start * step - top, float(width), min(stop * step - top, float(bottom - top)))
        # One direction after the other: Pillow picks its own order by the band's shape, and what the first pass clips
        # depends on it, so bands would differ from each other.
        band = band.resize((width, stop - start), Image.Resampling.LANCZOS, box)
        target[start:stop] = np.asarray(band.resize((columns_out, stop - start), Image.Resampling.LANCZOS))


def deepen_into(samples16: NDArray[np.uint16], image: NDArray[np.uint8], target: NDArray[np.uint16]) -> None:
    """Give an upscaled picture the low bits of its 16-bit source (see ``images.upscale_samples16``).

    Args:
        samples16: uint16 (H, W) or (H, W, 3), the source.
        image: uint8 (H', W', 3), upscaled.
        target: uint16 (H', W') or (H', W', 3), overwritten.
    """
    height, width = samples16.shape[:2]
    factor = image.shape[0] // height
    if image.shape[:2] != (height * factor, width * factor):
        target[...] = upscale_samples16(samples16, image)
        return
    for start, stop in _spans(height, max(1, _BAND_PIXELS // (width * factor * factor))):
        top, bottom = max(0, start - _MARGIN16), min(height, stop + _MARGIN16)
        band: NDArray[Any] = upscale_samples16(samples16[top:bottom], image[top * factor : bottom * factor])
        target[start * factor : stop * factor] = band[(start - top) * factor : (stop - top) * factor]
