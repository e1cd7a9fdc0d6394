"""Pictures that photographs do not hold: flat saturated colours, ramps between them, edges, stripes, checks and text.

Steps that have seen photographs alone reach as far as photographs go, and clip what a logo or a screenshot holds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gdq_cli.measure.pairs import LR_MARGIN, downscale

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Rng = np.random.Generator

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?()[]"))


def draw_graphic(side: int, scale: int, rng: Rng) -> tuple[U8, U8]:
    """A drawn patch, LR and HR.

    Half are drawn at HR size and reduced. The others are drawn at LR size, as screens show them, with edges no
    reduction gives (checks of one pixel); their HR is the bicubic enlargement.

    Args:
        side: P, of LR.
        scale: of HR to LR.
        rng: source of every draw.

    Returns:
        (P, P, 3) and (P * scale, P * scale, 3) uint8.
    """
    draw: Callable[[int, int, Rng], U8] = _KINDS[rng.choice(len(_KINDS), p=_SHARES)]
    whole = side + 2 * LR_MARGIN
    if rng.random() < 0.5:
        hr = draw(whole * scale, scale, rng)
        lr = downscale(hr, scale)
    else:
        lr = draw(whole, 1, rng)
        hr = np.asarray(Image.fromarray(lr).resize((whole * scale, whole * scale), Image.Resampling.BICUBIC))
    inside, hr_inside = slice(LR_MARGIN, -LR_MARGIN), slice(LR_MARGIN * scale, -LR_MARGIN * scale)
    return lr[inside, inside], hr[hr_inside, hr_inside]


def _colour(rng: Rng) -> F64:
    """RGB, (3,); six in ten channels are at an end of the range."""
    ends, any_level = rng.integers(2, size=3) * 255, rng.integers(256, size=3)
    return np.where(rng.random(3) < 0.6, ends, any_level).astype(float)


def _along(side: int, rng: Rng) -> F64:
    """Distance of every pixel from the middle along a direction, often an axis, in pixels; (side, side)."""
    angle = rng.integers(4) * np.pi / 2 if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    along: F64 = x * np.cos(angle) + y * np.sin(angle)
    return along


def _mix(share: F64, rng: Rng) -> U8:
    """Two colours, the second by its share, (H, W) of 0 to 1."""
    first, second = _colour(rng), _colour(rng)
    return np.rint(first + share[..., None] * (second - first)).astype(np.uint8)


def _flat(side: int, pixel: int, rng: Rng) -> U8:
    return np.broadcast_to(_colour(rng).astype(np.uint8), (side, side, 3)).copy()


def _ramp(side: int, pixel: int, rng: Rng) -> U8:
    length = side * rng.uniform(0.5, 3)
    return _mix(np.clip(_along(side, rng) / length + rng.uniform(0, 1), 0, 1), rng)


def _edge(side: int, pixel: int, rng: Rng) -> U8:
    place = rng.uniform(-side / 3, side / 3)
    return _mix((_along(side, rng) > place).astype(float), rng)


def _stripes(side: int, pixel: int, rng: Rng) -> U8:
    width = pixel * rng.integers(1, 7)
    return _mix(np.floor(_along(side, rng) / width + 0.5) % 2, rng)


def _checks(side: int, pixel: int, rng: Rng) -> U8:
    y, x = np.mgrid[:side, :side] // (pixel * rng.integers(1, 5))
    return _mix(((x + y) % 2).astype(float), rng)


def _text(side: int, pixel: int, rng: Rng) -> U8:
    size = pixel * rng.uniform(8, 20)
    mask = Image.new("L", (side, side))
    font, pen = ImageFont.load_default(size), ImageDraw.Draw(mask)
    if rng.random() < 0.5:
        pen.fontmode = "1"  # not antialiased
    for y in np.arange(-size * rng.random(), side, size * 1.2):
        pen.text((-size * rng.random(), y), "".join(rng.choice(_LETTERS, 4 + int(2 * side / size))), 255, font)
    return _mix(np.asarray(mask, float) / 255, rng)


_KINDS = (_flat, _ramp, _edge, _stripes, _checks, _text)
_SHARES = (0.2, 0.1, 0.2, 0.15, 0.15, 0.2)
