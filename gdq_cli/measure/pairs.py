"""HR pictures and their LR versions, from folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.files import is_stream, why_missing
from gdq_cli.images import is_image_name, read_image
from gdq_cli.measure.degradation import EvalDegradation, TrainingDegradation, degrade

VALIDATION_IMAGES = 50
"""Images held out from a training folder, evenly spaced by file name."""


@dataclass(frozen=True)
class ImagePair:
    """An HR image and its LR version: uint8 RGB, (H * scale, W * scale, 3) and (H, W, 3)."""

    name: str
    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]


LR_MARGIN = 2
"""LR pixels that ``downscale`` reaches to each side: a patch cut this far inside shows no edge."""


def downscale(hr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """LR image by Pillow's antialiased bicubic (a = -0.5): MATLAB's imresize up to rounding.

    Args:
        hr: (H * scale, W * scale, 3) uint8.
        scale: factor that divides both sides.
    """
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    return np.array(Image.fromarray(hr).resize((width, height), Image.Resampling.BICUBIC))


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder, sorted by path.

    Raises:
        ImageError: if there is no such folder or no image in it.
    """
    if not os.path.isdir(folder):
        missing = why_missing(folder, "no such folder of images")
        what = "is a file; its folder is wanted" if os.path.exists(folder) else missing
        raise ImageError(f"{folder}: {what}")
    named = (path for path in folder.rglob("*") if is_image_name(path))
    files = sorted(path for path in named if not path.is_dir() and not is_stream(path))
    if not files:
        raise ImageError(f"{folder}: no images in this folder")
    return files


def split_validation(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Split sorted files into (training, validation); validation gets every n-th, at most a fifth of them."""
    step = max(5, round(len(files) / VALIDATION_IMAGES))
    held_out = files[(step - 1) // 2 :: step][:VALIDATION_IMAGES]
    return [f for f in files if f not in set(held_out)], held_out


def load_pairs(
    files: list[Path], scale: int, degradation: TrainingDegradation | EvalDegradation = "none", seed: int = 0
) -> list[ImagePair]:
    """Read HR images, cut them to a multiple of ``scale`` and make their LR versions.

    Args:
        files: to read.
        scale: between HR and LR.
        degradation: what the LR versions went through, drawn for each picture from ``seed`` and its place in the list.
        seed: see there.

    Raises:
        ImageError: if a file is not a readable image.
    """
    pairs = []
    for index, file in enumerate(files):
        hr = read_image(file).rgb
        hr = np.ascontiguousarray(hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale])
        if hr.size:
            rng = np.random.default_rng((seed, index))
            pairs.append(ImagePair(file.name, hr, degrade(hr, scale, degradation, rng)))
    return pairs
