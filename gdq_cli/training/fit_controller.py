"""Fitting the controller: what each width costs each patch, and the linear layer that spends bits where they matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from gdq_cli import entropy
from gdq_cli.controller import GBC_BITS, Controller, Descriptor, IntegerHead
from gdq_cli.controller_release import ReleaseHead
from gdq_cli.engines import Engine
from gdq_cli.quantizers import BIT_WIDTHS
from gdq_cli.training.data import ImagePair

QUANTILE_STEP = 0.005
"""Resolution of the entropy table: 0.5 %, as in the release's table."""

PATCH = 48
"""Side of a measured patch in LR pixels: small enough that training pictures give many."""


@dataclass(frozen=True)
class PatchTable:
    """What is known about a set of patches.

    Attributes:
        errors: (N, 4) mean squared error in grey levels at 4, 5, 6, 8 bits.
        descriptors: (N, 3 * C).
        entropies: (N,) in nats.
    """

    errors: NDArray[np.float64]
    descriptors: NDArray[np.float64]
    entropies: NDArray[np.float64]


def measure_patches(
    pairs: list[ImagePair],
    engine: Engine,
    head: IntegerHead | ReleaseHead,
    descriptor: Descriptor = "band_energy",
) -> PatchTable:
    """Run every width on the patches of some images and compare with HR.

    Args:
        pairs: images; each is divided into patches of about ``PATCH`` LR pixels that are judged apart.
        engine: of the quantized network.
        head: of that network, as its controller sees it.
        descriptor: kind of descriptor.
    """
    probe = Controller(descriptor, np.zeros((3, 1)), np.zeros(3), (0.0, 0.0))
    errors, descriptors, entropies = [], [], []
    for pair in pairs:
        windows = torch.from_numpy(pair.lr[None]).permute(0, 3, 1, 2)
        outputs = [engine(windows, bits)[0].permute(1, 2, 0).numpy() for bits in BIT_WIDTHS]
        squares = [(output.astype(np.float64) - pair.hr).__pow__(2).mean(axis=2) for output in outputs]
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        for rows in _spans(pair.lr.shape[0]):
            for cols in _spans(pair.lr.shape[1]):
                core = np.ascontiguousarray(pair.lr[rows, cols])
                inside = tuple(slice(span.start * scale, span.stop * scale) for span in (rows, cols))
                errors.append([square[inside].mean() for square in squares])
                descriptors.append(probe.descriptors(core[None], head)[0])
                entropies.append(entropy.patch_entropy(core))
    return PatchTable(np.array(errors), np.array(descriptors), np.array(entropies))


def count_patches(pair: ImagePair) -> int:
    """Number of patches that :func:`measure_patches` makes of an image."""
    return len(_spans(pair.lr.shape[0])) * len(_spans(pair.lr.shape[1]))


def _spans(side: int) -> list[slice]:
    count = max(1, round(side / PATCH))
    edges = np.linspace(0, side, count + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def entropy_table(entropies: NDArray[np.float64]) -> list[float]:
    """Quantiles of the entropy in steps of 0.5 %, 0.5 % to 99.5 % (199 values)."""
    return [float(value) for value in np.quantile(entropies, np.arange(1, 200) * QUANTILE_STEP)]


def choose_thresholds(table: list[float], quantiles: tuple[float, float] = entropy.QUANTILES) -> tuple[float, float]:
    """E2B thresholds from an entropy table; quantiles are rounded to its steps."""
    low, high = (table[round(q / QUANTILE_STEP) - 1] for q in quantiles)
    return low, high


def patch_harm(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a width costs a patch beyond 8 bits, (N, 4) errors -> (N, 4).

    Within a picture squared errors add up, between pictures PSNR adds up, which is their logarithm. Patches of a
    training folder are both, so the difference of errors is divided by the root of the error.
    """
    widest = np.maximum(errors[:, -1:], 1e-3)
    harm: NDArray[np.float64] = (errors - errors[:, -1:]) / np.sqrt(widest)
    return harm


def fit_controller(
    table: PatchTable, *, descriptor: Descriptor, thresholds: tuple[float, float], target_fab: float, ridge: float = 3.0
) -> Controller:
    """Fit GBC's linear layer so that it spends ``target_fab`` bits on average where they save most error.

    Ridge regression gives the logarithm of a patch's harm at 4 bits, s, from its descriptors. Harm falls by about the
    same factor per bit in all patches, so the best width for a price per bit is a matter of thresholds on s, and three
    linear logits can say exactly that: 0 for 4 bits, s - c1 for what E2B makes of "8" (mostly 5 bits), 2 s - c1 - c2
    for 6 bits. The price is found by bisection on the FAB of the finished choice, entropy step included.

    Args:
        table: patches of one checkpoint.
        descriptor: kind of the table's descriptors.
        thresholds: of E2B.
        target_fab: average bit-width on the table's patches.
        ridge: of the regression on standardised descriptors, relative to 1000 patches.

    Returns:
        The controller whose FAB is closest to the target from below.
    """
    harm = patch_harm(table.errors)
    at_four, at_five, at_six = (float(harm[:, i].mean()) for i in range(3))
    at_four = max(at_four, 1e-6)  # a further bit never hurts, whatever a few patches say
    at_five = min(max(at_five, 0.02 * at_four), 0.7 * at_four)
    at_six = min(max(at_six, 0.02 * at_five), 0.7 * at_five)
    first, second = np.log(1 - at_five / at_four), np.log((at_five - at_six) / at_four)
    target = np.log(np.maximum(harm[:, 0], 0.02 * at_four))
    centre, spread = table.descriptors.mean(0), np.maximum(table.descriptors.std(0), 1e-9)
    normal = (table.descriptors - centre) / spread
    gram = normal.T @ normal + ridge * len(normal) / 1000 * np.eye(normal.shape[1])
    slope = np.linalg.solve(gram, normal.T @ (target - target.mean())) / spread
    level = float(target.mean() - centre @ slope)

    def controller(price: float) -> Controller:
        weight = np.stack([0 * slope, 2 * slope, slope])
        one, two = price - first, price - second
        return Controller(descriptor, weight, np.array([0.0, 2 * level - one - two, level - one]), thresholds)

    return spend_on_average(controller, table, target_fab)


def spend_on_average(controller: Callable[[float], Controller], table: PatchTable, target_fab: float) -> Controller:
    """The controller whose FAB on a table is closest to a target from below, by bisection on a price per bit.

    Args:
        controller: for the logarithm of a price; from -20 on it buys fewer and fewer bits, at 20 4 bits everywhere.
        table: patches.
        target_fab: average bit-width.
    """
    low, high = -20.0, 20.0
    for _ in range(40):
        price = (low + high) / 2
        if average_bits(controller(price), table) <= target_fab:
            high = price
        else:
            low = price
    return controller(high)


def average_bits(controller: Controller, table: PatchTable) -> float:
    """FAB of a controller's choice on the patches of a table."""
    return float(np.mean(choose_widths(controller, table)))


def choose_widths(controller: Controller, table: PatchTable) -> list[int]:
    """Bit-widths that a controller gives the patches of a table, entropy step included."""
    chosen = (table.descriptors @ controller.weight.T + controller.bias).argmax(1)
    return [
        GBC_BITS[index] if GBC_BITS[index] != 8 else entropy.entropy_to_bit(float(value), controller.thresholds)
        for index, value in zip(chosen, table.entropies, strict=True)
    ]
