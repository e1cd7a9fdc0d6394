"""Pictures with captions, in rows: what contact_sheet.py and crops.py draw."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

U8 = NDArray[np.uint8]

GAP = 8
_FONT = ImageFont.load_default(13)
_LINE = 17


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """A picture over its caption, wrapped to its width."""
    letters = max(8, int(picture.width / _FONT.getlength("n")))
    lines = textwrap.wrap(text, letters)
    tile = Image.new("RGB", (picture.width, picture.height + _LINE * len(lines)), "white")
    tile.paste(picture)
    ImageDraw.Draw(tile).multiline_text((0, picture.height), "\n".join(lines), "black", _FONT, spacing=3)
    return tile


def beside(pictures: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Pictures in a row, aligned at their tops."""
    width = sum(picture.width + gap for picture in pictures) - gap
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row


def below(pictures: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Pictures in a column, aligned at their left edges."""
    height = sum(picture.height + gap for picture in pictures) - gap
    column = Image.new("RGB", (max(picture.width for picture in pictures), height), "white")
    top = 0
    for picture in pictures:
        column.paste(picture, (0, top))
        top += picture.height + gap
    return column


def framed(picture: Image.Image) -> U8:
    """Pixels of a picture with a white border."""
    frame = Image.new("RGB", (picture.width + 2 * GAP, picture.height + 2 * GAP), "white")
    frame.paste(picture, (GAP, GAP))
    return np.array(frame)
