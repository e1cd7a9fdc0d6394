"""What a bit map costs: MACs and BitOPs, counted from a program (no measurement)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.program.operations import Conv, Float, Head, Operation, Program, Quantize

WEIGHT_BITS = 8
"""Bits of a stored weight code; narrow-grid weights use about 6 of them."""


@dataclass(frozen=True)
class LayerCost:
    """One layer: MACs per LR pixel, and the bits of its activations (32 for the head, as the paper counts it)."""

    macs: int
    bits: int

    @property
    def bit_operations(self) -> int:
        """Per LR pixel."""
        return self.macs * self.bits * (FP32_BITS if self.bits == FP32_BITS else WEIGHT_BITS)


def layer_costs(operations: Sequence[Operation]) -> list[LayerCost]:
    """The layers of a program at one bit-width, in order."""
    costs: list[LayerCost] = []
    area: dict[int, int] = {}  # pixels per LR pixel
    for operation in operations:
        here = max((area[buffer] for buffer in operation.reads), default=1)
        if isinstance(operation, Float):
            costs.append(LayerCost(operation.macs, FP32_BITS))
        elif isinstance(operation, Head):
            costs.append(LayerCost(operation.layer.weight.size, FP32_BITS))
        elif not isinstance(operation, Quantize):
            low, high = operation.layer.input_range
            costs.append(LayerCost(here * operation.layer.weight.size, (high - low).bit_length()))
        here *= operation.shuffle**2 if isinstance(operation, Conv) else 1
        area.update(dict.fromkeys(operation.writes, here))
    return costs


def macs(program: Program) -> int:
    """MACs per LR pixel of all layers."""
    return sum(layer.macs for layer in layer_costs(next(iter(program.operations.values()))))


def pixel_bit_operations(program: Program, bits: int) -> int:
    """BitOPs of an LR pixel: the sum over layers of MACs x weight bits x activation bits.

    Args:
        program: of the network; :attr:`Parameters.outline` of one that has no bit-widths.
        bits: 4, 5, 6, 8, or 32 for float32 weights and activations.
    """
    if bits == FP32_BITS:
        return macs(program) * FP32_BITS**2
    return sum(layer.bit_operations for layer in layer_costs(program.at(bits)))


def bit_operations(program: Program, pixels: Mapping[int, int]) -> float:
    """BitOPs in units of 1e9 of ``pixels``, LR pixels that the network sees by bit-width."""
    return sum(pixel_bit_operations(program, bits) * count for bits, count in pixels.items()) / 1e9
