"""The HTML report of many pictures: one page of thumbnails, written while they are made.

It holds thumbnails and bit maps. The pictures themselves are links to the files, which a browser opens when somebody
looks at them; of what no browser shows, or too large for it, the page holds a detail from the middle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import BinaryIO
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from gdq_cli._version import __version__
from gdq_cli.bitmaps.page import data_uri, encode_pair, hex_color, map_uri, part
from gdq_cli.bitmaps.terminal import PALETTE, bit_label, describe_map
from gdq_cli.bits.patches import plan_patches
from gdq_cli.files import atomic_file

LARGEST_SHOWN = 50_000_000
"""Pixels of the largest file that the page links to; browsers decode it whole."""

DETAILS_BYTES = 64_000_000
"""Most bytes of all details together, as far as ``_DETAIL_BYTES`` allows."""

_DETAIL_BYTES = (60_000, 1_000_000)  # least and most of one
_DETAIL_PIXEL = 0.6  # bytes of a pixel of both pictures, in which they are fine
_THUMB = 320  # pixels of the longer side
_SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".gif", ".bmp"}
_MARK = "<!-- pictures -->"


@dataclass(frozen=True)
class Detail:
    """What a page holds of a picture itself.

    Attributes:
        before, after: URIs that hold pictures of one size, which is (H, W).
        box: (y, x, h, w) of the part of the input that they show, in its pixels.
    """

    before: str
    after: str
    size: tuple[int, int]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Look:
    """What a page needs of a picture's pixels: some kilobytes.

    Attributes:
        thumb: URI that holds it.
        detail: where the page cannot link to the files.
    """

    thumb: str
    detail: Detail | None


def is_shown(file: object, size: tuple[int, int] = (1, 1)) -> bool:
    """Whether browsers show a file of this size, (H, W), as far as its name tells."""
    return isinstance(file, Path) and file.suffix.lower() in _SUFFIXES and size[0] * size[1] <= LARGEST_SHOWN


def look_at(lr: NDArray[np.uint8], sr: NDArray[np.uint8], *, linked: bool, pictures: int) -> Look:
    """Take what the page needs.

    Args:
        lr: (h, w, 3) uint8 RGB.
        sr: (H, W, 3) uint8 RGB, the result; only a detail of it is copied.
        linked: whether the page can link to both files.
        pictures: of the whole page, which share ``DETAILS_BYTES``.
    """
    thumb = Image.fromarray(lr)
    thumb.thumbnail((_THUMB, _THUMB), reducing_gap=2)
    uri = data_uri(thumb, "WEBP" if features.check("webp") else "JPEG", quality=70)
    return Look(uri, None if linked else _take_detail(lr, sr, pictures))


def _take_detail(lr: NDArray[np.uint8], sr: NDArray[np.uint8], pictures: int) -> Detail:
    least, most = _DETAIL_BYTES
    budget = min(max(DETAILS_BYTES / pictures, least), most)
    zoom = sr.shape[0] / lr.shape[0], sr.shape[1] / lr.shape[1]
    share = min(1.0, (budget / _DETAIL_PIXEL / (sr.shape[0] * sr.shape[1])) ** 0.5)
    height, width = (max(1, round(side * share)) for side in lr.shape[:2])
    top, left = (lr.shape[0] - height) // 2, (lr.shape[1] - width) // 2
    rows = slice(round(top * zoom[0]), max(round((top + height) * zoom[0]), round(top * zoom[0]) + 1))
    cols = slice(round(left * zoom[1]), max(round((left + width) * zoom[1]), round(left * zoom[1]) + 1))
    after = Image.fromarray(np.ascontiguousarray(sr[rows, cols]))
    before = Image.fromarray(np.ascontiguousarray(lr[top : top + height, left : left + width]))
    uris = encode_pair(before.resize(after.size, Image.Resampling.BICUBIC), after, budget)
    return Detail(uris[0], uris[1], (after.height, after.width), (top, left, height, width))


class Album:
    """A page that is being written; nothing of a picture stays in memory.

    Args:
        stream: of the page.
        target: where the page will be, for links from there.
    """

    def __init__(self, stream: BinaryIO, target: Path) -> None:
        self._stream, self._folder = stream, os.path.realpath(target.parent)
        self._failed: list[str] = []
        self._skipped: list[str] = []
        self._count = 0
        head, self._tail = part("album.html").split(_MARK)
        self._texts = {"style": part("page.css"), "script": part("compare.js")}
        self._write(Template(head).substitute(self._texts))

    def add(
        self,
        name: str,
        files: tuple[object, object],
        look: Look,
        *,
        bit_map: NDArray[np.integer],
        sizes: tuple[tuple[int, int], tuple[int, int]],
        facts: str,
    ) -> None:
        """A picture that was made.

        Args:
            name: of the picture, to be read.
            files: before and after; what is no Path is no file.
            look: of ``look_at``.
            bit_map: (rows, cols) bit-widths.
            sizes: (H, W) before and after.
            facts: a line about it.
        """
        plan = plan_patches(sizes[0])
        rows, cols = plan[0].core.size
        before, after = (self.link(file) for file in files)
        data = {
            "name": name,
            "map": map_uri(bit_map),
            "grid": f"{bit_map.shape[1] * cols} {bit_map.shape[0] * rows}",  # the last patches may be cut
            "facts": facts,
            "sentence": describe_map(bit_map),
        }
        if look.detail is None:
            size, box = sizes[1], (0, 0, *sizes[0])
            data |= {"before": before, "after": after}
        else:
            size, box = look.detail.size, look.detail.box
            data |= {"before": look.detail.before, "after": look.detail.after}
            if box[2:] != sizes[0]:
                data["note"] = "Here is a detail from the middle; the file holds the whole picture."
        data |= {"size": f"{size[1]} {size[0]}", "box": f"{box[1]} {box[0]} {box[3]} {box[2]}"}
        image = f'<img src="{look.thumb}" alt="" loading="lazy" decoding="async">'
        text = f"<span>{escape(name)}<small>{escape(facts)}</small></span>"
        self._write(f'<a class="shot" href="{after}"{_attributes(data)}>{image}{text}</a>\n')
        self._count += 1

    def skip(self, name: str, files: tuple[object, object], reason: str) -> None:
        """A picture that was not made again; it can be looked at where a browser shows both files."""
        text = escape(name)
        if all(map(is_shown, files)):
            before, after = (self.link(file) for file in files)
            data = _attributes({"name": name, "before": before, "after": after, "facts": f"skipped: {reason}"})
            text = f'<a class="shot" href="{after}"{data}>{text}</a>'
        self._skipped.append(f"<li>{text}: {escape(reason)}</li>")

    def fail(self, reason: str) -> None:
        """A picture of which nothing came; the reason names it."""
        self._failed.append(f"<li>{escape(reason)}</li>")

    def finish(self) -> None:
        """Write the rest of the page."""
        totals = f"{self._count:,} upscaled, {len(self._skipped):,} skipped, {len(self._failed):,} failed"
        told = "".join(
            f'<section class="told"><h2>{title}</h2><ul>{"".join(lines)}</ul></section>'
            for title, lines in (("Failed", self._failed), ("Skipped", self._skipped))
            if lines
        )
        footer = f"Made by gdq {__version__}. Pictures are read from their files, where they were when it was made."
        legend = " &emsp; ".join(
            f'<span class="swatch" style="background: {hex_color(color)}"></span>{bit_label(bits)}'
            for bits, color in PALETTE.items()
        )
        more = {"totals": totals, "told": told, "legend": legend, "footer": footer}
        self._write(Template(self._tail).substitute(self._texts | more))

    def link(self, file: object) -> str:
        """A relative address of a file, safe in an attribute; "#" for what is none."""
        if not isinstance(file, Path):
            return "#"
        real = os.path.join(os.path.realpath(file.parent), file.name)
        try:
            relative = os.path.relpath(real, self._folder)
        except ValueError:  # another drive
            return escape(Path(real).as_uri())
        return quote(os.fsencode(relative.replace(os.sep, "/")))

    def _write(self, text: str) -> None:
        self._stream.write(text.encode(errors="backslashreplace"))  # a name may not be UTF-8


def _attributes(data: dict[str, str]) -> str:
    return "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())


@contextmanager
def open_album(target: Path, *, overwrite: bool) -> Iterator[Album]:
    """A page that appears when the block ends, whole, or not at all. Raises as ``gdq_cli.files.atomic_file``."""
    with atomic_file(target, overwrite=overwrite) as stream:
        album = Album(stream, target)
        yield album
        album.finish()
