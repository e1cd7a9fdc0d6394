"""Fitting the controller: what each width costs each patch, and the linear layer that spends bits where they matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits import entropy
from gdq_cli.bits.controller import GBC_BITS, Controller, Descriptor
from gdq_cli.bits.controller_release import ReleaseHead
from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.engines import Engine
from gdq_cli.measure.pairs import ImagePair
from gdq_cli.program.layers import IntegerHead

QUANTILE_STEP = 0.005
"""Resolution of the entropy table: 0.5 %, as in the release's table."""

PATCH = 48
"""Side of a measured patch in LR pixels: small enough that training pictures give many."""

CLIPPED_QUANTILE = 0.995
"""Harm beyond this quantile of its size counts as that much, so that no few patches decide."""

RIDGES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""Penalties on the controller's slopes that are tried."""


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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PatchTable:
    """Run every width on the patches of some images and compare with HR.

    Args:
        pairs: images; each is divided into patches of about ``PATCH`` LR pixels that are judged apart.
        engine: of the quantized network.
        head: of that network, as its controller sees it.
        descriptor: kind of descriptor.
        progress: called with finished and all images.
    """
    errors = []
    for index, pair in enumerate(pairs):
        progress(index, len(pairs))
        outputs = [engine.run_windows(pair.lr[None], bits)[0] for bits in BIT_WIDTHS]
        squares = [(output.astype(np.float64) - pair.hr).__pow__(2).mean(axis=2) for output in outputs]
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        for core in _cores(pair):
            inside = tuple(slice(span.start * scale, span.stop * scale) for span in core)
            errors.append([square[inside].mean() for square in squares])
    entropies = [entropy.patch_entropy(np.ascontiguousarray(pair.lr[core])) for pair in pairs for core in _cores(pair)]
    return PatchTable(np.array(errors), describe_patches(pairs, head, descriptor), np.array(entropies))


def describe_patches(
    pairs: list[ImagePair], head: IntegerHead | ReleaseHead, descriptor: Descriptor
) -> NDArray[np.float64]:
    """Descriptors, (N, 3 * C), of the patches that ``measure_patches`` makes of some images."""
    probe = Controller(descriptor, np.zeros((3, 1)), np.zeros(3), (0.0, 0.0))
    cores = [np.ascontiguousarray(pair.lr[core]) for pair in pairs for core in _cores(pair)]
    return np.concatenate([probe.descriptors(core[None], head) for core in cores])


def count_patches(pair: ImagePair) -> int:
    """Number of patches that ``measure_patches`` makes of an image."""
    return len(_cores(pair))


def _cores(pair: ImagePair) -> list[tuple[slice, slice]]:
    rows, cols = (_spans(side) for side in pair.lr.shape[:2])
    return [(row, col) for row in rows for col in cols]


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
    table: PatchTable,
    *,
    descriptor: Descriptor,
    thresholds: tuple[float, float],
    target_fab: float,
) -> Controller:
    """Fit GBC's linear layer so that it spends ``target_fab`` bits on average where they save most error.

    A log-linear regression gives a patch's harm at 4 bits, exp(s), from its descriptors. Harm falls by about the
    same factor per bit in all patches, so the best width for a price per bit is a matter of thresholds on s, and three
    linear logits can say exactly that: 0 for 4 bits, s - c1 for what E2B makes of "8" (mostly 5 bits), 2 s - c1 - c2
    for 6 bits. The price is found by bisection on the FAB of the finished choice, entropy step included.

    Args:
        table: patches of one checkpoint.
        descriptor: kind of the table's descriptors.
        thresholds: of E2B.
        target_fab: average bit-width on the table's patches.

    Returns:
        The controller whose FAB is closest to the target from below.
    """
    harm = patch_harm(table.errors)
    at_four, at_five, at_six = (float(harm[:, i].mean()) for i in range(3))
    at_four = max(at_four, 1e-6)  # a further bit never hurts, whatever a few patches say
    at_five = min(max(at_five, 0.02 * at_four), 0.7 * at_four)
    at_six = min(max(at_six, 0.02 * at_five), 0.7 * at_five)
    first, second = np.log(1 - at_five / at_four), np.log((at_five - at_six) / at_four)
    centre, spread = table.descriptors.mean(0), np.maximum(table.descriptors.std(0), 1e-9)
    largest = np.quantile(np.abs(harm[:, 0]), CLIPPED_QUANTILE)
    described, lost = (table.descriptors - centre) / spread, np.clip(harm[:, 0], -largest, largest)
    slope, level = fit_log_linear(described, lost, choose_ridge(described, lost))
    slope = slope / spread
    level -= float(centre @ slope)

    def controller(price: float) -> Controller:
        weight = np.stack([0 * slope, 2 * slope, slope])
        one, two = price - first, price - second
        return Controller(descriptor, weight, np.array([0.0, 2 * level - one - two, level - one]), thresholds)

    return spend_on_average(controller, table, target_fab)


def choose_ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The penalty of ``RIDGES`` with which ``fit_log_linear`` predicts left-out rows best, a fifth at a time.

    Few patches need a large one: from 500, a penalty that suits 2,000 makes a controller that is worse than 5 bits
    for every patch (docs/training.md).
    """
    parts = min(5, len(x))
    part = np.arange(len(x)) * parts // len(x)  # in order: patches of one picture stay together

    def deviance(ridge: float) -> float:
        total = 0.0
        for out in (part == index for index in range(parts)):
            slope, level = fit_log_linear(x[~out], y[~out], ridge)
            s = np.minimum(x[out] @ slope + level, 50)
            total += float((np.exp(s) - y[out] * s).sum())
        return total

    return min(RIDGES, key=deviance) if parts > 1 else RIDGES[-1]


def fit_log_linear(x: NDArray[np.float64], y: NDArray[np.float64], ridge: float) -> tuple[NDArray[np.float64], float]:
    """Fit E[y] = exp(slope . x + level) by quasi-Poisson likelihood, which any y with a positive mean has.

    What a patch loses by fewer bits is half chance and often negative. Regression of its logarithm would describe
    the noise of the small losses; here a patch counts by the loss that is expected of it.

    Args:
        x: (N, D), standardised.
        y: (N,).
        ridge: squared slopes weigh as much as this many rows of average y.

    Returns:
        Slopes, (D,), and level. Zero slopes and the smallest level if the mean is not positive.
    """
    mean = float(y.mean())
    if mean <= 0:
        return np.zeros(x.shape[1]), float(np.log(1e-9))
    y = y / mean
    a = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = np.append(np.full(x.shape[1], ridge), 0.0)

    def cost(w: NDArray[np.float64]) -> float:
        s = np.minimum(a @ w, 50)
        return float((np.exp(s) - y * s).sum() + penalty @ w**2 / 2)

    w = np.zeros(a.shape[1])
    now = cost(w)
    for _ in range(50):  # Newton; the cost is convex
        expected = np.exp(np.minimum(a @ w, 50))
        curvature = (a * expected[:, None]).T @ a + np.diag(penalty + 1e-9)
        move = np.linalg.solve(curvature, a.T @ (expected - y) + penalty * w)
        size = 1.0
        while (then := cost(w - size * move)) > now and size > 1e-6:
            size /= 2
        if then > now - 1e-9 * abs(now):
            break
        w, now = w - size * move, then
    return w[:-1], float(w[-1] + np.log(mean))


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
