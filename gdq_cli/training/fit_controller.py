"""Fitting the controller: what each width costs each patch, and the linear layer that spends bits where they matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli import entropy
from gdq_cli.controller import GBC_BITS, Controller, Descriptor, IntegerHead
from gdq_cli.engines import Engine
from gdq_cli.quantizers import BIT_WIDTHS
from gdq_cli.training.data import ImagePair

QUANTILE_STEP = 0.005
"""Resolution of the entropy table: 0.5 %, as in the release's table."""


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
    pairs: list[ImagePair], engine: Engine, head: IntegerHead, descriptor: Descriptor = "band_energy", size: int = 48
) -> PatchTable:
    """Run every width on the patches of some images and compare with HR.

    Args:
        pairs: images; each is divided into patches of about ``size`` LR pixels that are judged apart.
        engine: of the quantized network.
        head: its integer head.
        descriptor: kind of descriptor.
        size: side of a patch.
    """
    probe = Controller(descriptor, np.zeros((3, 1)), np.zeros(3), (0.0, 0.0))
    errors, descriptors, entropies = [], [], []
    for pair in pairs:
        windows = torch.from_numpy(pair.lr[None]).permute(0, 3, 1, 2)
        outputs = [engine(windows, bits)[0].permute(1, 2, 0).numpy() for bits in BIT_WIDTHS]
        squares = [(output.astype(np.float64) - pair.hr).__pow__(2).mean(axis=2) for output in outputs]
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        for rows in _spans(pair.lr.shape[0], size):
            for cols in _spans(pair.lr.shape[1], size):
                core = np.ascontiguousarray(pair.lr[rows, cols])
                inside = tuple(slice(span.start * scale, span.stop * scale) for span in (rows, cols))
                errors.append([square[inside].mean() for square in squares])
                descriptors.append(probe.descriptors(core[None], head)[0])
                entropies.append(entropy.patch_entropy(core))
    return PatchTable(np.array(errors), np.array(descriptors), np.array(entropies))


def _spans(side: int, size: int) -> list[slice]:
    count = max(1, round(side / size))
    edges = np.linspace(0, side, count + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def entropy_table(entropies: NDArray[np.float64]) -> list[float]:
    """Quantiles of the entropy in steps of 0.5 %, 0.5 % to 99.5 % (199 values)."""
    return [float(value) for value in np.quantile(entropies, np.arange(1, 200) * QUANTILE_STEP)]


def choose_thresholds(table: list[float], quantiles: tuple[float, float] = entropy.QUANTILES) -> tuple[float, float]:
    """E2B thresholds from an entropy table; quantiles are rounded to its steps."""
    low, high = (table[round(q / QUANTILE_STEP) - 1] for q in quantiles)
    return low, high


def fit_controller(
    table: PatchTable,
    *,
    descriptor: Descriptor,
    thresholds: tuple[float, float],
    target_fab: float,
    seed: int = 0,
    epochs: int = 400,
) -> Controller:
    """Fit GBC's linear layer so that it spends ``target_fab`` bits on average where they save most error.

    The loss is the gate-weighted sum of the candidate widths' error plus a price per bit; the gate is
    Gumbel-softmax with a straight-through one-hot (tau = 1), as in the paper, so what is optimised is the error of
    the widths that would be chosen. What "8" means is what E2B makes of it: 4, 5 or 8 bits. The price is found by
    bisection on the FAB of the deterministic choice.

    Args:
        table: patches, of one checkpoint.
        descriptor: kind of the table's descriptors.
        thresholds: of E2B.
        target_fab: average bit-width on the table's patches.
        seed: of initialisation and Gumbel noise.
        epochs: optimizer steps per price.

    Returns:
        The controller whose FAB is closest to the target from below.
    """
    features = torch.from_numpy(table.descriptors)
    centre, spread = features.mean(0), features.std(0).clamp_min(1e-9)
    normal = (features - centre) / spread
    column = [BIT_WIDTHS.index(bits) for bits in GBC_BITS]
    costs = torch.from_numpy(table.errors)[:, column].clone()
    bits = torch.tensor(GBC_BITS, dtype=torch.float64).repeat(len(costs), 1)
    for index, value in enumerate(table.entropies):
        width = entropy.entropy_to_bit(float(value), thresholds)
        bits[index, 2] = width
        costs[index, 2] = float(table.errors[index, BIT_WIDTHS.index(width)])
    # Within a picture errors add up (harm = difference of squared errors), between pictures their logarithms do (harm
    # = ratio); patches of a training folder are both, so the difference is divided by the root of the error.
    widest = torch.from_numpy(table.errors[:, -1:])
    harm = (costs - widest) / widest.clamp_min(1e-3).sqrt()
    harm = harm / harm[:, 0].mean().clamp_min(1e-9)
    low, high = np.log(1e-4), np.log(1e2)
    best: tuple[Tensor, Tensor] | None = None
    for _ in range(14):
        price = (low + high) / 2 if best is not None else high
        weight, bias = _fit_gate(normal, harm + np.exp(price) * (bits - 4), seed, epochs)
        chosen = (normal @ weight.T + bias).argmax(dim=1, keepdim=True)
        if float(bits.gather(1, chosen).mean()) <= target_fab:
            high, best = price, (weight, bias)
        else:
            low = price
    assert best is not None
    weight, bias = best[0] / spread, best[1] - (best[0] * (centre / spread)).sum(1)
    return Controller(descriptor, weight.numpy(), bias.numpy(), thresholds)


def _fit_gate(features: Tensor, costs: Tensor, seed: int, epochs: int) -> tuple[Tensor, Tensor]:
    """Minimise the gated cost; Gumbel noise is annealed away so that the argmax is what was optimised."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(3, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=0.05)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - epoch / epochs)
        uniform = torch.rand(costs.shape, generator=generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        noise = -torch.log(-torch.log(uniform))
        soft = torch.softmax(features @ weight.T + bias + noise, dim=1)
        hard = torch.nn.functional.one_hot(soft.argmax(dim=1), 3).to(soft.dtype)
        gate = hard + soft - soft.detach()
        loss = (gate * costs).sum(1).mean() + 1e-4 * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach(), bias.detach()
