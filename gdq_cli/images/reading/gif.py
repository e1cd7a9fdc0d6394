"""Frames of a GIF put together as browsers do. Pillow decodes each; its own way of putting them together fills what a
frame leaves behind with some colour instead of nothing, and goes on doing so for frames that do not ask for it."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import GifImagePlugin, Image

from gdq_cli.images.reading.headers import GifFrame, Scan

_TO_NOTHING, _TO_PREVIOUS = 2, 3  # what becomes of a frame's area before the next one is drawn
_NOTHING = (0, 0, 0, 0)


class GifCanvas:
    """What a GIF shows, frame by frame. What no frame has drawn on is transparent."""

    def __init__(self, stream: BinaryIO, scan: Scan) -> None:
        """Show nothing yet.

        Args:
            stream: of the file.
            scan: by ``scan_gif``.
        """
        self._stream, self._frames, self._size = stream, scan.frames, (scan.width, scan.height)
        stream.seek(0)
        head = stream.read(13)
        self._head = head + stream.read(3 << (head[10] & 7) + 1 if head[10] & 128 else 0)
        self._shown = -1
        self._canvas = self._below = Image.Image()

    def show(self, index: int) -> Image.Image:
        """The canvas, RGBA, when this frame has been drawn. It is drawn upon by the next call."""
        if not 0 <= self._shown <= index:
            self._shown, self._canvas = -1, Image.new("RGBA", self._size, _NOTHING)
        while self._shown < index:
            if self._shown >= 0:
                self._leave(self._frames[self._shown])
            self._draw(self._frames[self._shown + 1])
            self._shown += 1
        return self._canvas

    def _area(self, frame: GifFrame) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what a frame covers of the canvas; it may reach beyond."""
        x, y, width, height = frame.box
        right, bottom = min(x + width, self._size[0]), min(y + height, self._size[1])
        return min(x, right), min(y, bottom), right, bottom

    def _leave(self, frame: GifFrame) -> None:
        if frame.disposal == _TO_NOTHING:
            self._canvas.paste(_NOTHING, self._area(frame))
        elif frame.disposal == _TO_PREVIOUS:
            self._canvas.paste(self._below, self._area(frame))

    def _draw(self, frame: GifFrame) -> None:
        left, top, right, bottom = area = self._area(frame)
        if frame.disposal == _TO_PREVIOUS:
            self._below = self._canvas.crop(area)
        if left < right and top < bottom:
            drawn = self._decode(frame)
            self._canvas.paste(drawn, (left, top), drawn if self._shown >= 0 else None)

    def _decode(self, frame: GifFrame) -> Image.Image:
        """A frame alone, as a GIF of its own."""
        self._stream.seek(frame.start)
        block = self._stream.read(frame.stop - frame.start)
        size = struct.pack("<HH", *frame.box[2:])
        head = self._head[:6] + size + self._head[10:]
        alone = head + b"!\xf9\4" + frame.control + b"\0," + bytes(4) + size + block[8:] + b";"
        return GifImagePlugin.GifImageFile(io.BytesIO(alone)).convert("RGBA")
