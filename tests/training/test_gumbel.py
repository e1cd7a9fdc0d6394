"""The controller learns by Gumbel-softmax: gates are one-hot, their gradient is real, the price holds the average."""

import numpy as np
import pytest
import torch

from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.options import ControllerOptions
from gdq_cli.training.calibration import calibrate
from gdq_cli.training.calibration.fit_controller import PatchTable, average_bits, choose_widths, patch_harm
from gdq_cli.training.calibration.gumbel import gumbel_gate, train_gumbel
from tests.helpers.pictures import make_pairs

POSITION = {4: 0, 5: 1, 6: 2, 8: 3}


def test_gates_are_one_hot_and_follow_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0]).repeat(20_000, 1).requires_grad_(True)
    gates = gumbel_gate(logits, generator)
    assert set(gates.detach().unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(gates.sum(1), torch.ones(len(gates)))
    assert gates.mean(0).tolist() == pytest.approx(torch.softmax(logits[0], 0).tolist(), abs=0.015)
    (gates[:, 0] * 3).sum().backward()  # a class that costs more loses
    assert logits.grad is not None
    assert float(logits.grad[:, 0].mean()) > 0.1
    assert float(logits.grad[:, 1:].mean()) < -0.05


def test_learns_where_bits_count() -> None:
    rng = np.random.default_rng(0)
    descriptors = rng.gamma(2, 1, (800, 12))
    harm = np.exp(0.8 * descriptors[:, 0] + 0.4 * descriptors[:, 5] + rng.normal(0, 0.2, 800) - 2)
    base = rng.uniform(20, 200, 800)
    errors = base[:, None] + np.sqrt(base)[:, None] * harm[:, None] * np.array([1, 1 / 4, 1 / 16, 0])
    table = PatchTable(errors, descriptors, rng.uniform(1.5, 3.3, 800))
    controller = train_gumbel(table, descriptor="band_energy", thresholds=(0.0, 9.0), target_fab=4.7, steps=1500)
    assert 4.55 < average_bits(controller, table) <= 4.7
    widths = choose_widths(controller, table)

    def mean_harm(chosen: list[int]) -> float:
        return float(patch_harm(table.errors)[np.arange(len(chosen)), [POSITION[w] for w in chosen]].mean())

    shuffled = [mean_harm(list(np.random.default_rng(s).permutation(widths))) for s in range(5)]
    assert mean_harm(widths) < 0.7 * min(shuffled)
    again = train_gumbel(table, descriptor="band_energy", thresholds=(0.0, 9.0), target_fab=4.7, steps=1500)
    assert np.array_equal(controller.weight, again.weight)


def test_its_draws_follow_the_seed(small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def learn(table: PatchTable, *, seed: int = 0, **_: object) -> object:
        seeds.append(seed)
        return small_checkpoint.controller

    monkeypatch.setattr(calibrate, "train_gumbel", learn)
    calibrate.attach_controller(small_checkpoint, make_pairs(2, 1), ControllerOptions(gate="gumbel", seed=7))
    assert seeds == [7]
