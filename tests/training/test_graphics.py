"""Drawn patches, and static layers that reach flat colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gdq_cli.measure.pairs import downscale
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.training.calibration.calibrate import quantized_copy
from gdq_cli.training.calibration.steps import calibrate_steps, draw_evenly, reach_flat_colours
from gdq_cli.training.data import PatchSampler
from gdq_cli.training.graphics import draw_graphic
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_pairs


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_drawn_patches_are_what_their_hr_gives_or_is_enlarged_from(scale: int) -> None:
    rng = np.random.default_rng(0)
    colours, strongest, errors = set(), 0, []
    for _ in range(80):
        lr, hr = draw_graphic(24, scale, rng)
        assert lr.shape == (24, 24, 3)
        assert hr.shape == (24 * scale, 24 * scale, 3)
        inside = (slice(3, -3), slice(3, -3))
        errors.append(np.abs(downscale(hr, scale).astype(int) - lr)[inside].mean())
        colours |= {tuple(colour) for colour in lr.reshape(-1, 3)[:1]}
        strongest = max(strongest, int(np.abs(np.diff(lr.astype(int), axis=1)).max()))
    assert np.median(errors) < 1  # not of all: what is drawn at LR size may hold more than any reduction leaves
    assert len(colours) > 60
    assert strongest == 255  # edges within one pixel


def test_share_of_drawn_patches_and_seed() -> None:
    pairs = make_pairs(2)
    for share, drawn in ((0.0, 0), (1.0, 30)):
        lr, _ = PatchSampler(pairs, 12, seed=3, graphics=share).draw(30)
        again, _ = PatchSampler(pairs, 12, seed=3, graphics=share).draw(30)
        assert torch.equal(lr, again)
        ends = ((lr == 0) | (lr == 255)).flatten(1).float().mean(1) > 0.2
        assert (int(ends.sum()) > 15) == bool(drawn)


def test_static_layers_can_be_made_to_reach_flat_colours() -> None:
    network = quantized_copy(make_network(2, blocks=1))
    calibrate_steps(network, draw_evenly(make_pairs(2), 0), patches=4)
    reach_flat_colours(network)
    clipped = []

    def look(conv: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert isinstance(conv, QuantConv2d)
        if conv.config.is_static:
            limit = conv.activation_step[0] * conv.equalization * conv.config.input_range(8)[1]
            clipped.append(float((inputs[0].abs().amax((0, 2, 3)) / limit).max()))

    for conv in network.modules():
        if isinstance(conv, QuantConv2d):
            conv.register_forward_pre_hook(look)
    magenta = torch.tensor([255.0, 0.0, 255.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    with torch.inference_mode():
        network(magenta)
    assert len(clipped) == 3
    assert max(clipped) <= 1.0001
