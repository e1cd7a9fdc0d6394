"""The integer network as a sequence of kernels on one GPU: constants in the kernels' layout, one launch per layer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.engines.cuda import triton_kernels as kernels
from gdq_cli.networks.edsr.config import EdsrConfig
from gdq_cli.networks.edsr.lowering import IntegerNetwork, IntegerStatic
from gdq_cli.networks.parameters import Parameters
from gdq_cli.program.layers import ZERO, IntegerConv, IntegerHead

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton runs its kernels on the CPU, as the tests do. It decides this at its import, so we do, too."""

_DTYPES = {"pixels": torch.uint8, "raw": torch.int32}


@dataclass(frozen=True)
class DeviceConv:
    """A convolution on the device, with the constants of every bit-width (W of them; 1 in a static layer).

    Attributes:
        weight: (W, 9, O, I) int8, O padded to a multiple of 16, in the order in which a pixel shuffle stores channels.
        base: (W, O) int32, ``zero`` times the sum of a channel's weights.
        multiplier, offset, inverse: (W, O) float32; ``inverse`` turns a residual sum into the next layer's codes.
        bounds: (W, 2) float32, least and largest code or pixel stored.
        zero: what stored input codes lie below the codes; ``out_zero`` for the output.
        stored: output channels that are real.
        factor: pixel-shuffle factor of the output.
        epilogue: of :func:`triton_kernels.conv3x3`.
    """

    weight: Tensor
    base: Tensor
    multiplier: Tensor
    offset: Tensor
    inverse: Tensor
    bounds: Tensor
    zero: int
    out_zero: int
    stored: int
    factor: int
    epilogue: str


def code_zero(ranges: Sequence[tuple[int, int]]) -> int:
    """What is subtracted from codes so that they fit int8: 128 if there are unsigned 8-bit codes, else nothing."""
    return ZERO if max(high for _, high in ranges) > 127 else 0


def place_conv(
    convs: Sequence[IntegerConv],
    device: str,
    epilogue: str,
    bounds: Sequence[tuple[int, int]],
    *,
    inverse: Sequence[NDArray[np.float32]] | None = None,
    out_zero: int = 0,
    factor: int = 1,
) -> DeviceConv:
    """Bring a layer into the kernels' layout.

    Args:
        convs: the layer at each bit-width.
        device: torch device.
        epilogue: what becomes of the sums.
        bounds: of what is stored, per bit-width.
        inverse: (O,) per bit-width, where the sums join the residual stream.
        out_zero: see :class:`DeviceConv`.
        factor: of a pixel shuffle.
    """
    outputs = len(convs[0].weight)
    order = np.arange(outputs).reshape(-1, factor**2).T.reshape(-1)  # sub-pixel by sub-pixel
    padding = -outputs % 16
    zero = code_zero([conv.input_range for conv in convs])

    def widen(values: Sequence[NDArray[np.float32]]) -> Tensor:
        stacked = torch.from_numpy(np.stack([value[order] for value in values]))
        return torch.nn.functional.pad(stacked, (0, padding)).contiguous().to(device)

    weights = [torch.from_numpy(conv.weight[order]) for conv in convs]
    taps = torch.stack([weight.flatten(2).permute(2, 0, 1) for weight in weights])  # (W, 9, O, I)
    weight = torch.nn.functional.pad(taps, (0, 0, 0, padding)).contiguous()
    return DeviceConv(
        weight.to(device),
        (weight.sum((1, 3), dtype=torch.int32) * zero).to(torch.int32).to(device),
        widen([conv.multiplier for conv in convs]),
        widen([conv.offset for conv in convs]),
        widen(inverse or [np.zeros(outputs, np.float32)] * len(convs)),
        torch.tensor(bounds, dtype=torch.float32, device=device),
        zero,
        out_zero,
        outputs,
        factor,
        epilogue,
    )


class CudaNetwork:
    """EDSR on one device; a batch may mix windows of all bit-widths.

    Args:
        parameters: of a quantized EDSR with features in multiples of 32.
        device: ``cuda:N``; ``cpu`` in Triton's interpreter.

    Attributes:
        rows: bit-width -> what ``choice`` holds for it.
    """

    def __init__(self, parameters: Parameters, device: str) -> None:
        config = parameters.config
        assert isinstance(config, EdsrConfig)
        integers = cast(IntegerNetwork, parameters.integers)
        widths = sorted(integers.blocks)
        self.rows = {bits: row for row, bits in enumerate(widths)}
        columns = list(zip(*(integers.blocks[bits] for bits in widths), strict=True))  # a block at every width
        channels = config.features
        # What turns the residual stream into the codes of each block, and after the last into the body convolution's.
        inverse = [[np.full(channels, block.inverse_step, np.float32) for block in column] for column in columns]
        inverse.append([integers.static.body_inverse_steps] * len(widths))
        ranges = [[block.conv1.input_range for block in column] for column in columns]
        ranges.append([integers.static.body_conv.input_range] * len(widths))
        self._place_head(integers.head, device, inverse[0], ranges[0])
        self._blocks = []
        for index, column in enumerate(columns, 1):
            hidden = [block.conv2.input_range for block in column]
            sums = "add" if index < len(columns) else "last"
            conv1 = place_conv([block.conv1 for block in column], device, "codes", hidden, out_zero=code_zero(hidden))
            conv2 = place_conv([block.conv2 for block in column], device, sums, ranges[index], inverse=inverse[index])
            self._blocks.append((conv1, conv2))
        self._static = list(_place_static(integers.static, device))

    def _place_head(
        self, head: IntegerHead, device: str, inverse: Sequence[NDArray[np.float32]], bounds: Sequence[tuple[int, int]]
    ) -> None:
        self._head = (
            torch.from_numpy(head.weight).permute(2, 3, 1, 0).reshape(27, -1).float().contiguous().to(device),
            torch.tensor(head.mean, dtype=torch.float32, device=device),
            torch.from_numpy(head.multiplier).to(device),
            torch.from_numpy(head.offset).to(device),
            torch.from_numpy(np.stack(list(inverse))).to(device),
            torch.tensor(bounds, dtype=torch.float32, device=device),
        )

    def __call__(self, pixels: Tensor, choice: Tensor) -> Tensor:
        """(N, h, w, 3) uint8 and (N,) int32 rows -> (N, h * scale, w * scale, 3) uint8, all on the device."""
        features, codes = self._run_head(pixels, choice)
        residual, stream = features, torch.empty_like(features)
        for conv1, conv2 in self._blocks:
            codes = convolve(codes, conv1, choice)
            codes = convolve(codes, conv2, choice, residual, stream)
            residual = stream
        only_row = torch.zeros_like(choice)
        for conv in self._static:
            codes = convolve(codes, conv, only_row, features)
        return codes

    def _run_head(self, pixels: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
        n, height, width, _ = pixels.shape
        channels = self._head[0].shape[1]
        features = torch.empty((n, height, width, channels), dtype=torch.float32, device=pixels.device)
        codes = torch.empty((n, height, width, channels), dtype=torch.int8, device=pixels.device)
        kernels.launch(
            kernels.head3x3,
            (channels // _side(channels), -(-height * width // kernels.BLOCK_PIXELS), n),
            pixels,
            choice,
            *self._head,
            features,
            codes,
            height,
            width,
            CHANNELS=channels,
            BLOCK_N=_side(channels),
            BLOCK_M=kernels.BLOCK_PIXELS,
            interpreted=INTERPRETED,
        )
        return features, codes


def _place_static(static: IntegerStatic, device: str) -> Iterator[DeviceConv]:
    following = [*(conv for conv, _ in static.upsampler), static.tail]
    first = following[0].input_range
    yield place_conv([static.body_conv], device, "last", [first], inverse=[static.upsampler_inverse_steps])
    for (conv, stage), after in zip(static.upsampler, following[1:], strict=True):
        low, high = after.input_range
        yield place_conv([conv], device, "codes", [(low + ZERO, high + ZERO)], out_zero=ZERO, factor=stage)
    yield place_conv([static.tail], device, "pixels", [(0, 255)], factor=static.tail_factor)


def convolve(
    codes: Tensor, conv: DeviceConv, choice: Tensor, residual: Tensor | None = None, stream: Tensor | None = None
) -> Tensor:
    """One layer: (N, h, w, I) int8 -> (N, h * factor, w * factor, stored / factor^2) of the epilogue's type.

    Args:
        codes: stored codes.
        conv: the layer.
        choice: (N,) int32, row of the layer's constants for each window.
        residual: (N, h, w, O) float32 that an "add" or "last" epilogue adds to.
        stream: like ``residual``, where "add" puts the sum; the two may be one.
    """
    n, height, width, channels = codes.shape
    outputs, factor = conv.weight.shape[2], conv.factor
    out = torch.empty(
        (n, height * factor, width * factor, conv.stored // factor**2),
        dtype=_DTYPES.get(conv.epilogue, torch.int8),
        device=codes.device,
    )
    unused = conv.multiplier
    kernels.launch(
        kernels.conv3x3,
        (outputs // _side(outputs), -(-height * width // kernels.BLOCK_PIXELS), n),
        codes,
        choice,
        conv.weight,
        conv.base,
        conv.multiplier,
        conv.offset,
        conv.inverse,
        conv.bounds,
        unused if residual is None else residual,
        unused if stream is None else stream,
        out,
        height,
        width,
        CIN=channels,
        COUT=outputs,
        STORED=conv.stored,
        FACTOR=factor,
        ZERO=conv.zero,
        OUT_ZERO=conv.out_zero,
        EPILOGUE=conv.epilogue,
        BLOCK_M=kernels.BLOCK_PIXELS,
        BLOCK_N=_side(outputs),
        BLOCK_K=_side(channels),
        interpreted=INTERPRETED,
    )
    return out


def _side(channels: int) -> int:
    """The largest power of two that divides a number of channels, 64 at most."""
    return min(channels & -channels, 64)
