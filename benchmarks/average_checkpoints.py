"""Average a quantized checkpoint before and after training, weights and steps alike, and fit a new controller.

    python benchmarks/average_checkpoints.py BEFORE AFTER SHARE OUTPUT --data HR_DIR [--fab 4.7]

Training for few bits lets the float network drift; a share of AFTER below 1 keeps more of it (Wortsman et al., "Robust
fine-tuning of zero-shot models", 2022). Prints the validation PSNR of every width. The bundled edsr_x2 was made with
0.75.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from gdq_cli.checkpoint import read_checkpoint, write_checkpoint
from gdq_cli.networks.edsr import Edsr
from gdq_cli.options import DEFAULT_FAB
from gdq_cli.training.calibrate import attach_controller
from gdq_cli.training.data import list_images, load_pairs, split_validation
from gdq_cli.training.stages import fit_narrow_grids
from gdq_cli.training.validate import validate_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fab", type=float, default=DEFAULT_FAB)
    args = parser.parse_args()
    before, after = read_checkpoint(args.before), read_checkpoint(args.after)
    network = after.network
    if not isinstance(network, Edsr) or before.network.config != network.config:
        parser.error("BEFORE and AFTER must be the same EDSR")
    start, end = before.network.state_dict(), network.state_dict()
    network.load_state_dict({name: torch.lerp(start[name], end[name], args.share) for name in end})
    fit_narrow_grids(network)
    training, held_out = split_validation(list_images(args.data))
    figures = validate_network(network, load_pairs(held_out, after.scale))
    print(", ".join(f"{bits} bits {psnr:.3f}" for bits, psnr in figures.items()))
    *earlier, last = after.facts["training"]
    facts = {**after.facts, "training": [*earlier, {**last, "averaged": args.share}]}
    pairs = load_pairs(training, after.scale)
    write_checkpoint(args.output, attach_controller(network, pairs, name=after.name, target_fab=args.fab, facts=facts))


if __name__ == "__main__":
    main()
