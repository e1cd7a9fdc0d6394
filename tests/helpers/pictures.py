"""Made pictures, and pairs of them to train on."""

from __future__ import annotations

import numpy as np

from gdq_cli.measure.pairs import ImagePair, downscale


def make_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with a smooth half and a textured half, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = 90 + 60 * np.sin(y / 37 + seed) + 40 * np.cos(x / 23)
    noise = rng.normal(0, 45, (height, width)) * (x > width / 2)
    rgb = np.stack([smooth + noise, smooth * 0.8 + noise + 20, 200 - smooth * 0.5 + noise], axis=2)
    return rgb.clip(0, 255).astype(np.uint8)


def make_pairs(scale: int, count: int = 6, side: int = 32) -> list[ImagePair]:
    """Training images of ``side`` LR pixels."""
    pictures = [make_picture(side * scale, side * scale, seed) for seed in range(count)]
    return [ImagePair(f"{i}.png", hr, downscale(hr, scale)) for i, hr in enumerate(pictures)]
