"""Does the controller know where bits are needed? Ways to allocate the same average bit-width, compared.

    python benchmarks/controller_ablation.py ../shared/data/train [--scale 4] [--images 900] [--fab 4.5 4.9 5.0]

Patches of training pictures are measured at 4, 5, 6 and 8 bits by the shipped network; same patches, same fit and same
average for all: random (the widths of band_energy, shuffled), entropy alone, the release's mean feature, band energy;
each descriptor fitted by ridge regression, and trained by Gumbel-softmax as in the paper. Prints two Markdown tables:

1. five folds of the training pictures' patches, controllers fitted on four and judged on the fifth;
2. the held-out pictures, which neither the network nor a controller has learned from.

Loss is against 8 bits everywhere: mean over patches of the PSNR loss, and of the squared error in grey levels. Below
the second table, how much less band_energy loses than random and than 5 bits everywhere, with the standard error of
that difference over pictures.
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
SHUFFLES = 200
BAND_ENERGY = "band_energy (ours)"
RANDOM = "random, same widths"

Tables = dict[str, PatchTable]
"""The same patches with the descriptors of each allocation."""


def rows_of(table: PatchTable, index: np.ndarray) -> PatchTable:
    """A part of a table."""
    return PatchTable(table.errors[index], table.descriptors[index], table.entropies[index])


def patch_losses(table: PatchTable, widths: list[int]) -> np.ndarray:
    """Width, PSNR loss in dB and rise of the squared error of each patch against 8 bits, (N, 3)."""
    error = table.errors[np.arange(len(widths)), [BIT_WIDTHS.index(width) for width in widths]]
    widest = table.errors[:, -1]
    return np.stack([np.array(widths, np.float64), 10 * np.log10(error / widest), error - widest], axis=1)


def losses(table: PatchTable, widths: list[int]) -> tuple[float, float, float]:
    """FAB, mean PSNR loss in dB, and mean rise of the squared error, against 8 bits."""
    fab, loss, rise = patch_losses(table, widths).mean(0)
    return float(fab), float(loss), float(rise)


def controllers(train: PatchTable, descriptor: str, fab: float) -> tuple[Controller, Controller]:
    """Controllers learnt from the training patches by ridge regression and by Gumbel-softmax."""
    kind: Descriptor = "mean" if descriptor == "mean" else "band_energy"
    thresholds = choose_thresholds(entropy_table(train.entropies))
    return (
        fit_controller(train, descriptor=kind, thresholds=thresholds, target_fab=fab),
        train_gumbel(train, descriptor=kind, thresholds=thresholds, target_fab=fab),
    )


def allocate(train: Tables, test: Tables, fab: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """:func:`patch_losses` of the test patches by every allocation, learnt from the training patches."""
    found = {}
    for name, table in test.items():
        ridge, gumbel = controllers(train[name], name.split()[0], fab)
        widths = spend_budget(table.descriptors @ ridge.weight.T + ridge.bias, fab)
        found[name] = patch_losses(table, widths)
        if name == "entropy alone":
            continue
        found[f"{name}, Gumbel-softmax"] = patch_losses(table, choose_widths(gumbel, table))
        if name == BAND_ENERGY:
            found["band_energy with E2B, as shipped"] = patch_losses(table, choose_widths(ridge, table))
            shuffled = [patch_losses(table, list(rng.permutation(widths))) for _ in range(SHUFFLES)]
            found[RANDOM] = np.mean(shuffled, axis=0)
    return found


def fixed(table: PatchTable) -> dict[str, np.ndarray]:
    """:func:`patch_losses` of one width everywhere."""
    return {f"fixed {bits} bits": patch_losses(table, [bits] * len(table.errors)) for bits in BIT_WIDTHS[:3]}


def print_table(rows: dict[tuple[str, float], np.ndarray]) -> None:
    """One Markdown table of the means over patches."""
    print("| allocation | FAB | PSNR loss, dB | rise of squared error |")
    print("| --- | --- | --- | --- |")
    for (name, _), values in sorted(rows.items(), key=lambda item: (item[0][1], item[0][0])):
        fab, loss, rise = values.mean(0)
        print(f"| {name} | {fab:.2f} | {loss:.4f} | {rise:.3f} |")


def margin(ours: np.ndarray, other: np.ndarray, pictures: int) -> str:
    """How much less PSNR ``ours`` loses, with the standard error over pictures of equally many patches."""
    gain = (other[:, 1] - ours[:, 1]).reshape(pictures, -1).mean(1)
    share = 100 * gain.mean() / other[:, 1].mean()
    return f"{gain.mean():.4f} +- {gain.std(ddof=1) / pictures**0.5:.4f} dB ({share:.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument("--fab", type=float, nargs="+", default=[4.5, 4.9, 5.0])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    files, held_out_files = split_validation(list_images(arguments.folder))
    chosen = [files[i] for i in sorted(rng.permutation(len(files))[: arguments.images])]
    checkpoint = load_checkpoint("edsr", arguments.scale)
    engine, head = choose_engine(checkpoint.network).engine, lower_head(checkpoint.network.head)

    def measure(pictures: list[Path]) -> Tables:
        pairs = load_pairs(pictures, arguments.scale)
        energy, mean = (measure_patches(pairs, engine, head, kind) for kind in ("band_energy", "mean"))
        entropies = PatchTable(energy.errors, energy.entropies[:, None], energy.entropies)
        return {"entropy alone": entropies, "mean (release)": mean, BAND_ENERGY: energy}

    training, held_out = measure(chosen), measure(held_out_files)
    patches = len(training[BAND_ENERGY].errors)
    print(f"EDSR x{arguments.scale}, {patches} patches, {FOLDS} folds, {datetime.date.today()}\n")
    parts: dict[tuple[str, float], list[np.ndarray]] = {}
    for fold in np.array_split(rng.permutation(patches), FOLDS):
        rest = np.setdiff1d(np.arange(patches), fold)
        train, test = ({k: rows_of(table, part) for k, table in training.items()} for part in (rest, fold))
        for name, values in fixed(test[BAND_ENERGY]).items():
            parts.setdefault((name, 0.0), []).append(values)
        for fab in arguments.fab:
            for name, values in allocate(train, test, fab, rng).items():
                parts.setdefault((name, fab), []).append(values)
    print_table({key: np.concatenate(values) for key, values in parts.items()})

    judged = {(name, 0.0): values for name, values in fixed(held_out[BAND_ENERGY]).items()}
    for fab in arguments.fab:
        judged |= {(name, fab): values for name, values in allocate(training, held_out, fab, rng).items()}
    pictures = len(held_out_files)
    print(f"\n{pictures} held-out pictures, {len(held_out[BAND_ENERGY].errors)} patches\n")
    print_table(judged)
    print()
    for fab in arguments.fab:
        ours = judged[BAND_ENERGY, fab]
        print(f"FAB {fab:.2f}: less loss than random: {margin(ours, judged[RANDOM, fab], pictures)}")
        if fab == 5.0:
            print(f"FAB {fab:.2f}: less loss than 5 bits: {margin(ours, judged['fixed 5 bits', 0.0], pictures)}")


if __name__ == "__main__":
    main()
