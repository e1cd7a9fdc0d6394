"""CUDA engine: the integer network on int8 tensor cores, captured as CUDA graphs, on one or all visible GPUs.

The picture stays on the host; windows of one bit-width go to the device in batches, through pinned memory. Where
Triton is missing, the reference engine serves CUDA devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.engines.base import Engine
from gdq_cli.engines.lowering import ZERO, IntegerConv, lower_network
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError
from gdq_cli.networks.edsr import Edsr
from gdq_cli.patches import PatchPlan
from gdq_cli.quantizers import FP32_BITS

BLOCK_M, BLOCK_K = 128, 64
_MAX_BATCH = 64


def is_interpreted() -> bool:
    """Whether Triton runs its kernels on the CPU, as the tests do (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(frozen=True)
class DeviceConv:
    """A lowered convolution in the kernels' layout, on the device.

    Attributes:
        weight: (9, I, O) int8, O padded to a multiple of 16, in the order in which a pixel shuffle stores channels.
        base: (O,) int32, ``zero`` times the sum of a channel's weights.
        zero: what stored input codes lie below the codes.
        stored: output channels that are real.
        factor: pixel-shuffle factor of the output.
    """

    weight: Tensor
    base: Tensor
    multiplier: Tensor
    offset: Tensor
    zero: int
    stored: int
    factor: int


def code_zero(bounds: tuple[int, int]) -> int:
    """What is subtracted from codes so that they fit int8: 128 for unsigned 8-bit codes, else nothing."""
    return ZERO if bounds[1] > 127 else 0


def place_conv(conv: IntegerConv, device: str, factor: int = 1) -> DeviceConv:
    """Bring a convolution into the kernels' layout."""
    outputs = conv.weight.shape[0]
    order = torch.arange(outputs).reshape(-1, factor**2).T.reshape(-1)  # sub-pixel by sub-pixel
    padded = -(-outputs // 16) * 16
    weight = torch.zeros((9, conv.weight.shape[1], padded), dtype=torch.int8)
    weight[:, :, :outputs] = conv.weight[order].flatten(2).permute(2, 1, 0)
    zero = code_zero(conv.input_range)

    def widen(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values[order], (0, padded - outputs)).to(device)

    return DeviceConv(
        weight.contiguous().to(device),
        (weight.sum((0, 1), dtype=torch.int32) * zero).to(torch.int32).to(device),
        widen(conv.multiplier),
        widen(conv.offset),
        zero,
        outputs,
        factor,
    )


class CudaEngine(Engine):
    """One GPU.

    Args:
        network: quantized.
        device: ``cuda:N``; ``cpu`` only with Triton's interpreter.

    Raises:
        DeviceError: if Triton is missing.
    """

    name = "cuda"

    def __init__(self, network: Edsr, device: str) -> None:
        super().__init__(network)
        try:
            from gdq_cli.engines import triton_kernels
        except ImportError as error:
            raise DeviceError(f"the CUDA kernels need Triton, which torch's CUDA builds bring ({error})") from error
        if network.config.features % 16:
            raise DeviceError(f"the CUDA kernels need features in multiples of 16, not {network.config.features}")
        self._kernels = triton_kernels
        self.device = device
        self.batch_size = 2 if device == "cpu" else _MAX_BATCH
        self._integers = integers = lower_network(network)
        self._float = ReferenceEngine(network, device)
        self._head = (integers.head.weight.float().to(device), *self._affine(integers.head))
        self._blocks = {
            bits: tuple(
                (block.inverse_step, block, place_conv(block.conv1, device), place_conv(block.conv2, device))
                for block in blocks
            )
            for bits, blocks in integers.blocks.items()
        }
        static = integers.static
        self._body_conv = place_conv(static.body_conv, device)
        self._upsampler = [place_conv(conv, device, stage) for conv, stage in static.upsampler]
        self._tail = place_conv(static.tail, device)
        self._body_inverse = static.body_inverse_steps.to(device)
        self._upsampler_inverse = static.upsampler_inverse_steps.to(device)
        self._graphs: dict[tuple[int, ...], tuple[Any, Tensor, Tensor]] = {}

    def _affine(self, layer: Any) -> tuple[Tensor, Tensor]:
        return layer.multiplier.to(self.device), layer.offset.to(self.device)

    @torch.inference_mode()
    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        if bit_width == FP32_BITS:
            return self._float(windows, bit_width)
        if not self.device.startswith("cuda"):
            return self._forward(windows.permute(0, 2, 3, 1).contiguous(), bit_width).permute(0, 3, 1, 2)
        with torch.cuda.device(self.device):
            patches = windows.permute(0, 2, 3, 1).contiguous().pin_memory()
            key = (*patches.shape[:3], bit_width)
            if len(patches) < self.batch_size:  # an odd rest is not worth a graph
                pixels = self._forward(patches.to(self.device, non_blocking=True), bit_width)
            else:
                if key not in self._graphs:
                    self._graphs[key] = self._capture(patches.shape, bit_width)
                graph, source, target = self._graphs[key]
                source.copy_(patches, non_blocking=True)
                graph.replay()
                pixels = target
            host = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
            host.copy_(pixels, non_blocking=True)
            torch.cuda.current_stream().synchronize()
            return host.permute(0, 3, 1, 2)

    def _capture(self, shape: Sequence[int], bit_width: int) -> tuple[Any, Tensor, Tensor]:
        """Record the network once for a batch shape; later runs replay it without Python in between."""
        source = torch.zeros(tuple(shape), dtype=torch.uint8, device=self.device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward(source, bit_width)  # compiles the kernels, which a capture must not do
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            target = self._forward(source, bit_width)
        return graph, source, target

    def _forward(self, patches: Tensor, bit_width: int) -> Tensor:
        """(N, h, w, 3) uint8 -> (N, h * scale, w * scale, 3) uint8, on the device."""
        static, blocks = self._integers.static, self._blocks[bit_width]
        skip = self._features(patches)
        x = skip.clone()
        codes = self._quantize(x, torch.full_like(self._body_inverse, blocks[0][0]), blocks[0][1].conv1.input_range)
        for index, (_, block, conv1, conv2) in enumerate(blocks):
            hidden = self._convolve(codes, conv1, self._kernels.CODES, block.conv2.input_range)
            if index + 1 < len(blocks):
                inverse = torch.full_like(self._body_inverse, blocks[index + 1][0])
                bounds = blocks[index + 1][1].conv1.input_range
            else:
                inverse, bounds = self._body_inverse, static.body_conv.input_range
            codes = self._convolve(hidden, conv2, self._kernels.STREAM, bounds, x, inverse)
        first = static.upsampler[0][0]
        codes = self._convolve(
            codes, self._body_conv, self._kernels.STREAM, first.input_range, skip, self._upsampler_inverse
        )
        following = [conv for conv, _ in static.upsampler[1:]] + [static.tail]
        for conv, after in zip(self._upsampler, following, strict=True):
            low, high = after.input_range
            codes = self._convolve(codes, conv, self._kernels.CODES, (low + ZERO, high + ZERO), out_zero=ZERO)
        return self._convolve(codes, self._tail, self._kernels.PIXELS, (0, 255))

    def _features(self, patches: Tensor) -> Tensor:
        """Head in float32 that carries integers: im2col and matrix product, exact in any order (no TF32)."""
        head = self._integers.head
        weight, multiplier, offset = self._head
        mean = torch.tensor(head.mean, dtype=torch.float32, device=self.device).reshape(1, 3, 1, 1)
        pixels = patches.permute(0, 3, 1, 2).float() - mean
        n, _, height, width = pixels.shape
        columns = torch.nn.functional.unfold(pixels, 3, padding=1)  # (N, 27, h * w)
        sums = columns.transpose(1, 2) @ weight.flatten(1).T
        return (sums * multiplier).add_(offset).reshape(n, height, width, -1)

    def _quantize(self, x: Tensor, inverse: Tensor, bounds: tuple[int, int]) -> Tensor:
        return (x * inverse).round_().clamp_(*bounds).to(torch.int8)

    def _convolve(
        self,
        codes: Tensor,
        conv: DeviceConv,
        epilogue: int,
        bounds: tuple[int, int],
        stream: Tensor | None = None,
        inverse: Tensor | None = None,
        out_zero: int | None = None,
    ) -> Tensor:
        """One layer; ``bounds`` are those of the codes (or pixels) it gives."""
        n, height, width, channels = codes.shape
        padded, factor = conv.weight.shape[2], conv.factor
        dtype = {self._kernels.PIXELS: torch.uint8, self._kernels.RAW: torch.int32}.get(epilogue, torch.int8)
        shape = (n, height * factor, width * factor, conv.stored // factor**2)
        out = torch.empty(shape, dtype=dtype, device=codes.device)
        block_n = min(64, padded)
        unused = conv.multiplier
        arguments = (
            codes,
            conv.weight,
            conv.base,
            conv.multiplier,
            conv.offset,
            unused if stream is None else stream,
            unused if inverse is None else inverse,
            out,
            n * height * width,
            height,
            width,
            conv.zero,
            bounds[0],
            bounds[1],
            code_zero(bounds) if out_zero is None else out_zero,
        )
        constants = {
            "CIN": channels,
            "COUT": padded,
            "STORED": conv.stored,
            "FACTOR": factor,
            "EPILOGUE": epilogue,
            "BLOCK_M": BLOCK_M,
            "BLOCK_N": block_n,
            "BLOCK_K": min(BLOCK_K, channels),
        }
        grid = (-(-n * height * width // BLOCK_M), padded // block_n)
        self._kernels.launch(grid, arguments, constants, is_interpreted())
        return out

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        placed = place_conv(conv, self.device)
        stored = (codes - placed.zero).to(torch.int8).permute(0, 2, 3, 1).contiguous().to(self.device)
        return self._convolve(stored, placed, self._kernels.RAW, (0, 0)).permute(0, 3, 1, 2).cpu()


class MultiCudaEngine(Engine):
    """All visible GPUs: each takes a share of every picture's patches. Pixels do not depend on how many there are.

    Args:
        engines: one per device, of the same network.
    """

    name = "cuda"

    def __init__(self, network: Edsr, engines: Sequence[Engine]) -> None:
        super().__init__(network)
        self._engines = tuple(engines)
        self.device = f"cuda x{len(engines)}"
        self.batch_size = engines[0].batch_size

    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        return self._engines[0](windows, bit_width)

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        return self._engines[0].accumulators(codes, conv)

    def run(
        self,
        image: NDArray[np.uint8],
        plan: PatchPlan,
        bit_widths: Sequence[int],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        finished = [0] * len(self._engines)

        def work(number: int) -> None:
            mine = range(number, len(plan), len(self._engines))

            def report(done: int, _: int) -> None:
                finished[number] = done
                if progress is not None:
                    progress(sum(finished), len(plan))

            self._engines[number].run_patches(image, plan, bit_widths, mine, target, report)

        with ThreadPoolExecutor(len(self._engines)) as pool:
            for future in [pool.submit(work, number) for number in range(len(self._engines))]:
                future.result()
