"""Compact in integers: every convolution on codes, PReLU between them in float32. No torch here.

A PReLU is one multiplication, rounded before the next one turns the value into a code, so engines agree to the last
pixel (docs/engines.md).
"""

from __future__ import annotations

from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.program.layers import QuantLayer, Tensors, check_quantized, lower_head
from gdq_cli.program.operations import Codes, Conv, Epilogue, Head, Operation, Pixels, Program


def lower_compact(config: CompactConfig, tensors: Tensors) -> Program:
    """Lower a quantized Compact; buffer i holds the codes that convolution i reads.

    Args:
        config: its sizes.
        tensors: of its checkpoint; see :meth:`CompactConfig.tensor_shapes`.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(config.bit_widths)
    *layers, tail = (QuantLayer(name, tensors, conv) for name, conv in config.quant_convs.items())
    head, end = lower_head(tensors, (0, 0, 0)), Pixels(config.convs, tail.lower(8, gain=255), config.scale, True)
    slopes = [tensors["head_act.weight"], *(tensors[f"body.{i}.act.weight"] for i in range(config.convs))]
    operations: dict[int, tuple[Operation, ...]] = {}
    for bits in config.bit_widths:
        epilogues = [
            Epilogue(slope, codes=Codes(index, reader.config.input_range(bits), reader.inverse_steps(bits)))
            for index, (slope, reader) in enumerate(zip(slopes, [*layers, tail], strict=True))
        ]
        convs = [Conv(i, layer.lower(bits), epilogues[i + 1]) for i, layer in enumerate(layers)]
        operations[bits] = (Head(head, epilogues[0]), *convs, end)
    return Program(config.scale, operations)
