"""Does the controller know where bits are needed? Ways to allocate the same average bit-width, compared.

    python benchmarks/controller_ablation.py ../shared/data/train [--scale 4] [--images 900] [--fab 4.5 4.9 5.0]

Images of the training split are measured at 4, 5, 6 and 8 bits by the shipped network; the controllers are fitted on
four fifths of them and judged on the fifth, five times. Prints one Markdown table. Same data, same fit and same average
for all: random (the widths of band_energy, shuffled), entropy alone, the release's mean feature, band energy; each
descriptor fitted by ridge regression, and trained by Gumbel-softmax as in the paper. Loss is
against 8 bits everywhere: mean over patches of the PSNR loss, and of the squared error in grey levels.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np

from gdq_cli.controller import Controller, Descriptor, spend_budget
from gdq_cli.engines import choose_engine
from gdq_cli.engines.lowering import lower_head
from gdq_cli.models import load_checkpoint
from gdq_cli.quantizers import BIT_WIDTHS
from gdq_cli.training.data import list_images, load_pairs, split_validation
from gdq_cli.training.fit_controller import (
    PatchTable,
    choose_thresholds,
    choose_widths,
    entropy_table,
    fit_controller,
    measure_patches,
)
from gdq_cli.training.gumbel import train_gumbel

FOLDS = 5


def rows_of(table: PatchTable, index: np.ndarray) -> PatchTable:
    """A part of a table."""
    return PatchTable(table.errors[index], table.descriptors[index], table.entropies[index])


def losses(table: PatchTable, widths: list[int]) -> tuple[float, float, float]:
    """FAB, mean PSNR loss in dB, and mean rise of the squared error, against 8 bits."""
    error = table.errors[np.arange(len(widths)), [BIT_WIDTHS.index(width) for width in widths]]
    widest = table.errors[:, -1]
    return float(np.mean(widths)), float(np.mean(10 * np.log10(error / widest))), float(np.mean(error - widest))


def controllers(train: PatchTable, descriptor: str, fab: float) -> tuple[Controller, Controller]:
    """Controllers learnt from the training patches by ridge regression and by Gumbel-softmax."""
    kind: Descriptor = "mean" if descriptor == "mean" else "band_energy"
    thresholds = choose_thresholds(entropy_table(train.entropies))
    return (
        fit_controller(train, descriptor=kind, thresholds=thresholds, target_fab=fab),
        train_gumbel(train, descriptor=kind, thresholds=thresholds, target_fab=fab),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument("--fab", type=float, nargs="+", default=[4.5, 4.9, 5.0])
    arguments = parser.parse_args()
    files, _ = split_validation(list_images(arguments.folder))
    rng = np.random.default_rng(0)
    pairs = load_pairs([files[i] for i in sorted(rng.permutation(len(files))[: arguments.images])], arguments.scale)
    checkpoint = load_checkpoint("edsr", arguments.scale)
    engine, head = choose_engine(checkpoint.network).engine, lower_head(checkpoint.network.head)
    energy = measure_patches(pairs, engine, head, "band_energy")
    mean = measure_patches(pairs, engine, head, "mean")
    entropies = PatchTable(energy.errors, energy.entropies[:, None], energy.entropies)
    tables = {"entropy alone": entropies, "mean (release)": mean, "band_energy (ours)": energy}
    folds = np.array_split(rng.permutation(len(energy.errors)), FOLDS)

    print(f"EDSR x{arguments.scale}, {len(energy.errors)} patches, {FOLDS} folds, {datetime.date.today()}\n")
    print("| allocation | FAB | PSNR loss, dB | rise of squared error |")
    print("| --- | --- | --- | --- |")
    figures: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(energy.errors)), fold)
        for fab in arguments.fab:
            for name, table in tables.items():
                train, test = rows_of(table, rest), rows_of(table, fold)
                ridge, gumbel = controllers(train, name.split()[0], fab)
                widths = spend_budget(test.descriptors @ ridge.weight.T + ridge.bias, fab)
                figures.setdefault((name, fab), []).append(losses(test, widths))
                if name == "entropy alone":
                    continue
                figures.setdefault((f"{name}, Gumbel-softmax", fab), []).append(
                    losses(test, choose_widths(gumbel, test))
                )
                if name.startswith("band"):
                    shuffled = list(rng.permutation(widths))
                    figures.setdefault(("random, same widths", fab), []).append(losses(test, shuffled))
                    chosen = choose_widths(ridge, test)
                    figures.setdefault(("band_energy with E2B, as shipped", fab), []).append(losses(test, chosen))
        for width in BIT_WIDTHS[:3]:
            fixed = losses(rows_of(energy, fold), [width] * len(fold))
            figures.setdefault((f"fixed {width} bits", 0), []).append(fixed)
    for (name, _), values in sorted(figures.items(), key=lambda item: (item[0][1], item[0][0])):
        fab, loss, rise = np.mean(values, axis=0)
        print(f"| {name} | {fab:.2f} | {loss:.4f} | {rise:.3f} |")


if __name__ == "__main__":
    main()
