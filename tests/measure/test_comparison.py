"""Two pictures compared, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gdq_cli.measure.comparison import compare_images, difference_picture
from tests.helpers.pictures import make_picture


def test_comparison_by_hand() -> None:
    a = make_picture(30, 40)
    b = a.copy()
    b[7, 9] = np.where(a[7, 9] > 100, a[7, 9] - 20, a[7, 9] + 20)
    found = compare_images(a, b)
    assert (found.largest, found.where) == (20, (7, 9))
    assert found.share == pytest.approx(3 / (30 * 40 * 3))
    assert found.ssim_y is not None
    assert found.ssim_y < 1
    assert compare_images(a, b, shave=8).largest == 0
    assert compare_images(a[:10], b[:10]).ssim_y is None
    picture, gain = difference_picture(a, b)
    assert gain == 8
    assert picture[7, 9].tolist() == [160, 160, 160]
    assert picture.sum() == 480
    assert difference_picture(a, a)[0].max() == 0
