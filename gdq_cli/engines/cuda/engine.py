"""CUDA engine: a program of integers on int8 tensor cores, captured as CUDA graphs, on one GPU.

The picture stays on the host; its windows go to the device in batches, through pinned memory, beside the network's
work on the batch before and the download of the one before that. A batch mixes windows of all bit-widths: to a tensor
core 4 bits are no faster than 8. Where Triton is missing, the reference engine serves CUDA devices.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.bits.windows import MOST_PATCHES, Window, cut_windows, paste_core
from gdq_cli.engines.base import Engine
from gdq_cli.engines.cuda.pipeline import SLOTS, DeviceQueue, HostQueue, Pipeline, Queue, make_slot, split_evenly
from gdq_cli.engines.tensor import to_pixels
from gdq_cli.errors import DeviceError, WeightsError
from gdq_cli.networks import Network, Parameters
from gdq_cli.program.layers import IntegerConv

BATCH = 16
"""Patches at a time: some 170,000 pixels, several rounds of blocks for every multiprocessor of a large GPU."""

CAPABILITY = (8, 0)
"""Least compute capability for which Triton has int8 tensor cores."""

_FIRST_RUNS = threading.Lock()  # neither Triton's compiler nor a capture is made for several threads


@dataclass(frozen=True)
class _Graph:
    """A captured run: what it reads and what it writes stay where they were."""

    graph: Any
    windows: Tensor
    choice: Tensor
    pixels: Tensor


class CudaEngine(Engine):
    """One GPU.

    Args:
        network: quantized.
        device: ``cuda:N``; ``cpu`` only in Triton's interpreter.

    Raises:
        DeviceError: if Triton is missing, or the device or the network is none for its kernels.
    """

    name = "cuda"

    def __init__(self, network: Network | Parameters, device: str) -> None:
        super().__init__(network)
        try:
            from gdq_cli.engines.cuda import network as cuda_network
        except ImportError as error:
            raise DeviceError(f"the CUDA kernels need Triton, which torch's CUDA builds bring ({error})") from error
        if device != "cpu" and torch.cuda.get_device_capability(device) < CAPABILITY:
            major, minor = torch.cuda.get_device_capability(device)
            raise DeviceError(f"the CUDA kernels need compute capability 8.0; {device} has {major}.{minor}")
        self.device = device
        self.batch_size = 2 if device == "cpu" else BATCH
        self._module = cuda_network
        self._float_copy: torch.nn.Module | None = None
        self._prepared: dict[tuple[int, int, int], tuple[int, Pipeline]] = {}
        self._graphs: dict[tuple[int, ...], _Graph | None] = {}
        with self._on_device():
            self._network = cuda_network.CudaNetwork(self.parameters.program, device)
            make_queue = HostQueue if device == "cpu" else DeviceQueue
            self._queues: tuple[Queue, Queue, Queue] = (make_queue(), make_queue(), make_queue())
            if device != "cpu":
                self._build()

    def _on_device(self) -> AbstractContextManager[object]:
        """Triton, streams and pinned memory go by the current device, which every thread has for itself."""
        return nullcontext() if self.device == "cpu" else torch.cuda.device(self.device)

    def _build(self) -> None:
        """Compile the kernels, so that whatever Triton, ptxas or the C compiler raises becomes one line here."""
        try:
            self(torch.zeros((1, 3, 1, 1), dtype=torch.uint8), next(iter(self._network.rows)))
        except RuntimeError:  # torch's, which the choice of an engine understands
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            raise DeviceError(f"Triton cannot build the CUDA kernels: {type(error).__name__}: {lines[-1]}") from error

    @torch.inference_mode()
    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        if bit_width == FP32_BITS:
            return self._run_float(windows)
        row = self._row(bit_width)
        n, _, height, width = windows.shape
        patches = windows.permute(0, 2, 3, 1)
        upscaled = torch.empty((n, height * self.scale, width * self.scale, 3), dtype=torch.uint8)

        def fill(span: range, target: Tensor, choice: Tensor) -> None:
            target.copy_(patches[span.start : span.stop])
            choice.fill_(row)

        def drain(span: range, pixels: Tensor) -> None:
            upscaled[span.start : span.stop] = pixels

        self._stream(n, (height, width), fill, drain)
        return upscaled.permute(0, 3, 1, 2)

    @torch.inference_mode()
    def run(
        self,
        image: NDArray[np.uint8],
        windows: Sequence[Window],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        finished, total = 0, sum(window.patches for window in windows)
        groups: dict[tuple[int, int], list[Window]] = {}
        for window in windows:
            groups.setdefault(window.seen.size, []).append(window)
        for size, members in groups.items():
            self._run_alike(image, size, members, target, finished, total, progress)
            finished += sum(window.patches for window in members)

    def _run_alike(
        self,
        image: NDArray[np.uint8],
        size: tuple[int, int],
        windows: Sequence[Window],
        target: NDArray[np.uint8],
        finished: int,
        total: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Upscale windows of one shape, where ``finished`` patches of others are done."""
        rows = [self._row(window.bit_width) for window in windows]

        def fill(span: range, cut: Tensor, choice: Tensor) -> None:
            cut.copy_(torch.from_numpy(cut_windows(image, windows[span.start : span.stop])))
            choice.copy_(torch.tensor(rows[span.start : span.stop]))

        def drain(span: range, pixels: Tensor) -> None:
            for window, sr_window in zip(windows[span.start : span.stop], pixels.numpy(), strict=True):
                paste_core(target, sr_window, window, self.scale)
            if progress is not None:
                progress(finished + windows[0].patches * span.stop, total)

        self._stream(len(windows), size, fill, drain, windows[0].patches)

    def _row(self, bit_width: int) -> int:
        rows = self._network.rows
        if bit_width not in rows:
            raise WeightsError(f"this checkpoint has no {bit_width}-bit patches; it has {sorted(rows)}")
        return rows[bit_width]

    def _run_float(self, windows: Tensor) -> Tensor:
        if self._float_copy is None:
            self._float_copy = copy.deepcopy(self.parameters.module).to(self.device)
        x = windows.to(self.device).float().contiguous(memory_format=torch.channels_last)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return to_pixels(self._float_copy(x), self.device)

    def _stream(
        self,
        total: int,
        window: tuple[int, int],
        fill: Callable[[range, Tensor, Tensor], None],
        drain: Callable[[range, Tensor], None],
        patches: int = 1,
    ) -> None:
        """Upscale ``total`` windows of some patches each; see :meth:`Pipeline.run`.

        Where memory runs out, go on with smaller batches.
        """
        done, pipeline = 0, None

        def count(span: range, pixels: Tensor) -> None:
            nonlocal done
            drain(span, pixels)
            done = span.stop

        with self._on_device():
            while done < total:
                batch = max(1, self.batch_size // patches)
                key = (batch, *window)
                try:
                    batch, pipeline = self._prepare(key)
                    pipeline.run(split_evenly(done, total, batch), fill, count)
                    return
                except RuntimeError as error:
                    crowded = bool(self._prepared.keys() - {key})  # what served other shapes takes room
                    if not _is_out_of_memory(error) or (batch == 1 and not crowded):
                        raise
                # Outside the except block, where the traceback no longer holds the tensors that filled the memory.
                pipeline = None
                self._drop()
                if not crowded:
                    self._shrink(max(1, batch // 2) * patches)

    def _prepare(self, key: tuple[int, int, int]) -> tuple[int, Pipeline]:
        """A pipeline for (windows at a time at most, h, w), and how many it takes; slots and graphs serve one shape."""
        most, height, width = key
        if key not in self._prepared:
            if len(self._prepared) == MOST_PATCHES**2:  # shapes in a picture
                self._drop()
            batch = min(most, self._fitting((height, width)))
            slots = [make_slot(batch, (height, width), self.scale, self.device) for _ in range(SLOTS)]
            if self.device != "cpu":
                torch.cuda.synchronize()  # their memory may have been another's, in a stream that still writes to it
            self._prepared[key] = batch, Pipeline(slots, *self._queues, self._compute)
        return self._prepared[key]

    def _fitting(self, window: tuple[int, int]) -> int:
        """Windows that fill no more than half of what is free; the other half is for the graphs' pool."""
        if self.device == "cpu":
            return BATCH
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        return max(1, free // 2 // (window[0] * window[1] * self._network.bytes_per_pixel))

    def _drop(self) -> None:
        self._prepared.clear()
        self._graphs.clear()

    def _compute(self, windows: Tensor, choice: Tensor, target: Tensor) -> None:
        """Run the network in the current stream: step by step the first time (which compiles), then as a graph."""
        key = tuple(windows.shape)
        if self.device == "cpu":
            target.copy_(self._network(windows, choice))
        elif key not in self._graphs:
            with _FIRST_RUNS:
                target.copy_(self._network(windows, choice))
            self._graphs[key] = None
        else:
            captured = self._graphs[key]
            if captured is None:
                with _FIRST_RUNS:
                    self._graphs[key] = captured = self._capture(windows, choice)
            captured.windows.copy_(windows)
            captured.choice.copy_(choice)
            captured.graph.replay()
            target.copy_(captured.pixels)

    def _capture(self, windows: Tensor, choice: Tensor) -> _Graph:
        """Record the network for a shape, once its kernels are compiled; replays need no Python in between.

        The stream is given, because torch's own for captures belongs to the first device that captured; errors are
        those of this thread alone, because other threads may allocate on other devices meanwhile. Graphs share one
        pool: they run one after the other, and each one's pixels are held, so no other graph gets their place.
        """
        windows, choice = windows.clone(), choice.clone()
        graph = torch.cuda.CUDAGraph()
        pool = next((one.graph.pool() for one in self._graphs.values() if one is not None), None)
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            pixels = self._network(windows, choice)
        return _Graph(graph, windows, choice, pixels)

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        with self._on_device():
            placed = self._module.place_sums(conv, self.device)
            stored = (codes - placed.zero).to(torch.int8).permute(0, 2, 3, 1).contiguous().to(self.device)
            rows = torch.zeros(len(codes), dtype=torch.int32, device=self.device)
            sums = self._module.make_output(stored, placed, torch.int32)
            self._module.run_layer(stored, placed, rows, sums)
            return sums.permute(0, 3, 1, 2).cpu()


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it hides (the end of a capture can fail, too), says that memory ran out."""
    while error is not None:
        if "out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
