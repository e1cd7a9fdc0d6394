"""Several GPUs: each takes a share of every picture's windows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.bits.windows import Window
from gdq_cli.engines.base import Engine
from gdq_cli.errors import DeviceError
from gdq_cli.networks import Network, Parameters
from gdq_cli.program.layers import IntegerConv


class MultiCudaEngine(Engine):
    """All visible GPUs. Pixels do not depend on how many there are.

    The float network (``--bits fp32``) runs on the first one: torch's switches for exact float32 are not per thread.

    Args:
        network: of the engines.
        engines: one per device.
    """

    name = "cuda"

    def __init__(self, network: Network | Parameters, engines: Sequence[Engine]) -> None:
        super().__init__(network)
        self._engines = tuple(engines)
        self.device = f"cuda x{len(engines)}"
        self.batch_size = engines[0].batch_size

    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        """Run on every device, so that a self-test sees each.

        Raises:
            DeviceError: if they disagree.
        """
        if bit_width == FP32_BITS:
            return self._engines[0](windows, bit_width)
        return self._agree([engine(windows, bit_width) for engine in self._engines])

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        return self._agree([engine.accumulators(codes, conv) for engine in self._engines])

    def _agree(self, results: Sequence[Tensor]) -> Tensor:
        for engine, result in zip(self._engines, results, strict=True):
            if not torch.equal(result, results[0]):
                raise DeviceError(f"{engine.device} gives other integers than {self._engines[0].device}")
        return results[0]

    def take_notes(self) -> tuple[str, ...]:
        return (*super().take_notes(), *(note for engine in self._engines for note in engine.take_notes()))

    def run(
        self,
        image: NDArray[np.uint8],
        windows: Sequence[Window],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        finished, total = [0] * len(self._engines), sum(window.patches for window in windows)
        largest_first = sorted(windows, key=lambda window: -window.patches)
        lock, stopped = threading.Lock(), threading.Event()

        def work(number: int) -> None:
            def report(done: int, _: int) -> None:
                with lock:  # so that what is told never goes back
                    if stopped.is_set():
                        raise _StoppedError
                    finished[number] = done
                    if progress is not None:
                        progress(sum(finished), total)

            self._engines[number].run(image, largest_first[number :: len(self._engines)], target, report)

        with ThreadPoolExecutor(len(self._engines)) as pool:
            futures = [pool.submit(work, number) for number in range(len(self._engines))]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stopped.set()  # a device that failed, or Ctrl-C here, ends the others after their batch
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, _StoppedError)):
            raise error


class _StoppedError(Exception):
    """Ends the work of one device because another's has failed."""
