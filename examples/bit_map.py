"""See where the bits went, and what they cost: the bit map as an array and a picture, and "auto" against FP32.

python examples/bit_map.py examples/coffee.jpg bit_map.png
"""

import argparse

import numpy as np
from PIL import Image

import gdq_cli
from gdq_cli.bitmaps.overlay import overlay_image
from gdq_cli.measure.comparison import compare_images


def main(source: str, target: str) -> None:
    picture = np.asarray(Image.open(source).convert("RGB"))
    model = gdq_cli.load("edsr", scale=4)
    auto = model.upscale(picture)
    exact = model.upscale(picture, bits="fp32")

    bit_map = auto.bit_map  # an int64 array of (rows, cols); auto.plan.patches says where each patch lies
    for bits, count in zip(*np.unique(bit_map, return_counts=True), strict=True):
        print(f"{bits} bits: {count} of {bit_map.size} patches")
    for choice in auto.plan.choices[:3]:  # one per patch, row by row
        logits = ", ".join(f"{value:.2f}" for value in choice.logits)
        print(f"entropy {choice.entropy:.2f} nats, logits {logits}: {choice.bit_width} bits, by the {choice.reason}")

    difference = compare_images(auto.image, exact.image)
    print(f"against FP32: {difference.psnr_y:.1f} dB, largest difference {difference.largest} of 255")
    print(f"{auto.bitops_g / exact.bitops_g:.1%} of the bit operations")
    print(f"{auto.seconds_network:.2f} s instead of {exact.seconds_network:.2f} s")

    Image.fromarray(overlay_image(picture, bit_map, auto.plan.patches, numbers=True)).save(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a picture, such as examples/coffee.jpg")
    parser.add_argument("target", help="where the bit map goes, such as bit_map.png")
    main(**vars(parser.parse_args()))
