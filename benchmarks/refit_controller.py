"""Fit a quantized EDSR's controller anew on a folder of HR pictures, e.g. for another average; the network stays.

    python benchmarks/refit_controller.py CHECKPOINT OUTPUT --data HR_DIR [--fab 4.7]

Prints the average bit-width of its choice on the held-out pictures, and the PSNR there.
"""

from __future__ import annotations

from refine_steps import parse_arguments

from gdq_cli.models.checkpoint import write_checkpoint
from gdq_cli.training.calibration.calibrate import attach_controller
from gdq_cli.training.data import list_images, load_pairs, split_validation
from gdq_cli.training.validate import validate_auto


def main() -> None:
    args, checkpoint, network = parse_arguments(__doc__)
    training, held_out = split_validation(list_images(args.data))
    fitted = attach_controller(
        network,
        load_pairs(training, checkpoint.scale),
        name=checkpoint.name,
        target_fab=args.fab,
        facts=checkpoint.facts,
        progress=print,
    )
    assert fitted.controller is not None
    psnr, fab = validate_auto(fitted, load_pairs(held_out, checkpoint.scale))
    print(f"held-out pictures: {psnr:.3f} dB at {fab:.2f} bits")
    write_checkpoint(args.output, fitted)


if __name__ == "__main__":
    main()
