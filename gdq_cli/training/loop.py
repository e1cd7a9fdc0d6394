"""The training loop: batches, a stage's loss, Muon and Adam with cosine decay, EMA weights, resumable state.

The same loop serves two CPU cores and one large GPU; a run can be cut anywhere and goes on from its state file.
"""

from __future__ import annotations

import copy
import io
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gdq_cli.errors import FileError, GdqError, OptionsError, WeightsError
from gdq_cli.files import atomic_file
from gdq_cli.models.archive import check_archive
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.options import all_digits
from gdq_cli.training.data import PatchSampler
from gdq_cli.training.muon import Muon
from gdq_cli.training.stages import Stage, fit_bound_grids

GRADIENT_CLIP = 0.5
EMA = 0.998
"""Share of the averaged weights that a step keeps, once there have been enough."""

MAX_BATCH = 1 << 16
"""More than any machine has memory for; drawing so many patches would take all of it, patch by patch."""

WARM_UP = 50  # steps of linear growth of the learning rate, so that Adam's averages fill up first


@dataclass(frozen=True)
class TrainOptions:
    """How long and how fast to train.

    Raises:
        OptionsError: if a value is out of range.
    """

    steps: int = 5000
    batch: int = 16
    rate: float = 2e-4
    seed: int = 0
    save_every: int = 100
    validate_every: int = 250

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise OptionsError(f"`{name}` must be at least 1, not {getattr(self, name)}")
        if self.batch > MAX_BATCH:
            raise OptionsError(f"`batch` must be at most {MAX_BATCH}, not {self.batch}")
        if not 0 < self.rate < 1:
            raise OptionsError(f"`rate` must lie between 0 and 1, not {all_digits(self.rate)}")


class DivergedError(GdqError):
    """The loss is not finite; the last good state is on disk."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands: step, mean loss in grey levels since the last report, learning rate, seconds per step."""

    step: int
    loss: float
    rate: float
    seconds_per_step: float


class Trainer:
    """One run of one stage.

    Args:
        stage: loss and network; the network is trained in place.
        sampler: source of patches.
        options: of the run.
        state_file: where the run is kept; an existing one is gone on with.
        device: torch device of the network.

    Raises:
        WeightsError: if the state file is of another run, or damaged.
    """

    def __init__(
        self, stage: Stage, sampler: PatchSampler, options: TrainOptions, state_file: Path, device: str = "cpu"
    ) -> None:
        self._stage, self._sampler, self._options, self._state_file = stage, sampler, options, state_file
        self._device = device
        self._network = stage.network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        matrices, others = stage.parameter_groups(options.rate)
        self._optimizers: list[torch.optim.Optimizer] = [Muon(matrices), torch.optim.Adam(others, betas=(0.9, 0.99))]
        self._full_rates = [[float(group["lr"]) for group in groups] for groups in (matrices, others)]
        self._average = copy.deepcopy(self._network).eval()
        self.step = 0
        self.stopped_by: int | None = None
        """The signal that ended ``run``, if one did."""
        if state_file.exists():
            self._load()

    @property
    def average(self) -> Edsr:
        """The network with averaged (EMA) weights: what is validated and shipped."""
        average: Edsr = self._average
        fit_bound_grids(average)
        return average

    def run(
        self,
        report: Callable[[TrainProgress], None],
        validate: Callable[[int, Edsr], None] | None = None,
        seconds: float | None = None,
    ) -> bool:
        """Train until the last step, a SIGTERM or SIGINT, or the time is up; the state is saved in any case.

        Args:
            report: called every few steps.
            validate: called with the step and the averaged network.
            seconds: stop after this time, for pieces of a long run.

        Returns:
            Whether the run is complete.

        Raises:
            DivergedError: if the loss is not finite; the state file keeps the last good step.
            WeightsError: if the state cannot be saved.
        """
        start = last = time.monotonic()
        losses: list[float] = []
        with _stop_signals() as signals:
            while self.step < self._options.steps and not signals:
                losses.append(self._train_step())
                if self.step % 10 == 0 or self.step == self._options.steps:
                    now = time.monotonic()
                    rate = float(self._optimizers[0].param_groups[0]["lr"])
                    report(TrainProgress(self.step, sum(losses) / len(losses), rate, (now - last) / len(losses)))
                    losses, last = [], now
                if self.step % self._options.save_every == 0:
                    self.save()
                if validate is not None and self.step % self._options.validate_every == 0:
                    validate(self.step, self.average)
                    last = time.monotonic()
                if seconds is not None and time.monotonic() - start > seconds:
                    break
        self.save()
        self.stopped_by = signals[0] if signals else None
        return self.step >= self._options.steps

    def _train_step(self) -> float:
        lr, hr = (
            side.to(self._device, memory_format=torch.channels_last) for side in self._sampler.draw(self._options.batch)
        )
        progress = self.step / self._options.steps
        factor = min(1.0, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        for optimizer, rates in zip(self._optimizers, self._full_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad(set_to_none=True)
        loss = self._stage.backward(lr, hr, self.step)
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), GRADIENT_CLIP)
        if not math.isfinite(loss) or not bool(torch.isfinite(norm)):
            raise DivergedError(
                f"the loss is not finite at step {self.step}; {self._state_file} keeps the last good state: "
                "go on from it with a smaller `rate`"
            )
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self._stage.after_step(self.step)
        self._update_average()
        return loss

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(EMA, self.step / (self.step + 10))
        ours = list(self._network.state_dict().values())
        for average, now in zip(self._average.state_dict().values(), ours, strict=True):
            average.lerp_(now, 1 - keep)

    def _identity(self) -> dict[str, Any]:
        """What a state file must share with this run."""
        options = {key: getattr(self._options, key) for key in ("steps", "batch", "rate", "seed")}
        network = {"network": self._network.config.to_dict(), "stage": type(self._stage).__name__}
        return network | options | self._sampler.settings

    def save(self) -> None:
        """Write the state file; it is replaced only by a complete one.

        Raises:
            WeightsError: if it cannot be written.
        """
        state = {
            "identity": self._identity(),
            "step": self.step,
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "sampler": self._sampler.state,
        }
        packed = io.BytesIO()  # written by torch itself, a full disk would read as a fault in its archive
        torch.save(state, packed)
        try:
            with atomic_file(self._state_file, overwrite=True) as stream:
                stream.write(packed.getbuffer())
        except FileError as error:
            raise WeightsError(str(error)) from error

    def _load(self) -> None:
        try:
            check_archive(self._state_file)
            state: dict[str, Any] = torch.load(self._state_file, map_location=self._device, weights_only=True)
            identity = dict(state["identity"])
        except Exception as error:  # torch.load raises whatever the damage leads to
            raise WeightsError(f"{self._state_file}: not a readable training state; remove it to start anew") from error
        mine = self._identity()
        differs = [key for key in mine | identity if identity.get(key) != mine.get(key)]
        if differs:
            raise WeightsError(f"{self._state_file}: the state of another run ({', '.join(differs)} differ)")
        try:
            self.step = int(state["step"])
            self._network.load_state_dict(state["network"])
            self._average.load_state_dict(state["average"])
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self._sampler.state = state["sampler"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{self._state_file}: a state that does not fit; remove it to start anew") from error


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGINT are only noted, in what is yielded; the old handlers come back afterwards."""
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
