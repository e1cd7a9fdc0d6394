"""Do joins of windows show? Patched runs against the picture as one window: evidence for a checkpoint's ``halo``."""

from __future__ import annotations

import argparse
import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np

from gdq_cli.engines.native import NativeEngine
from gdq_cli.images import read_image
from gdq_cli.measure.machine import cpu_name
from gdq_cli.upscaling.pool import load_checkpoint
from gdq_cli.upscaling.upscaler import Upscaler

COFFEE = Path(__file__).resolve().parents[2] / "examples" / "coffee.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, nargs="?", default=COFFEE)
    parser.add_argument("--models", default="photo:4,photo:2,edsr:4", help="model:scale")
    parser.add_argument("--bits", default="8,6,4")
    parser.add_argument("--halo", type=int, help="instead of the checkpoint's")
    parser.add_argument("--most", type=int, default=670, help="pixels of either side that are looked at")
    arguments = parser.parse_args()
    picture = read_image(arguments.picture).rgb
    beside = np.concatenate([picture, picture[:, ::-1]], axis=1)  # so that windows lie between windows
    picture = np.concatenate([beside, beside[::-1]])[: arguments.most, : arguments.most]
    print(f"{arguments.picture.name}, {picture.shape[1]}x{picture.shape[0]}; {cpu_name()}, {datetime.date.today()}\n")
    print("| model | halo | bits | values beyond 1 level | most |\n| --- | --- | --- | --- | --- |")
    for name, _, scale in (model.partition(":") for model in arguments.models.split(",")):
        checkpoint = load_checkpoint(name, int(scale))
        if arguments.halo is not None:
            checkpoint = replace(checkpoint, halo=arguments.halo)
        engine = NativeEngine(checkpoint.parameters)
        upscaler = Upscaler(checkpoint, engine)
        for bits in arguments.bits.split(","):
            whole = engine.run_windows(picture[None], int(bits))[0]
            apart = np.abs(upscaler.upscale(picture, bits=bits).image.astype(np.int16) - whole)
            share = f"{float((apart > 1).mean()):.4%}"
            print(f"| {name} x{scale} | {checkpoint.halo} | {bits} | {share} | {apart.max()} |", flush=True)


if __name__ == "__main__":
    main()
