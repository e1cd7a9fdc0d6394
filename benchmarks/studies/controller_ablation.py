"""Does the controller know where bits are needed? Ways to allocate the same average bit-width, compared.

    python benchmarks/studies/controller_ablation.py HR_DIR [--scale 4] [--images N] [--fab 4.5 5.0]

Patches of training pictures are measured at 4, 5, 6 and 8 bits by the shipped network; same patches, same fit and same
average for all: random (the widths of band_energy, shuffled), entropy alone, the release's mean feature, band energy;
each descriptor fitted by log-linear regression, and trained by Gumbel-softmax as in the paper. Prints two Markdown
tables, each with the margins of band_energy over random and over 5 bits everywhere and their standard errors:

1. five folds of the training pictures, controllers fitted on four and judged on the fifth;
2. the held-out pictures, which neither the network nor a controller has learned from.

Loss is in PSNR against 8 bits everywhere: of patches, each alone, and of pictures of 20 patches (neighbours in the
order of file names), whose squared errors are pooled as those of a picture are.
"""

from __future__ import annotations

import argparse
import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np

from gdq_cli.bits.controller import Controller, Descriptor, spend_budget
from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.engines import choose_engine
from gdq_cli.measure.pairs import list_images, load_pairs, split_validation
from gdq_cli.networks import controller_head
from gdq_cli.training.calibration.fit_controller import (
    PatchTable,
    choose_thresholds,
    choose_widths,
    describe_patches,
    entropy_table,
    fit_controller,
    measure_patches,
)
from gdq_cli.training.calibration.gumbel import train_gumbel
from gdq_cli.upscaling.pool import load_checkpoint

FOLDS = 5
SHUFFLES = 50
POOLED = 20
"""Patches of a picture."""

BAND_ENERGY = "band_energy (ours)"
RANDOM = "random, same widths"

Tables = dict[str, PatchTable]
"""The same patches with the descriptors of each allocation."""

Widths = dict[tuple[str, float], np.ndarray]
"""Bit-widths of all patches by allocation and FAB, (draws, N): several draws of a random one."""


def rows_of(table: PatchTable, index: np.ndarray) -> PatchTable:
    """A part of a table."""
    return PatchTable(table.errors[index], table.descriptors[index], table.entropies[index])


def errors_at(table: PatchTable, widths: list[int] | np.ndarray) -> np.ndarray:
    """Squared error of each patch at the width it got, (N,)."""
    error: np.ndarray = table.errors[np.arange(len(widths)), np.searchsorted(BIT_WIDTHS, widths)]
    return error


def losses(table: PatchTable, widths: list[int]) -> tuple[float, float, float]:
    """FAB, mean PSNR loss of patches in dB, and mean rise of the squared error, against 8 bits."""
    error, widest = errors_at(table, widths), table.errors[:, -1]
    return float(np.mean(widths)), float(10 * np.log10(error / widest).mean()), float((error - widest).mean())


def pooled_losses(table: PatchTable, widths: np.ndarray, pooled: int) -> np.ndarray:
    """PSNR loss in dB of each picture of so many patches, (N / pooled,): mean over draws; a short rest is left out."""
    whole = len(table.errors) // pooled * pooled

    def pool(errors: np.ndarray) -> np.ndarray:
        return errors[:whole].reshape(-1, pooled).sum(1)

    widest = pool(table.errors[:, -1])
    return np.mean([10 * np.log10(pool(errors_at(table, draw)) / widest) for draw in widths], axis=0)


def controllers(train: PatchTable, descriptor: str, fab: float) -> tuple[Controller, Controller]:
    """Controllers learnt from the training patches by log-linear regression and by Gumbel-softmax."""
    kind: Descriptor = "mean" if descriptor == "mean" else "band_energy"
    thresholds = choose_thresholds(entropy_table(train.entropies))
    return (
        fit_controller(train, descriptor=kind, thresholds=thresholds, target_fab=fab),
        train_gumbel(train, descriptor=kind, thresholds=thresholds, target_fab=fab),
    )


def allocate(train: Tables, test: Tables, fab: float, rng: np.random.Generator) -> Widths:
    """Bit-widths of the test patches by every allocation, learnt from the training patches."""
    found = {}
    for name, table in test.items():
        fitted, gumbel = controllers(train[name], name.split()[0], fab)
        widths = np.array(spend_budget(table.descriptors @ fitted.weight.T + fitted.bias, fab))
        found[name] = widths[None]
        if name == "entropy alone":
            continue
        found[f"{name}, Gumbel-softmax"] = np.array(choose_widths(gumbel, table))[None]
        if name == BAND_ENERGY:
            found["band_energy with E2B, as shipped"] = np.array(choose_widths(fitted, table))[None]
            found[RANDOM] = np.array([rng.permutation(widths) for _ in range(SHUFFLES)])
    return {(name, fab): widths for name, widths in found.items()}


def judge(table: PatchTable, found: Widths) -> None:
    """Print the Markdown table of some allocations, and the margins of ours."""
    for bits in BIT_WIDTHS[:3]:
        found[f"fixed {bits} bits", 0.0] = np.full((1, len(table.errors)), bits)
    print(f"| allocation | FAB | PSNR loss of patches, dB | of pictures of {POOLED} |")
    print("| --- | --- | --- | --- |")
    for (name, _), widths in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        patches, pictures = (pooled_losses(table, widths, pooled).mean() for pooled in (1, POOLED))
        print(f"| {name} | {widths.mean():.2f} | {patches:.4f} | {pictures:.4f} |")
    print()
    for fab in sorted({fab for _, fab in found} - {0.0}):
        for other in (RANDOM, fab), ("fixed 5 bits", 0.0):
            if other[1] == fab or fab == 5:
                margins = [margin(table, found[BAND_ENERGY, fab], found[other], pooled) for pooled in (1, POOLED)]
                print(f"FAB {fab:.2f}: less loss than {other[0]}: patches {margins[0]}, pictures {margins[1]}")


def margin(table: PatchTable, ours: np.ndarray, other: np.ndarray, pooled: int) -> str:
    """How much less PSNR ``ours`` loses, with its standard error.

    Single patches of a picture err alike, so that error is at least over pictures of four.
    """
    theirs = pooled_losses(table, other, pooled)
    gain = theirs - pooled_losses(table, ours, pooled)
    apart = gain if pooled > 1 else gain[: len(gain) // 4 * 4].reshape(-1, 4).mean(1)
    share = 100 * gain.mean() / theirs.mean()
    return f"{gain.mean():.4f} +- {apart.std(ddof=1) / len(apart) ** 0.5:.4f} dB ({share:.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--images", type=int, help="of the training pictures; all by default")
    parser.add_argument("--fab", type=float, nargs="+", default=[4.5, 5.0])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    files, held_out_files = split_validation(list_images(arguments.folder))
    chosen = [files[i] for i in sorted(rng.permutation(len(files))[: arguments.images])]
    checkpoint = load_checkpoint("edsr", arguments.scale)
    engine, head = choose_engine(checkpoint.network).engine, controller_head(checkpoint.network)

    def measure(pictures: list[Path]) -> Tables:
        pairs = load_pairs(pictures, arguments.scale)
        energy = measure_patches(pairs, engine, head)
        mean = replace(energy, descriptors=describe_patches(pairs, head, "mean"))
        entropies = replace(energy, descriptors=energy.entropies[:, None])
        return {"entropy alone": entropies, "mean (release)": mean, BAND_ENERGY: energy}

    training, held_out = measure(chosen), measure(held_out_files)
    table = training[BAND_ENERGY]
    each = len(table.errors) // len(chosen)
    print(f"EDSR x{arguments.scale}, {len(chosen)} pictures, {len(table.errors)} patches, {FOLDS} folds", end=", ")
    print(f"{datetime.date.today()}\n")
    found: Widths = {}
    for pictures in np.array_split(rng.permutation(len(chosen)), FOLDS):
        fold = np.sort((pictures[:, None] * each + np.arange(each)).ravel())
        rest = np.setdiff1d(np.arange(len(table.errors)), fold)
        train, test = ({k: rows_of(t, part) for k, t in training.items()} for part in (rest, fold))
        for fab in arguments.fab:
            for key, widths in allocate(train, test, fab, rng).items():
                found.setdefault(key, np.zeros((len(widths), len(table.errors)), int))[:, fold] = widths
    judge(table, found)

    print(f"\n{len(held_out_files)} held-out pictures, {len(held_out[BAND_ENERGY].errors)} patches\n")
    judged: Widths = {}
    for fab in arguments.fab:
        judged |= allocate(training, held_out, fab, rng)
    judge(held_out[BAND_ENERGY], judged)


if __name__ == "__main__":
    main()
