"""SRResNet in integers where it is quantized: its blocks. Head, body conv, upsampler and tail stay float32.

Accumulators of the blocks are exact in every engine. The float layers are not: their sums may differ in the last bit
between machines, so engines agree to one grey level on very few values instead of bit for bit. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import WeightsError
from gdq_cli.networks.srresnet.config import WEIGHT_RANGE, SrresnetConfig
from gdq_cli.program.grids import code_range
from gdq_cli.program.layers import EXACT, IntegerConv, Tensors, check_quantized
from gdq_cli.program.operations import Codes, Conv, Epilogue, Float, Operation, Program, Quantize

F64 = NDArray[np.float64]

NORM_EPSILON = 1e-5
"""What batch normalisation adds to a variance; torch's default."""


def lower_srresnet(config: SrresnetConfig, tensors: Tensors) -> Program:
    """Lower a quantized SRResNet.

    Args:
        config: its sizes.
        tensors: of its checkpoint; see :meth:`SrresnetConfig.tensor_shapes`.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    check_quantized(config.bit_widths)
    layers = [_Layer(f"body.{i}.conv{k}", tensors, config.bit_widths) for i in range(config.blocks) for k in (1, 2)]
    head_macs, macs = config.float_macs
    operations: dict[int, tuple[Operation, ...]] = {}
    for bits in config.bit_widths:
        # Buffer 0: activated head features. Of block i: 3i + 1 its codes, 3i + 2 those between, 3i + 3 its sum.
        program: list[Operation] = [Float("stem", (), 0, head_macs, 4), Quantize(0, layers[0].codes(1, bits))]
        for index, (conv1, conv2) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
            first, name = 3 * index + 1, f"body.{index}"
            between = conv2.codes(first + 1, bits, *_affine_of(f"{name}.bn1", tensors))
            activated = Epilogue(tensors[f"{name}.act.weight"], codes=between)
            program.append(Conv(first, conv1.lower(bits), activated))
            following = layers[2 * index + 2 :]
            joined = Epilogue(
                add=first - 1,
                add_factor=float(tensors[f"{name}.shortcut"][0]),
                keep=first + 2,
                codes=following[0].codes(first + 3, bits) if following else None,
            )
            program.append(Conv(first + 1, conv2.lower(bits, *_affine_of(f"{name}.bn2", tensors)), joined))
        program.append(Float("reconstruct", (3 * config.blocks, 0), None, macs, config.float_radius))
        operations[bits] = tuple(program)
    return Program(config.scale, operations)


@dataclass(frozen=True)
class _Layer:
    """A block's convolution as the release quantizes it: one step for all weights, one for its input at each width."""

    name: str
    tensors: Tensors
    bit_widths: tuple[int, ...]

    def _step(self, bit_width: int) -> np.float64:
        step = self.tensors[f"{self.name}.activation_step"][self.bit_widths.index(bit_width)]
        return np.float64(step)

    def _range(self, bit_width: int) -> tuple[int, int]:
        signed = self.tensors[f"{self.name}.activation_signed"][self.bit_widths.index(bit_width)]
        return code_range(bit_width, signed=bool(signed))

    def codes(self, to: int, bit_width: int, gain: F64 | float = 1.0, shift: F64 | None = None) -> Codes:
        """Its input: values ``* gain + shift`` by channel, over its step."""
        step = self._step(bit_width)
        factor = np.asarray(gain / step).astype(np.float32)
        return Codes(to, self._range(bit_width), factor, None if shift is None else (shift / step).astype(np.float32))

    def lower(self, bit_width: int, gain: F64 | float = 1.0, shift: F64 | float = 0.0) -> IntegerConv:
        """The layer in integers, followed by ``* gain + shift`` by channel."""
        weight: NDArray[np.float32] = self.tensors[f"{self.name}.weight"]
        step = self.tensors[f"{self.name}.weight_step"]
        codes = np.rint(np.clip(weight / step.reshape(1, 1, 1, 1), *WEIGHT_RANGE))
        bounds = self._range(bit_width)
        peak = int(np.abs(codes).sum(axis=(1, 2, 3), dtype=np.float64).max()) * max(-bounds[0], bounds[1])
        if peak >= EXACT:
            raise WeightsError(f"accumulators of {self.name} reach {peak}, beyond 2^24: it cannot run exactly")
        ones = np.ones(len(weight))
        multiplier = self._step(bit_width) * step.astype(np.float64) * gain * ones
        return IntegerConv(
            codes.astype(np.int8), multiplier.astype(np.float32), (shift * ones).astype(np.float32), bounds
        )


def _affine_of(name: str, tensors: Tensors) -> tuple[F64, F64]:
    """Batch normalisation in eval mode as ``x * gain + shift``, both (C,) float64."""
    weight, bias, mean, variance = (
        tensors[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
    )
    gain = weight / np.sqrt(variance + NORM_EPSILON)
    return gain, bias - mean * gain
