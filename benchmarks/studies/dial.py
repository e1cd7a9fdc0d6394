"""Does the dial buy pixels for time? Y-PSNR against seconds of fixed widths, auto, budgets and chance.

Each map stands beside as many patches of the same widths at random places of the same picture. Seconds are of the
network, medians of interleaved runs over all pictures; whole photographs are wanted, as tiles put together have patches
that no photograph has.
"""

from __future__ import annotations

import argparse
import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.windows import Window, plan_windows
from gdq_cli.engines import choose_engine
from gdq_cli.measure.benchmark import interleave
from gdq_cli.measure.evaluation import parse_degradations
from gdq_cli.measure.machine import cpu_name
from gdq_cli.measure.metrics import psnr_y
from gdq_cli.measure.pairs import ImagePair, list_images, load_pairs
from gdq_cli.upscaling.pool import load_checkpoint
from gdq_cli.upscaling.upscaler import BitPlan, Upscaler

BUDGETS = (4.5, 5.0, 5.5, 6.0, 6.5, 7.0)
DRAWS = 5


class Curve:
    """Every way to spend bits on some pictures.

    Args:
        upscaler: checkpoint and engine.
        pairs: pictures.
    """

    def __init__(self, upscaler: Upscaler, pairs: list[ImagePair]) -> None:
        self.upscaler, self.pairs = upscaler, pairs
        plan = partial(self._plans, "auto")
        self.ways = {
            f"{bits} bits": self._plans(str(bits)) for bits in upscaler.checkpoint.parameters.config.bit_widths
        }
        self.ways |= {"auto": plan(), "auto, by time": plan(prefer="time")}
        self.ways |= {f"budget {budget:g}": plan(budget=budget) for budget in BUDGETS}

    def _plans(self, bits: str, **options: object) -> list[BitPlan]:
        return [self.upscaler.plan_bits(pair.lr, bits=bits, **options) for pair in self.pairs]  # type: ignore[arg-type]

    def _run(self, pair: ImagePair, windows: tuple[Window, ...]) -> NDArray[np.uint8]:
        scale = self.upscaler.scale
        target = np.empty((pair.lr.shape[0] * scale, pair.lr.shape[1] * scale, 3), np.uint8)
        self.upscaler.engine.run(pair.lr, windows, target)
        return target

    def _run_all(self, plans: list[BitPlan]) -> None:
        for pair, plan in zip(self.pairs, plans, strict=True):
            self._run(pair, plan.windows)

    def psnr(self, all_windows: list[tuple[Window, ...]]) -> float:
        """Mean over the pictures, dB."""
        pairs = zip(self.pairs, all_windows, strict=True)
        return float(np.mean([psnr_y(self._run(p, windows), p.hr, self.upscaler.scale) for p, windows in pairs]))

    def chance(self, plans: list[BitPlan]) -> float:
        """The same widths at random places; mean of ``DRAWS`` draws."""
        rng = np.random.default_rng(0)

        def draw(plan: BitPlan) -> tuple[Window, ...]:
            return plan_windows(plan.patches, rng.permutation(plan.bit_widths).tolist())

        return float(np.mean([self.psnr([draw(plan) for plan in plans]) for _ in range(DRAWS)]))

    def print(self, repeats: int) -> None:
        """The table."""
        seconds = interleave({way: partial(self._run_all, plans) for way, plans in self.ways.items()}, repeats=repeats)
        program = self.upscaler.checkpoint.parameters.outline
        print("| | FAB | TBitOPs | seconds | Y-PSNR | same widths at random places |", "| --- " * 6 + "|", sep="\n")
        for way, plans in self.ways.items():
            fab = float(np.mean([plan.fab for plan in plans]))
            bitops = sum(plan.bitops_g(program) for plan in plans) / 1000
            psnr = self.psnr([plan.windows for plan in plans])
            chance = f"{self.chance(plans):.3f}" if any(len(set(plan.bit_widths)) > 1 for plan in plans) else ""
            print(
                f"| {way} | {fab:.2f} | {bitops:.1f} | {seconds[way].median:.2f} | {psnr:.3f} | {chance} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="HR_DIR", help="folder of HR pictures")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--degrade", default="clean,light", help="of gdq eval")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model, arguments.scale)
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.parameters).engine)
    for degradation in parse_degradations(arguments.degrade):
        pairs = load_pairs(list_images(arguments.data), arguments.scale, degradation)
        print(f"\n{arguments.model} x{arguments.scale}, {len(pairs)} pictures, {degradation}; {cpu_name()}, ", end="")
        print(f"{upscaler.engine.name}, {datetime.date.today()}\n")
        Curve(upscaler, pairs).print(arguments.repeats)


if __name__ == "__main__":
    main()
