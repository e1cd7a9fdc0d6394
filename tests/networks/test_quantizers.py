"""Quantizers against PyTorch's own fake quantization, LSQ's formula, and the Winograd bound by brute force."""

import numpy as np
import pytest
import torch

from gdq_cli.networks import quantizers
from gdq_cli.program.grids import WIDE_MAX, Grid, code_range, fits_grid


@pytest.mark.parametrize("bit_width", [4, 5, 6, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_codes_equal_torch_fake_quantization(bit_width: int, signed: bool) -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3
    step = torch.tensor(0.25)  # a power of two: x / step is exact, so ties are ties in both
    qmin, qmax = code_range(bit_width, signed=signed)
    expected = torch.fake_quantize_per_tensor_affine(x, 0.25, 0, qmin, qmax)
    assert torch.equal(quantizers.activation_codes(x, step, qmin, qmax) * step, expected)


@pytest.mark.parametrize(("bit_width", "signed", "expected"), [(4, True, (-8, 7)), (8, False, (0, 255))])
def test_code_range(bit_width: int, signed: bool, expected: tuple[int, int]) -> None:
    assert code_range(bit_width, signed=signed) == expected


def test_code_range_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="bit_width"):
        code_range(1, signed=True)


def test_gradients_are_those_of_lsq() -> None:
    x = torch.tensor([-3.0, -0.9, 0.1, 0.6, 9.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    (quantizers.activation_codes(x, step, -4, 3) * step).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert step.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    scaled = np.array([-3.0, -0.9, 0.1, 0.6, 9.0]) / 0.5
    inside = np.round(scaled) - scaled
    expected = np.where(scaled < -4, -4, np.where(scaled > 3, 3, inside)).sum()
    assert float(step.grad) == pytest.approx(expected, abs=1e-6)


def test_per_channel_steps_get_their_own_gradient() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    step = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1).requires_grad_()
    (quantizers.activation_codes(x, step, -8, 7) * step).square().sum().backward()  # type: ignore[no-untyped-call]
    for channel in range(3):
        alone = step.detach()[:, channel : channel + 1].clone().requires_grad_()
        part = x[:, channel : channel + 1]
        (quantizers.activation_codes(part, alone, -8, 7) * alone).square().sum().backward()  # type: ignore[no-untyped-call]
        assert torch.allclose(step.grad[:, channel], alone.grad[:, 0], rtol=1e-5)  # type: ignore[index]


def test_scale_gradient_keeps_the_value() -> None:
    x = torch.tensor([1.5, -2.0], requires_grad=True)
    y = quantizers.scale_gradient(x, 0.25)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(y, x)
    assert x.grad is not None
    assert x.grad.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("grid", ["narrow", "coarse"])
def test_fitting_step_is_the_finest_that_fits(grid: Grid) -> None:
    weight = torch.randn(16, 32, 3, 3, generator=torch.Generator().manual_seed(2)) * 0.05
    step = quantizers.choose_fitting_step(weight, grid)
    codes = quantizers.weight_codes(weight, step)
    assert bool(quantizers.fits_grid(codes, grid).all())
    assert fits_grid(codes.numpy(), grid)
    finer = quantizers.weight_codes(weight, step * 0.98)
    assert not bool(quantizers.fits_grid(finer, grid).any())
    assert not fits_grid(finer.numpy(), grid)


def test_winograd_with_integer_transforms_is_the_convolution() -> None:
    rng = np.random.default_rng(0)
    weight, tile = rng.integers(-20, 21, (3, 3)), rng.integers(-32, 32, (4, 4))
    u = quantizers.transform_weight(torch.from_numpy(weight)[None, None], "narrow").numpy().reshape(4, 4)
    b = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    a = np.array([[2, 1, 1, 0], [0, 1, -1, -2]])  # doubled outer rows: the transformed weights' rows 1, 2 are doubled
    product = a @ (u * (b @ tile @ b.T)) @ a.T
    direct = np.array([[(tile[y : y + 3, x : x + 3] * weight).sum() for x in (0, 1)] for y in (0, 1)])
    assert np.array_equal(product, 4 * direct)


def test_wide_step_beats_the_plain_maximum() -> None:
    weight = torch.randn(8, 64, 3, 3, generator=torch.Generator().manual_seed(3))
    chosen, plain = quantizers.choose_wide_step(weight), weight.abs().amax(dim=(1, 2, 3)) / WIDE_MAX

    def error(step: torch.Tensor) -> torch.Tensor:
        difference = quantizers.weight_codes(weight, step) * step.reshape(-1, 1, 1, 1) - weight
        return difference.square().sum(dim=(1, 2, 3))

    assert bool((error(chosen) <= error(plain)).all())
    assert bool((error(chosen) < error(plain)).any())


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        quantizers.choose_fitting_step(torch.full((1, 1, 3, 3), torch.nan), "narrow")
