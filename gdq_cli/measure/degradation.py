"""From HR to the LR that cameras and the web really give: blur, resizing, noise, sharpening and lossy codecs.

``photo`` is what the photo networks are trained on, a wide mixture around a clean reduction. The others are fixed
mixtures for ``gdq eval --degrade``. docs/training.md has all ranges; ``benchmarks/contact_sheet.py`` shows them.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Rng = np.random.Generator

TrainingDegradation = Literal["none", "photo"]
"""What the LR side of training patches went through; ``none`` is the antialiased bicubic alone."""

EvalDegradation = Literal["clean", "jpeg90", "jpeg75", "jpeg45", "jpeg30", "noise5", "noise10", "light", "strong"]
"""Mixtures to score on."""

EVAL_DEGRADATIONS: tuple[EvalDegradation, ...] = get_args(EvalDegradation)

_FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.LANCZOS,
    Image.Resampling.HAMMING,
)
_SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}  # Pillow's numbers
_KERNEL_RADIUS = 10
_SHOT_LEVEL = 110.0  # grey level at which noise that grows with the root of brightness has its nominal strength


Say = Callable[[str], object]
"""Is told what was done to a picture, step by step, for people: ``blur 0.8 x 1.1``, ``jpeg 82 4:2:0``."""


def degrade(
    hr: U8, scale: int, kind: TrainingDegradation | EvalDegradation, rng: Rng, say: Say = lambda step: None
) -> U8:
    """An LR picture of an HR one.

    Args:
        hr: (H * scale, W * scale, 3) uint8.
        scale: factor that divides both sides.
        kind: mixture to draw from.
        rng: source of every draw: the same state gives the same picture.
        say: is told what was drawn.

    Returns:
        (H, W, 3) uint8.
    """
    size = hr.shape[0] // scale, hr.shape[1] // scale
    if kind == "photo":
        return _to_u8(_photo(hr, size, scale, rng, say))
    if kind in ("light", "strong"):
        return _to_u8(_mix(hr, size, rng, say, light=kind == "light"))
    lr = _resize(hr, size, Image.Resampling.BICUBIC)
    if kind.startswith("jpeg"):
        lr = _jpeg(lr, int(kind[4:]), "4:2:0", say)
    if kind.startswith("noise"):
        lr = _add_noise(lr, float(kind[5:]), rng, say, grey=False, shot=False, grain=0)
    return _to_u8(lr)


def _mix(hr: U8, size: tuple[int, int], rng: Rng, say: Say, *, light: bool) -> F32:
    """Blur, reduction, noise and JPEG 4:2:0, all of them, at ordinary or at strong settings."""
    x = _blur(_to_float(hr), *_draw_kernel(rng, *((0.4, 1.2) if light else (1.0, 2.2)), stretch=1.25), say)
    x = _resize(x, size, _FILTERS[rng.integers(3)])
    strength = rng.uniform(*((1, 4) if light else (4, 10)))
    x = _add_noise(x, strength, rng, say, grey=rng.random() < 0.4, shot=rng.random() < 0.5, grain=0)
    return _jpeg(x, int(rng.uniform(*((72, 86) if light else (50, 70)))), "4:2:0", say)


def _photo(hr: U8, size: tuple[int, int], scale: int, rng: Rng, say: Say) -> F32:
    """The training mixture; one severity couples the parts, as a poor camera goes with a poor codec."""
    kind = rng.random()
    if kind < 0.2:
        say("clean")
        return _resize(hr, size, Image.Resampling.BICUBIC)
    if kind < 0.6:  # a sharp picture that was reduced and saved: what the web is full of
        x = _resize(hr, size, _draw_filter(rng))
        if rng.random() < 0.5:
            x = _draw_noise(x, rng, say, rng.uniform(0, 1.5))
        return _draw_codec(x, rng, say, rng.uniform(50, 98))
    severity = rng.random()
    x = _to_float(hr)
    if rng.random() < 0.85:
        most = 0.3 + scale * (0.15 + 0.4 * severity)
        x = _blur(x, *_draw_kernel(rng, 0.2 + 0.25 * most * severity, most, stretch=1.6), say)
    if rng.random() < 0.3:
        x = _earlier_generation(x, scale, rng, say, severity)
    elif rng.random() < 0.15:
        share = rng.uniform(0.5, 0.95)
        say(f"enlarged from {share:.0%}")
        x = _resize(x, (max(8, round(size[0] * share)), max(8, round(size[1] * share))), _draw_filter(rng))
    x = _resize(x, size, _draw_filter(rng))
    if rng.random() < 0.85:
        most = 1.5 + 9 * severity
        x = _draw_noise(x, rng, say, rng.uniform(0.4 * most * severity, most))
    if rng.random() < 0.15:
        x = _sharpen(x, rng.uniform(0.2, 1.0), rng.uniform(0.6, 1.2), say)
    if rng.random() < 0.92:
        worst, best = (30.0, 60.0) if rng.random() < 0.12 else (88 - 38 * severity, 96 - 16 * severity)
        x = _draw_codec(x, rng, say, rng.uniform(worst, best))
        if rng.random() < 0.1:  # shifted, so that its blocks do not lie on the first ones
            x = np.roll(_draw_codec(np.roll(x, (3, 5), (0, 1)), rng, say, rng.uniform(worst, best)), (-3, -5), (0, 1))
    return x


def _earlier_generation(x: F32, scale: int, rng: Rng, say: Say, severity: float) -> F32:
    """The picture was kept at another size before, perhaps with noise and a codec of that time."""
    share = rng.uniform(1 / scale, 1.0)
    say(f"kept at {share:.0%}")
    x = _resize(x, (max(8, round(x.shape[0] * share)), max(8, round(x.shape[1] * share))), _draw_filter(rng))
    if rng.random() < 0.5:
        x = _draw_noise(x, rng, say, rng.uniform(0, 8 * severity))
    if rng.random() < 0.7:
        x = _draw_codec(x, rng, say, 96 - rng.uniform(0, 46) * severity)
    return x


def _draw_filter(rng: Rng) -> Image.Resampling:
    return _FILTERS[rng.integers(len(_FILTERS))]


def _draw_kernel(rng: Rng, least: float, most: float, *, stretch: float) -> tuple[float, float, float]:
    """Standard deviations of both axes in pixels, and the angle of the first."""
    sigma = rng.uniform(least, most)
    return sigma, sigma * rng.uniform(1 / stretch, stretch), rng.uniform(0, np.pi)


def _draw_noise(x: F32, rng: Rng, say: Say, strength: float) -> F32:
    """Grey or coloured, even or growing with brightness, fine or, as after a camera's own smoothing, coarse."""
    grain = rng.uniform(0.4, 0.9) if rng.random() < 0.25 else 0
    return _add_noise(x, strength, rng, say, grey=rng.random() < 0.4, shot=rng.random() < 0.5, grain=grain)


def _draw_codec(x: F32, rng: Rng, say: Say, quality: float) -> F32:
    if rng.random() < 0.1:
        return _webp(x, int(quality), say)
    return _jpeg(x, int(quality), str(rng.choice(["4:2:0", "4:4:4", "4:2:2"], p=[0.7, 0.2, 0.1])), say)


def _to_float(image: U8) -> F32:
    return image.astype(np.float32)


def _to_u8(image: F32) -> U8:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _resize(image: U8 | F32, size: tuple[int, int], resampling: Image.Resampling) -> F32:
    """Resize to (H, W), rounded to grey levels as any file between two steps is."""
    pixels = image if image.dtype == np.uint8 else _to_u8(image.astype(np.float32))
    return _to_float(np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), resampling)))


def _blur(image: F32, along: float, across: float, angle: float, say: Say) -> F32:
    """Convolve with a Gaussian of two widths; borders are mirrored."""
    say(f"blur {along:.1f} x {across:.1f}")
    return _convolve(image, _gaussian(along, across, angle))


def _gaussian(along: float, across: float, angle: float) -> NDArray[np.float64]:
    axis = np.arange(-_KERNEL_RADIUS, _KERNEL_RADIUS + 1)
    x, y = np.meshgrid(axis, axis)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    weights = np.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
    kernel: NDArray[np.float64] = weights / weights.sum()
    return kernel


def _convolve(image: F32, kernel: NDArray[np.float64]) -> F32:
    """Convolve every channel; borders are mirrored."""
    radius = kernel.shape[0] // 2
    planes = np.pad(image.transpose(2, 0, 1), ((0, 0), (radius, radius), (radius, radius)), "symmetric")
    size = [_fast_length(length) for length in planes.shape[1:]]
    full: NDArray[np.float64] = np.fft.irfft2(np.fft.rfft2(planes, size) * np.fft.rfft2(kernel, size), size)
    inside = full[:, 2 * radius : planes.shape[1], 2 * radius : planes.shape[2]]
    return np.ascontiguousarray(inside.transpose(1, 2, 0), np.float32)


@functools.cache
def _fast_length(length: int) -> int:
    """The next product of twos, threes and fives: others cost a Fourier transform up to ten times as much."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _add_noise(image: F32, strength: float, rng: Rng, say: Say, *, grey: bool, shot: bool, grain: float) -> F32:
    """Gaussian noise.

    Args:
        image: (H, W, 3) grey levels.
        strength: standard deviation in grey levels.
        rng: source of the noise.
        say: is told.
        grey: the same in all channels.
        shot: grows with the root of brightness.
        grain: sigma in pixels of its own smoothing; 0 for independent pixels.
    """
    say(f"noise {strength:.1f}{' grey' if grey else ''}{' shot' if shot else ''}{' coarse' if grain else ''}")
    noise = rng.standard_normal((*image.shape[:2], 1 if grey else 3)).astype(np.float32)
    if grain:
        kernel = _gaussian(grain, grain, 0)
        noise = _convolve(noise, kernel / np.sqrt((kernel**2).sum()))
    if shot:
        level = image.mean(axis=2, keepdims=True) if grey else image
        noise = noise * np.sqrt(np.clip(level, 0, 255) / _SHOT_LEVEL + 0.05)
    return image + np.float32(strength) * noise


def _sharpen(image: F32, amount: float, radius: float, say: Say) -> F32:
    say(f"sharpened {amount:.1f}")
    return image + np.float32(amount) * (image - _convolve(image, _gaussian(radius, radius, 0)))


def _jpeg(image: F32, quality: int, subsampling: str, say: Say) -> F32:
    say(f"jpeg {quality} {subsampling}")
    return _through(
        image, lambda picture, to: picture.save(to, "JPEG", quality=quality, subsampling=_SUBSAMPLINGS[subsampling])
    )


def _webp(image: F32, quality: int, say: Say) -> F32:
    say(f"webp {quality}")
    return _through(image, lambda picture, to: picture.save(to, "WEBP", quality=quality, method=2))


def _through(image: F32, save: Callable[[Image.Image, io.BytesIO], None]) -> F32:
    """What is left of a picture after a codec."""
    packed = io.BytesIO()
    save(Image.fromarray(_to_u8(image)), packed)
    with Image.open(packed) as picture:
        return _to_float(np.asarray(picture.convert("RGB")))
