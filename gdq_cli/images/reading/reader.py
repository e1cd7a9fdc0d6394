"""Reading: a path or stream to a ``Picture``, or to the frames of an animation or document."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gdq_cli.errors import ImageError
from gdq_cli.images.picture import Frame, Picture
from gdq_cli.images.reading.container import ImageHeader, open_container
from gdq_cli.images.reading.sources import Source, buffered, name_of


def read_image(source: Source, *, max_pixels: int | None = None, page: int = 0, name: str | None = None) -> Picture:
    """Read one picture of any format that gdq knows, recognised by its content.

    Args:
        source: a file, or a binary stream from its current position (read to the end when it cannot seek).
        max_pixels: refuse larger pictures by their header, before decoding; None for no limit.
        page: which page of a document or frame of an animation, from 0.
        name: what error messages call the picture; by default the path, or the stream's name.

    Returns:
        The upright picture. Whatever was converted or is doubtful stands in its ``warnings``.

    Raises:
        ImageError: no such file, not a picture, damaged, too large, no such page: one line that begins with the name.
    """
    with open_container(source, name, max_pixels) as file:
        if not 0 <= page < file.header.frames:
            raise ImageError(f"{file.name}: has {file.header.frames} pages or frames, there is no number {page}")
        return file.read_frame(page).picture


def probe_image(source: Source, *, max_pixels: int | None = None, name: str | None = None) -> ImageHeader:
    """Read the header only: for limits, plans and dry runs. A seekable stream is left where it was.

    Args and errors as of ``read_image``. A file whose header is sound can still turn out damaged when it is decoded.
    """
    if isinstance(source, (str, os.PathLike)) or not source.seekable():
        with open_container(source, name, max_pixels) as file:
            return file.header
    at = source.tell()
    try:
        with open_container(source, name, max_pixels) as file:
            return file.header
    finally:
        source.seek(at)


class Frames:
    """The frames of an animation, pages of a document, or the one picture of any other file; decoded one at a time.

    Can be iterated several times; frames are whole pictures (what GIF, WebP and PNG store as changes is composited).
    """

    def __init__(
        self, source: Source, max_pixels: int | None, name: str | None, header: ImageHeader | None = None
    ) -> None:
        self._name = name if name is not None else name_of(source)
        self._source = source if isinstance(source, (str, os.PathLike)) else buffered(source, self._name)
        self._max_pixels = max_pixels
        self.header = header or probe_image(self._source, max_pixels=max_pixels, name=self._name)

    def __len__(self) -> int:
        return self.header.frames

    def __iter__(self) -> Iterator[Frame]:
        """Decode the frames in order. Raises ImageError where one is damaged; frames before it have been yielded.

        Raises it, too, if the file is no longer the one whose header was read.
        """
        if not isinstance(self._source, (str, os.PathLike)):
            self._source.seek(0)
        with open_container(self._source, self._name, self._max_pixels) as file:
            if file.header != self.header:
                raise ImageError(f"{self._name}: has become another picture since it was looked at; try again")
            for index in range(file.header.frames):
                yield file.read_frame(index)


def read_frames(
    source: Source, *, max_pixels: int | None = None, name: str | None = None, header: ImageHeader | None = None
) -> Frames:
    """Open a file for reading all its frames or pages. Arguments and errors as of ``read_image``.

    Args:
        header: of the file, where it is known already.
    """
    return Frames(source, max_pixels, name, header)
