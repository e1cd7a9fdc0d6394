"""From a float32 network to a quantized checkpoint by statistics alone, without gradients through the network.

Steps by search (steps.py); entropy thresholds by quantile; a controller fitted to what a low width costs a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from gdq_cli.bits.patches import HALO
from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.engines import choose_engine
from gdq_cli.measure.pairs import ImagePair
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import Network, NetworkT, build_network, controller_head, parameters_of
from gdq_cli.options import ControllerOptions
from gdq_cli.training.calibration.fit_controller import (
    choose_thresholds,
    count_patches,
    entropy_table,
    fit_controller,
    measure_patches,
)
from gdq_cli.training.calibration.gumbel import train_gumbel
from gdq_cli.training.calibration.steps import SEARCH_PATCHES, calibrate_steps, draw_evenly

CONTROLLER_PATCHES = 4000
Report = Callable[[str, int, int], None]


def quantized_copy(network: NetworkT, static_bits: tuple[int, ...] = ()) -> NetworkT:
    """A quantized network with the weights of a float32 one; its steps are not calibrated yet."""
    grids = {"four_bit_grid": "coarse"} if hasattr(network.config, "four_bit_grid") else {}
    config = replace(network.config, bit_widths=BIT_WIDTHS, static_bits=static_bits, **grids)
    copy = cast(NetworkT, build_network(config))
    missing, unexpected = copy.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert all(key.endswith(("_step", "equalization")) for key in missing)
    copy.eval()
    return copy


def calibrate_checkpoint(
    network: Network,
    pairs: list[ImagePair],
    controller: ControllerOptions,
    *,
    name: str,
    static_bits: tuple[int, ...] = (),
    halo: int = HALO,
    facts: dict[str, Any] | None = None,
    patches: int = SEARCH_PATCHES,
    progress: Report = lambda what, done, total: None,
) -> Checkpoint:
    """Everything from a float32 network to a runnable quantized checkpoint.

    Args:
        network: float32.
        pairs: training images; validation images must not be among them.
        controller: how it is made; its seed is that of all draws.
        name: of the model.
        static_bits: widths of body conv, each upsampler conv, and tail; 8 everywhere if empty.
        halo: LR pixels of context that patches are read with.
        facts: for the model card; calibration adds its own.
        patches: LR patches that the search of steps draws.
        progress: called with what is being done, and how many of how many parts of it are.
    """
    quantized = quantized_copy(network, static_bits)
    calibrate_steps(
        quantized,
        draw_evenly(pairs, controller.seed),
        patches=patches,
        progress=partial(progress, "searching the steps of layers"),
    )
    checkpoint = Checkpoint(parameters_of(quantized), None, facts or {}, name, halo)
    return attach_controller(checkpoint, pairs, controller, progress)


def attach_controller(
    checkpoint: Checkpoint,
    pairs: list[ImagePair],
    options: ControllerOptions,
    progress: Report = lambda what, done, total: None,
) -> Checkpoint:
    """A checkpoint whose steps are set, with entropy thresholds and a controller; arguments as above."""
    seed, descriptor = options.seed, options.descriptor
    network = checkpoint.parameters
    head, measuring = controller_head(network), partial(progress, "measuring every bit-width on training pictures")
    table = measure_patches(_draw_images(pairs, seed), choose_engine(network).engine, head, descriptor, measuring)
    quantiles = entropy_table(table.entropies)
    progress("fitting the controller", 0, 1)
    learn = fit_controller if options.gate == "ridge" else partial(train_gumbel, seed=seed)
    controller = learn(table, descriptor=descriptor, thresholds=choose_thresholds(quantiles), target_fab=options.fab)
    calibration = {
        "images": len(pairs),
        "patches": len(table.entropies),
        "target_fab": options.fab,
        "gate": options.gate,
        "seed": seed,
    }
    facts = checkpoint.facts | {"calibration": calibration, "entropy_quantiles": quantiles}
    return replace(checkpoint, controller=controller, facts=facts, sha256="")


def _draw_images(pairs: list[ImagePair], seed: int) -> list[ImagePair]:
    """Random images with ``CONTROLLER_PATCHES`` patches between them, or all there are."""
    drawn, patches = [], 0
    for index in np.random.default_rng(seed).permutation(len(pairs)):
        drawn.append(pairs[index])
        patches += count_patches(pairs[index])
        if patches >= CONTROLLER_PATCHES:
            break
    return drawn
