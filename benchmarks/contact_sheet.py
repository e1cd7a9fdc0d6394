"""What a degradation makes of pictures, to look at: HR, clean LR and degraded LR side by side, and what was drawn.

    python benchmarks/contact_sheet.py HR_DIR --degradation photo --scale 4 --seed 0 -o sheet.png

LR pixels are enlarged to squares, so that every block and grain shows as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image
from tiles import U8, below, beside, captioned, framed

from gdq_cli.errors import GdqError, ImageError
from gdq_cli.images import Picture, read_image, write_image
from gdq_cli.measure.degradation import EvalDegradation, TrainingDegradation, degrade
from gdq_cli.measure.pairs import downscale, list_images
from gdq_cli.options import Encoding
from gdq_cli.training.data import DEGRADED_MARGIN

KINDS = ("photo", *get_args(EvalDegradation))
COLUMNS = 2
"""Samples side by side."""


def draw_crops(folder: Path, side: int, count: int, rng: np.random.Generator) -> Iterator[U8]:
    """Square crops of ``side`` pixels at random places, each of another picture while there are enough."""
    files = list_images(folder)
    found = 0
    while found < count:
        before = found
        for index in rng.permutation(len(files)):
            image = read_image(files[index]).rgb
            if found < count and min(image.shape[:2]) >= side:
                top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
                yield np.ascontiguousarray(image[top : top + side, left : left + side])
                found += 1
            if found == count:
                return
        if found == before:
            raise ImageError(f"{folder}: no picture of at least {side} pixels on each side; use a smaller --side")


def sample(
    hr: U8, scale: int, kind: TrainingDegradation | EvalDegradation, rng: np.random.Generator, zoom: int
) -> Image.Image:
    """One sample: the middle of an HR crop, of its clean LR and of its degraded LR."""
    said: list[str] = []
    degraded = degrade(hr, scale, kind, rng, said.append)
    tiles = [(hr, 1), (downscale(hr, scale), scale), (degraded, scale)]
    pictures = []
    for pixels, enlarge in tiles:
        margin = DEGRADED_MARGIN * scale // enlarge
        middle = pixels[margin:-margin, margin:-margin].repeat(enlarge * zoom, 0).repeat(enlarge * zoom, 1)
        pictures.append(Image.fromarray(middle))
    return captioned(beside(pictures, gap=2), ", ".join(said) or "nothing else")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of HR pictures")
    parser.add_argument("--degradation", choices=KINDS, default="photo")
    parser.add_argument("--scale", "-x", type=int, choices=(2, 3, 4), default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--side", type=int, default=32, help="of a sample in LR pixels")
    parser.add_argument("--zoom", type=int, default=2, help="enlarge everything so many times")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args()
    if min(arguments.samples, arguments.side, arguments.zoom) < 1 or arguments.seed < 0:
        parser.error("--samples, --side and --zoom must be at least 1, --seed at least 0")
    side = (arguments.side + 2 * DEGRADED_MARGIN) * arguments.scale
    places, draws = (np.random.default_rng((arguments.seed, stream)) for stream in (0, 1))  # same places for any kind
    samples = [
        sample(hr, arguments.scale, arguments.degradation, draws, arguments.zoom)
        for hr in draw_crops(arguments.folder, side, arguments.samples, places)
    ]
    title = f"{arguments.degradation} x{arguments.scale}, seed {arguments.seed}: HR | clean LR | degraded LR"
    rows = [beside(samples[start : start + COLUMNS]) for start in range(0, len(samples), COLUMNS)]
    heading = captioned(Image.new("RGB", (max(row.width for row in rows), 1), "white"), title)
    sheet = below([heading, *rows])
    write_image(arguments.output, Picture(framed(sheet)), Encoding(format="png"), overwrite=True)
    print(f"{arguments.output}: {len(samples)} samples")


if __name__ == "__main__":
    try:
        main()
    except GdqError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
