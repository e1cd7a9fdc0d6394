"""A program of integers as a sequence of kernels on one GPU: constants in the kernels' layout, one launch per layer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.engines.cuda import triton_kernels as kernels
from gdq_cli.errors import DeviceError
from gdq_cli.program.layers import F32, ZERO, IntegerConv, IntegerHead
from gdq_cli.program.operations import (
    Codes,
    Conv,
    Epilogue,
    Float,
    Head,
    Operation,
    Pixels,
    Program,
    Quantize,
    last_reads,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton runs its kernels on the CPU, as the tests do. It decides this at its import, so we do, too."""

IntegerOperation: TypeAlias = Head | Quantize | Conv | Pixels

_LEVELS = Codes(-1, (0, 255))  # grey levels are codes, too, and their buffer is the end


@dataclass(frozen=True)
class DeviceLayer:
    """An operation's constants on the device at every bit-width: W rows, or 1 if they are all alike.

    Attributes:
        constants: as the kernels take them, with None for what is left out:
            weight, (W, 9, O, I) int8, O padded to a multiple of 16, in the order in which a pixel shuffle stores
            channels, or of a head (1, k * k * 3, O) float32;
            base, (W, O) int32, ``zero`` times the sum of a channel's weights, or of a head its mean, (1, 3) float32;
            multiplier, offset, slope and factor, (W, O) float32;
            bounds, (W, 2) float32, least and largest code or pixel before ``out_zero`` is subtracted.
        stored: output channels that are real.
        is_static: whether one row serves windows of all bit-widths.
        zero: what stored input codes lie below the codes.
        out_zero: what is subtracted from the output.
        shuffle: factor of a pixel shuffle of the output.
    """

    constants: tuple[Tensor | None, ...]
    stored: int
    is_static: bool
    zero: int = 0
    out_zero: int = 0
    shuffle: int = 1


def code_zero(ranges: Sequence[tuple[int, int]]) -> int:
    """What is subtracted from codes so that they fit int8: 128 if there are unsigned 8-bit codes, else nothing."""
    return ZERO if max(high for _, high in ranges) > 127 else 0


def place_sums(conv: IntegerConv, device: str) -> DeviceLayer:
    """A convolution whose output is its sums."""
    outputs, zero = len(conv.weight), code_zero([conv.input_range])
    arrays = (*_weights([conv], zero, np.arange(outputs)), *[None] * 5)
    return DeviceLayer(_place(arrays, device), outputs, True, zero)


def place_layer(column: Sequence[IntegerOperation], zero: int, device: str) -> DeviceLayer:
    """Bring an operation into the kernels' layout.

    Args:
        column: the operation at each bit-width.
        zero: of the codes it reads; see :class:`DeviceLayer`.
        device: torch device.
    """
    epilogues = [_epilogue_of(operation) for operation in column]
    codes = [epilogue.codes for epilogue in epilogues if epilogue.codes is not None]
    layers = [operation.layer for operation in column if not isinstance(operation, Quantize)]
    outputs = len(layers[0].weight) if layers else max(1 if onto.factor is None else onto.factor.size for onto in codes)
    shuffle = column[0].shuffle if isinstance(column[0], Conv | Pixels) else 1
    order = np.arange(outputs).reshape(-1, shuffle**2).T.reshape(-1)  # sub-pixel by sub-pixel

    def widen(values: Sequence[F32 | None]) -> F32 | None:
        if all(value is None for value in values):
            return None
        rows = [np.broadcast_to(np.float32(1) if value is None else value, outputs)[order] for value in values]
        return np.pad(np.stack(rows), ((0, 0), (0, -outputs % 16)))

    arrays = [
        *_weights(layers, zero, order),
        widen([layer.multiplier for layer in layers]),
        widen([layer.offset for layer in layers]),
        widen([epilogue.slope for epilogue in epilogues]),
        widen([onto.factor for onto in codes]),
        np.array([onto.bounds for onto in codes], np.float32) + codes[0].zero if codes else None,
    ]
    is_static = all(array is None or bool((array == array[:1]).all()) for array in arrays)
    if is_static:
        arrays = [None if array is None else array[:1] for array in arrays]
    out_zero = 0
    if codes and not isinstance(column[0], Pixels):
        out_zero = codes[0].zero + code_zero([onto.bounds for onto in codes])
    return DeviceLayer(_place(arrays, device), outputs, is_static, zero, out_zero, shuffle)


def _weights(
    layers: Sequence[IntegerHead | IntegerConv], zero: int, order: NDArray[np.intp]
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Weight and base of a :class:`DeviceLayer`, its channels in an order."""
    if not layers:
        return None, None
    if isinstance(layers[0], IntegerHead):  # it reads pixels, which have one width
        weight = layers[0].weight.transpose(2, 3, 1, 0).reshape(1, -1, len(order)).astype(np.float32)
        return weight, np.array([layers[0].mean], np.float32)
    taps = np.stack([layer.weight[order].reshape(len(order), -1, 9).transpose(2, 0, 1) for layer in layers])
    weight = np.pad(taps, ((0, 0), (0, 0), (0, -len(order) % 16), (0, 0)))
    return weight, weight.sum((1, 3), dtype=np.int32) * np.int32(zero)


def _place(arrays: Iterable[NDArray[Any] | None], device: str) -> tuple[Tensor | None, ...]:
    return tuple(
        None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays
    )


def _epilogue_of(operation: IntegerOperation) -> Epilogue:
    """What becomes of an operation's values."""
    if isinstance(operation, Head | Conv):
        return operation.epilogue
    return Epilogue(codes=_LEVELS if isinstance(operation, Pixels) else operation.codes)


def _supported(operations: Sequence[Operation]) -> list[IntegerOperation]:
    """The operations, if the kernels can do them.

    Raises:
        DeviceError: if not.
    """
    floats = [operation.method for operation in operations if isinstance(operation, Float)]
    if floats:
        raise DeviceError(f"the CUDA kernels run integer layers only; here {' and '.join(floats)} stay float32")
    whole = [operation for operation in operations if not isinstance(operation, Float)]
    for operation in whole:
        if not isinstance(operation, Quantize):
            channels = operation.layer.weight.shape[0 if isinstance(operation, Head) else 1]
            if channels % 32:
                raise DeviceError(f"the CUDA kernels need features in multiples of 32, not {channels}")
        epilogue, shuffles = _epilogue_of(operation), isinstance(operation, Conv) and operation.shuffle != 1
        if isinstance(operation, Conv) and epilogue.is_plain:
            continue
        shifted = epilogue.codes is not None and (epilogue.codes.shift is not None or epilogue.codes.zero != 0)
        if shuffles or shifted or epilogue.add_factor != 1:
            raise DeviceError("the CUDA kernels lack the shift or the factor of a sum that this network needs")
    return whole


class CudaNetwork:
    """A program on one device; a batch may mix windows of all bit-widths.

    Args:
        program: of integers, with channels in multiples of 32.
        device: ``cuda:N``; ``cpu`` in Triton's interpreter.

    Attributes:
        rows: bit-width -> what ``choice`` holds for it.
        bytes_per_pixel: most that buffers and output take at once, per LR pixel.

    Raises:
        DeviceError: if the program has what the kernels lack.
    """

    def __init__(self, program: Program, device: str) -> None:
        widths = sorted(program.operations)
        self.rows = {bits: row for row, bits in enumerate(widths)}
        lists, dying = [_supported(program.operations[bits]) for bits in widths], last_reads(program.at(widths[0]))
        self.bytes_per_pixel = _peak_bytes(lists[0], dying)
        self._steps: list[tuple[IntegerOperation, Epilogue, DeviceLayer, tuple[int, ...]]] = []
        zeros: dict[int, int] = {}  # of the codes in each buffer
        for *column, ends in zip(*lists, dying, strict=True):
            first, epilogue = column[0], _epilogue_of(column[0])
            layer = place_layer(column, zeros[first.source] if isinstance(first, Conv | Pixels) else 0, device)
            if epilogue.codes is not None:
                zeros[epilogue.codes.to] = layer.out_zero - epilogue.codes.zero
            self._steps.append((first, epilogue, layer, ends))

    def __call__(self, pixels: Tensor, choice: Tensor) -> Tensor:
        """(N, h, w, 3) uint8 and (N,) int32 rows -> (N, h * scale, w * scale, 3) uint8, all on the device."""
        only_row = torch.zeros_like(choice)
        buffers: dict[int | None, Tensor] = {}
        for operation, epilogue, layer, ends in self._steps:
            rows = only_row if layer.is_static else choice
            source = pixels if isinstance(operation, Head) else buffers[operation.source]
            if isinstance(operation, Quantize):
                buffers[operation.codes.to] = quantize(source, layer, rows)
            else:
                residual, stream, out = buffers.get(epilogue.add), None, None
                if epilogue.keep is not None:
                    stream = residual if epilogue.add in ends else None
                    stream = make_output(source, layer, torch.float32) if stream is None else stream
                    buffers[epilogue.keep] = stream
                if epilogue.codes is not None:
                    out = make_output(source, layer, torch.uint8 if isinstance(operation, Pixels) else torch.int8)
                    buffers[epilogue.codes.to] = out
                enlarged = pixels if isinstance(operation, Pixels) and operation.enlarged else None
                run_layer(source, layer, rows, out, residual, stream, enlarged)
            for buffer in ends:
                del buffers[buffer]
        return buffers[_LEVELS.to]


def _peak_bytes(operations: Sequence[IntegerOperation], dying: Sequence[tuple[int, ...]]) -> int:
    """Most that the buffers and the output of a program take at once, per LR pixel."""
    sizes: dict[int, int] = {}
    peak = 0
    for operation, ends in zip(operations, dying, strict=True):
        epilogue = _epilogue_of(operation)
        if isinstance(operation, Head):
            values = len(operation.layer.weight)
        elif isinstance(operation, Conv | Pixels):
            outputs, inputs, _, _ = operation.layer.weight.shape
            values = outputs * sizes[operation.source] // inputs
        else:
            values = sizes[operation.source] // 4
        if epilogue.keep is not None:
            sizes[epilogue.keep] = 4 * values
        if epilogue.codes is not None:
            sizes[epilogue.codes.to] = values
        peak = max(peak, sum(sizes.values()))
        for buffer in ends:
            del sizes[buffer]
    return peak


def make_output(source: Tensor, layer: DeviceLayer, dtype: torch.dtype) -> Tensor:
    """Room for what a layer gives: (N, h * shuffle, w * shuffle, O / shuffle^2)."""
    n, height, width, _ = source.shape
    shape = (n, height * layer.shuffle, width * layer.shuffle, layer.stored // layer.shuffle**2)
    return torch.empty(shape, dtype=dtype, device=source.device)


def quantize(stream: Tensor, layer: DeviceLayer, choice: Tensor) -> Tensor:
    """(N, h, w, C) float32 -> stored codes, where no layer makes them on its way."""
    *_, factor, bounds = layer.constants
    assert bounds is not None
    low, high = bounds[choice, :, None, None, None].unbind(1)
    values = stream * (1 if factor is None else factor[choice, None, None, : layer.stored])
    return values.round_().clamp_(low, high).sub_(layer.out_zero).to(torch.int8)


def run_layer(
    source: Tensor,
    layer: DeviceLayer,
    choice: Tensor,
    out: Tensor | None = None,
    residual: Tensor | None = None,
    stream: Tensor | None = None,
    pixels: Tensor | None = None,
) -> None:
    """A head or a convolution, with its epilogue.

    Args:
        source: (N, h, w, 3) uint8 pixels of a head, (N, h, w, I) int8 stored codes of a convolution.
        layer: its constants.
        choice: (N,) int32, row of the constants for each window.
        out: codes, grey levels or sums, to be written.
        residual: (N, h, w, O) float32 that is added.
        stream: like ``residual``, where the values are kept; the two may be one.
        pixels: (N, H, W, 3) uint8 that is added to the grey levels.
    """
    weight, *_ = layer.constants
    assert weight is not None
    n, height, width, channels = source.shape
    outputs = layer.stored + -layer.stored % 16
    blocks = (outputs // _side(outputs), -(-height * width // kernels.BLOCK_PIXELS), n)
    settings = {"OUT_ZERO": layer.out_zero, "BLOCK_M": kernels.BLOCK_PIXELS, "BLOCK_N": _side(outputs)}
    tensors: tuple[Tensor | None, ...]
    if weight.dtype == torch.int8:
        kernel, tensors = kernels.conv3x3, (residual, stream, pixels, out)
        density = 1 if pixels is None else height // pixels.shape[1]
        settings |= {"CIN": channels, "COUT": outputs, "STORED": layer.stored, "BLOCK_K": _side(channels)}
        settings |= {"SHUFFLE": layer.shuffle, "ZERO": layer.zero, "DENSITY": density}
    else:
        kernel, tensors = kernels.head, (stream, out)
        settings |= {"CHANNELS": outputs, "SIDE": math.isqrt(weight.shape[1] // 3)}
    kernels.launch(
        kernel, blocks, source, choice, *layer.constants, *tensors, height, width, interpreted=INTERPRETED, **settings
    )


def _side(channels: int) -> int:
    """The largest power of two that divides a number of channels, 64 at most."""
    return min(channels & -channels, 64)
