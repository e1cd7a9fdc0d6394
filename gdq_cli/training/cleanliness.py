"""Are HR pictures clean enough to learn from?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdq_cli.images import probe_image

CLEAN_QUALITY = 90
"""JPEG quality from which on a picture counts as clean."""

_SAMPLE = 200
_TOLERATED = 0.1  # share of others


def find_artefacts(files: Sequence[Path]) -> str | None:
    """A warning where many of the pictures are JPEGs of low quality, by the headers of an even sample.

    Raises:
        ImageError: if a file is not a readable image.
    """
    sample = files[:: -(-len(files) // _SAMPLE) or 1]
    qualities = [probe_image(file).compression.quality for file in sample]
    low = [quality for quality in qualities if quality is not None and quality < CLEAN_QUALITY]
    if len(low) <= _TOLERATED * len(sample):
        return None
    return (
        f"{len(low) / len(sample):.0%} of the pictures are JPEGs of a quality below {CLEAN_QUALITY}: the network will "
        "learn to give their artefacts, too; use clean pictures, or reduce these to half their size first"
    )
