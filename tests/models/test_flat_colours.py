"""Flat pictures keep their colour at every width: logos and screens hold what no photograph does."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import gdq_cli

COLOURS = tuple(product((0, 128, 255), repeat=3))


@pytest.mark.parametrize(("name", "scale"), [("edsr", 2), ("edsr", 3), ("edsr", 4), ("photo", 2), ("photo", 4)])
@pytest.mark.parametrize("bits", ["8", "6", "5", "4"])
def test_flat_pictures_keep_their_colour(name: str, scale: int, bits: str) -> None:
    model = gdq_cli.load(name, scale=scale, device="cpu")
    shifts = {}
    for colour in COLOURS:
        result = model.upscale(np.full((32, 32, 3), colour, np.uint8), bits=bits)
        shifts[colour] = float(np.abs(result.image.mean((0, 1)) - colour).max())
    far = {colour: round(shift, 2) for colour, shift in shifts.items() if shift > 1}
    assert not far


@pytest.mark.parametrize("size", [(1, 1), (13, 1), (2, 200), (7, 7)])
@pytest.mark.parametrize(("name", "scale"), [("edsr", 2), ("photo", 4)])
@pytest.mark.parametrize("bits", ["auto", "fp32"])
def test_flat_pictures_of_few_pixels_keep_their_colour(name: str, scale: int, bits: str, size: tuple[int, int]) -> None:
    model = gdq_cli.load(name, scale=scale, device="cpu")
    for colour in ((60, 255, 0), (255, 255, 255)):
        result = model.upscale(np.full((*size, 3), colour, np.uint8), bits=bits)
        assert np.abs(result.image.mean((0, 1)) - colour).max() <= 1
