"""Triton kernels of the CUDA engine: the head, and 3x3 convolutions of int8 codes on tensor cores, epilogue included.

Importing this module needs Triton, which torch's CUDA builds for Linux bring along. A window of any bit-width may stand
beside one of another: layers hold their constants per width, and ``choice`` says which of them a window takes. Codes
are stored as ``code - zero`` in int8, so that unsigned 8-bit codes fit too.

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


@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator, unused-ignore]
def head3x3(  # type: ignore[no-untyped-def]
    pixels,  # uint8 (N, H, W, 3)
    choice,  # int32 (N,)
    weight,  # float32 (27, C), integers
    mean,  # float32 (3,), integers
    multiplier,  # float32 (C,)
    offset,  # float32 (C,)
    inverse,  # float32 (widths, C): to the codes of the first block
    bounds,  # float32 (widths, 2): of these codes
    features,  # float32 (N, H, W, C)
    codes,  # int8 (N, H, W, C)
    height,
    width,
    CHANNELS: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
):
    """Head features of BLOCK_M pixels and their codes; float32 carries integers below 2^24, exact in any order."""
    image = tl.program_id(2)
    row = tl.load(choice + image)
    first = image.to(tl.int64) * height * width  # beyond 2^31 in a large batch
    pixels += first * 3
    features += first * CHANNELS
    codes += first * CHANNELS
    place = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    x, y = place % width, place // width
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for tap in range(9):
        down, right = tap // 3 - 1, tap % 3 - 1
        present = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width)
        for color in tl.static_range(3):
            value = tl.load(pixels + (place + down * width + right) * 3 + color, mask=present, other=0).to(tl.float32)
            value = tl.where(present, value - tl.load(mean + color), 0.0)
            sums += value[:, None] * tl.load(weight + (tap * 3 + color) * CHANNELS + channel)[None, :]
    values = sums * tl.load(multiplier + channel)[None, :]
    values = values + tl.load(offset + channel)[None, :]
    at = place[:, None] * CHANNELS + channel[None, :]
    keep = (place < height * width)[:, None] & (channel < CHANNELS)[None, :]
    tl.store(features + at, values, mask=keep)
    values = values * tl.load(inverse + row * CHANNELS + channel)[None, :]
    low, high = tl.load(bounds + row * 2), tl.load(bounds + row * 2 + 1)
    values = (tl.minimum(tl.maximum(values, low), high) + _MAGIC) - _MAGIC
    tl.store(codes + at, values.to(tl.int32).to(tl.int8), mask=keep)


@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator, unused-ignore]
def conv3x3(  # type: ignore[no-untyped-def]
    codes,  # int8 (N, H, W, CIN)
    choice,  # int32 (N,)
    weight,  # int8 (widths, 9, COUT, CIN): the inputs of a channel side by side, as int8 tensor cores take them
    base,  # int32 (widths, COUT): ZERO times the sum of a channel's weights
    multiplier,  # float32 (widths, COUT)
    offset,  # float32 (widths, COUT)
    inverse,  # float32 (widths, COUT): of the sum's codes ("add", "last")
    bounds,  # float32 (widths, 2): of the codes or pixels stored
    residual,  # float32 (N, H, W, COUT): what the values are added to ("add", "last")
    stream,  # float32 (N, H, W, COUT): where the sum goes ("add"); may be the residual itself
    out,  # int8 codes, uint8 pixels or int32 accumulators
    height,
    width,
    CIN: tl.constexpr,  # noqa: N803
    COUT: tl.constexpr,  # noqa: N803
    STORED: tl.constexpr,  # noqa: N803  (channels kept: 3 of 16 for the tail)
    FACTOR: tl.constexpr,  # noqa: N803  (pixel shuffle; channels come sub-pixel by sub-pixel)
    ZERO: tl.constexpr,  # noqa: N803  (of the input codes)
    OUT_ZERO: tl.constexpr,  # noqa: N803  (of the output codes)
    EPILOGUE: tl.constexpr,  # noqa: N803  ("codes", "add" to the residual, "last" sum, "pixels" or "raw")
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_K: tl.constexpr,  # noqa: N803
):
    """One block of BLOCK_M pixels of a window by BLOCK_N output channels."""
    image = tl.program_id(2)
    row = tl.load(choice + image)
    first = image.to(tl.int64) * height * width  # beyond 2^31 in a large batch
    place = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
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
        b = tl.load(weight + (tap * COUT + channel[None, :]) * CIN + start + k[:, None])
        sums = tl.dot(a, b, sums, out_dtype=tl.int32)
    keep = (place < height * width)[:, None] & (channel < STORED)[None, :]
    at = place[:, None] * STORED + channel[None, :]
    channel += row * COUT
    if ZERO != 0:
        sums += tl.load(base + channel)[None, :]
    out += first * STORED  # a pixel shuffle keeps an image's size
    if EPILOGUE == "raw":
        tl.store(out + at, sums, mask=keep)
    else:
        values = sums.to(tl.float32) * tl.load(multiplier + channel)[None, :]
        values = values + tl.load(offset + channel)[None, :]
        if EPILOGUE == "add" or EPILOGUE == "last":
            values = values + tl.load(residual + first * STORED + at, mask=keep, other=0.0)
            if EPILOGUE == "add":
                tl.store(stream + first * STORED + at, values, mask=keep)
            values = values * tl.load(inverse + channel)[None, :]
        low, high = tl.load(bounds + row * 2), tl.load(bounds + row * 2 + 1)
        rounded = (tl.minimum(tl.maximum(values, low), high) + _MAGIC) - _MAGIC
        if FACTOR > 1:
            inner: tl.constexpr = STORED // (FACTOR * FACTOR)
            own = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
            part = own // inner
            line = (y * FACTOR)[:, None] + (part // FACTOR)[None, :]
            column = (x * FACTOR)[:, None] + (part % FACTOR)[None, :]
            at = (line * (width * FACTOR) + column) * inner + (own % inner)[None, :]
        if EPILOGUE == "pixels":
            tl.store(out + at, rounded.to(tl.int32).to(tl.uint8), mask=keep)
        else:
            tl.store(out + at, (rounded.to(tl.int32) - OUT_ZERO).to(tl.int8), mask=keep)


def launch(kernel: Any, grid: Sequence[int], *arguments: Any, interpreted: bool, **constants: Any) -> None:
    """Run a kernel in the current stream."""
    kernel[tuple(grid)](*arguments, **constants, **({} if interpreted else OPTIONS))
