import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from gdq_cli.bitmaps.table import CSV_COLUMNS, bit_map_csv, bit_map_dict
from gdq_cli.bits.controller import BitChoice
from gdq_cli.bits.patches import PatchPlan, plan_patches

PLAN = plan_patches((100, 151), patch_size=50)
CHOICES = [
    BitChoice(bits, "entropy" if bits in (5, 8) else "controller", (0.1 * i, -1 / 3, 2.5e-7), 1 + i / 7)
    for i, bits in enumerate([4, 5, 6, 8, 4, 6])
]
BIT_MAP = np.array([[4, 5, 6], [8, 4, 6]])
NAMES: dict[str, Any] = {"input_name": 'a "b",\n<c>.png', "scale": 4, "patch_size": 50}


def test_json_keeps_the_contract() -> None:
    record = json.loads(json.dumps(bit_map_dict(BIT_MAP, PLAN, CHOICES, **NAMES), allow_nan=False))
    assert record == {
        "input": NAMES["input_name"],
        "scale": 4,
        "grid": [2, 3],
        "patch_size": 50,
        "bit_map": BIT_MAP.tolist(),
        "entropy": [[c.entropy for c in CHOICES[:3]], [c.entropy for c in CHOICES[3:]]],
        "logits": [[list(c.logits) for c in CHOICES[:3]], [list(c.logits) for c in CHOICES[3:]]],
        "reason": [["controller", "entropy", "controller"], ["entropy", "controller", "controller"]],
        "fab": 5.5,
    }


def test_csv_parses_back() -> None:
    rows = list(csv.DictReader(io.StringIO(bit_map_csv(BIT_MAP, PLAN, CHOICES))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 6
    covered = np.zeros(PLAN.size, int)
    for row, choice in zip(rows, CHOICES, strict=True):
        y, x, height, width = (int(row[name]) for name in ("y", "x", "height", "width"))
        covered[y : y + height, x : x + width] += 1
        assert int(row["bit_width"]) == BIT_MAP[int(row["row"]), int(row["col"])] == choice.bit_width
        assert row["reason"] == choice.reason
        assert float(row["entropy"]) == choice.entropy
        assert tuple(float(row[f"logit_{bits}"]) for bits in (4, 6, 8)) == choice.logits
    assert (covered == 1).all()


def test_a_window_is_the_reason_where_it_brings_bits() -> None:
    bit_map = np.array([[5, 5, 6], [8, 6, 6]])
    record = bit_map_dict(bit_map, PLAN, CHOICES, **NAMES)
    assert record["reason"] == [["window", "entropy", "controller"], ["entropy", "window", "controller"]]


def test_a_budget_is_the_reason_but_the_verdict_stays() -> None:
    record = bit_map_dict(BIT_MAP, PLAN, CHOICES, **NAMES, decided_by="budget")
    assert record["reason"] == [["budget"] * 3] * 2
    assert record["entropy"][0][0] == CHOICES[0].entropy


def test_a_forced_width_has_no_verdict() -> None:
    record = json.loads(json.dumps(bit_map_dict(np.full((2, 3), 6), PLAN, [], **NAMES)))
    assert record["entropy"] is None
    assert record["logits"] is None
    assert record["reason"] == [["forced"] * 3] * 2
    rows = list(csv.DictReader(io.StringIO(bit_map_csv(np.full((2, 3), 6), PLAN, []))))
    assert {(row["bit_width"], row["reason"], row["entropy"], row["logit_8"]) for row in rows} == {
        ("6", "forced", "", "")
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (130, 130)])
def test_extreme_grids(size: tuple[int, int]) -> None:
    plan = plan_patches(size, patch_size=1)
    assert plan.grid == size
    text = bit_map_csv(np.full(size, 5), plan, CHOICES[:1] * len(plan))
    assert text.count("\n") == len(plan) + 1
    assert text.endswith("\n")


@pytest.mark.parametrize(("plan", "choices"), [(plan_patches((50, 50), patch_size=50), CHOICES), (PLAN, CHOICES[:5])])
def test_what_does_not_belong_together_is_refused(plan: PatchPlan, choices: list[BitChoice]) -> None:
    with pytest.raises(ValueError, match="plan of"):
        bit_map_csv(BIT_MAP, plan, choices)
    with pytest.raises(ValueError, match="plan of"):
        bit_map_dict(BIT_MAP, plan, choices, **NAMES)
