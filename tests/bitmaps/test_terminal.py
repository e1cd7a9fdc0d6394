import itertools
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdq_cli.bitmaps.terminal import _XTERM, FP32_BITS, PALETTE, ColorMode, bit_label, count_bits, ink_on, terminal_map

WIDTHS = (4, 5, 6, 8)
EXTREME_GRIDS = [(1, 1), (1, 200), (200, 1), (130, 130), (3, 3), (40, 60), (7, 1)]
ESCAPE = re.compile(r"\x1b\[[\d;]*m")

# Simulation of complete colour blindness in linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.0
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def make_map(rows: int, cols: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(WIDTHS, (rows, cols), p=[0.4, 0.3, 0.2, 0.1])


def size_of(bit_map: NDArray[np.int64]) -> tuple[int, int]:
    return bit_map.shape[0] * 96, bit_map.shape[1] * 96


def linear(color: tuple[int, int, int]) -> NDArray[np.float64]:
    value = np.array(color) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    f = np.cbrt(np.maximum(xyz / (0.9505, 1, 1.089), 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(color: tuple[int, int, int]) -> float:
    return float(linear(color) @ (0.2126, 0.7152, 0.0722))


def xterm_color(code: int) -> tuple[int, int, int]:
    levels = (0, 95, 135, 175, 215, 255)
    return levels[(code - 16) // 36], levels[(code - 16) // 6 % 6], levels[(code - 16) % 6]


def paint(text: str) -> list[list[tuple[str, str | None, str | None]]]:
    """What a terminal shows: (character, ink, paper) per cell; fails where a code outlives its line."""
    lines = []
    for line in text.split("\n"):
        cells: list[tuple[str, str | None, str | None]] = []
        ink: str | None = None
        paper: str | None = None
        for match in re.finditer(r"\x1b\[([\d;]+)m|([^\x1b])", line):
            if match[2]:
                cells.append((match[2], ink, paper))
                continue
            codes = match[1].split(";")
            assert codes.pop(0) == "0", "every code starts from the terminal's own colours"
            ink = paper = None
            while codes:
                layer, length = codes[0], 5 if codes[1] == "2" else 3
                value = ";".join(codes[1:length])
                ink, paper = (value, paper) if layer == "38" else (ink, value)
                del codes[:length]
        assert ink is None, line
        assert paper is None, line
        assert "\x1b" not in ESCAPE.sub("", line)
        lines.append(cells)
    return lines


@pytest.mark.parametrize("vision", VISION)
def test_palette_is_told_apart_by_everybody(vision: str) -> None:
    seen = [lab(np.clip(VISION[vision] @ linear(PALETTE[bits]), 0, 1)) for bits in WIDTHS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 18  # 2.3 is just noticeable


@pytest.mark.parametrize("colors", [PALETTE, {bits: xterm_color(_XTERM[PALETTE[bits]]) for bits in WIDTHS}])
def test_palette_is_ordered_in_greyscale_and_visible_on_black_and_white(
    colors: dict[int, tuple[int, int, int]],
) -> None:
    lightness = [lab(linear(colors[bits]))[0] for bits in WIDTHS]
    assert np.diff(lightness).min() > 12
    for bits in WIDTHS:
        light = luminance(colors[bits])
        assert (light + 0.05) / 0.05 > 2
        assert 1.05 / (light + 0.05) > 1.35


def test_ink_is_readable_on_every_color() -> None:
    for color in PALETTE.values():
        low, high = sorted([luminance(color), luminance(ink_on(color))])
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG AA


@pytest.mark.parametrize("grid", EXTREME_GRIDS)
def test_counts_are_of_all_patches(grid: tuple[int, int]) -> None:
    bit_map = make_map(*grid)
    counts = count_bits(bit_map)
    assert sum(counts.values()) == bit_map.size
    assert counts == {bits: int((bit_map == bits).sum()) for bits in WIDTHS}
    text = terminal_map(bit_map, size_of(bit_map), columns=80, lines_limit=24, color="none")
    for bits, count in counts.items():
        assert re.search(rf"^{bits} bits +{count:,} +{100 * count / bit_map.size:.1f} %", text, re.M)
    assert f"FAB {bit_map.mean():.2f} bits" in text


def test_fp32_has_its_own_color_and_letter() -> None:
    bit_map = np.full((2, 3), FP32_BITS)
    assert count_bits(bit_map) == {FP32_BITS: 6}
    text = terminal_map(bit_map, (200, 300), columns=80, lines_limit=24, color="none")
    assert text.startswith("F F F\nF F F\n\nFP32    6  100.0 %")
    assert bit_label(4) == "4 bits"


@pytest.mark.parametrize("bit_map", [np.array([4, 5]), np.zeros((0, 3), int), np.array([[4, 7]])])
def test_what_is_no_bit_map_is_refused(bit_map: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="bit map"):
        terminal_map(bit_map, (96, 96), columns=80, lines_limit=24, color="none")


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        terminal_map(make_map(1, 1), (0, 5), columns=80, lines_limit=24, color="none")


@given(
    rows=st.integers(1, 60),
    cols=st.integers(1, 60),
    stretch=st.sampled_from([0.02, 0.5, 1.0, 1.6, 40.0]),
    columns=st.integers(20, 200),
    lines_limit=st.integers(12, 60),
    color=st.sampled_from(["truecolor", "256", "none"]),
)
def test_text_stays_in_its_bounds(
    rows: int, cols: int, stretch: float, columns: int, lines_limit: int, color: ColorMode
) -> None:
    size = (rows * 40, max(1, round(cols * 40 * stretch)))
    text = terminal_map(make_map(rows, cols), size, columns=columns, lines_limit=lines_limit, color=color)
    lines = paint(text)
    assert len(lines) <= lines_limit
    assert max(map(len, lines)) <= columns
    if color == "none":
        assert text.isascii()
        assert "\x1b" not in text
    else:
        assert ("38;2;" in text) == (color == "truecolor")
        assert ("38;5;" in text) == (color == "256")


@pytest.mark.parametrize("grid", EXTREME_GRIDS)
@pytest.mark.parametrize("color", ["truecolor", "256", "none"])
def test_extreme_grids(grid: tuple[int, int], color: ColorMode) -> None:
    bit_map = make_map(*grid)
    lines = paint(terminal_map(bit_map, size_of(bit_map), columns=80, lines_limit=24, color=color))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    drawn = lines[: lines.index([])]
    assert drawn
    assert len({len(line) for line in drawn}) == 1


@pytest.mark.parametrize("columns", [1, 20, 21, 27])
@pytest.mark.parametrize("color", ["truecolor", "none"])
def test_narrow_terminals_keep_counts(columns: int, color: ColorMode) -> None:
    bit_map = np.full((130, 130), 8)
    text = terminal_map(bit_map, size_of(bit_map), columns=columns, lines_limit=1, color=color)
    assert max(map(len, paint(text))) <= max(columns, 20)
    assert "8 bits  16,900" in ESCAPE.sub("", text)


def test_small_grids_are_enlarged_to_equal_cells_with_digits() -> None:
    bit_map = np.array([[4, 5, 6], [8, 4, 5], [6, 8, 4]])
    lines = paint(terminal_map(bit_map, (288, 288), columns=80, lines_limit=24, color="truecolor"))
    drawn = lines[: lines.index([])]
    rows, cols = len(drawn) // 3, len(drawn[0]) // 3
    assert (len(drawn), len(drawn[0])) == (3 * rows, 3 * cols)
    assert rows >= 2
    assert cols == 2 * rows  # square patches: a character is about twice as high as wide
    for (row, col), bits in np.ndenumerate(bit_map):
        cells = [c for line in drawn[row * rows : (row + 1) * rows] for c in line[col * cols : (col + 1) * cols]]
        red, green, blue = PALETTE[int(bits)]
        assert {paper for _, _, paper in cells} == {f"2;{red};{green};{blue}"}
        assert {sign for sign, _, _ in cells} == {"▀", str(bits)}
        assert [sign for sign, _, _ in cells].count(str(bits)) == 1


def test_half_lines_show_one_patch_each_where_they_just_fit() -> None:
    bit_map = make_map(30, 30)
    lines = paint(terminal_map(bit_map, (2880, 2880), columns=80, lines_limit=24, color="truecolor"))
    drawn = lines[: lines.index([])]
    names: dict[str | None, int] = {"2;{};{};{}".format(*PALETTE[bits]): bits for bits in WIDTHS}
    shown = np.array([[[names[ink], names[paper]] for _, ink, paper in line] for line in drawn])
    np.testing.assert_array_equal(shown.transpose(0, 2, 1).reshape(30, 30), bit_map)


@pytest.mark.parametrize("size", [(600, 1200), (1200, 600), (900, 1000), (4000, 12000), (130, 130)])
def test_the_pictures_aspect_ratio_is_kept(size: tuple[int, int]) -> None:
    grid = max(1, round(size[0] / 96)), max(1, round(size[1] / 96))
    lines = paint(terminal_map(make_map(*grid), size, columns=80, lines_limit=30, color="truecolor"))
    drawn = lines[: lines.index([])]
    assert len(drawn[0]) / (2 * len(drawn)) == pytest.approx(size[1] / size[0], rel=0.15)


def test_a_shrunk_map_says_so() -> None:
    bit_map = make_map(130, 130)
    plain = terminal_map(bit_map, (12480, 12480), columns=80, lines_limit=24, color="none")
    block = int(re.search(r"widest of (\d+)x\1 patches", plain)[1])  # type: ignore[index]
    first = plain.split("\n")[0].split(" ")
    assert int(first[0]) == bit_map[:block, :block].max()
    assert len(first) == -(-130 // block)
    colored = terminal_map(bit_map, (12480, 12480), columns=80, lines_limit=24, color="truecolor")
    assert "not every patch is shown" in colored
    modes: tuple[ColorMode, ...] = ("none", "truecolor")
    for color in modes:
        fitting = terminal_map(make_map(8, 8), (768, 768), columns=80, lines_limit=24, color=color)
        assert "shrunk" not in fitting


def test_plain_text_is_what_a_log_should_keep() -> None:
    bit_map = np.array([[4, 4, 5, 8], [4, 6, 8, 8]])
    assert terminal_map(bit_map, (192, 384), columns=40, lines_limit=20, color="none") == (
        "4 4 5 8\n4 6 8 8\n\n"
        "4 bits  3   37.5 %  ======\n"
        "5 bits  1   12.5 %  ==\n"
        "6 bits  1   12.5 %  ==\n"
        "8 bits  3   37.5 %  ======\n"
        "FAB 5.88 bits, 2x4 patches"
    )


def test_nothing_heavy_is_imported() -> None:
    modules = ", ".join(f"gdq_cli.bitmaps.{name}" for name in ("terminal", "overlay", "table", "page"))
    code = f"import {modules}, gdq_cli.measure.metrics, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
