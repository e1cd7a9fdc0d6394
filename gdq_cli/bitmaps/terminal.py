"""The bit map as terminal text, and the palette that every picture of it shares. Formats only, never prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.widths import FP32_BITS

Rgb = tuple[int, int, int]
ColorMode = Literal["truecolor", "256", "none"]

PALETTE: dict[int, Rgb] = {
    4: (0x43, 0x38, 0xA8),  # indigo
    5: (0xB6, 0x3F, 0x8C),  # magenta
    6: (0xF2, 0x80, 0x55),  # orange
    8: (0xF7, 0xD0, 0x46),  # yellow
    FP32_BITS: (0x8B, 0x90, 0x9A),  # grey: outside the scale
}
"""sRGB colour of each bit-width, dark to bright.

Lightness rises in even steps (L* 31, 46, 66, 85), so the order survives greyscale and every common colour blindness,
and both ends keep clear of black and of white backgrounds. tests/bitmaps/test_terminal.py checks these claims.
"""

_DARK_INK: Rgb = (0x14, 0x12, 0x1C)
_LIGHT_INK: Rgb = (0xFF, 0xFF, 0xFF)
_XTERM = {  # 256-colour codes: the nearest ones whose lightness still rises in clear steps
    PALETTE[4]: 55,
    PALETTE[5]: 132,
    PALETTE[6]: 209,
    PALETTE[8]: 221,
    PALETTE[FP32_BITS]: 245,
    _DARK_INK: 233,
    _LIGHT_INK: 231,
}
_RESET = "\x1b[0m"
_CELL_HEIGHTS = (8, 6, 4, 3, 2, 1)  # in half lines; even ones can carry a digit
_MIN_COLUMNS = 20


def bit_label(bit_width: int) -> str:
    """What a bit-width is called in legends: ``4 bits``, or ``FP32``."""
    return "FP32" if bit_width == FP32_BITS else f"{bit_width} bits"


def ink_on(color: Rgb) -> Rgb:
    """Near-black or white, whichever reads better on a colour."""
    red, green, blue = ((value / 255) ** 2.2 for value in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return _DARK_INK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else _LIGHT_INK


def describe_map(bit_map: NDArray[np.integer]) -> str:
    """What a bit map shows, in a sentence for people who look at pictures."""
    widths = [width for width, number in count_bits(bit_map).items() if number]
    if len(widths) > 1:
        return (
            "The map shows how exactly gdq calculates each part of the picture: with few bits where it judges that "
            "nobody sees a difference, with more where detail could suffer; the picture's colours are not reduced."
        )
    how = "in floating point" if widths[0] == FP32_BITS else f"with {widths[0]} bits"
    return f"gdq calculates all parts of this picture {how}; the picture's colours are not reduced."


def count_bits(bit_map: NDArray[np.integer]) -> dict[int, int]:
    """Number of patches per bit-width, narrow to wide.

    Args:
        bit_map: (rows, cols) of 4, 5, 6, 8, or 32 where the float network ran; at least one patch.

    Returns:
        The widths 4, 5, 6 and 8 even where their count is 0 (but only 32 where the whole map is FP32).

    Raises:
        ValueError: if the map is empty, not two-dimensional, or holds another width.
    """
    if bit_map.ndim != 2 or bit_map.size == 0:
        raise ValueError(f"a bit map is (rows, cols) with at least one patch, not {bit_map.shape}")
    values, numbers = np.unique(bit_map, return_counts=True)
    found = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    if unknown := found.keys() - PALETTE.keys():
        raise ValueError(f"a bit map holds bit-widths {[*PALETTE]}, not {sorted(unknown)}")
    if found.keys() == {FP32_BITS}:
        return found
    return {bits: found.get(bits, 0) for bits in PALETTE if bits != FP32_BITS or bits in found}


def _sgr(mode: ColorMode, ink: Rgb | None, paper: Rgb | None) -> str:
    """Escape code that sets exactly these colours, whatever was set before."""
    codes = ["0"]
    for layer, color in (("38", ink), ("48", paper)):
        if color is None:
            continue
        if mode == "truecolor":
            codes.append(f"{layer};2;{color[0]};{color[1]};{color[2]}")
        else:
            codes.append(f"{layer};5;{_XTERM[color]}")
    return f"\x1b[{';'.join(codes)}m"


def _half_block_lines(
    pixels: NDArray[np.integer], labels: dict[tuple[int, int], str], mode: ColorMode
) -> Iterator[str]:
    """Two rows of bit-widths per line of text; ``labels`` replace the block at (line, column)."""
    if len(pixels) % 2:
        pixels = np.vstack([pixels, np.zeros_like(pixels[:1])])
    for line, (uppers, lowers) in enumerate(zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True)):
        parts, last = [], ""
        for column, (upper, lower) in enumerate(zip(uppers, lowers, strict=True)):
            label, paper = labels.get((line, column)), PALETTE.get(lower)
            code = _sgr(mode, ink_on(PALETTE[upper]) if label else PALETTE[upper], paper)
            parts.append(("" if code == last else code) + (label or "▀"))
            last = code
        yield "".join(parts) + _RESET


def _cell_size(grid: tuple[int, int], size: tuple[int, int], columns: int, lines: int) -> tuple[int, int] | None:
    """Height in half lines and width in characters of equal cells, one per patch; None if they do not fit."""
    rows, cols = grid
    aspect = (size[1] / cols) / (size[0] / rows)
    for height in _CELL_HEIGHTS:
        width = round(height * aspect)  # a half line is about as high as a character is wide
        if width >= 1 and cols * width <= columns and 2 <= rows * height <= 2 * lines:
            return height, width
    return None


def _color_map(
    bit_map: NDArray[np.integer], size: tuple[int, int], columns: int, lines: int, mode: ColorMode
) -> tuple[list[str], str]:
    """The map in half blocks, and a note where patches had to be left out."""
    rows, cols = bit_map.shape
    labels: dict[tuple[int, int], str] = {}
    if cell := _cell_size((rows, cols), size, columns, lines):
        height, width = cell
        if height % 2 == 0 and height >= 4 and width >= 3:
            for row, col in np.ndindex(rows, cols):
                line, column = (row * height + (height - 1) // 2) // 2, col * width + (width - 1) // 2
                labels[line, column] = _digit(int(bit_map[row, col]))
        pixels = bit_map.repeat(height, 0).repeat(width, 1)
        return list(_half_block_lines(pixels, labels, mode)), ""
    zoom = min(columns / size[1], 2 * lines / size[0])
    height, width = max(2, round(size[0] * zoom)), max(2, round(size[1] * zoom))
    at_row, at_col = ((2 * np.arange(n) + 1) * count // (2 * n) for n, count in ((height, rows), (width, cols)))
    note = "map shrunk to fit: not every patch is shown" if height < rows or width < cols else ""
    return list(_half_block_lines(bit_map[np.ix_(at_row, at_col)], labels, mode)), note


def _digit(bit_width: int) -> str:
    return "F" if bit_width == FP32_BITS else str(bit_width)


def _plain_map(bit_map: NDArray[np.integer], columns: int, lines: int) -> tuple[list[str], str]:
    """The map in digits, and a note where one digit stands for several patches."""
    rows, cols = bit_map.shape
    block = 1
    while -(-cols // block) > columns or -(-rows // block) > lines:
        block += 1
    widest = np.maximum.reduceat(bit_map, range(0, rows, block), axis=0)
    widest = np.maximum.reduceat(widest, range(0, cols, block), axis=1)
    gap = " " if 2 * widest.shape[1] - 1 <= columns else ""
    stands_for = f"{min(block, rows)}x{min(block, cols)}"
    note = f"map shrunk to fit: a digit is the widest of {stands_for} patches" if block > 1 else ""
    return [gap.join(map(_digit, row)) for row in widest.tolist()], note


def _legend(bit_map: NDArray[np.integer], columns: int, mode: ColorMode) -> list[str]:
    """Swatch, name, count, share and bar of each bit-width, then FAB."""
    counts = count_bits(bit_map)
    digits = len(f"{max(counts.values()):,}")
    lines = []
    for bits, count in counts.items():
        share = count / bit_map.size
        text = f"{bit_label(bits):<6}  {count:>{digits},}"
        if len(text) + 12 <= columns:
            text += f"  {100 * share:5.1f} %"
        room = min(40, columns - len(text) - 5)
        bar = max(round(share * room), int(count > 0 and room > 0))
        if mode == "none":
            lines.append(f"{text}  {'=' * bar}".rstrip())
        else:
            color = PALETTE[bits]
            tail = f"  {_sgr(mode, color, None)}{'━' * bar}{_RESET}" if bar > 0 else ""
            lines.append(f"{_sgr(mode, None, color)}  {_RESET} {text}{tail}")
    rows, cols = bit_map.shape
    fab = f"FAB {bit_map.mean():.2f} bits, " + ("1 patch" if bit_map.size == 1 else f"{rows}x{cols} patches")
    return lines + textwrap.wrap(fab, columns)


def terminal_map(
    bit_map: NDArray[np.integer],
    image_size: tuple[int, int],
    *,
    columns: int,
    lines_limit: int,
    color: ColorMode,
) -> str:
    """Draw the bit map for a terminal, with a legend.

    In colour, a character shows two half-line cells in the picture's aspect ratio. A small grid is enlarged to equal
    cells that carry their digit where there is room; a large one is shrunk by nearest sampling. Without colour, each
    patch is one digit (4, 5, 6, 8, or F for FP32), or the widest of a block of patches where they do not fit. A
    shrunk map says so below the legend, whose counts and shares are always of all patches.

    Args:
        bit_map: (rows, cols) of bit-widths.
        image_size: (H, W) of the picture, in any unit.
        columns: of the terminal; no line is wider (fewer than 20 count as 20).
        lines_limit: most lines of map and legend together; the legend is always whole and the map at least one line.
        color: ``truecolor`` or ``256`` with ANSI codes, every line reset at its end; ``none`` for ASCII text.

    Returns:
        Lines joined by newlines, without one at the end.

    Raises:
        ValueError: if the bit map is not one (see ``count_bits``) or the size is not positive.
    """
    if min(image_size) < 1:
        raise ValueError(f"an image has at least one pixel, not {image_size}")
    columns = max(columns, _MIN_COLUMNS)
    legend = ["", *_legend(bit_map, columns, color)]
    note: list[str] = []
    while True:
        room = max(1, lines_limit - len(legend) - len(note))
        if color == "none":
            lines, remark = _plain_map(bit_map, columns, room)
        else:
            lines, remark = _color_map(bit_map, image_size, columns, room, color)
        wrapped = textwrap.wrap(remark, columns)
        if len(wrapped) <= len(note):
            return "\n".join([*lines, *legend, *wrapped])
        note = wrapped  # it takes lines from the map
