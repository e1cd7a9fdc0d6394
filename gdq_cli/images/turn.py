"""From places in the pixels as a file stores them to places in an output: turned upright and scaled."""

from __future__ import annotations

from dataclasses import dataclass

# Orientations, as EXIF numbers them: of files whose rows are columns of the upright picture; and of those to be
# mirrored, once these are exchanged, from left to right and from top to bottom.
SWAPPED, MIRRORED_ACROSS, MIRRORED_DOWN = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}


@dataclass(frozen=True)
class Turn:
    """What became of a picture between two files.

    Attributes:
        stored: (H, W) of the pixels in the file that was read, before its orientation is applied.
        orientation: of that file, 1 to 8 as EXIF numbers them; the output is upright.
        out: (H, W) of the output.
    """

    stored: tuple[int, int]
    orientation: int
    out: tuple[int, int]

    @property
    def swaps(self) -> bool:
        """Whether rows became columns."""
        return self.orientation in SWAPPED

    @property
    def factors(self) -> tuple[float, float]:
        """Pixels of the output by those of the file, across and down in the output."""
        height, width = self.stored[::-1] if self.swaps else self.stored
        return self.out[1] / width, self.out[0] / height

    def upright(self, x: float, y: float) -> tuple[float, float]:
        """A point, as shares 0 to 1 of width and height."""
        if self.swaps:
            x, y = y, x
        return (
            1 - x if self.orientation in MIRRORED_ACROSS else x,
            1 - y if self.orientation in MIRRORED_DOWN else y,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point in pixels."""
        across, down = self.upright(x / self.stored[1], y / self.stored[0])
        return across * self.out[1], down * self.out[0]

    def extent(self, width: float, height: float) -> tuple[float, float]:
        """A width and a height in pixels."""
        if self.swaps:
            width, height = height, width
        return width * self.factors[0], height * self.factors[1]
