"""Our own kernels: direct int8 convolution for 8 bits, exact integer Winograd below, one patch per thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.patches import PatchPlan, cut_windows
from gdq_cli.bits.widths import FP32_BITS
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

_BAND_PATCHES = 512  # windows cut at a time: tens of MiB, and enough that no thread waits at the end of a band


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
        """Upscale whole windows of one bit-width, (N, h, w, 3) -> (N, h * scale, w * scale, 3)."""
        n, height, width, _ = windows.shape
        target = np.empty((n * height * self.scale, width * self.scale, 3), np.uint8)
        cores = np.tile(np.array([0, 0, height, width], np.int32), (n, 1))
        places = np.array([(index * height * self.scale, 0) for index in range(n)], np.int32)
        widths = np.full(n, bit_width, np.uint8)
        streams: dict[int, NDArray[np.float32]] = {}
        for part in _FLOAT_NETWORK if bit_width == FP32_BITS else self._parts:
            if isinstance(part, kernels.Network):
                part.run(windows, widths, cores, target, places, threads=thread_count(), streams=streams)
            elif part.to is None:
                return self._run_float(part, windows, streams)
            else:
                streams[part.to] = self._run_float(part, windows, streams)
        return target.reshape(n, height * self.scale, width * self.scale, 3)

    def _run_float(
        self, layers: Float, windows: NDArray[np.uint8], streams: dict[int, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Layers of the torch module: a stream, (N, h, w, C) float32, or at the end grey levels, rounded to uint8."""
        import torch

        from gdq_cli.engines.tensor import to_pixels

        with torch.inference_mode():
            read: list[NDArray[Any]] = [streams[buffer] for buffer in layers.reads]
            tensors = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in read or [windows]]
            values = [tensor.float().contiguous(memory_format=torch.channels_last) for tensor in tensors]
            found: Tensor = getattr(self.parameters.module, layers.method)(*values)
            found = to_pixels(found, self.device) if layers.to is None else found
            return found.permute(0, 2, 3, 1).contiguous().numpy()

    def run(
        self,
        image: NDArray[np.uint8],
        plan: PatchPlan,
        bit_widths: Sequence[int],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if FP32_BITS in bit_widths or not self.parameters.program.is_exact:
            super().run(image, plan, bit_widths, target, progress)
            return
        (whole,) = self._parts
        assert isinstance(whole, kernels.Network)
        for start in range(0, len(plan), _BAND_PATCHES):
            indices = list(range(start, min(start + _BAND_PATCHES, len(plan))))
            patches = [plan[index] for index in indices]
            cores = [
                (p.row.core - p.row.window, p.col.core - p.col.window, p.row.core_size, p.col.core_size)
                for p in patches
            ]
            places = [(p.row.core * self.scale, p.col.core * self.scale) for p in patches]

            def report(finished: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + finished, len(plan))

            whole.run(
                cut_windows(image, plan, indices),
                np.array([bit_widths[index] for index in indices], np.uint8),
                np.array(cores, np.int32),
                target,
                np.array(places, np.int32),
                threads=thread_count(),
                progress=report,
            )

    def free_width(self, bit_width: int) -> int:
        """The widest bit-width whose layers run by the same algorithms, each for each."""
        networks = [part for part in self._parts if isinstance(part, kernels.Network)]
        algorithms = {
            bits: [network.algorithms(bits) for network in networks] for bits in self.parameters.config.bit_widths
        }
        return max(bits for bits in algorithms if algorithms[bits] == algorithms[bit_width])

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        import torch

        layer = kernels.Layer(conv.weight, conv.input_range, isa=self.isa)
        stored = codes + (ZERO if conv.input_range[0] < 0 else 0)
        sums = [layer.accumulators(one) for one in stored.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()]
        return torch.from_numpy(np.stack(sums)).permute(0, 3, 1, 2)
