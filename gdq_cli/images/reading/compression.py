"""How a file holds its pixels: exactly or with losses, and a JPEG's quality. Told by headers, nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from gdq_cli.images.formats import FORMATS, title_of_format

_LOSSY = frozenset({"JPEG", "MPO", "WEBP", "AVIF", "HEIF", "JXL"})  # Pillow's names; of TIFF and WebP the file tells
_LOSSY_IN_TIFF = frozenset({"jpeg", "tiff_jpeg", "webp"})
_TITLES = {format.pillow: title_of_format(name) for name, format in FORMATS.items()} | {"MPO": "JPEG", "HEIF": "HEIC"}

# The luminance table in annex K of the JPEG standard, row by row.
_STANDARD = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
_PERCENT = np.array([[5000 // q if q < 50 else 200 - 2 * q] for q in range(1, 101)])
_LOG_TABLES = np.log(((_STANDARD * _PERCENT + 50) // 100).clip(1, 255))
"""(100, 64) logarithms of the tables that libjpeg writes for qualities 1 to 100."""


@dataclass(frozen=True)
class Compression:
    """How a file holds its pixels.

    Attributes:
        format: for messages, such as ``WebP``.
        lossless: whether the format keeps pixels exactly.
        quality: of a JPEG, 1 to 100 as libjpeg counts, estimated; None where the file does not tell.
    """

    format: str
    lossless: bool
    quality: int | None = None

    def __str__(self) -> str:
        if self.quality is not None:
            return f"{self.format} quality {self.quality}"
        return f"{'lossless' if self.lossless else 'lossy'} {self.format}"


def read_compression(image: Image.Image, *, lossless: bool = False) -> Compression | None:
    """What Pillow knows about the file that an image was opened from.

    Args:
        image: just opened; what Pillow made of another image has no file.
        lossless: whether a WebP file is known to be lossless, which Pillow does not tell.

    Returns:
        None for an image without a file.
    """
    kind = image.format
    if kind is None:
        return None
    lossy = image.info.get("compression") in _LOSSY_IN_TIFF if kind == "TIFF" else kind in _LOSSY and not lossless
    return Compression(_TITLES.get(kind, kind), not lossy, _jpeg_quality(image) if kind in ("JPEG", "MPO") else None)


def _jpeg_quality(image: Image.Image) -> int | None:
    """Quality of the table of the first component, which is the luminance; None where there is no such table."""
    tables, layers = getattr(image, "quantization", {}), getattr(image, "layer", [])
    table = tables.get(layers[0][3]) if layers else None
    return estimate_quality(table) if table is not None and len(table) == 64 else None


def estimate_quality(table: list[int]) -> int:
    """The quality at which libjpeg's luminance table is nearest to a table.

    Nearest in ratio: by the mean absolute logarithm of the 64 quotients, 0 for a table of libjpeg's own.

    Args:
        table: 64 quantization steps, row by row.

    Returns:
        1 to 100.
    """
    logs = np.log(np.maximum(table, 1))
    return 1 + int(np.abs(_LOG_TABLES - logs).mean(axis=1).argmin())
