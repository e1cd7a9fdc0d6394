"""Average two checkpoints of one origin, weights and steps alike; a quantized one gets a new controller.

    python benchmarks/average_checkpoints.py FIRST SECOND SHARE OUTPUT --data HR_DIR [--fab 4.7]

Two runs that differ only in their seed err in different ways, and their average less than either (Wortsman et al.,
"Model soups", 2022). Prints the validation PSNR of every width.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.options import DEFAULT_FAB
from gdq_cli.training.calibration.calibrate import attach_controller
from gdq_cli.training.data import list_images, load_pairs, split_validation
from gdq_cli.training.stages import fit_narrow_grids
from gdq_cli.training.validate import validate_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("share", type=float, help="of the second")
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fab", type=float, default=DEFAULT_FAB)
    args = parser.parse_args()
    first, second = read_checkpoint(args.first), read_checkpoint(args.second)
    network = second.network
    if not isinstance(network, Edsr) or first.network.config != network.config:
        parser.error("both must be the same EDSR")
    start, end = first.network.state_dict(), network.state_dict()
    network.load_state_dict({name: torch.lerp(start[name], end[name], args.share) for name in end})
    fit_narrow_grids(network)
    training, held_out = split_validation(list_images(args.data))
    figures = validate_network(network, load_pairs(held_out, second.scale))
    print(", ".join(f"{bits} bits {psnr:.3f}" for bits, psnr in figures.items()))
    history = [*first.facts["training"], {**second.facts["training"][-1], "averaged": args.share}]
    average = Checkpoint(network, None, {**second.facts, "training": history}, second.name)
    if average.is_quantized:
        pairs = load_pairs(training, second.scale)
        average = attach_controller(network, pairs, name=second.name, target_fab=args.fab, facts=average.facts)
    write_checkpoint(args.output, average)


if __name__ == "__main__":
    main()
