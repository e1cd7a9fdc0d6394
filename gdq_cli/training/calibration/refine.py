"""Last steps to a trained EDSR: average two runs, move activation steps where pictures gain by it, add a grid."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from gdq_cli.errors import WeightsError
from gdq_cli.measure.pairs import ImagePair
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import build_network, parameters_of
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.training.stages import fit_bound_grids
from gdq_cli.training.validate import validate_network

FACTOR = 1.15
"""By which a step moves at a time."""

PATIENCE = 2
"""Moves in a row that may gain nothing before a direction is given up."""

LEAST_GAIN = 0.004
"""Decibels that a factor must have gained in the end, or it stays 1: 50 pictures cannot tell less."""


def average_checkpoints(first: Checkpoint, second: Checkpoint, share: float) -> Checkpoint:
    """Weights and steps between those of two runs, which err less than either where only their seeds differ.

    Wortsman et al., "Model soups", 2022.

    Args:
        first: whose controller and name the average keeps.
        second: of the same network.
        share: of the second, 0 to 1.

    Raises:
        WeightsError: if the networks differ.
    """
    if first.config != second.config:
        names = [f"{one.name} x{one.scale}" for one in (first, second)]
        raise WeightsError(f"{names[0]} and {names[1]} are different networks, which have no average")
    network, end = copy.deepcopy(first.network), second.network.state_dict()
    network.load_state_dict({name: torch.lerp(start, end[name], share) for name, start in network.state_dict().items()})
    fit_bound_grids(network)
    last = (second.facts.get("training") or [{}])[-1]
    history = [*first.facts.get("training", []), {**last, "averaged": share}]
    return replace(first, parameters=parameters_of(network), facts=first.facts | {"training": history})


def add_coarse_grid(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose 4-bit patches use the grid of the kernel for 4 bits; nothing else changes.

    Raises:
        WeightsError: if its network has no such grid.
    """
    if not hasattr(checkpoint.config, "four_bit_grid"):
        raise WeightsError(f"{checkpoint.name}: {checkpoint.config.name} networks have one grid for all widths")
    network = build_network(replace(checkpoint.config, four_bit_grid="coarse"))
    network.load_state_dict(checkpoint.network.state_dict(), strict=False)
    fit_bound_grids(network, "coarse")
    return replace(checkpoint, parameters=parameters_of(network))


def refine_steps(
    network: Edsr, pairs: list[ImagePair], progress: Callable[[str, int, int], None] = lambda what, done, total: None
) -> dict[str, float]:
    """Widen or narrow the activation steps of a quantized network, in place, where pictures gain by it.

    Training fits every step to pictures it knows by heart, strongest contrasts included; others clip more. Each static
    layer has one factor, and each bit-width two: of all first and of all second convolutions of the blocks. A factor
    moves until the mean PSNR has not risen ``PATIENCE`` times in a row; the best one stays.

    Args:
        network: quantized and trained.
        pairs: held-out images.
        progress: called with what was found, and after how many of how many factors.

    Returns:
        What was moved -> its factor; those that stay at 1 are left out.
    """
    widths = network.config.bit_widths
    blocks = {"first": [block.conv1 for block in network.blocks], "second": [block.conv2 for block in network.blocks]}
    groups = [
        (f"{name} convolutions, {width} bits", convs, column, (width,))
        for column, width in enumerate(widths)
        for name, convs in blocks.items()
    ]
    static = {"body_conv": network.body_conv, "tail": network.tail}
    static |= {f"upsampler {index}": conv for index, conv in enumerate(network.upsampler_convs)}
    groups += [(name, [conv], 0, widths) for name, conv in static.items()]
    factors = {}
    for index, (name, convs, column, judged) in enumerate(groups, 1):
        factor, best = _walk(convs, column, lambda judged=judged: _mean_psnr(network, pairs, judged))  # type: ignore[misc]
        progress(f"{name}: x {factor:.3f}, {best:.4f} dB", index, len(groups))
        if factor != 1.0:
            factors[name] = round(factor, 3)
    return factors


def _mean_psnr(network: Edsr, pairs: list[ImagePair], widths: tuple[int, ...]) -> float:
    """Mean Y-PSNR over pictures and widths by the integer engine."""
    return float(np.mean(list(validate_network(network, pairs, widths).values())))


@torch.no_grad()
def _walk(convs: list[QuantConv2d], column: int, judge: Callable[[], float]) -> tuple[float, float]:
    """Move one factor of the steps in ``column`` until ``PATIENCE`` moves in a row gain nothing: (factor, figure)."""
    start, base = [conv.activation_step[column].clone() for conv in convs], judge()

    def apply(factor: float) -> None:
        for conv, step in zip(convs, start, strict=True):
            conv.activation_step[column] = step * factor

    factor, best = 1.0, base
    for direction in (FACTOR, 1 / FACTOR):
        tried, misses = 1.0, 0
        while misses < PATIENCE:
            tried *= direction
            apply(tried)
            figure = judge()
            misses += 1
            if figure > best:
                best, factor, misses = figure, tried, 0
    if best < base + LEAST_GAIN:
        factor, best = 1.0, base
    apply(factor)
    return factor, best
