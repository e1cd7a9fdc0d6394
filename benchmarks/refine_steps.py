"""Widen or narrow the activation steps of a trained checkpoint where held-out pictures gain by it.

    python benchmarks/refine_steps.py CHECKPOINT OUTPUT --data HR_DIR [--fab 4.7]

Training fits every step to pictures it knows by heart, strongest contrasts included; others clip more. Each static
layer has one factor, and each bit-width two: of all first and of all second convolutions of the blocks. A factor moves
in steps of 15 % until the mean PSNR of the held-out pictures has not risen twice in a row; the best one stays, or 1
where it brought less than 0.004 dB. A new controller is fitted in the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.options import DEFAULT_FAB
from gdq_cli.training.calibration.calibrate import attach_controller
from gdq_cli.training.data import ImagePair, list_images, load_pairs, split_validation
from gdq_cli.training.validate import validate_network

FACTOR = 1.15
PATIENCE = 2  # factors in a row that may gain nothing before a direction is given up
LEAST_GAIN = 0.004  # dB that it must have gained in the end, or it stays 1: 50 pictures cannot tell less


def read_quantized(file: Path, parser: argparse.ArgumentParser) -> tuple[Checkpoint, Edsr]:
    """A checkpoint and its network, which must be a quantized EDSR."""
    checkpoint = read_checkpoint(file)
    network = checkpoint.network
    if not isinstance(network, Edsr) or not checkpoint.is_quantized:
        parser.error("takes a quantized EDSR")
    return checkpoint, network


def parse_arguments(description: str | None) -> tuple[argparse.Namespace, Checkpoint, Edsr]:
    """Command line of a last step to a checkpoint (output, data, fab), the checkpoint and its network."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fab", type=float, default=DEFAULT_FAB)
    args = parser.parse_args()
    checkpoint, network = read_quantized(args.checkpoint, parser)
    return args, checkpoint, network


def mean_psnr(network: Edsr, pairs: list[ImagePair], widths: tuple[int, ...]) -> float:
    """Mean Y-PSNR over pictures and widths by the integer engine."""
    return float(np.mean(list(validate_network(network, pairs, widths).values())))


@torch.no_grad()
def walk(convs: list[QuantConv2d], column: int, judge: Callable[[], float], best: float) -> tuple[float, float]:
    """Move one factor of the steps in ``column`` until ``PATIENCE`` moves in a row gain nothing: (factor, figure)."""
    start, base = [conv.activation_step[column].clone() for conv in convs], best
    factor = 1.0
    for direction in (FACTOR, 1 / FACTOR):
        tried, misses = 1.0, 0
        while misses < PATIENCE:
            tried *= direction
            for conv, step in zip(convs, start, strict=True):
                conv.activation_step[column] = step * tried
            figure = judge()
            misses += 1
            if figure > best:
                best, factor, misses = figure, tried, 0
    if best < base + LEAST_GAIN:
        factor, best = 1.0, base
    for conv, step in zip(convs, start, strict=True):
        conv.activation_step[column] = step * factor
    return factor, best


def main() -> None:
    args, checkpoint, network = parse_arguments(__doc__)
    training, held_out = split_validation(list_images(args.data))
    pairs = load_pairs(held_out, checkpoint.scale)
    widths = network.config.bit_widths
    groups = {"first": [b.conv1 for b in network.blocks], "second": [b.conv2 for b in network.blocks]}
    factors = {}
    for column, width in enumerate(widths):
        best = mean_psnr(network, pairs, (width,))
        for name, convs in groups.items():
            factor, best = walk(convs, column, lambda width=width: mean_psnr(network, pairs, (width,)), best)
            factors[f"{name} convolutions, {width} bits"] = round(factor, 3)
            print(f"{name} convolutions, {width} bits: x {factor:.3f}, {best:.4f} dB", flush=True)
    static = {"body_conv": network.body_conv, "tail": network.tail}
    static |= {f"upsampler {i}": conv for i, conv in enumerate(network.upsampler_convs)}
    best = mean_psnr(network, pairs, widths)
    for name, conv in static.items():
        factor, best = walk([conv], 0, lambda: mean_psnr(network, pairs, widths), best)
        factors[name] = round(factor, 3)
        print(f"{name}: x {factor:.3f}, {best:.4f} dB", flush=True)
    figures = validate_network(network, pairs)
    print(", ".join(f"{bits} bits {psnr:.3f}" for bits, psnr in figures.items()), flush=True)
    facts = {**checkpoint.facts, "steps_refined": {name: factor for name, factor in factors.items() if factor != 1.0}}
    write_checkpoint(
        args.output,
        attach_controller(
            network, load_pairs(training, checkpoint.scale), name=checkpoint.name, target_fab=args.fab, facts=facts
        ),
    )


if __name__ == "__main__":
    main()
