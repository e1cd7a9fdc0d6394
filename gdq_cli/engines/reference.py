"""Reference engine: float32 convolutions that carry integers, on any torch device. Slow, simple, exact."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from gdq_cli.engines.tensor import TensorEngine
from gdq_cli.networks import Network, Parameters
from gdq_cli.program.layers import IntegerConv
from gdq_cli.program.operations import Codes


class ReferenceEngine(TensorEngine):
    """Codes are float32 tensors that hold integers; every accumulator stays below 2^24 and is therefore exact."""

    name = "reference"

    def __init__(self, network: Network | Parameters, device: str = "cpu") -> None:
        super().__init__(network)
        self.device = device
        if device != "cpu":
            self._network = copy.deepcopy(self._network).to(device)

    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        with self._exact_convolutions():
            return super().__call__(windows, bit_width)

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        with self._exact_convolutions():
            return self._convolve(codes.float().to(self.device), conv).to(torch.int32).cpu()

    @contextmanager
    def _exact_convolutions(self) -> Iterator[None]:
        """cuDNN may choose TF32 or a float Winograd, neither of which keeps integers exact: use plain im2col.

        Its matrix product must not be TF32 either, which a program around us may have allowed.
        """
        if not self.device.startswith("cuda"):
            yield
            return
        matmul = torch.backends.cuda.matmul
        switch, exact = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
        before = getattr(matmul, switch)
        setattr(matmul, switch, exact)
        try:
            with torch.backends.cudnn.flags(enabled=False):
                yield
        finally:
            setattr(matmul, switch, before)

    def _convolve(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        return F.conv2d(codes, self._tensor(conv.weight).float(), padding=1)

    def _quantize(self, x: Tensor, factor: Tensor | float, bounds: tuple[int, int]) -> Tensor:
        return (x * factor).round_().clamp_(*bounds)

    def _conv_codes(self, codes: Tensor, conv: IntegerConv, onto: Codes) -> Tensor:
        low, high = onto.bounds
        codes = self._conv_values(codes, conv).round_().clamp_(low + onto.zero, high + onto.zero)
        return codes.sub_(onto.zero) if onto.zero else codes

    def _conv_add(self, codes: Tensor, conv: IntegerConv, x: Tensor) -> Tensor:
        return self._conv_values(codes, conv).add_(x)

    def _conv_values(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        return self._affine(self._convolve(codes, conv), conv.multiplier, conv.offset)
