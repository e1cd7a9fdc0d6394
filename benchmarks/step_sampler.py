"""Training patches that processes draw ahead, for machines whose GPU would wait for them."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from gdq_cli.measure.pairs import ImagePair
from gdq_cli.training.data import PatchSampler, grey_levels, stack_patches


class StepSampler(PatchSampler):
    """Patches that follow from seed, step and place in the batch alone, so that processes can draw them ahead.

    The same patches come out with any number of workers, and a run goes on from the number of its next step. Workers
    pay where patches cost more than training on them does: on a GPU.

    Args:
        pairs: as for ``PatchSampler``, which knows the further keywords, too.
        patch: side of an LR patch.
        seed: of every draw.
        workers: processes that draw ahead; 0 draws when asked.
        device: to which batches go, as bytes.
        variation: see ``PatchSampler``.
    """

    def __init__(
        self,
        pairs: list[ImagePair],
        patch: int,
        seed: int = 0,
        *,
        workers: int = 0,
        device: str = "cpu",
        **variation: Any,
    ) -> None:
        super().__init__(pairs, patch, seed, **variation)
        self._seed = seed
        self._workers = workers
        self._device = device
        self._step = 0
        self._ahead: Iterator[list[NDArray[np.uint8]]] | None = None
        self._count = 0

    @property
    def settings(self) -> dict[str, object]:
        """What is drawn, and that it is drawn by step."""
        return super().settings | {"drawn": "by step"}

    @property
    def state(self) -> dict[str, object]:
        """The next step."""
        return {"step": self._step}

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self._step = int(value["step"])
        self._ahead = None

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """The patches of the next step; see ``PatchSampler.draw``."""
        if count != self._count:
            self._count, self._ahead = count, None
        self._ahead = self._ahead or self._start()
        lr, hr = (grey_levels(side, self._device) for side in next(self._ahead))
        self._step += 1
        return lr, hr

    def _start(self) -> Iterator[list[NDArray[np.uint8]]]:
        """Batches from the next step on. They come through pipes, not through shared memory, which can be scarce."""
        loader: DataLoader[list[NDArray[np.uint8]]] = DataLoader(
            _Batches(copy.copy(self), self._count),  # type: ignore[arg-type]  # a copy: no cycle keeps workers alive
            batch_size=None,
            sampler=range(self._step, 1 << 40),
            num_workers=self._workers,
            collate_fn=_as_it_is,
            prefetch_factor=4 if self._workers else None,
            worker_init_fn=_leave_interrupts,
        )
        return iter(loader)

    def draw_step(self, step: int, count: int) -> list[NDArray[np.uint8]]:
        """LR and HR patches of one step, (count, P, P, 3) and (count, P * scale, P * scale, 3) uint8."""
        drawn = []
        for place in range(count):
            self._rng = np.random.default_rng((self._seed, step, place))
            drawn.append(self._draw_one())
        return stack_patches(drawn)


@dataclass(frozen=True)
class _Batches:
    """What a worker looks a step up in."""

    sampler: StepSampler
    count: int

    def __getitem__(self, step: int) -> list[NDArray[np.uint8]]:
        return self.sampler.draw_step(step, self.count)


def _as_it_is(batch: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return batch


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches workers, too; the run decides what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
