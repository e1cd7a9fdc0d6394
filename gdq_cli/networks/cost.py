"""What a bit map costs: MACs, FAB and BitOPs, by formula from layer shapes (no measurement)."""

from __future__ import annotations

from collections.abc import Sequence

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks import CompactConfig, NetworkConfig, SrresnetConfig

WEIGHT_BITS = 8
"""Bits of a stored weight code; narrow-grid weights use about 6 of them."""


def dynamic_macs(config: NetworkConfig) -> int:
    """MACs per LR pixel of the layers whose width follows the patch: 3x3 convolutions, two per block or a chain."""
    convs = config.convs if isinstance(config, CompactConfig) else 2 * config.blocks
    return convs * 9 * config.features**2


def static_macs(config: NetworkConfig) -> list[int]:
    """MACs per LR pixel of body conv, each upsampler conv, and tail, as far as the network has them."""
    if isinstance(config, CompactConfig):
        return [9 * config.features * 3 * config.scale**2]
    tail_taps = 81 if isinstance(config, SrresnetConfig) else 9
    macs, area = [9 * config.features**2], 1
    for stage in config.stages:
        macs.append(area * 9 * config.features * config.features * stage**2)
        area *= stage**2
    return [*macs, area * tail_taps * config.features * 3 * getattr(config, "tail_factor", 1) ** 2]


def head_macs(config: NetworkConfig) -> int:
    """MACs per LR pixel of the head, which is float32 in the paper's count."""
    return (81 if isinstance(config, SrresnetConfig) else 9) * 3 * config.features


def feature_average_bits(bit_widths: Sequence[int]) -> float:
    """FAB: mean bit-width over the patches (paper, section 4.1); 32 for the float network."""
    return sum(bit_widths) / len(bit_widths)


def bit_operations(config: NetworkConfig, bit_widths: Sequence[int], window_pixels: int) -> float:
    """BitOPs: the sum over layers of MACs x weight bits x activation bits.

    Args:
        config: of the network.
        bit_widths: one per patch (4, 5, 6, 8, or 32 for float32 weights and activations).
        window_pixels: LR pixels the network sees per patch, halo included.

    Returns:
        BitOPs in units of 1e9.
    """
    total = 0.0
    static = static_macs(config)
    static_float = sum(static) * FP32_BITS**2
    if config.static_bits:
        static_integer = sum(macs * WEIGHT_BITS * bits for macs, bits in zip(static, config.static_bits, strict=True))
    else:
        static_integer = static_float
    for bits in bit_widths:
        per_pixel = head_macs(config) * FP32_BITS**2
        if bits == FP32_BITS:
            per_pixel += dynamic_macs(config) * FP32_BITS**2 + static_float
        else:
            per_pixel += dynamic_macs(config) * WEIGHT_BITS * bits + static_integer
        total += per_pixel * window_pixels
    return total / 1e9
