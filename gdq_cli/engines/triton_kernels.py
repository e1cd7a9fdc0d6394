"""Triton kernels of the CUDA engine: 3x3 convolution of int8 codes on int8 tensor cores, epilogue in the same pass.

Importing this module needs Triton, which torch's CUDA builds for Linux bring along. Codes are stored as ``code - zero``
in int8, so that unsigned 8-bit codes fit too; a pixel outside the picture is code 0, that is ``-zero``.

Products and sums of the epilogue are rounded separately: launch with ``enable_fp_fusion=False``.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

CODES, STREAM, PIXELS, RAW = 0, 1, 2, 3
"""What an epilogue stores: codes of the next layer, the residual stream and its codes, pixels, or accumulators."""

_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding and taking it away rounds half to even below 2^22


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def conv3x3(  # type: ignore[no-untyped-def]
    codes,  # int8 (N, H, W, CIN)
    weight,  # int8 (9, CIN, COUT)
    base,  # int32 (COUT,): zero times the sum of a channel's weights
    multiplier,  # float32 (COUT,)
    offset,  # float32 (COUT,)
    stream,  # float32 (N, H, W, COUT), read and written (STREAM)
    inverse_step,  # float32 (COUT,) (STREAM)
    out,  # int8 codes, uint8 pixels or int32 accumulators
    pixels,  # N * H * W
    height,
    width,
    zero,  # zero of the input codes
    low,
    high,
    out_zero,  # zero of the output codes
    CIN: tl.constexpr,  # noqa: N803
    COUT: tl.constexpr,  # noqa: N803
    STORED: tl.constexpr,  # noqa: N803  (channels kept: 3 of 16 for the tail)
    FACTOR: tl.constexpr,  # noqa: N803  (pixel shuffle; channels come sub-pixel by sub-pixel)
    EPILOGUE: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_K: tl.constexpr,  # noqa: N803
):
    """One block of BLOCK_M pixels by BLOCK_N output channels."""
    place = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = place < pixels
    x = place % width
    y = (place // width) % height
    k = tl.arange(0, BLOCK_K)
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for tap in range(9):
        down, right = tap // 3 - 1, tap % 3 - 1
        present = inside & (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width)
        row = place + down * width + right
        for start in range(0, CIN, BLOCK_K):
            a = tl.load(codes + row[:, None] * CIN + start + k[None, :], mask=present[:, None], other=0)
            outside = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.int8) - zero.to(tl.int8)
            a = tl.where(present[:, None], a, outside)
            b = tl.load(weight + (tap * CIN + start + k[:, None]) * COUT + channel[None, :])
            sums = tl.dot(a, b, sums, out_dtype=tl.int32)
    sums += tl.load(base + channel)[None, :]
    keep = inside[:, None] & (channel < STORED)[None, :]
    at = place[:, None] * STORED + channel[None, :]
    if EPILOGUE == RAW:
        tl.store(out + at, sums, mask=keep)
    else:
        values = sums.to(tl.float32) * tl.load(multiplier + channel)[None, :]
        values = values + tl.load(offset + channel)[None, :]
        if EPILOGUE == STREAM:
            values = values + tl.load(stream + at, mask=keep, other=0.0)
            tl.store(stream + at, values, mask=keep)
            values = values * tl.load(inverse_step + channel)[None, :]
        rounded = tl.minimum(tl.maximum(values, low.to(tl.float32)), high.to(tl.float32))
        rounded = (rounded + _MAGIC) - _MAGIC
        if EPILOGUE == PIXELS:
            tl.store(out + at, rounded.to(tl.uint8), mask=keep)
        else:
            if FACTOR > 1:
                inner = COUT // (FACTOR * FACTOR)
                part = channel // inner
                image = place // (width * height)
                up = (image * height + y) * FACTOR
                line = up[:, None] + (part // FACTOR)[None, :]
                column = (x * FACTOR)[:, None] + (part % FACTOR)[None, :]
                at = (line * (width * FACTOR) + column) * inner + (channel % inner)[None, :]
            tl.store(out + at, (rounded.to(tl.int32) - out_zero).to(tl.int8), mask=keep)


def launch(grid: tuple[int, int], arguments: tuple[Any, ...], constants: dict[str, int], interpreted: bool) -> None:
    """Run :func:`conv3x3`; in Triton's interpreter the options of the compiler mean nothing."""
    options = {} if interpreted else {"enable_fp_fusion": False, "num_warps": 4, "num_stages": 3}
    conv3x3[grid](*arguments, **constants, **options)
