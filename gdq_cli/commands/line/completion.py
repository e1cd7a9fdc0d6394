"""What the shell offers for a value when the tab key is pressed. No torch here."""

from __future__ import annotations

import glob
import os

from gdq_cli.options import AUTO_MODEL, BITS_CHOICES

DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")


def complete_model(incomplete: str) -> list[str]:
    """Names of the models that are here, and checkpoints whose path begins so."""
    from gdq_cli.models.store import list_models

    names = dict.fromkeys(model.name for model in list_models())
    below = glob.glob(glob.escape(incomplete) + "*")
    folders = [path + os.sep for path in below if os.path.isdir(path)]
    return [*names, *sorted(path for path in below if path.endswith(".safetensors")), *sorted(folders)]


def complete_picture_model(incomplete: str) -> list[str]:
    """The same where auto is a model, too."""
    return [AUTO_MODEL, *complete_model(incomplete)]


def complete_bits(incomplete: str) -> list[str]:
    """Widths of a run."""
    return list(BITS_CHOICES)


def complete_rows(incomplete: str) -> list[str]:
    """Widths to measure."""
    return ["bicubic", *BITS_CHOICES]


def complete_device(incomplete: str) -> list[str]:
    """Devices; whether they are there is not asked, which would take a second."""
    return list(DEVICES)


def complete_format(incomplete: str) -> list[str]:
    """Formats that can be written."""
    from gdq_cli.images.formats import WRITABLE

    return ["auto", *WRITABLE]
