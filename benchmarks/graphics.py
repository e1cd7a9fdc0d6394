"""How far integers stray from their own float network on what photographs do not hold: logos, ramps, screens, checks.

For each model, kind of picture and bit-width: the largest shift of a picture's mean colour from the input's, how many
pictures shift by more than a level, and the share of pixels more than 2 levels from the float32 network's.
"""

from __future__ import annotations

import argparse
import datetime
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import gdq_cli
from gdq_cli.measure.machine import cpu_name

U8 = NDArray[np.uint8]
CORNERS = np.array(list(product((0, 255), repeat=3)), np.float64)
TEXT_COLOURS = ((0, 0, 0), (255, 255, 255)), ((255, 255, 255), (0, 0, 0)), ((0, 0, 255), (255, 255, 255))


def flat(side: int = 16) -> list[U8]:
    return [np.full((side, side, 3), colour, np.uint8) for colour in product((0, 64, 128, 191, 255), repeat=3)]


def between_corners(share: NDArray[np.float64]) -> list[U8]:
    """All pairs of saturated colours, the second by its share, (H, W) of 0 to 1."""
    return [np.rint(a + share[..., None] * (b - a)).astype(np.uint8) for a, b in combinations(CORNERS, 2)]


def ramps() -> list[U8]:
    return between_corners(np.tile(np.linspace(0, 1, 64), (16, 1)))


def steps() -> list[U8]:
    return between_corners(np.tile(np.arange(32) >= 16, (32, 1)).astype(float))


def checks() -> list[U8]:
    return between_corners((np.indices((24, 24)).sum(0) % 2).astype(float))


def text() -> list[U8]:
    pictures = []
    for ink, paper in TEXT_COLOURS:
        picture = Image.new("RGB", (96, 32), paper)
        pen = ImageDraw.Draw(picture)
        for line in range(2):
            pen.text((2, 2 + 14 * line), "File Edit View 0123", ink, ImageFont.load_default(11))
        pictures.append(np.asarray(picture))
    return pictures


KINDS = {"flat": flat, "ramps": ramps, "steps": steps, "checks": checks, "text": text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="edsr,photo", help="names or files, with commas between")
    parser.add_argument("--scales", default="2,3,4")
    parser.add_argument("--bits", default="8,6,4,auto")
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {datetime.date.today()}; within: pixels at most 2 levels from float32\n")
    print("| model | pictures | bits | largest shift of a mean | of more than a level | within | farthest pixel |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, scale in product(arguments.models.split(","), map(int, arguments.scales.split(","))):
        try:
            model = gdq_cli.load(name, scale=scale)
        except gdq_cli.GdqError:  # no such scale
            continue
        for kind in arguments.kinds.split(","):
            pictures = KINDS[kind]()
            floats = [model.upscale(picture, bits="fp32").image.astype(int) for picture in pictures]
            for bits in arguments.bits.split(","):
                ours = [model.upscale(picture, bits=bits).image.astype(int) for picture in pictures]
                shifts = [
                    np.abs(image.mean((0, 1)) - picture.mean((0, 1))).max()
                    for image, picture in zip(ours, pictures, strict=True)
                ]
                far = np.concatenate([np.abs(a - b).max(2).ravel() for a, b in zip(ours, floats, strict=True)])
                print(
                    f"| {name} x{scale} | {kind} | {bits} | {max(shifts):.2f} | {sum(s > 1 for s in shifts)} of "
                    f"{len(shifts)} | {(far <= 2).mean():.2%} | {far.max()} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
