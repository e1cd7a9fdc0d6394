"""Two pictures of one size against each other: how far apart they are, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import Frame, Frames, Picture
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
        deep, alpha = a.samples16 is not None or b.samples16 is not None, a.has_alpha or b.has_alpha
        samples = (_samples(a, deep, alpha), _samples(b, deep, alpha))
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
    if (a.metadata.icc, a.metadata.cicp) != (b.metadata.icc, b.metadata.cicp):
        yield f"{where}the colour profiles differ, so equal samples look different"
    if frames[0].duration_ms != frames[1].duration_ms:
        yield f"{where}shown for {frames[0].duration_ms:g} and for {frames[1].duration_ms:g} ms"


def _samples(picture: Picture, deep: bool, alpha: bool) -> Samples:
    """Of RGB or RGBA, 8 or 16 bits: (H, W, 3 or 4)."""
    colour: Samples = picture.rgb
    if deep and picture.samples16 is None:
        colour = colour.astype(np.uint16) * np.uint16(257)
    elif deep and picture.samples16 is not None:
        colour = picture.samples16
    out = np.empty((*picture.size, 3 + alpha), colour.dtype)
    out[..., :3] = colour if colour.ndim == 3 else colour[..., None]
    if alpha:
        out[..., 3] = picture.alpha if picture.alpha is not None else picture.alpha_value
        out[..., 3] *= out.dtype.type(257 if deep else 1)
    return out


def compare_images(first: Samples, second: Samples, shave: int = 0) -> Comparison:
    """Compare two pictures; everything but ``shave`` pixels on each side counts.

    Args:
        first: (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.
        second: of the same shape and type.
        shave: pixels left out on each side.

    Raises:
        ValueError: if they differ in size or nothing is left after shaving.
    """
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
    difference = absolute_difference(first, second)
    colours = np.maximum(difference[..., :3], difference[..., 3:].max(axis=2, keepdims=True, initial=0))
    step = int(np.iinfo(difference.dtype).max) // 255
    largest, gain = int(colours.max()), 64 * (256 if step > 1 else 1)
    while gain > 1 and gain * largest > 255 * step:
        gain //= 2
    return ((colours.astype(np.uint32) * np.uint32(gain) + step // 2) // step).astype(np.uint8), gain
