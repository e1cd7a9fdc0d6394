"""Two pictures of one size against each other: how far apart they are, and where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import Frame, Frames, Picture
from gdq_cli.images.metadata import SAME_SHAPE, colours_of, shape_of_pixels
from gdq_cli.measure.metrics import WINDOW_SIZE, Samples, psnr_y, ssim_y

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """How far two pictures are apart.

    Attributes:
        psnr_y: decibels; infinite for equal lumas.
        ssim_y: at most 1; None where a picture is smaller than SSIM's window.
        largest: difference of any sample of any channel, 0 to ``peak``.
        where: (y, x) of the first pixel that has it.
        share: of samples that differ at all.
        peak: the largest value of a sample, 255 or 65535.
        in_alpha: whether the largest difference is one of alpha.
    """

    psnr_y: float
    ssim_y: float | None
    largest: int
    where: tuple[int, int]
    share: float
    peak: int
    in_alpha: bool


@dataclass(frozen=True)
class FileComparison:
    """How far the pictures of two files are apart.

    Attributes:
        frames: of each pair of frames or pages.
        worst: index of the pair that is the furthest apart.
        pair: its samples.
        remarks: what the samples do not tell, one line each: how a file was read, other differences.
    """

    frames: tuple[Comparison, ...]
    worst: int
    pair: tuple[Samples, Samples]
    remarks: tuple[str, ...]


def compare_files(first: Frames, second: Frames, names: tuple[str, str], shave: int = 0) -> FileComparison:
    """Compare all frames or pages of two files, at 16 bits where either has them, alpha included where either has it.

    Args:
        first, second: opened files.
        names: what messages call them.
        shave: pixels left out on each side.

    Raises:
        ImageError: a file is damaged, or they differ in the number or the sizes of their frames.
        OptionsError: nothing is left after shaving.
    """
    if len(first) != len(second):
        counts = " and ".join(f"{name} has {len(file)}" for name, file in zip(names, (first, second), strict=True))
        raise ImageError(f"{counts} frames or pages: only equal numbers compare")
    found: list[Comparison] = []
    remarks: dict[str, None] = {}
    if first.header.plays != second.header.plays:
        remarks = {f"{names[0]} {_plays(first)} and {names[1]} {_plays(second)}": None}
    worst, pair = 0, None
    for number, frames in enumerate(zip(first, second, strict=True), 1):
        a, b = (frame.picture for frame in frames)
        where = f"frame or page {number}: " if len(first) > 1 else ""
        if a.size != b.size:
            sizes = " and ".join(f"{n} is {p.size[1]}x{p.size[0]}" for n, p in zip(names, (a, b), strict=True))
            raise ImageError(f"{where}{sizes} pixels: only equal sizes compare")
        if min(a.size) <= 2 * shave:
            raise OptionsError(f"--shave {shave} leaves nothing of {a.size[1]}x{a.size[0]} pixels")
        remarks |= dict.fromkeys(_remarks(frames, names, where))
        samples = match_samples(_samples(a), _samples(b))
        found.append(compare_images(*samples, shave))
        if pair is None or found[-1].largest / found[-1].peak > found[worst].largest / found[worst].peak:
            worst, pair = number - 1, samples
    assert pair is not None
    return FileComparison(tuple(found), worst, pair, tuple(remarks))


def _remarks(frames: tuple[Frame, Frame], names: tuple[str, str], where: str) -> Iterator[str]:
    for name, frame in zip(names, frames, strict=True):
        yield from (f"{name}: {warning}" for warning in frame.picture.warnings)
    a, b = (frame.picture for frame in frames)
    if a.bit_depth != b.bit_depth:
        yield f"{where}{names[0]} has {a.bit_depth} bits per sample and {names[1]} has {b.bit_depth}"
    if colours_of(a.metadata) != colours_of(b.metadata):
        yield f"{where}the colour profiles differ, or the tags in their place, so equal samples may look different"
    if not math.isclose(shape_of_pixels(a.metadata), shape_of_pixels(b.metadata), rel_tol=SAME_SHAPE):
        yield f"{where}the shapes of pixels differ, so equal samples look different"
    if frames[0].duration_ms != frames[1].duration_ms:
        yield f"{where}shown for {frames[0].duration_ms:g} and for {frames[1].duration_ms:g} ms"


def _plays(file: Frames) -> str:
    plays = file.header.plays
    return "plays endlessly" if plays == 0 else "plays once" if plays == 1 else f"plays {plays} times"


def _samples(picture: Picture) -> Samples:
    """All that a picture holds: grey, RGB or RGBA of 8 or 16 bits."""
    deep = picture.samples16
    if not picture.has_alpha:
        return picture.rgb if deep is None else deep
    alpha = np.full(picture.size, picture.alpha_value, np.uint8) if picture.alpha is None else picture.alpha
    return _stack(picture.rgb, alpha) if deep is None else _stack(_to_rgb(deep), _deepen(alpha))


def match_samples(first: Samples, second: Samples) -> tuple[Samples, Samples]:
    """Two pictures as both RGB or RGBA and both of 8 or 16 bits: opaque alpha and low bits go to the one without.

    Args:
        first: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.
        second: the same, not necessarily of the same kind.

    Raises:
        ValueError: if one is none of these.
    """
    for image in (first, second):
        if image.dtype not in (np.uint8, np.uint16) or not (image.ndim == 2 or image.shape[2:] in ((3,), (4,))):
            raise ValueError(f"an image is grey, RGB or RGBA of uint8 or uint16, not {image.shape} {image.dtype}")
    deep, alpha = np.uint16 in (first.dtype, second.dtype), (4,) in (first.shape[2:], second.shape[2:])
    return _to_kind(first, deep, alpha), _to_kind(second, deep, alpha)


def _to_kind(image: Samples, deep: bool, alpha: bool) -> Samples:
    image = _to_rgb(image)
    if deep and image.dtype == np.uint8:
        image = _deepen(image)
    if alpha and image.shape[2] == 3:
        image = _stack(image, np.full(image.shape[:2], np.iinfo(image.dtype).max, image.dtype))
    return image


def _stack(*planes: Samples) -> Samples:
    stacked: NDArray[Any] = np.dstack(planes)
    return stacked


def _to_rgb(image: Samples) -> Samples:
    return image if image.ndim == 3 else _stack(image, image, image)


def _deepen(image: Samples) -> Samples:
    return image.astype(np.uint16) * np.uint16(257)


def compare_images(first: Samples, second: Samples, shave: int = 0) -> Comparison:
    """Compare two pictures; everything but ``shave`` pixels on each side counts.

    Args:
        first: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.
        second: of the same size. What it has more or less of counts as in ``match_samples``.
        shave: pixels left out on each side.

    Raises:
        ValueError: if they are no such pictures, differ in size, or nothing is left after shaving.
    """
    first, second = match_samples(first, second)
    psnr = psnr_y(first[..., :3], second[..., :3], shave)
    fits = min(first.shape[:2]) - 2 * shave >= WINDOW_SIZE
    difference = absolute_difference(first, second)
    inner = difference[shave : first.shape[0] - shave, shave : first.shape[1] - shave]
    y, x, channel = np.unravel_index(int(inner.argmax()), inner.shape)
    return Comparison(
        psnr,
        ssim_y(first[..., :3], second[..., :3], shave) if fits else None,
        int(inner.max()),
        (int(y) + shave, int(x) + shave),
        float(np.count_nonzero(inner) / inner.size),
        int(np.iinfo(first.dtype).max),
        bool(channel == 3),
    )


def absolute_difference(first: Samples, second: Samples) -> Samples:
    """Difference of each sample without its sign; two pictures of one shape -> the same shape."""
    difference: Samples = np.maximum(first, second) - np.minimum(first, second)
    return difference


def difference_picture(first: Samples, second: Samples) -> tuple[U8, int]:
    """Difference as a picture (H, W, 3), black where both are equal, and the factor it is brightened by.

    The factor is the largest power of two, up to 64 times the finest step of 8 bits, with which nothing saturates. A
    difference of alpha counts in all three channels.
    """
    difference = absolute_difference(*match_samples(first, second))
    colours = np.maximum(difference[..., :3], difference[..., 3:].max(axis=2, keepdims=True, initial=0))
    step = int(np.iinfo(difference.dtype).max) // 255
    largest, gain = int(colours.max()), 64 * (256 if step > 1 else 1)
    while gain > 1 and gain * largest > 255 * step:
        gain //= 2
    return ((colours.astype(np.uint32) * np.uint32(gain) + step // 2) // step).astype(np.uint8), gain
