"""The bit map laid over the picture: tinted patches, their widths in digits, and a legend strip below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gdq_cli.bitmaps.terminal import PALETTE, Rgb, bit_label, count_bits, ink_on
from gdq_cli.bits.patches import PatchPlan

_STRIP_COLOR: Rgb = (0x17, 0x16, 0x1D)
_STRIP_INK: Rgb = (0xEC, 0xEB, 0xF0)
_STRIP_DIM: Rgb = (0x9C, 0x9A, 0xA8)
_NUMBERED_SIDE = 20  # pixels a patch needs to carry a number
_LUMA = (0.299, 0.587, 0.114)

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels of the picture."""


def _boxes(plan: PatchPlan, size: tuple[int, int]) -> list[Box]:
    """Where each patch core lies in a picture of another size."""
    zoom_y, zoom_x = size[0] / plan.size[0], size[1] / plan.size[1]
    rows = [(round(row.start * zoom_y), round(row.stop * zoom_y)) for row in plan.rows]
    cols = [(round(col.start * zoom_x), round(col.stop * zoom_x)) for col in plan.cols]
    return [(top, left, bottom, right) for top, bottom in rows for left, right in cols]


def _tint(core: NDArray[np.uint8], color: Rgb, opacity: float) -> None:
    """Mix a colour into part of a picture, in place.

    The picture loses its own colour as the tint grows, so that the four tints stay four on a colourful picture.
    """
    grey = core @ np.array(_LUMA, np.float32)
    keep = np.float32((1 - opacity) ** 2)
    for channel, value in enumerate(color):
        mixed = keep * core[..., channel] + (1 - opacity - keep) * grey + opacity * value
        core[..., channel] = np.rint(mixed)


def _frame(core: NDArray[np.uint8], line: int, color: Rgb) -> None:
    """Draw a border of half-mixed colour just inside part of a picture, in place."""
    inner = slice(line, core.shape[0] - line)
    for edge in (core[:line], core[core.shape[0] - line :], core[inner, :line], core[inner, core.shape[1] - line :]):
        edge[...] = (edge.astype(np.uint16) + np.array(color, np.uint16) + 1) // 2


def _side(box: Box) -> int:
    return min(box[2] - box[0], box[3] - box[1])


def _badge(bit_width: int, size: float) -> Image.Image:
    """A bit-width in its colour, with rounded corners, as RGBA."""
    text, color = str(bit_width), PALETTE[bit_width]
    font = ImageFont.load_default(size)
    height = round(size * 1.3)
    width = max(height, round(font.getlength(text) + size * 0.5))
    badge = Image.new("RGBA", (width, height), (*color, 0))
    draw = ImageDraw.Draw(badge)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=size / 4, fill=color)
    draw.text((width / 2, height / 2), text, fill=ink_on(color), font=font, anchor="mm")
    return badge


def _write_numbers(picture: NDArray[np.uint8], boxes: list[Box], bit_widths: list[int]) -> None:
    """Put a badge into the corner of every patch that has room for one, in place."""
    size = min(max(_side(boxes[0]) * 0.2, 11), 48)  # the first patch is the largest
    margin = round(size * 0.2)
    badges = {bits: _badge(bits, size) for bits in set(bit_widths)}
    for box, bits in zip(boxes, bit_widths, strict=True):
        badge, (top, left) = badges[bits], (box[0] + margin, box[1] + margin)
        if _side(box) < max(_NUMBERED_SIDE, margin + max(badge.size)):  # a last patch may be narrower than the first
            continue
        spot = picture[top : top + badge.height, left : left + badge.width]
        mixed = Image.fromarray(spot)
        mixed.paste(badge, (0, 0), badge)
        spot[...] = np.asarray(mixed)


def _legend_strip(bit_map: NDArray[np.integer], width: int) -> Image.Image:
    """Swatch, name and share of each width, and FAB, wrapped into a strip at least ``width`` wide."""
    size = min(max(width / 52, 11), 64)
    font = ImageFont.load_default(size)
    gap, line_height, pad = round(size * 0.5), round(size * 1.9), round(size * 0.7)
    entries: list[tuple[Rgb | None, str, str]] = [
        (PALETTE[bits], bit_label(bits), f"{100 * count / bit_map.size:.1f} %")
        for bits, count in count_bits(bit_map).items()
    ]
    entries.append((None, "FAB", f"{bit_map.mean():.2f}"))
    swatch = round(size * 1.1)

    def entry_width(entry: tuple[Rgb | None, str, str]) -> int:
        text = font.getlength(entry[1]) + gap + font.getlength(entry[2])
        return round(text) + (swatch + gap if entry[0] else 0)

    width = max(width, max(map(entry_width, entries)) + 2 * pad)
    places, x, line = [], pad, 0
    for entry in entries:
        if x > pad and x + entry_width(entry) > width - pad:
            x, line = pad, line + 1
        places.append((x, line))
        x += entry_width(entry) + 3 * gap
    strip = Image.new("RGB", (width, (line + 1) * line_height + pad), _STRIP_COLOR)
    draw = ImageDraw.Draw(strip)
    for (x, line), (color, name, value) in zip(places, entries, strict=True):
        middle = pad // 2 + line * line_height + line_height // 2
        if color:
            box = (x, middle - swatch // 2, x + swatch - 1, middle + swatch - swatch // 2 - 1)
            draw.rounded_rectangle(box, radius=size / 5, fill=color)
            x += swatch + gap
        draw.text((x, middle), name, fill=_STRIP_INK, font=font, anchor="lm")
        draw.text((x + font.getlength(name) + gap, middle), value, fill=_STRIP_DIM, font=font, anchor="lm")
    return strip


def overlay_image(
    image: NDArray[np.uint8],
    bit_map: NDArray[np.integer],
    plan: PatchPlan,
    *,
    opacity: float = 0.45,
    numbers: bool = False,
    legend: bool = True,
) -> NDArray[np.uint8]:
    """Tint every patch of a picture with the colour of its bit-width.

    Args:
        image: uint8, (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, whose alpha is left out: the LR picture or an
            upscaled one of any size.
        bit_map: (rows, cols) bit-widths.
        plan: of the same grid, in LR pixels.
        opacity: of the tint, 0 (picture only) to 1 (map only).
        numbers: write each patch's bit-width into it, where the patch is at least 20 pixels wide and high.
        legend: add a strip below with colours, names, shares and FAB.

    Returns:
        (H + h, W + w, 3) uint8 RGB; h is the height of the legend strip (0 without), and w is 0 unless the picture
        is narrower than a legend entry. Without numbers and legend, opacity 0 gives the picture back.

    Raises:
        ValueError: if an argument is out of range or bit map and plan are not of the same grid.
    """
    if image.dtype != np.uint8 or 0 in image.shape or not (image.ndim == 2 or image.shape[2:] in ((3,), (4,))):
        raise ValueError(f"an image is uint8, grey, RGB or RGBA, not {image.shape} {image.dtype}")
    if bit_map.shape != plan.grid:
        raise ValueError(f"bit map of {bit_map.shape}, but plan of {plan.grid} patches")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity}")
    count_bits(bit_map)
    height, width = image.shape[:2]
    strip = _legend_strip(bit_map, width) if legend else Image.new("RGB", (width, 0))
    result = np.full((height + strip.height, strip.width, 3), _STRIP_COLOR, np.uint8)
    result[height:] = np.asarray(strip)
    picture = result[:height, :width]
    picture[...] = image[..., None] if image.ndim == 2 else image[..., :3]
    boxes, bit_widths = _boxes(plan, (height, width)), bit_map.ravel().tolist()
    line = max(1, round(min(height, width) / 900))
    for (top, left, bottom, right), bits in zip(boxes, bit_widths, strict=True):
        core = picture[top:bottom, left:right]
        if opacity > 0 and core.size:
            _tint(core, PALETTE[bits], opacity)
            if min(core.shape[:2]) >= 8 * line:  # a border on less would hide the patch
                _frame(core, line, PALETTE[bits])
    if numbers:
        _write_numbers(picture, boxes, bit_widths)
    return result
