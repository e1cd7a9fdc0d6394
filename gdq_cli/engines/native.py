"""Our own kernels: direct convolutions of integers and exact integer Winograd, one window per thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.bits.windows import Window
from gdq_cli.engines import kernels
from gdq_cli.engines.base import Engine
from gdq_cli.engines.threads import thread_count
from gdq_cli.networks.parameters import Parameters
from gdq_cli.program.layers import ZERO, IntegerConv
from gdq_cli.program.operations import Float, stretches

if TYPE_CHECKING:
    from torch import Tensor

    from gdq_cli.networks import Network

_FLOAT_NETWORK = (Float("forward", (), None, 0, 0),)
"""What runs at 32 bits."""


class NativeEngine(Engine):
    """The compiled extension on all threads of :func:`gdq_cli.engines.threads.thread_count`.

    Layers that stay float32 are run by the torch module; where there are none, no torch is needed.

    Args:
        network: quantized.
        isa: instruction set, or None for the fastest that passes the kernels' own test.
        bit_widths: the ones to prepare; None for all of the network.

    Raises:
        DeviceError: if the extension is not built or not right on this machine.
        ValueError: if the program is none for the kernels.
    """

    name = "native"

    def __init__(
        self, network: Network | Parameters, isa: str | None = None, bit_widths: Sequence[int] | None = None
    ) -> None:
        super().__init__(network)
        program = self.parameters.program
        if bit_widths is not None:
            program = replace(program, operations={bits: program.operations[bits] for bits in bit_widths})
        self.isa = kernels.choose_isa(isa)
        operations = next(iter(program.operations.values()))
        self._parts: list[Float | kernels.Network] = []
        for span in stretches(operations):
            first = operations[span.start]
            self._parts.append(first if isinstance(first, Float) else kernels.Network(program, self.isa, span))

    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        import torch

        return torch.from_numpy(self.run_windows(windows.permute(0, 2, 3, 1).numpy(), bit_width)).permute(0, 3, 1, 2)

    def run_windows(self, windows: NDArray[np.uint8], bit_width: int) -> NDArray[np.uint8]:
        n, height, width, _ = windows.shape
        column = np.ascontiguousarray(windows).reshape(n * height, width, 3)  # a picture of them all
        target = np.empty((n * height * self.scale, width * self.scale, 3), np.uint8)
        rectangles = np.array([(index * height, 0, height, width) for index in range(n)], np.int32)
        widths, ones = np.full(n, bit_width, np.uint8), np.ones(n, np.int32)
        streams: dict[int, NDArray[np.float32]] = {}
        for part in _FLOAT_NETWORK if bit_width == FP32_BITS else self._parts:
            if isinstance(part, kernels.Network):
                part.run(column, rectangles, rectangles, widths, ones, target, threads=thread_count(), streams=streams)
                continue
            read = [streams[buffer].reshape(n, height, width, -1) for buffer in part.reads]
            values = self._run_float(part, read or [windows])
            if part.to is None:
                return values
            streams[part.to] = values.reshape(n * height * width, -1)
        return target.reshape(n, height * self.scale, width * self.scale, 3)

    def _run_float(self, layers: Float, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Layers of the torch module: a stream, (N, h, w, C) float32, or at the end grey levels, rounded to uint8."""
        import torch

        from gdq_cli.engines.tensor import to_pixels

        with torch.inference_mode():
            tensors = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in values]
            floats = [tensor.float().contiguous(memory_format=torch.channels_last) for tensor in tensors]
            found: Tensor = getattr(self.parameters.module, layers.method)(*floats)
            found = to_pixels(found, self.device) if layers.to is None else found
            return found.permute(0, 2, 3, 1).contiguous().numpy()

    def run(
        self,
        image: NDArray[np.uint8],
        windows: Sequence[Window],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not self.parameters.program.is_exact:
            self.run_batches(image, windows, target, progress)
            return
        (whole,) = self._parts
        assert isinstance(whole, kernels.Network)
        total = sum(window.patches for window in windows)
        whole.run(
            image,
            np.array([window.seen for window in windows], np.int32).reshape(-1, 4),
            np.array([window.core for window in windows], np.int32).reshape(-1, 4),
            np.array([window.bit_width for window in windows], np.uint8),
            np.array([window.patches for window in windows], np.int32),
            target,
            threads=thread_count(),
            progress=None if progress is None else lambda finished: progress(finished, total),
        )

    def prices(self) -> dict[int, float]:
        """By the algorithms of each bit-width's layers."""
        networks = [part for part in self._parts if isinstance(part, kernels.Network)]
        return {bits: sum(network.price(bits) for network in networks) for bits in networks[0].bit_widths}

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        import torch

        layer = kernels.Layer(conv.weight, conv.input_range, isa=self.isa)
        stored = codes + (ZERO if conv.input_range[0] < 0 else 0)
        sums = [layer.accumulators(one) for one in stored.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()]
        return torch.from_numpy(np.stack(sums)).permute(0, 3, 1, 2)
