"""int8 engine on torch's own oneDNN convolutions: the fast engine where our kernels were not built.

oneDNN takes uint8 codes, so signed codes are stored with a zero point of 128; its epilogue multiplies and adds with
two roundings, exactly as the integer contract says (tests/engines/test_engines.py holds it to that).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gdq_cli.engines.tensor import TensorEngine
from gdq_cli.networks import Network, Parameters
from gdq_cli.program.layers import ZERO, IntegerConv
from gdq_cli.program.operations import Codes

_ONES = [1, 1]


def is_available() -> bool:
    """Whether this torch build has the operators at all; whether they are right here is for the self-test."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops, "onednn")  # type: ignore[no-untyped-call]


class OnednnEngine(TensorEngine):
    """Codes are uint8 tensors in channels_last; a signed layer's codes stand ``ZERO`` higher."""

    name = "onednn"
    batch_size = 2  # measured: feature maps of two windows stay in the cache of two cores

    def __init__(self, network: Network | Parameters) -> None:
        super().__init__(network)
        self._packed: dict[tuple[int, tuple[int, ...]], tuple[IntegerConv, Tensor]] = {}
        self._scratch = torch.empty(0)

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        unsigned = (codes + self._zero_point(conv)).to(torch.uint8).contiguous(memory_format=torch.channels_last)
        raw = IntegerConv(conv.weight, np.ones_like(conv.multiplier), np.zeros_like(conv.offset), conv.input_range)
        return self._convolve(unsigned, raw, torch.float32, "none", []).to(torch.int32)

    @staticmethod
    def _zero_point(conv: IntegerConv) -> int:
        return ZERO if conv.input_range[0] < 0 else 0

    def _pack(self, conv: IntegerConv, codes: Tensor) -> Tensor:
        """Weight in oneDNN's layout for this input shape, made once per layer and window shape."""
        key = (id(conv), tuple(codes.shape[1:]))
        if key not in self._packed:
            constants = (self._tensor(conv.weight), self._tensor(conv.multiplier), 1.0, self._zero_point(conv))
            packed = torch.ops.onednn.qconv_prepack(*constants, _ONES, _ONES, _ONES, 1, list(codes.shape))
            self._packed[key] = conv, packed  # the conv is kept, so its id stays its own
        return self._packed[key][1]

    def _arguments(self, codes: Tensor, conv: IntegerConv) -> tuple[Any, ...]:
        points = torch.zeros(len(conv.multiplier), dtype=torch.int32)
        return codes, 1.0, self._zero_point(conv), self._pack(conv, codes), self._tensor(conv.multiplier), points

    def _convolve(
        self, codes: Tensor, conv: IntegerConv, dtype: torch.dtype, unary: str, scalars: list[float]
    ) -> Tensor:
        arguments = self._arguments(codes, conv)
        op: Callable[..., Tensor] = torch.ops.onednn.qconv2d_pointwise
        return op(*arguments, self._tensor(conv.offset), _ONES, _ONES, _ONES, 1, 1.0, 0, dtype, unary, scalars, "")

    def _quantize(self, x: Tensor, factor: Tensor | float, bounds: tuple[int, int]) -> Tensor:
        if self._scratch.shape != x.shape:
            self._scratch = torch.empty_like(x)
        torch.mul(x, factor, out=self._scratch)
        low, high = bounds
        if low == 0:
            return self._scratch.round_().clamp_(low, high).to(torch.uint8)
        return self._scratch.round_().add_(ZERO).clamp_(low + ZERO, high + ZERO).to(torch.uint8)

    def _conv_codes(self, codes: Tensor, conv: IntegerConv, onto: Codes) -> Tensor:
        low, high = (bound + onto.zero for bound in onto.bounds)
        if (low, high) == (0, 255):  # the conversion to uint8 saturates by itself
            return self._convolve(codes, conv, torch.uint8, "none" if onto.zero else "relu", [])
        return self._convolve(codes, conv, torch.uint8, "hardtanh", [float(low), float(high)])

    def _conv_add(self, codes: Tensor, conv: IntegerConv, x: Tensor) -> Tensor:
        op: Callable[..., Tensor] = torch.ops.onednn.qconv2d_pointwise.binary
        arguments = self._arguments(codes, conv)
        output = (_ONES, _ONES, _ONES, 1, 1.0, 0, torch.float32)
        return op(*arguments, x, self._tensor(conv.offset), *output, 1.0, 0, "sum", 1.0, "none", [], "")

    def _conv_values(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        return self._convolve(codes, conv, torch.float32, "none", [])
