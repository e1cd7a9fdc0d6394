"""Batches on their way through a GPU: upload, network and download of three batches at once, each in its own stream.

A batch owns a slot, that is pinned memory on the host and its counterpart on the device. Within a slot every step waits
for the event of the step before; the host writes to a slot, or reads from it, only after its download's event. So two
batches never meet in one slot, and the network's steps follow each other in one stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

SLOTS = 3
"""One that the host fills or empties, one in the network, one under way."""


class Event(Protocol):
    """A point in a stream."""

    def synchronize(self) -> None:
        """Wait until the stream has reached it."""


class Queue(Protocol):
    """A stream: its work is done in order, beside that of other queues."""

    def run(self, work: Callable[[], object], after: Event | None = None) -> Event:
        """Append work that starts no sooner than ``after``; returns the event of its end."""

    def synchronize(self) -> None:
        """Wait for all its work."""


class DeviceQueue:
    """A CUDA stream of the current device. It starts after what the device has to do now."""

    def __init__(self) -> None:
        torch.cuda.synchronize()
        self.stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], object], after: Event | None = None) -> Event:
        with torch.cuda.stream(self.stream):
            if after is not None:
                self.stream.wait_event(after)
            work()
            event: Event = self.stream.record_event()
            return event

    def synchronize(self) -> None:
        self.stream.synchronize()


class HostQueue:
    """Does its work at once: the device of Triton's interpreter."""

    def run(self, work: Callable[[], object], after: Event | None = None) -> Event:
        work()
        return self

    def synchronize(self) -> None:
        pass


@dataclass
class Slot:
    """Buffers of one batch.

    Attributes:
        windows: (B, h, w, 3) uint8 on the host; choice: (B,) int32; pixels: (B, h * scale, w * scale, 3) uint8.
        device_windows, device_choice, device_pixels: the same on the device.
    """

    windows: Tensor
    choice: Tensor
    pixels: Tensor
    device_windows: Tensor
    device_choice: Tensor
    device_pixels: Tensor


def make_slot(batch: int, window: tuple[int, int], scale: int, device: str) -> Slot:
    """Buffers for ``batch`` windows of (h, w) pixels."""
    height, width = window
    shapes = ((batch, height, width, 3), (batch,), (batch, height * scale, width * scale, 3))
    types = (torch.uint8, torch.int32, torch.uint8)
    pinned = device != "cpu"
    host = [torch.empty(shape, dtype=dtype, pin_memory=pinned) for shape, dtype in zip(shapes, types, strict=True)]
    return Slot(*host, *(torch.empty_like(buffer, device=device, pin_memory=False) for buffer in host))


Network = Callable[[Tensor, Tensor, Tensor], object]
"""Called with windows, choice and target on the device; appends its work to the current stream."""


class Pipeline:
    """Runs batches through slots.

    Args:
        slots: all of one shape; with one, nothing overlaps.
        upload, compute, download: streams of the slots' device.
        network: what turns windows into pixels.
    """

    def __init__(self, slots: Sequence[Slot], upload: Queue, compute: Queue, download: Queue, network: Network) -> None:
        self._slots = tuple(slots)
        self._upload, self._compute, self._download = upload, compute, download
        self._network = network

    def run(
        self,
        spans: Sequence[range],
        fill: Callable[[range, Tensor, Tensor], None],
        drain: Callable[[range, Tensor], None],
    ) -> None:
        """Run batches in order.

        Args:
            spans: the windows of each batch, by number, no more than a slot holds.
            fill: called with a span and its windows and choice on the host, to be written.
            drain: called with a span and its pixels on the host, which are overwritten afterwards.

        Raises:
            RuntimeError: of torch, where the device's memory does not suffice; batches before that are drained.
        """
        flying: deque[tuple[range, Slot, Event]] = deque()
        free = list(self._slots)

        def land() -> None:
            span, slot, downloaded = flying.popleft()
            downloaded.synchronize()
            drain(span, slot.pixels[: len(span)])
            free.append(slot)

        try:
            for span in spans:
                if not free:
                    land()
                slot = free.pop()
                fill(span, slot.windows[: len(span)], slot.choice[: len(span)])
                try:
                    flying.append((span, slot, self._send(slot, len(span))))
                except RuntimeError:
                    while flying:  # they are whole; what is left can run in smaller batches
                        land()
                    raise
            while flying:
                land()
        finally:  # nothing may be under way in buffers that are about to be filled anew or freed
            for queue in (self._upload, self._compute, self._download):
                queue.synchronize()

    def _send(self, slot: Slot, count: int) -> Event:
        windows, choice, pixels = (
            buffer[:count] for buffer in (slot.device_windows, slot.device_choice, slot.device_pixels)
        )

        def bring() -> None:
            windows.copy_(slot.windows[:count], non_blocking=True)
            choice.copy_(slot.choice[:count], non_blocking=True)

        uploaded = self._upload.run(bring)
        computed = self._compute.run(lambda: self._network(windows, choice, pixels), uploaded)
        return self._download.run(lambda: slot.pixels[:count].copy_(pixels, non_blocking=True), computed)


def split_evenly(start: int, stop: int, batch: int) -> list[range]:
    """Numbers from ``start`` to ``stop`` in as few runs of at most ``batch`` as there can be, alike in length."""
    count = -(-(stop - start) // batch)
    borders = [start + (stop - start) * index // count for index in range(count + 1)]
    return [range(first, last) for first, last in pairwise(borders)]
