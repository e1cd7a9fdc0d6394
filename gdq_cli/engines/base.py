"""What an engine is. torch is imported when windows are run as tensors, not before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.windows import Window, cut_windows, paste_core
from gdq_cli.networks.parameters import Parameters, parameters_of
from gdq_cli.program.layers import IntegerConv

if TYPE_CHECKING:
    from torch import Tensor

    from gdq_cli.networks import Network


class Engine(ABC):
    """Runs a network on batches of windows that share a bit-width.

    Attributes:
        name: of the engine, for the user.
        device: torch device string.
        scale: upscaling factor.
        batch_size: patches per call at which the engine is fastest.
    """

    name: str
    device: str = "cpu"
    batch_size: int = 4

    def __init__(self, network: Network | Parameters) -> None:
        self.parameters = parameters_of(network)
        self.scale = self.parameters.config.scale
        self._notes: list[str] = []
        self._halved = False

    @abstractmethod
    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        """Upscale windows.

        Args:
            windows: (N, 3, h, w) uint8 on the CPU, best in channels_last.
            bit_width: 4, 5, 6, 8, or 32 for the float network.

        Returns:
            (N, 3, h * scale, w * scale) uint8 on the CPU.
        """

    def run_windows(self, windows: NDArray[np.uint8], bit_width: int) -> NDArray[np.uint8]:
        """The same in NumPy, (N, h, w, 3) -> (N, h * scale, w * scale, 3)."""
        import torch

        return self(torch.from_numpy(windows).permute(0, 3, 1, 2), bit_width).permute(0, 2, 3, 1).numpy()

    def run_batches(
        self,
        image: NDArray[np.uint8],
        windows: Sequence[Window],
        target: NDArray[np.uint8],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Upscale windows of an image, those of one bit-width and shape together; a batch too large is halved.

        Args:
            image: (H, W, 3) uint8.
            windows: whose cores do not overlap.
            target: (H * scale, W * scale, 3) uint8, written in place where the cores are.
            progress: called with (finished, all) patches.

        Raises:
            DeviceError: if the network gives values that are no numbers.
            RuntimeError: of torch, if the device's memory does not suffice for a single window.
        """
        finished, total = 0, sum(window.patches for window in windows)
        groups: dict[tuple[int, tuple[int, int]], list[Window]] = {}
        for window in windows:
            groups.setdefault((window.bit_width, window.seen.size), []).append(window)
        for (bit_width, _), members in sorted(groups.items(), key=lambda group: group[0], reverse=True):
            start = 0
            while start < len(members):
                some = members[start : start + max(1, self.batch_size // members[0].patches)]
                sr_windows = self._try(cut_windows(image, some), bit_width)
                if sr_windows is None:
                    continue
                for window, pixels in zip(some, sr_windows, strict=True):
                    paste_core(target, pixels, window, self.scale)
                start += len(some)
                finished += sum(window.patches for window in some)
                if progress is not None:
                    progress(finished, total)

    run = run_batches
    """The same for integers, for which many an engine has a way of its own."""

    def _try(self, windows: NDArray[np.uint8], bit_width: int) -> NDArray[np.uint8] | None:
        """Upscale windows; None if the device's memory did not suffice and the batch was halved."""
        try:
            return self.run_windows(windows, bit_width)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; MPS has none of its own
            if self.device == "cpu" or len(windows) == 1 or "out of memory" not in str(error):
                raise
        # Outside the except block, where the traceback no longer holds the tensors that filled the memory.
        self._shrink(self.batch_size // 2)
        return None

    def _shrink(self, batch_size: int) -> None:
        """Go on with smaller batches, and say so once."""
        import torch

        if self.device.startswith("mps"):
            torch.mps.empty_cache()
        else:
            torch.cuda.empty_cache()
        if not self._halved:
            self._halved = True
            self._notes.append(f"out of memory on {self.device}: went on with smaller batches")
        self.batch_size = batch_size

    def take_notes(self) -> tuple[str, ...]:
        """What the user should know about the runs since the last call; empties the list."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def prices(self) -> dict[int, float]:
        """How long a pixel takes at each bit-width, next to the others: here as long, as one kernel serves them all."""
        return dict.fromkeys(self.parameters.config.bit_widths, 1.0)

    @abstractmethod
    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        """Raw integers of one convolution, for tests and the self-test.

        Args:
            codes: (N, I, h, w) int16 in ``conv.input_range``.
            conv: lowered convolution.

        Returns:
            (N, O, h, w) int32.
        """
