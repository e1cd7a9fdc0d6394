"""The HTML report of one picture: a self-contained page that compares, shows the bit map, and states the facts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from gdq_cli._version import __version__
from gdq_cli.bitmaps.terminal import PALETTE, Rgb, bit_label, count_bits, describe_map, ink_on
from gdq_cli.bits.patches import PatchPlan
from gdq_cli.bits.widths import FP32_BITS

PAIR_BYTES_PER_MEGAPIXEL = 1_300_000
"""Most bytes of both pictures, per megapixel shown (at least one): 1.73 MB as base64, so the page stays under 2 MB."""

MAX_PIXELS = 8_000_000
"""Pictures with more pixels are shown reduced: two of them in one page would strain a browser."""

_MAX_SIDE = 16383  # WebP's limit
_MAX_DIGITS = 900  # patches; more numbers than that cannot be read, and weigh
_QUALITIES = (95, 90, 82, 72, 60, 45, 30, 15)
_LOSSLESS_PIXELS = 400_000
_BAND = 64  # rows of the reduced picture that are made at a time

_LABELS = {
    "input": "Input",
    "output": "Output",
    "model": "Model",
    "model_reason": "Model chosen for",
    "model_sha256": "Checkpoint (SHA-256)",
    "scale": "Scale",
    "engine": "Engine",
    "device": "Device",
    "threads": "Threads",
    "in_size": "Input size",
    "out_size": "Output size",
    "patches": "Patches",
    "bitops_g": "BitOPs (10⁹)",
    "bitops_fp32_g": "BitOPs in FP32 (10⁹)",
    "bitops_8bit_g": "BitOPs at 8 bits (10⁹)",
    "seconds": "Seconds",
    "output_mp_per_s": "Output megapixels per second",
    "peak_rss_mib": "Peak memory (MiB)",
    "warnings": "Warnings",
}
_SHOWN_ELSEWHERE = {"status", "error", "bits", "fab"}


def hex_color(color: Rgb) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def data_uri(image: Image.Image, file_format: str, **options: Any) -> str:
    """A picture as a URI that holds it."""
    data = io.BytesIO()
    image.save(data, file_format, **options)
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def encode_pair(before: Image.Image, after: Image.Image, budget: float) -> tuple[str, str, str]:
    """Embed both pictures with one setting, so that neither is flattered.

    Args:
        before, after: of one size.
        budget: most bytes of both, before they are written as base64.

    Returns:
        The URIs and the setting's name.
    """
    pixels = after.width * after.height
    budget *= 4 / 3
    settings: list[tuple[str, str, dict[str, Any]]]
    if features.check("webp"):
        settings = [(f"WebP of quality {q}", "WEBP", {"quality": q}) for q in _QUALITIES]
        if pixels <= _LOSSLESS_PIXELS:
            settings.insert(0, ("lossless WebP", "WEBP", {"lossless": True}))
    else:
        settings = [(f"JPEG of quality {q}", "JPEG", {"quality": q, "subsampling": 0}) for q in _QUALITIES]
    encoded = ("", "", "")
    for name, file_format, options in settings:  # best first; the last one stands if none fits
        first, second = (data_uri(image, file_format, **options) for image in (before, after))
        encoded = (first, second, name)
        if len(first) + len(second) <= budget:
            break
    return encoded


def map_uri(bit_map: NDArray[np.integer], plan: PatchPlan | None = None) -> str:
    """The bit map as a picture: a pixel a patch or, with a plan, at LR resolution, exact to the pixel."""
    widths = [*PALETTE]
    index = np.searchsorted(widths, bit_map).astype(np.uint8)
    if plan is not None:
        index = index.repeat([*map(len, plan.rows)], 0).repeat([*map(len, plan.cols)], 1)
    image = Image.fromarray(index, "L").convert("P")
    image.putpalette([value for bits in widths for value in PALETTE[bits]])
    return data_uri(image, "PNG", optimize=True)


def _grid_lines(plan: PatchPlan) -> str:
    height, width = plan.size
    return "".join(
        [f"M0 {row.start}H{width}" for row in plan.rows[1:]] + [f"M{col.start} 0V{height}" for col in plan.cols[1:]]
    )


def _digits(bit_map: NDArray[np.integer], plan: PatchPlan) -> str:
    """A badge with the bit-width in each patch's corner, in LR pixels."""
    size = 0.2 * min(plan[0].core.size)
    badges = []
    for patch, bits in zip(plan, bit_map.ravel().tolist(), strict=True):
        x, y, color = patch.core.x + size / 5, patch.core.y + size / 5, PALETTE[bits]
        width = (1.8 if bits == FP32_BITS else 1.3) * size
        badges.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{1.3 * size:.1f}" rx="{size / 4:.1f}" '
            f'fill="{hex_color(color)}"/><text x="{x + width / 2:.1f}" y="{y + 0.65 * size:.1f}" '
            f'font-size="{size:.1f}" fill="{hex_color(ink_on(color))}">{bits}</text>'
        )
    return "".join(badges)


def _number(value: float) -> str:
    """Three significant digits, but every digit before the point."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(decimals, 6)}f}"


def _text(key: str, value: Any) -> str:
    if key in ("in_size", "out_size"):
        return f"{value[0]:,} high, {value[1]:,} wide"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(str, value))
    return str(value)


def _fact_rows(facts: Mapping[str, Any]) -> Iterator[str]:
    """Table rows of the facts that are not said elsewhere on the page; nested facts get a row each."""
    for key, value in facts.items():
        label = _LABELS.get(key, key.replace("_", " ").capitalize())
        nested = value if isinstance(value, Mapping) else {"": value}
        for part, item in nested.items():
            if key in _SHOWN_ELSEWHERE or item in (None, [], ""):
                continue
            name = f"{label}, {str(part).replace('_', ' ')}" if part else label
            yield f'<tr><th scope="row">{escape(name)}</th><td>{escape(_text(key, item))}</td></tr>'


def _cards(bit_map: NDArray[np.integer], facts: Mapping[str, Any]) -> Iterator[str]:
    """The figures that people look for first: FAB, BitOPs, time."""
    bitops, seconds, speed = facts["bitops_g"], facts["seconds"]["total"], facts["output_mp_per_s"]
    share = 100 * bitops / facts["bitops_fp32_g"]
    for name, value, note in (
        ("FAB, average bit-width", f"{bit_map.mean():.2f} bits", "32 would be FP32"),
        ("BitOPs", f"{_number(bitops)} G", f"{share:.1f} % of FP32, counted by formula"),
        ("Time", f"{_number(seconds)} s", f"{_number(speed)} output megapixels per second"),
    ):
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"


def _histogram_rows(bit_map: NDArray[np.integer]) -> Iterator[str]:
    counts = count_bits(bit_map)
    for bits, count in counts.items():
        color, length = hex_color(PALETTE[bits]), 100 * count / max(counts.values())
        bar = f'<div class="bar" style="width: {length:.1f}%; background: {color}"></div>' if count else ""
        yield (
            f'<tr><th scope="row"><span class="swatch" style="background: {color}"></span>{bit_label(bits)}</th>'
            f'<td>{bar}</td><td class="number">{count:,}</td>'
            f'<td class="number">{100 * count / bit_map.size:.1f} %</td></tr>'
        )


@dataclass(frozen=True)
class Pair:
    """A picture before and after, no larger than a page shows it.

    Attributes:
        before, after: of one size: the bicubic enlargement and the result.
        lr_size, sr_size: (H, W) of the whole pictures.
    """

    before: Image.Image
    after: Image.Image
    lr_size: tuple[int, int]
    sr_size: tuple[int, int]

    @property
    def reduced(self) -> float:
        """Size of what is shown, by that of the result."""
        return self.after.width / self.sr_size[1]


def show_pair(lr: NDArray[np.uint8], sr: NDArray[np.uint8]) -> Pair:
    """Make a pair of a picture, (h, w, 3) uint8, and its result, (H, W, 3) uint8, without a copy of a large one."""
    height, width = sr.shape[:2]
    reduced = min(1.0, (MAX_PIXELS / (height * width)) ** 0.5, _MAX_SIDE / max(height, width))
    shown = max(1, round(width * reduced)), max(1, round(height * reduced))
    coarse = max(1, int(0.5 / reduced))
    step = _BAND * coarse
    bands = [Image.fromarray(sr[top : top + step]).reduce(coarse) for top in range(0, height, step)]
    after = bands[0] if len(bands) == 1 else Image.fromarray(np.concatenate([np.asarray(band) for band in bands]))
    if after.size != shown:
        after = after.resize(shown, Image.Resampling.LANCZOS)
    before = Image.fromarray(lr).resize(shown, Image.Resampling.BICUBIC)
    return Pair(before, after, (lr.shape[0], lr.shape[1]), (height, width))


def html_report(
    pair: Pair,
    bit_map: NDArray[np.integer],
    plan: PatchPlan,
    facts: Mapping[str, Any],
    *,
    title: str,
) -> str:
    """One HTML page: before and after, bit map, histogram, and facts. It loads nothing and works from ``file://``.

    Pictures are embedded as WebP (lossless when small), with the highest quality that keeps a page of up to one
    megapixel under 2 MB; larger ones may take as much per megapixel, and are reduced to 8 megapixels at most.

    Args:
        pair: of ``show_pair``.
        bit_map: (rows, cols) bit-widths.
        plan: of the same grid, for the picture before.
        facts: the object of ``gdq upscale --json``; keys that have no label here are shown by their names.
        title: heading, usually the picture's name. All text is escaped.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        ValueError: if bit map, plan and picture do not belong together.
    """
    if bit_map.shape != plan.grid or pair.lr_size != plan.size:
        raise ValueError(
            f"plan of {plan.grid} for {plan.size}, but bit map of {bit_map.shape} and lr of {pair.lr_size}"
        )
    count_bits(bit_map)
    shown = pair.after.size
    budget = PAIR_BYTES_PER_MEGAPIXEL * max(1.0, shown[0] * shown[1] / 1e6)
    before_uri, after_uri, encoding = encode_pair(pair.before, pair.after, budget)
    has_digits = len(plan) <= _MAX_DIGITS
    size_note = f", shown at {100 * pair.reduced:.0f} % of its size" if pair.reduced < 1 else ""
    footer = f"Made by gdq {__version__}. Pictures embedded as {encoding}{size_note}."
    check = '<label><input type="checkbox" id="numbers"> Bit-widths in the patches</label>' if has_digits else ""
    patches = "1 patch" if len(plan) == 1 else f"{len(plan):,} patches"
    (lr_height, lr_width), (height, width) = pair.lr_size, pair.sr_size
    return Template(part("page.html")).substitute(
        style=part("page.css"),
        script=part("compare.js"),
        title=escape(title),
        lede=f"{lr_width} &times; {lr_height} to {width} &times; {height} pixels, {patches}",
        sentence=escape(describe_map(bit_map)),
        width=shown[0],
        height=shown[1],
        # as wide as the card, but no higher than most of the window, and a small picture at most doubled
        fit=f"min(100%, {75 * shown[0] / shown[1]:.3f}vh, {max(2 * shown[0], 360)}px)",
        before=before_uri,
        after=after_uri,
        map=map_uri(bit_map, plan),
        lr_width=lr_width,
        lr_height=lr_height,
        lines=_grid_lines(plan),
        digits=_digits(bit_map, plan) if has_digits else "",
        numbers_check=check,
        cards="".join(_cards(bit_map, facts)),
        histogram="".join(_histogram_rows(bit_map)),
        facts="".join(_fact_rows(facts)),
        footer=escape(footer),
    )


def part(name: str) -> str:
    """A file that pages are made of."""
    return files("gdq_cli.bitmaps").joinpath(name).read_text(encoding="utf-8")
