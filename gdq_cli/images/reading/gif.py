"""Frames of a GIF put together as browsers do. Pillow decodes each; its own way of putting them together fills what a
frame leaves behind with some colour instead of nothing, and goes on doing so for frames that do not ask for it."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin

from gdq_cli.images.picture import U8
from gdq_cli.images.reading.headers import GifFrame, Scan

_TO_NOTHING, _TO_PREVIOUS = 2, 3  # what becomes of a frame's area before the next one is drawn


class GifCanvas:
    """What a GIF shows, frame by frame. What no frame has drawn on is transparent."""

    def __init__(self, stream: BinaryIO, scan: Scan) -> None:
        """Show nothing yet.

        Args:
            stream: of the file.
            scan: by ``scan_gif``.
        """
        self._stream, self._frames, self._size = stream, scan.frames, (scan.height, scan.width)
        stream.seek(0)
        head = stream.read(13)
        self._head = head + stream.read(3 << (head[10] & 7) + 1 if head[10] & 128 else 0)
        self._shown = -1
        self._canvas: U8 = np.empty((0, 0, 4), np.uint8)
        self._below: U8 = self._canvas

    def show(self, index: int) -> U8:
        """The canvas, RGBA, when this frame has been drawn. It is drawn upon by the next call."""
        if not 0 <= self._shown <= index:
            self._shown, self._canvas = -1, np.zeros((*self._size, 4), np.uint8)
        while self._shown < index:
            if self._shown >= 0:
                self._leave(self._frames[self._shown])
            self._draw(self._frames[self._shown + 1])
            self._shown += 1
        return self._canvas

    def _area(self, frame: GifFrame) -> U8:
        """The part of the canvas that a frame covers; frames may reach beyond it."""
        x, y, width, height = frame.box
        return self._canvas[y : y + height, x : x + width]

    def _leave(self, frame: GifFrame) -> None:
        if frame.disposal == _TO_NOTHING:
            self._area(frame)[...] = 0
        elif frame.disposal == _TO_PREVIOUS:
            self._area(frame)[...] = self._below

    def _draw(self, frame: GifFrame) -> None:
        area = self._area(frame)
        if frame.disposal == _TO_PREVIOUS:
            self._below = area.copy()
        if area.size:
            drawn = self._decode(frame)[: area.shape[0], : area.shape[1]]
            seen = (drawn[..., 3] > 0) | (area[..., 3] == 0)
            area[seen] = drawn[seen]

    def _decode(self, frame: GifFrame) -> U8:
        """A frame alone, as a GIF of its own."""
        self._stream.seek(frame.start)
        block = self._stream.read(frame.stop - frame.start)
        size = struct.pack("<HH", *frame.box[2:])
        head = self._head[:6] + size + self._head[10:]
        alone = head + b"!\xf9\4" + frame.control + b"\0," + bytes(4) + size + block[8:] + b";"
        return np.asarray(GifImagePlugin.GifImageFile(io.BytesIO(alone)).convert("RGBA"))
