"""Where should entropy-to-bit's thresholds lie? The paper's quantiles against ours, at equal average bit-width.

    python benchmarks/studies/entropy_quantiles.py HR_DIR [--scale 4] [--images 400] [--fab 4.9]

First line: how well the entropy of a patch, and the controller's own regression, predict what 4 bits cost it (rank
correlation with that harm, five folds). Then a table: the finished choice of controller and entropy with
thresholds at each pair of quantiles, fitted on four fifths of the patches for the same FAB and judged on the fifth.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np
from controller_ablation import FOLDS, losses, rows_of

from gdq_cli.engines import choose_engine
from gdq_cli.measure.pairs import list_images, load_pairs, split_validation
from gdq_cli.networks import controller_head
from gdq_cli.training.calibration.fit_controller import (
    choose_thresholds,
    choose_widths,
    entropy_table,
    fit_controller,
    measure_patches,
    patch_harm,
)
from gdq_cli.upscaling.pool import load_checkpoint

QUANTILES = ((0.5, 0.9), (0.25, 0.95), (0.1, 0.95), (0.01, 0.99))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation; ties do not occur in measured values."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--fab", type=float, default=4.9)
    arguments = parser.parse_args()
    files, _ = split_validation(list_images(arguments.folder))
    rng = np.random.default_rng(0)
    pairs = load_pairs([files[i] for i in sorted(rng.permutation(len(files))[: arguments.images])], arguments.scale)
    checkpoint = load_checkpoint("edsr", arguments.scale)
    head = controller_head(checkpoint.network)
    table = measure_patches(pairs, choose_engine(checkpoint.network).engine, head)
    folds = np.array_split(rng.permutation(len(table.errors)), FOLDS)
    by_entropy, by_controller = [], []
    found: dict[tuple[float, float], list[tuple[float, float, float]]] = {pair: [] for pair in QUANTILES}
    for fold in folds:
        train, test = rows_of(table, np.setdiff1d(np.arange(len(table.errors)), fold)), rows_of(table, fold)
        harm = patch_harm(test.errors)[:, 0]
        quantiles = entropy_table(train.entropies)
        for pair in QUANTILES:
            controller = fit_controller(
                train, descriptor="band_energy", thresholds=choose_thresholds(quantiles, pair), target_fab=arguments.fab
            )
            found[pair].append(losses(test, choose_widths(controller, test)))
        by_entropy.append(rank_correlation(test.entropies, harm))
        by_controller.append(rank_correlation(test.descriptors @ controller.weight[2], harm))
    print(f"EDSR x{arguments.scale}, {len(table.errors)} patches, {FOLDS} folds, {datetime.date.today()}\n")
    print(
        f"rank correlation with the harm of 4 bits: entropy {np.mean(by_entropy):.2f}, "
        f"controller {np.mean(by_controller):.2f}\n"
    )
    print("| quantiles | FAB | PSNR loss, dB | rise of squared error |")
    print("| --- | --- | --- | --- |")
    for (low, high), values in found.items():
        fab, loss, rise = np.mean(values, axis=0)
        print(f"| {low:g}, {high:g} | {fab:.2f} | {loss:.4f} | {rise:.3f} |")


if __name__ == "__main__":
    main()
