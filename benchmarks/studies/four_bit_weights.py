"""What would weights of 4 bits cost the patches of 4 bits? The next faster kernel class, F(2x3, 3x3), needs them.

    python benchmarks/studies/four_bit_weights.py CHECKPOINT --data HR_DIR [--steps 400] [--state FILE]

The blocks' weights get a third grid, |code| <= 7 with the step of least squared error per output channel, used at 4
bits only; 5, 6 and 8 bits keep theirs. Prints the PSNR at 4 bits on the held-out pictures, by the integer engine: with
the checkpoint's own narrow grid (about 6 bits), with 4-bit weights as they are, and after training with them in the
loop.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.measure.pairs import list_images, load_pairs, split_validation
from gdq_cli.models.checkpoint import read_checkpoint
from gdq_cli.networks import quantizers
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.training.data import PatchSampler
from gdq_cli.training.loop import Trainer, TrainOptions
from gdq_cli.training.stages import QuantizedStage
from gdq_cli.training.validate import validate_network

LARGEST = 7


@torch.no_grad()
def best_step(weight: Tensor) -> Tensor:
    """Step per output channel with the least squared error at codes up to 7, (O, I, 3, 3) -> (O,)."""
    peak = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-8)
    found, least = peak / LARGEST, torch.full_like(peak, torch.inf)
    for shrink in torch.linspace(0.35, 1.0, 40):
        step = peak * shrink / LARGEST
        codes = quantizers.weight_codes(weight, step, LARGEST)
        error = (codes * step.reshape(-1, 1, 1, 1) - weight).square().sum(dim=(1, 2, 3))
        found, least = torch.where(error < least, step, found), torch.minimum(error, least)
    return found


class FourBitConv2d(QuantConv2d):
    """A block's convolution whose weights are clipped to 4-bit codes in patches of 4 bits (straight-through)."""

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        if bit_width != 4:
            return super().forward(x, bit_width)
        qmin, qmax = self.input_range(bit_width)
        step = quantizers.scale_gradient(self.activation_step[0], (x.numel() * qmax) ** -0.5)
        weight_step = best_step(self.weight)
        codes = quantizers.activation_codes(x, step, qmin, qmax)
        weight = quantizers.weight_codes(self.weight, weight_step, LARGEST)
        y = torch.nn.functional.conv2d(codes, weight, padding=1)
        return y * (step * weight_step).reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


def block_convs(network: Edsr) -> list[QuantConv2d]:
    """The convolutions whose bit-width follows the patch."""
    return [conv for block in network.blocks for conv in (block.conv1, block.conv2)]


@torch.no_grad()
def on_four_bit_grid(network: Edsr) -> Edsr:
    """A copy whose narrow grid is the 4-bit one, for the engine, which knows no third grid."""
    network = copy.deepcopy(network)
    for conv in block_convs(network):
        conv.__class__ = QuantConv2d
        step = best_step(conv.weight)
        limit = (LARGEST * step).reshape(-1, 1, 1, 1)
        conv.weight.copy_(torch.maximum(torch.minimum(conv.weight, limit), -limit))
        conv.narrow_step.copy_(step)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--state", type=Path, help="where the training is kept, to go on after a break")
    args = parser.parse_args()
    checkpoint = read_checkpoint(args.checkpoint)
    network = checkpoint.network
    if not isinstance(network, Edsr) or not checkpoint.is_quantized:
        parser.error("takes a quantized EDSR")
    training, held_out = split_validation(list_images(args.data))
    pairs = load_pairs(held_out, checkpoint.scale)
    print(f"narrow grid: 4 bits {validate_network(network, pairs, (4,))[4]:.3f} dB", flush=True)
    before = validate_network(on_four_bit_grid(network), pairs, (4,))[4]
    print(f"4-bit weights, untrained: 4 bits {before:.3f} dB", flush=True)
    for conv in block_convs(network):
        conv.__class__ = FourBitConv2d
    with tempfile.TemporaryDirectory() as folder:
        sampler = PatchSampler(load_pairs(training, checkpoint.scale), 32, raise_contrast=True)
        options = TrainOptions(steps=args.steps, rate=4e-4)
        trainer = Trainer(QuantizedStage(network), sampler, options, args.state or Path(folder) / "state")
        trainer.run(lambda progress: print(f"step {progress.step}  {progress.seconds_per_step:.2f} s", flush=True))
    trained = trainer.average
    rest = {bits: psnr for bits, psnr in validate_network(trained, pairs).items() if bits != 4}
    after = validate_network(on_four_bit_grid(trained), pairs, (4,))[4]
    print(f"4-bit weights after {args.steps} steps: 4 bits {after:.3f} dB; the others", end=" ")
    print(", ".join(f"{bits} bits {psnr:.3f}" for bits, psnr in rest.items()))


if __name__ == "__main__":
    main()
