"""Fitting the controller on patches whose harm is known."""

import numpy as np
import pytest

from gdq_cli.bits import entropy
from gdq_cli.bits.controller import spend_budget
from gdq_cli.training.calibration.fit_controller import (
    PatchTable,
    average_bits,
    choose_ridge,
    choose_thresholds,
    choose_widths,
    entropy_table,
    fit_controller,
    fit_log_linear,
    patch_harm,
)

POSITION = {4: 0, 5: 1, 6: 2, 8: 3}


@pytest.fixture(scope="module")
def table() -> PatchTable:
    """Patches whose harm at 4 bits grows with a mix of two descriptors, quartered per bit, with some noise."""
    rng = np.random.default_rng(0)
    descriptors = rng.gamma(2, 1, (600, 12))
    harm = np.exp(0.8 * descriptors[:, 0] + 0.4 * descriptors[:, 5] + rng.normal(0, 0.2, 600) - 2)
    base = rng.uniform(20, 200, 600)
    errors = base[:, None] + np.sqrt(base)[:, None] * harm[:, None] * np.array([1, 1 / 4, 1 / 16, 0])
    return PatchTable(errors, descriptors, rng.uniform(1.5, 3.3, 600))


def mean_harm(table: PatchTable, widths: list[int]) -> float:
    return float(patch_harm(table.errors)[np.arange(len(widths)), [POSITION[w] for w in widths]].mean())


@pytest.mark.parametrize("target", [4.3, 4.7, 5.2])
def test_spends_what_it_should_where_it_counts(table: PatchTable, target: float) -> None:
    thresholds = choose_thresholds(entropy_table(table.entropies))
    controller = fit_controller(table, descriptor="band_energy", thresholds=thresholds, target_fab=target)
    widths = choose_widths(controller, table)
    assert target - 0.1 < average_bits(controller, table) <= target
    shuffled = [mean_harm(table, list(np.random.default_rng(s).permutation(widths))) for s in range(5)]
    assert mean_harm(table, widths) < 0.7 * min(shuffled)


def test_beats_five_bits_everywhere_at_the_same_average(table: PatchTable) -> None:
    controller = fit_controller(table, descriptor="band_energy", thresholds=(0.0, 9.0), target_fab=5.0)
    assert mean_harm(table, choose_widths(controller, table)) < 0.9 * mean_harm(table, [5] * 600)


def test_budget_agrees_with_the_controllers_own_choice(table: PatchTable) -> None:
    controller = fit_controller(table, descriptor="band_energy", thresholds=(0.0, 9.0), target_fab=4.8)
    widths = choose_widths(controller, table)
    spent = spend_budget(controller.logits(table.descriptors), float(np.mean(widths)))
    assert mean_harm(table, spent) < 1.1 * mean_harm(table, widths)


def test_log_linear_fit_sees_the_mean_through_noise_of_both_signs() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (4000, 6))
    expected = np.exp(0.8 * x[:, 0] - 0.4 * x[:, 3] - 1)
    y = expected + rng.normal(0, 2, 4000) * np.sqrt(expected)
    assert (y < 0).mean() > 0.3
    slope, level = fit_log_linear(x, y, ridge=1.0)
    assert slope == pytest.approx([0.8, 0, 0, -0.4, 0, 0], abs=0.12)
    assert level == pytest.approx(-1, abs=0.12)
    assert np.exp(x @ slope + level).mean() == pytest.approx(y.mean(), rel=1e-3)
    smaller, _ = fit_log_linear(x, y, ridge=1e4)
    assert np.abs(smaller).max() < 0.5 * np.abs(slope).max()


@pytest.mark.parametrize(("noise", "low", "high"), [(0.05, 1, 20), (3.0, 100, 500)])
def test_the_ridge_follows_the_noise(noise: float, low: float, high: float) -> None:
    rng = np.random.default_rng(3)
    slope = rng.normal(0, 0.08, 60)
    x = rng.normal(0, 1, (600, 60))
    y = np.exp(x @ slope) + rng.normal(0, noise, 600)
    chosen = choose_ridge(x[:300], y[:300])
    assert low <= chosen <= high

    def missed(ridge: float) -> float:
        found, _ = fit_log_linear(x[:300], y[:300], ridge)
        return float(np.square(found - slope).sum())

    assert missed(chosen) < 0.8 * missed(500.0 if noise < 1 else 1.0)


def test_one_patch_is_enough_for_a_controller(table: PatchTable) -> None:
    one = PatchTable(table.errors[:1], table.descriptors[:1], table.entropies[:1])
    controller = fit_controller(one, descriptor="band_energy", thresholds=(0.0, 9.0), target_fab=5.0)
    assert choose_widths(controller, one)[0] <= 5


def test_log_linear_fit_of_what_costs_nothing() -> None:
    slope, level = fit_log_linear(np.random.default_rng(2).normal(0, 1, (50, 3)), np.full(50, -0.1), ridge=1.0)
    assert not slope.any()
    assert np.exp(level) < 1e-6


def test_thresholds_are_quantiles() -> None:
    values = np.linspace(1, 3, 2001)
    table = entropy_table(values)
    assert len(table) == 199
    assert choose_thresholds(table, (0.5, 0.9)) == pytest.approx((2.0, 2.8))
    low, high = choose_thresholds(table)
    assert low < high
    assert entropy.entropy_to_bit((low + high) / 2, (low, high)) == 5
