"""What NumPy makes of a checkpoint's tensors against the trainable network in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import (
    CompactConfig,
    EdsrConfig,
    NetworkConfig,
    SrresnetConfig,
    build_network,
    parameters_of,
    quantizers,
)
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.program import grids
from gdq_cli.program.layers import QuantLayer


@pytest.mark.parametrize(
    "config",
    [
        EdsrConfig(2, 2, 8),
        EdsrConfig(4, 1, 8, static_bits=(8, 8, 6, 8)),
        EdsrConfig(3, 1, 8, bit_widths=()),
        EdsrConfig(4, 1, 8, upsampler="pixelshuffledirect"),
        CompactConfig(2, 2, 8),
        CompactConfig(4, 1, 8, bit_widths=()),
        SrresnetConfig(2, 2, 8),
        SrresnetConfig(4, 1, 8, bit_widths=()),
    ],
    ids=str,
)
def test_tensor_shapes_are_those_of_the_module(config: NetworkConfig) -> None:
    state = build_network(config).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == config.tensor_shapes()
    for key, value in state.items():
        assert f"torch.{config.tensor_dtype(key)}" == str(value.dtype)
    if config.name != "srresnet":
        assert {value.dtype for value in state.values()} == {torch.float32}


def test_layers_are_those_of_the_module(checkpoint: Checkpoint) -> None:
    """Codes, steps and ranges of every convolution at every width, bit for bit."""
    network = checkpoint.network
    for name, conv in network.named_modules():
        if not isinstance(conv, QuantConv2d):
            continue
        layer = QuantLayer(name, checkpoint.parameters.tensors, conv.config)
        for bits in (4, 5, 6, 8):
            lowered = layer.lower(bits)
            step = conv.activation_step[conv.config.column(bits)].detach()
            weight_step = conv.grid_step(conv.config.weight_grid(bits)).detach()
            codes = quantizers.weight_codes(conv.equalized_weight().detach(), weight_step)
            assert np.array_equal(lowered.weight, codes.numpy())
            assert lowered.input_range == conv.config.input_range(bits)
            input_step = step * conv.equalization if conv.config.equalized else step
            assert np.array_equal(layer.input_step(bits), input_step.numpy())
            expected = (step.double() * weight_step.double()).float().numpy()
            assert np.array_equal(lowered.multiplier, expected)
            assert np.array_equal(lowered.offset, conv.bias.detach().numpy())


def test_the_module_of_parameters_is_the_network(checkpoint: Checkpoint) -> None:
    module = parameters_of(checkpoint.network).module
    assert module is checkpoint.network
    again = type(checkpoint.parameters)(checkpoint.config, checkpoint.parameters.tensors).module
    pixels = torch.randint(0, 256, (1, 3, 9, 8)).float()
    with torch.inference_mode():
        assert torch.equal(again(pixels), checkpoint.network(pixels))


@pytest.mark.parametrize("grid", ["narrow", "coarse"])
def test_grid_by_brute_force(grid: grids.Grid) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        codes = torch.randint(-40, 41, (2, 3, 3, 3), generator=generator)
        found = grids.fits_grid(codes.numpy().astype(np.float32), grid)
        assert found == bool(quantizers.fits_grid(codes.float(), grid).all())
