"""From the tensors of a checkpoint to the integers every engine computes with (docs/engines.md). NumPy alone.

All constants are derived in float64 and rounded once to float32. An engine then computes, for accumulators a:
``fl(fl(a * multiplier) + offset)`` - multiply and add rounded separately, so that a fused int8 library, a float32
library that carries integers and our own kernels give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import WeightsError
from gdq_cli.program.grids import TRANSFORMS, Grid, code_range, fits_grid, weight_codes, weight_grid

F32 = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]

HEAD_MAX = 2047
"""Largest head weight code: 12 bits keep 27 products of 8-bit pixels below 2^24, exact in float32."""

EXACT = 1 << 24
"""Integers below it are exact in float32, so accumulators must stay below it."""

ZERO = 128
"""Code that stands for 0 in the unsigned 8-bit output of an upsampler convolution."""


@dataclass(frozen=True)
class IntegerConv:
    """A 3x3 convolution on codes and its epilogue.

    Attributes:
        weight: (O, I, 3, 3) int8.
        multiplier: (O,) float32; offset: (O,) float32.
        input_range: smallest and largest input code.
    """

    weight: NDArray[np.int8]
    multiplier: F32
    offset: F32
    input_range: tuple[int, int]


@dataclass(frozen=True)
class IntegerHead:
    """The head convolution as exact integers, shared by the controller and the integer engines.

    ``h = codes * multiplier + offset`` with ``codes = conv(pixel - mean)``; see docs/engines.md.

    Attributes:
        weight: (C, 3, k, k) int16, |code| <= 2047.
        multiplier: (C,) float32; offset: (C,) float32.
        mean: of each channel, in grey levels.
    """

    weight: NDArray[np.int16]
    multiplier: F32
    offset: F32
    mean: tuple[int, int, int]


@dataclass(frozen=True)
class ConvConfig:
    """What fixes a 3x3 convolution, trainable (``networks.blocks.QuantConv2d``) or of a checkpoint.

    Attributes:
        inputs, outputs: channels.
        bit_widths: activation bit-widths it can run at; one entry makes it *static* (the patch's bit-width is
            ignored), none leaves it float32 only.
        signed: whether its input can be negative (False after ReLU).
        equalized: whether each input channel has a step of its own (``activation_step * equalization``).
        four_bits: grid of the weights in patches of 4 bits.
    """

    inputs: int
    outputs: int
    bit_widths: tuple[int, ...]
    signed: bool = True
    equalized: bool = False
    four_bits: Grid = "narrow"

    @property
    def is_static(self) -> bool:
        """Whether it runs at one bit-width whatever the patch's is."""
        return len(self.bit_widths) == 1

    @property
    def grids(self) -> list[Grid]:
        """The grids that its weights are put on, without repetition."""
        return list(dict.fromkeys(weight_grid(bits, self.four_bits) for bits in self.bit_widths))

    @property
    def bound_grids(self) -> list[Grid]:
        """Those whose steps follow from its weights: the finest ones that fit the kernel."""
        return [grid for grid in self.grids if grid in TRANSFORMS]

    def column(self, bit_width: int) -> int:
        """Which of its bit-widths it runs at in a patch of ``bit_width``.

        Raises:
            ValueError: if it was not quantized for it.
        """
        if self.is_static:
            return 0
        if bit_width not in self.bit_widths:
            raise ValueError(f"bit_width must be one of {self.bit_widths}, not {bit_width}")
        return self.bit_widths.index(bit_width)

    def input_range(self, bit_width: int) -> tuple[int, int]:
        """Smallest and largest input code in a patch of ``bit_width``."""
        return code_range(self.bit_widths[self.column(bit_width)], signed=self.signed)

    def weight_grid(self, bit_width: int) -> Grid:
        """Where its weights lie in a patch of ``bit_width``."""
        return weight_grid(self.bit_widths[self.column(bit_width)], self.four_bits)


def conv_shapes(convs: Mapping[str, ConvConfig]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of convolutions."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, conv in convs.items():
        shapes |= {f"{name}.weight": (conv.outputs, conv.inputs, 3, 3), f"{name}.bias": (conv.outputs,)}
        if conv.bit_widths:
            shapes[f"{name}.activation_step"] = (len(conv.bit_widths),)
        shapes |= {f"{name}.{grid}_step": (conv.outputs,) for grid in conv.grids}
        if conv.equalized:
            shapes[f"{name}.equalization"] = (conv.inputs,)
    return shapes


@dataclass(frozen=True)
class QuantLayer:
    """A quantized convolution as a checkpoint holds it.

    Attributes:
        name: what its tensors' names begin with.
        tensors: of the checkpoint.
        config: what fixes it.
    """

    name: str
    tensors: Tensors
    config: ConvConfig

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.tensors[f"{self.name}.{key}"]

    def activation_step(self, bit_width: int) -> np.float32:
        """Step of its input codes, without the channels' equalization."""
        step: np.float32 = self["activation_step"][self.config.column(bit_width)]
        return step

    def input_step(self, bit_width: int) -> F32:
        """Step of its input codes: a scalar, or (I,) if equalized."""
        step = self.activation_step(bit_width)
        return np.asarray(step * self["equalization"] if self.config.equalized else step, np.float32)

    def inverse_steps(self, bit_width: int) -> F32:
        """float32 factor(s) that turn input values into codes: a scalar array, or (I,) if equalized."""
        return np.asarray(1 / self.input_step(bit_width).astype(np.float64)).astype(np.float32)

    @cached_property
    def _known_codes(self) -> dict[Grid, tuple[NDArray[np.int8], int]]:
        return {}

    def _weight_codes(self, grid: Grid) -> tuple[NDArray[np.int8], int]:
        """Codes of the weight on one grid, and the largest sum of their magnitudes that an output channel has."""
        if known := self._known_codes.get(grid):
            return known
        weight: F32 = self["weight"]
        if self.config.equalized:
            weight = weight * self["equalization"].reshape(1, -1, 1, 1)
        codes = weight_codes(weight, self[f"{grid}_step"])
        if grid != "wide" and not self.config.is_static and not fits_grid(codes, grid):
            raise WeightsError(f"{grid} weights of {self.name} leave the range of the Winograd kernel; calibrate again")
        made = codes.astype(np.int8), int(np.abs(codes).sum(axis=(1, 2, 3), dtype=np.float64).max())
        return self._known_codes.setdefault(grid, made)

    def lower(
        self,
        bit_width: int,
        *,
        output_step: F32 | None = None,
        gain: float = 1.0,
        shift: NDArray[np.float64] | float = 0,
    ) -> IntegerConv:
        """The layer in integers.

        Args:
            bit_width: of the patch (a static layer keeps its own).
            output_step: step of the codes its epilogue gives, scalar or (O,); None for values times ``gain``.
            gain: factor on the output values.
            shift: added to the output after everything else, scalar or (O,).

        Raises:
            WeightsError: if the accumulators could leave the range that all engines compute exactly.
        """
        grid = self.config.weight_grid(bit_width)
        weight_step: F32 = self[f"{grid}_step"]
        codes, largest_sum = self._weight_codes(grid)
        qmin, qmax = self.config.input_range(bit_width)
        _check_exact(self.name, largest_sum * max(-qmin, qmax))
        scale = np.float64(self.activation_step(bit_width)) * weight_step.astype(np.float64) * gain
        offset = self["bias"].astype(np.float64) * gain
        if output_step is not None:
            scale, offset = scale / output_step.astype(np.float64), offset / output_step.astype(np.float64)
        return IntegerConv(codes, scale.astype(np.float32), (offset + shift).astype(np.float32), (qmin, qmax))


def lower_head(tensors: Tensors, mean: tuple[int, int, int]) -> IntegerHead:
    """The head on 8-bit pixels less a mean, with weights of 12 bits (66 dB below their peak: no visible change).

    Raises:
        WeightsError: if its accumulators could leave the range that all engines compute exactly; of 3x3 none does.
    """
    weight = tensors["head.weight"].astype(np.float64)
    step = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-12) / HEAD_MAX
    codes = np.rint(weight / step.reshape(-1, 1, 1, 1))
    _check_exact("head", int((np.abs(codes).sum(axis=(2, 3)) @ [max(m, 255 - m) for m in mean]).max()))
    return IntegerHead(
        codes.astype(np.int16), (step / 255).astype(np.float32), tensors["head.bias"].astype(np.float32), mean
    )


def _check_exact(name: str, peak: int) -> None:
    if peak >= EXACT:
        raise WeightsError(f"accumulators of {name} reach {peak}, beyond 2^24: the checkpoint cannot run exactly")


def check_quantized(bit_widths: tuple[int, ...]) -> None:
    """Refuse a network that has no bit-widths to lower.

    Raises:
        WeightsError: if there are none.
    """
    if not bit_widths:
        raise WeightsError("this is a float32 checkpoint: it runs with `bits=fp32` only, or after gdq calibrate")
