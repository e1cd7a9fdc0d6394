"""Parts of a picture as several models upscale it, side by side at 100 %: before and after, for cards and README.

    python benchmarks/crops.py examples/coffee.jpg -x 4 --crop 180,90,60,60 --crop 300,150,60,60 \\
        --models bicubic,edsr,photo -o docs/photo_x4.png

``bicubic`` is Pillow's enlargement. Every model upscales the whole picture: patches and bits are those of gdq upscale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tiles import U8, below, beside, captioned, framed

from gdq_cli.errors import GdqError, OptionsError
from gdq_cli.images import Picture, read_image, write_image
from gdq_cli.measure.evaluation import BICUBIC
from gdq_cli.options import Encoding
from gdq_cli.upscaling.pool import UpscalerPool

Crop = tuple[int, int, int, int]
"""X, Y, width and height in LR pixels."""


def parse_crop(text: str) -> Crop:
    """``X,Y,W,H`` -> numbers."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts) or "0" in parts[2:]:
        raise argparse.ArgumentTypeError(f"must be X,Y,W,H in LR pixels, such as 180,90,60,60, not {text}")
    x, y, width, height = map(int, parts)
    return x, y, width, height


def check_crops(crops: list[Crop], lr: U8) -> None:
    for x, y, width, height in crops:
        if x + width > lr.shape[1] or y + height > lr.shape[0]:
            raise OptionsError(
                f"--crop {x},{y},{width},{height} reaches out of the picture's {lr.shape[1]}x{lr.shape[0]} pixels"
            )


def enlarge(lr: U8, model: str, scale: int, bits: str) -> tuple[str, U8]:
    """A caption, and the upscaled picture."""
    if model == BICUBIC:
        size = lr.shape[1] * scale, lr.shape[0] * scale
        return model, np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))
    upscaler = UpscalerPool(model).get(scale)
    name = Path(model).stem if model.endswith(".safetensors") else model
    return name, upscaler.upscale(lr, bits=bits).image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("-x", "--scale", type=int, choices=(2, 3, 4), default=4)
    parser.add_argument("--crop", type=parse_crop, action="append", required=True, help="X,Y,W,H; may be repeated")
    parser.add_argument("--models", default="bicubic,edsr,photo", help="names or .safetensors files, by commas")
    parser.add_argument("--bits", default="auto", help="auto, fp32, 8, 6, 5 or 4")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args()
    lr = read_image(arguments.picture).rgb
    check_crops(arguments.crop, lr)
    scale = arguments.scale
    results = [enlarge(lr, model, scale, arguments.bits) for model in arguments.models.split(",")]
    rows = [
        beside(
            [
                captioned(Image.fromarray(sr[y * scale : (y + h) * scale, x * scale : (x + w) * scale]), name)
                for name, sr in results
            ]
        )
        for x, y, w, h in arguments.crop
    ]
    write_image(arguments.output, Picture(framed(below(rows))), Encoding(format="png"), overwrite=True)
    print(f"{arguments.output}: {', '.join(name for name, _ in results)}")


if __name__ == "__main__":
    try:
        main()
    except GdqError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
