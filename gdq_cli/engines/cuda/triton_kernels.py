"""Triton kernels of the CUDA engine: the head, and 3x3 convolutions of int8 codes on tensor cores, epilogue included.

Importing this module needs Triton, which torch's CUDA builds for Linux bring along. A window of any bit-width may stand
beside one of another: layers hold their constants per width, and ``choice`` says which of them a window takes. Codes
are stored as ``code - zero`` in int8, so that unsigned 8-bit codes fit too. A step of the epilogue whose tensor is None
is left out when the kernel is compiled.

The contract (docs/engines.md) rounds every product and every sum. So a launch passes ``enable_fp_fusion=False``, which
keeps LLVM and ptxas from making one fused operation of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl

BLOCK_PIXELS = 128

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4, "num_stages": 3}
"""Of the compiler, for every launch; in Triton's interpreter they mean nothing."""

_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding and taking it away rounds half to even below 2^22


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def finish(  # type: ignore[no-untyped-def]
    sums,  # int32, or float32 that carries integers: (pixels, channels) as all that follows
    channel,  # of a layer's constants
    multiplier,
    offset,
    slope,
    first,  # of the window's values in the streams
    at,
    keep,
    residual,
    stream,
    factor,
):
    """The epilogue, as in ``program.operations``: sums -> values, of which codes are rounded."""
    values = sums.to(tl.float32) * tl.load(multiplier + channel)[None, :]
    values = values + tl.load(offset + channel)[None, :]
    if slope is not None:
        values = tl.where(values < 0, values * tl.load(slope + channel)[None, :], values)
    if residual is not None:
        values = values + tl.load(residual + first + at, mask=keep, other=0.0)
    if stream is not None:
        tl.store(stream + first + at, values, mask=keep)
    if factor is not None:
        values = values * tl.load(factor + channel)[None, :]
    return values


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def whole(values, bounds, row):  # type: ignore[no-untyped-def]
    """Rounded half to even and clamped."""
    low, high = tl.load(bounds + row * 2), tl.load(bounds + row * 2 + 1)
    return ((tl.minimum(tl.maximum(values, low), high) + _MAGIC) - _MAGIC).to(tl.int32)


@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator, unused-ignore]
def head(  # type: ignore[no-untyped-def]
    pixels,  # uint8 (N, H, W, 3)
    choice,  # int32 (N,)
    weight,  # float32 (SIDE * SIDE * 3, C), integers
    mean,  # float32 (3,), integers
    multiplier,  # float32 (widths, C)
    offset,  # float32 (widths, C)
    slope,  # float32 (widths, C), or None
    factor,  # float32 (widths, C), or None
    bounds,  # float32 (widths, 2), or None: of the codes
    stream,  # float32 (N, H, W, C), or None: where the values are kept
    out,  # int8 (N, H, W, C) codes, or None
    height,
    width,
    CHANNELS: tl.constexpr,  # noqa: N803
    SIDE: tl.constexpr,  # noqa: N803
    OUT_ZERO: tl.constexpr,  # noqa: N803  (of the codes)
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
):
    """The head on BLOCK_M pixels; float32 carries integers below 2^24, exact in any order."""
    image = tl.program_id(2)
    row = tl.load(choice + image)
    first = image.to(tl.int64) * height * width  # beyond 2^31 in a large batch
    pixels += first * 3
    place = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    x, y = place % width, place // width
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for tap in range(SIDE * SIDE):
        down, right = tap // SIDE - SIDE // 2, tap % SIDE - SIDE // 2
        present = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width)
        for color in tl.static_range(3):
            value = tl.load(pixels + (place + down * width + right) * 3 + color, mask=present, other=0).to(tl.float32)
            value = tl.where(present, value - tl.load(mean + color), 0.0)
            sums += value[:, None] * tl.load(weight + (tap * 3 + color) * CHANNELS + channel)[None, :]
    at = place[:, None] * CHANNELS + channel[None, :]
    keep = (place < height * width)[:, None] & (channel < CHANNELS)[None, :]
    channel += row * CHANNELS
    first *= CHANNELS
    values = finish(sums, channel, multiplier, offset, slope, first, at, keep, None, stream, factor)
    if out is not None:
        tl.store(out + first + at, (whole(values, bounds, row) - OUT_ZERO).to(tl.int8), mask=keep)


@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator, unused-ignore]
def conv3x3(  # type: ignore[no-untyped-def]
    codes,  # int8 (N, H, W, CIN)
    choice,  # int32 (N,)
    weight,  # int8 (widths, 9, COUT, CIN): the inputs of a channel side by side, as int8 tensor cores take them
    base,  # int32 (widths, COUT): ZERO times the sum of a channel's weights
    multiplier,  # float32 (widths, COUT); None where the sums themselves are stored
    offset,  # float32 (widths, COUT)
    slope,  # float32 (widths, COUT), or None
    factor,  # float32 (widths, COUT), or None
    bounds,  # float32 (widths, 2), or None: of the codes or pixels stored
    residual,  # float32 (N, H, W, COUT), or None: what is added
    stream,  # float32 (N, H, W, COUT), or None: where the values are kept; may be the residual itself
    pixels,  # uint8 (N, H / DENSITY, W / DENSITY, 3), or None: the network's input, added to grey levels
    out,  # int8 codes, uint8 pixels, int32 sums, or None
    height,
    width,
    CIN: tl.constexpr,  # noqa: N803
    COUT: tl.constexpr,  # noqa: N803
    STORED: tl.constexpr,  # noqa: N803  (channels kept: 3 of 16 for the tail)
    SHUFFLE: tl.constexpr,  # noqa: N803  (factor; channels come sub-pixel by sub-pixel)
    ZERO: tl.constexpr,  # noqa: N803  (of the input codes)
    OUT_ZERO: tl.constexpr,  # noqa: N803  (of the output codes)
    DENSITY: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_K: tl.constexpr,  # noqa: N803
):
    """One block of BLOCK_M pixels of a window by BLOCK_N output channels."""
    image = tl.program_id(2)
    row = tl.load(choice + image)
    first = image.to(tl.int64) * height * width  # beyond 2^31 in a large batch
    place = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    own = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    x, y = place % width, place // width
    codes += first * CIN
    weight += row * (9 * COUT * CIN)
    k = tl.arange(0, BLOCK_K)
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for step in range(9 * (CIN // BLOCK_K)):  # one loop, which the compiler pipelines
        tap, start = step // (CIN // BLOCK_K), step % (CIN // BLOCK_K) * BLOCK_K
        down, right = tap // 3 - 1, tap % 3 - 1
        present = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width)
        near = (place + down * width + right) * CIN + start
        a = tl.load(codes + near[:, None] + k[None, :], mask=present[:, None], other=-ZERO)  # code 0 outside
        b = tl.load(weight + (tap * COUT + own[None, :]) * CIN + start + k[:, None])
        sums = tl.dot(a, b, sums, out_dtype=tl.int32)
    keep = (place < height * width)[:, None] & (own < STORED)[None, :]
    at = place[:, None] * STORED + own[None, :]
    channel = own + row * COUT
    if ZERO != 0:
        sums += tl.load(base + channel)[None, :]
    if multiplier is None:
        tl.store(out + first * STORED + at, sums, mask=keep)
    else:
        values = finish(sums, channel, multiplier, offset, slope, first * STORED, at, keep, residual, stream, factor)
        inner: tl.constexpr = STORED // (SHUFFLE * SHUFFLE)
        if pixels is not None:
            pixels += image.to(tl.int64) * (height // DENSITY) * (width // DENSITY) * 3
            near = (y // DENSITY * (width // DENSITY) + x // DENSITY) * 3
            levels = tl.load(pixels + near[:, None] + (own % inner)[None, :], mask=keep, other=0)
            values = values + levels.to(tl.float32)
        if out is not None:
            if SHUFFLE > 1:
                part = own // inner
                line = (y * SHUFFLE)[:, None] + (part // SHUFFLE)[None, :]
                column = (x * SHUFFLE)[:, None] + (part % SHUFFLE)[None, :]
                at = (line * (width * SHUFFLE) + column) * inner + (own % inner)[None, :]
            out += first * STORED  # a pixel shuffle keeps an image's size
            tl.store(out + at, (whole(values, bounds, row) - OUT_ZERO).to(out.dtype.element_ty), mask=keep)


def launch(kernel: Any, grid: Sequence[int], *arguments: Any, interpreted: bool, **constants: Any) -> None:
    """Run a kernel in the current stream."""
    kernel[tuple(grid)](*arguments, **constants, **({} if interpreted else OPTIONS))
