"""From which JPEG quality on is ``edsr`` better than ``photo``? Evidence for ``gdq_cli.models.choice.NEARLY_LOSSLESS``.

Held-out pictures, reduced by bicubic resampling and saved as JPEG 4:2:0, with and without a camera's noise before it.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np

from gdq_cli.engines import choose_engine
from gdq_cli.measure.degradation import degrade
from gdq_cli.measure.machine import cpu_name
from gdq_cli.measure.metrics import psnr_y
from gdq_cli.measure.pairs import list_images, load_pairs, split_validation
from gdq_cli.upscaling.pool import load_checkpoint
from gdq_cli.upscaling.upscaler import Upscaler

QUALITIES = (85, 88, 90, 92, 94, 96, 98)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of HR pictures")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--noise", type=float, default=1.5, help="standard deviation in grey levels")
    arguments = parser.parse_args()
    _, held_out = split_validation(list_images(arguments.data))
    pairs = load_pairs(held_out[: arguments.pictures], arguments.scale)
    models = {}
    for name in ("edsr", "photo"):
        checkpoint = load_checkpoint(name, arguments.scale)
        models[name] = Upscaler(checkpoint, choose_engine(checkpoint.parameters).engine)
    print(f"x{arguments.scale}, {len(pairs)} pictures, {cpu_name()}, {datetime.date.today()}: ", end="")
    print("Y-PSNR of photo less that of edsr in dB\n")
    print(f"| quality | clean | noise of {arguments.noise:g} |\n| --- | --- | --- |")
    for quality in QUALITIES:
        gains = []
        for strength in (0.0, arguments.noise):
            differences = []
            for index, pair in enumerate(pairs):
                noisy = degrade(pair.lr, 1, f"noise{strength}", np.random.default_rng((0, index)))
                lr = degrade(noisy, 1, f"jpeg{quality}", np.random.default_rng(0))
                scores = [psnr_y(m.upscale(lr, bits="6").image, pair.hr, arguments.scale) for m in models.values()]
                differences.append(scores[1] - scores[0])
            gains.append(float(np.mean(differences)))
        print(f"| {quality} | {gains[0]:+.2f} | {gains[1]:+.2f} |", flush=True)


if __name__ == "__main__":
    main()
