"""Which bundled model suits a picture: judged by how its file holds the pixels. No torch here."""

from __future__ import annotations

from gdq_cli.images import Compression
from gdq_cli.options import AUTO_MODEL

CLEAN_MODEL = "edsr"
"""Trained on clean pictures, reduced by bicubic interpolation."""

LOSSY_MODEL = "photo"
"""Trained on blurred, noisy, JPEG-compressed ones."""

NEARLY_LOSSLESS = 95
"""From this JPEG quality on a picture counts as clean. On clean reductions edsr wins from 94 on, by little at first
(docs/training.md); what cameras save below still has ripples for it to sharpen."""


def choose_model(model: str, compression: Compression | None) -> tuple[str, str | None]:
    """The model to run on a picture, and why.

    Args:
        model: what the user asks for; every word but ``auto`` is its own answer.
        compression: of the picture's file; None for pixels without a file.

    Returns:
        Its name, and what about the file decided, such as ``JPEG quality 85``; None where the user did.
    """
    if model != AUTO_MODEL:
        return model, None
    if compression is None:
        return CLEAN_MODEL, "pixels without a file"
    if compression.lossless:
        return CLEAN_MODEL, str(compression)
    if compression.quality is not None and compression.quality >= NEARLY_LOSSLESS:
        return CLEAN_MODEL, f"{compression}, nearly lossless"
    return LOSSY_MODEL, str(compression)


def describe_lack(model: str, wanted: int, native: int) -> str:
    """What to say where a model has no checkpoint at the scale wanted and runs at a larger one."""
    return f"{model} has no x{wanted}, so its x{native} runs"
