"""Options: sizes, ranges and contradictions."""

from typing import Any

import pytest

from gdq_cli.errors import OptionsError
from gdq_cli.options import Encoding, TargetSize, UpscaleOptions


@pytest.mark.parametrize(
    ("given", "native", "target"),
    [
        ({}, 4, (40, 80)),
        ({"scale": 2}, 2, (20, 40)),
        ({"scale": 3}, 3, (30, 60)),
        ({"scale": 1}, 2, (10, 20)),
        ({"scale": 2.5}, 3, (25, 50)),
        ({"scale": 8}, 4, (80, 160)),
        ({"width": 50}, 3, (25, 50)),
        ({"height": 40}, 4, (40, 80)),
        ({"longest": 41}, 3, (20, 41)),
    ],
)
def test_target_sizes(given: dict[str, Any], native: int, target: tuple[int, int]) -> None:
    assert TargetSize(**given).resolve((10, 20)) == (native, target)


@pytest.mark.parametrize("scale", [0, 0.5, -1, 3.7e9, float("nan"), float("inf")])
def test_scales_out_of_range(scale: float) -> None:
    with pytest.raises(OptionsError, match="`scale` must be between 1 and 64"):
        TargetSize(scale=scale)


def test_two_targets_contradict() -> None:
    with pytest.raises(OptionsError, match="contradict"):
        TargetSize(scale=2, width=100)


@pytest.mark.parametrize("given", [{"width": 5}, {"height": 9}, {"longest": 19}, {"width": 20 * 65}])
def test_targets_out_of_reach(given: dict[str, int]) -> None:
    with pytest.raises(OptionsError, match="target"):
        TargetSize(**given).resolve((10, 20))


@pytest.mark.parametrize(
    "given",
    [
        {"bits": "7"},
        {"bits": "4", "budget": 5.0},
        {"bits": "4", "prefer": "time"},
        {"budget": 5.0, "prefer": "time"},
        {"prefer": "speed"},
        {"budget": 3.0},
        {"budget": float("nan")},
        {"threads": 0},
        {"max_pixels": 0},
        {"alpha": "maybe"},
    ],
)
def test_bad_options(given: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match="`"):
        UpscaleOptions(**given)


@pytest.mark.parametrize("given", [{"quality": 0}, {"quality": 101}, {"quality": 80, "lossless": True}])
def test_bad_encodings(given: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match="`quality`"):
        Encoding(**given)
