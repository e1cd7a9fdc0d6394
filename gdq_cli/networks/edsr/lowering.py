"""EDSR in integers. No torch here."""

from __future__ import annotations

from itertools import count

import numpy as np

from gdq_cli.networks.edsr.config import MEAN, EdsrConfig
from gdq_cli.program.layers import ZERO, QuantLayer, Tensors, check_quantized, lower_head
from gdq_cli.program.operations import Codes, Conv, Epilogue, Head, Operation, Pixels, Program


def lower_edsr(config: EdsrConfig, tensors: Tensors) -> Program:
    """Lower a quantized EDSR.

    Args:
        config: its sizes.
        tensors: of its checkpoint; see :meth:`EdsrConfig.tensor_shapes`.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(config.bit_widths)
    layers = [QuantLayer(name, tensors, conv) for name, conv in config.quant_convs.items()]
    inside, (body_conv, *behind) = layers[: 2 * config.blocks], layers[2 * config.blocks :]
    blocks = list(zip(inside[::2], inside[1::2], strict=True))
    # A buffer's number says when it is written, so all widths have the same ones.
    new = count()
    features, first, *between = (next(new) for _ in range(2 + 3 * config.blocks))
    end = next(new)
    head, body = lower_head(tensors, MEAN), body_conv.lower(8)
    reconstruct = _lower_reconstruction(config, behind, end)
    readers = [*(conv1 for conv1, _ in blocks), body_conv]
    operations: dict[int, tuple[Operation, ...]] = {}
    for bits in config.bit_widths:

        def codes(reader: QuantLayer, to: int, bits: int = bits) -> Codes:
            return Codes(to, reader.config.input_range(bits), reader.inverse_steps(bits))

        program: list[Operation] = [Head(head, Epilogue(keep=features, codes=codes(readers[0], first)))]
        stream, source = features, first
        for index, (conv1, conv2) in enumerate(blocks):
            hidden, kept, following = between[3 * index : 3 * index + 3]
            lowered = conv1.lower(bits, output_step=conv2.input_step(bits))  # bias, ReLU and requantization in one
            program.append(Conv(source, lowered, Epilogue(codes=Codes(hidden, conv2.config.input_range(bits)))))
            last = index == len(blocks) - 1
            joined = Epilogue(add=stream, keep=None if last else kept, codes=codes(readers[index + 1], following))
            program.append(Conv(hidden, conv2.lower(bits), joined))
            stream, source = kept, following
        program.append(Conv(source, body, Epilogue(add=features, codes=codes(behind[0], end))))
        operations[bits] = (*program, *reconstruct)
    return Program(config.scale, operations)


def _lower_reconstruction(config: EdsrConfig, layers: list[QuantLayer], source: int) -> list[Operation]:
    """The upsampler's convolutions and the tail; their epilogues give codes plus ``ZERO`` and grey levels."""
    *convs, tail = layers
    operations: list[Operation] = []
    for conv, following, stage in zip(convs, layers[1:], config.stages, strict=True):
        output_step = following.input_step(8).repeat(stage**2)  # channel c fills outputs c*r*r ...
        lowered = conv.lower(8, output_step=output_step, shift=ZERO)
        codes = Codes(source + 1, following.config.input_range(8), zero=ZERO)
        operations.append(Conv(source, lowered, Epilogue(codes=codes), stage))
        source += 1
    mean = np.repeat(np.array(MEAN, np.float64), config.tail_factor**2)
    return [*operations, Pixels(source, tail.lower(8, gain=255, shift=mean), config.tail_factor)]
