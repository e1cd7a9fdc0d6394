"""Costs against counts of the real layers and the formula written out."""

import pytest
import torch

from gdq_cli.networks import cost
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.config import EdsrConfig, Upsampler
from gdq_cli.networks.edsr.network import Edsr


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_macs_are_those_of_the_layers(scale: int, upsampler: Upsampler) -> None:
    """Count the multiplications that the modules really do on a small input."""
    config = EdsrConfig(scale, 3, 16, bit_widths=(), upsampler=upsampler)
    network = Edsr(config)
    counted = {"dynamic": 0, "static": 0, "head": 0}

    def count(kind: str):  # type: ignore[no-untyped-def]
        def hook(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
            counted[kind] += output.numel() * module.weight[0].numel()  # type: ignore[index, operator, union-attr]

        return hook

    for name, module in network.named_modules():
        if isinstance(module, QuantConv2d):
            module.register_forward_hook(count("dynamic" if name.startswith("body.") else "static"))
    network.head.register_forward_hook(count("head"))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 5, 7))
    assert counted["dynamic"] == 35 * cost.dynamic_macs(config)
    assert counted["static"] == 35 * sum(cost.static_macs(config))
    assert counted["head"] == 35 * cost.head_macs(config)


def test_bit_operations_add_up() -> None:
    config = EdsrConfig(4, 16, 64)
    alone = {bits: cost.bit_operations(config, [bits], 1000) for bits in (4, 5, 6, 8, 32)}
    assert alone[4] < alone[5] < alone[6] < alone[8] < alone[32]
    assert alone[6] - alone[4] == pytest.approx(cost.dynamic_macs(config) * 8 * 2 * 1000 / 1e9)
    assert cost.bit_operations(config, [4, 8, 8], 1000) == pytest.approx(alone[4] + 2 * alone[8])
    assert alone[32] == pytest.approx(
        (cost.head_macs(config) + cost.dynamic_macs(config) + sum(cost.static_macs(config))) * 1024 * 1000 / 1e9
    )
    fewer = cost.bit_operations(EdsrConfig(4, 16, 64, static_bits=(8, 8, 6, 8)), [4], 1000)
    assert alone[4] - fewer == pytest.approx(cost.static_macs(config)[2] * 8 * 2 * 1000 / 1e9)


def test_fab_is_the_mean() -> None:
    assert cost.feature_average_bits([4, 5, 6, 8, 8]) == 6.2
