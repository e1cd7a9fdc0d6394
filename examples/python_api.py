"""Upscale a picture from Python and look at where the bits went.

python examples/python_api.py examples/coffee.jpg coffee_x4.png
"""

import argparse

from PIL import Image

import gdq_cli


def main(source: str, target: str) -> None:
    model = gdq_cli.load("edsr", scale=4)
    result = model.upscale(Image.open(source))
    result.pil.save(target)

    print(f"{model.name} x{model.scale} on {model.device} ({model.engine}): {source} -> {target}")
    print(f"{result.fab:.2f} bits on average, {result.bitops_g / result.bitops_fp32_g:.1%} of FP32's bit operations")
    print(result.bit_map)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a picture, such as examples/coffee.jpg")
    parser.add_argument("target", help="where the large one goes, such as coffee_x4.png")
    main(**vars(parser.parse_args()))
