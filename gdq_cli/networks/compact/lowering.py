"""Compact in integers: every convolution on codes, PReLU between them in float32. No torch here.

A PReLU is one multiplication, rounded before the next one turns the value into a code, so engines agree to the last
pixel (docs/engines.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.program.layers import F32, IntegerConv, IntegerHead, QuantLayer, Tensors, check_quantized, lower_head


@dataclass(frozen=True)
class PreluConv:
    """One dynamic layer at one bit-width.

    Attributes:
        inverse_steps: (C,) float32, the layer's input -> codes.
        conv: its epilogue gives float32 values before the PReLU.
        slope: (C,) float32.
    """

    inverse_steps: F32
    conv: IntegerConv
    slope: F32


@dataclass(frozen=True)
class IntegerCompact:
    """A whole network in integers: ``blocks[bit_width]`` for the dynamic part, the rest shared.

    Attributes:
        head_slope: (C,) float32, of the PReLU after the head.
        tail_inverse_steps: (C,) float32, last layer's output -> codes of ``tail``.
        tail: its epilogue gives grey levels to add to the enlarged input.
    """

    scale: int
    head: IntegerHead
    head_slope: F32
    blocks: dict[int, tuple[PreluConv, ...]]
    tail_inverse_steps: F32
    tail: IntegerConv


def lower_compact(config: CompactConfig, tensors: Tensors) -> IntegerCompact:
    """Lower a quantized Compact.

    Args:
        config: its sizes.
        tensors: of its checkpoint; see :meth:`CompactConfig.tensor_shapes`.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(config.bit_widths)
    layers = [QuantLayer(f"body.{i}.conv", tensors, config.bit_widths, True) for i in range(config.convs)]
    blocks = {
        bits: tuple(
            PreluConv(layer.inverse_steps(bits), layer.lower(bits), tensors[f"body.{i}.act.weight"])
            for i, layer in enumerate(layers)
        )
        for bits in config.bit_widths
    }
    tail = QuantLayer("tail", tensors, config.static_bits, True)
    return IntegerCompact(
        config.scale,
        lower_head(tensors, (0, 0, 0)),
        tensors["head_act.weight"],
        blocks,
        tail.inverse_steps(8),
        tail.lower(8, gain=255),
    )
