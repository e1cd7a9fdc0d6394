"""EDSR in integers. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdq_cli.networks.edsr.config import MEAN, EdsrConfig
from gdq_cli.program.layers import (
    F32,
    ZERO,
    IntegerConv,
    IntegerHead,
    QuantLayer,
    Tensors,
    check_quantized,
    lower_head,
)


@dataclass(frozen=True)
class IntegerBlock:
    """One residual block at one bit-width.

    Attributes:
        inverse_step: float32 that turns the residual stream into the codes of ``conv1``.
        conv1: its epilogue gives the codes of ``conv2`` (bias, ReLU and requantization in one).
        conv2: its epilogue gives float32 values that are added to the residual stream.
    """

    inverse_step: float
    conv1: IntegerConv
    conv2: IntegerConv


@dataclass(frozen=True)
class IntegerStatic:
    """The static layers, shared by all bit-widths.

    Attributes:
        body_inverse_steps: (C,) float32, residual stream -> codes of ``body_conv``.
        body_conv: epilogue gives float32 values, added to the head features.
        upsampler_inverse_steps: (C,) float32, that sum -> codes of the first upsampler convolution, or of the tail.
        upsampler: each with its pixel-shuffle factor; epilogues give codes of the next layer plus ``ZERO``.
        tail: epilogue gives grey levels.
        tail_factor: pixel-shuffle factor of the grey levels; the scale where there is no upsampler, else 1.
    """

    body_inverse_steps: F32
    body_conv: IntegerConv
    upsampler_inverse_steps: F32
    upsampler: tuple[tuple[IntegerConv, int], ...]
    tail: IntegerConv
    tail_factor: int


@dataclass(frozen=True)
class IntegerNetwork:
    """A whole network in integers: ``blocks[bit_width]`` for the dynamic part, the rest shared."""

    scale: int
    head: IntegerHead
    blocks: dict[int, tuple[IntegerBlock, ...]]
    static: IntegerStatic


def lower_edsr(config: EdsrConfig, tensors: Tensors) -> IntegerNetwork:
    """Lower a quantized EDSR.

    Args:
        config: its sizes.
        tensors: of its checkpoint; see :meth:`EdsrConfig.tensor_shapes`.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(config.bit_widths)

    def dynamic(name: str, *, signed: bool) -> QuantLayer:
        return QuantLayer(name, tensors, config.bit_widths, signed)

    blocks: dict[int, tuple[IntegerBlock, ...]] = {}
    pairs = [
        (dynamic(f"body.{i}.conv1", signed=True), dynamic(f"body.{i}.conv2", signed=False))
        for i in range(config.blocks)
    ]
    for bits in config.bit_widths:
        blocks[bits] = tuple(
            IntegerBlock(
                float(conv1.inverse_steps(bits)),
                conv1.lower(bits, output_step=conv2.input_step(bits)),
                conv2.lower(bits),
            )
            for conv1, conv2 in pairs
        )
    names = ["body_conv", *(f"upsampler.{2 * i}" for i in range(len(config.stages))), "tail"]
    body_conv, *convs, tail = (
        QuantLayer(name, tensors, (bits,), True) for name, bits in zip(names, config.static_bits, strict=True)
    )
    upsampler = []
    for conv, following, stage in zip(convs, [*convs, tail][1:], config.stages, strict=True):
        output_step = following.input_step(8).repeat(stage**2)  # channel c fills outputs c*r*r ...
        upsampler.append((conv.lower(8, output_step=output_step, shift=ZERO), stage))
    static = IntegerStatic(
        body_conv.inverse_steps(8),
        body_conv.lower(8),
        [*convs, tail][0].inverse_steps(8),
        tuple(upsampler),
        tail.lower(8, gain=255, shift=np.repeat(np.array(MEAN, np.float64), config.tail_factor**2)),
        config.tail_factor,
    )
    return IntegerNetwork(config.scale, lower_head(tensors, MEAN), blocks, static)
