"""How much better than a first checkpoint others are, on held-out pictures and on pictures they were trained on.

    python benchmarks/overfitting.py FIRST OTHER [OTHER ...] --data HR_DIR

The float network, Y-PSNR in dB, mean and median of the differences per picture. A large gain on training pictures
beside a small one on held-out pictures is a network that learns its pictures by heart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gdq_cli.measure.metrics import psnr_y
from gdq_cli.networks import FloatNetwork
from gdq_cli.training.data import ImagePair, list_images, load_pairs, split_validation
from gdq_cli.training.start import read_start


def measure(network: FloatNetwork, scale: int, pairs: list[ImagePair]) -> NDArray[np.float64]:
    """Y-PSNR of every picture, (N,)."""
    figures = []
    for pair in pairs:
        with torch.inference_mode():
            sr = network(torch.from_numpy(pair.lr).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
        figures.append(psnr_y(sr.round().clamp(0, 255).byte().numpy(), pair.hr, scale))
    return np.array(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    networks = [read_start(path)[0].eval() for path in (args.first, *args.others)]
    scale = networks[0].config.scale
    training, held_out = split_validation(list_images(args.data))
    seen = training[:: max(1, len(training) // len(held_out))][: len(held_out)]
    print("| checkpoint | held out: mean | median | seen in training: mean | median |\n| --- | --- | --- | --- | --- |")
    sets = [load_pairs(files, scale) for files in (held_out, seen)]
    base = [measure(networks[0], scale, pairs) for pairs in sets]
    for path, network in zip(args.others, networks[1:], strict=True):
        cells = []
        for pairs, before in zip(sets, base, strict=True):
            gain = measure(network, scale, pairs) - before
            cells += [f"{gain.mean():+.3f}", f"{np.median(gain):+.3f}"]
        print(f"| {path} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
