"""A batch of pictures: fetched, upscaled by the same run as pictures on one machine, and put where they belong."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from gdq_cli.errors import DeviceError, GdqError, OptionsError, WeightsError
from gdq_cli.files import OutputExistsError
from gdq_cli.fleet.plan import Pending
from gdq_cli.fleet.staging import staging_folder
from gdq_cli.options import UpscaleOptions
from gdq_cli.places import Place
from gdq_cli.runs.pipeline import as_failure, run_batch
from gdq_cli.runs.plan import Failed, Job, Plan, Planned, plan_job
from gdq_cli.runs.rehearsal import rehearse
from gdq_cli.runs.report import Listener, Outcome
from gdq_cli.upscaling.record import PictureRecord

if TYPE_CHECKING:
    from gdq_cli.upscaling.pool import UpscalerPool

Told = Outcome | Planned
"""What becomes of a picture; ``Planned`` where all is tried but the network."""

_TRANSFERS = 8  # at a time: most of each is waiting


def work_batch(
    batch: Sequence[Pending],
    options: UpscaleOptions,
    make_pool: Callable[[], UpscalerPool],
    tell: Callable[[Told], None],
    *,
    dry_run: bool = False,
) -> GdqError | None:
    """Upscale a batch. Copies of its files lie on this machine meanwhile; each is removed as soon as it has served.

    A picture that was done before, by a run of the same batch that was lost, counts as done: its bytes are the same.

    Args:
        batch: pictures whose outputs have different places.
        options: of the run.
        make_pool: as of ``run_batch``.
        tell: called with what becomes of each picture, on this thread, in any order.
        dry_run: decode every picture and load the models; nothing is written.

    Returns:
        What no other picture would fare better with: no model, no device.
    """
    untold = {str(entry.target): entry for entry in batch}

    def told(outcome: Told) -> None:
        untold.pop(outcome.target_name, None)
        tell(outcome)

    try:
        with staging_folder() as folder, ThreadPoolExecutor(_TRANSFERS) as transfers:
            staged = _stage(batch, folder, transfers, told)
            delivery = _Delivery(staged, batch, options.overwrite, transfers, told)
            plan = Plan(tuple(plan_job(job, options) for job in staged))
            if not dry_run:
                fatal = run_batch(plan, options, make_pool, delivery).fatal
                delivery.end()
                return fatal
            for outcome in rehearse(plan, options, make_pool).jobs:
                delivery.finished(outcome)
            return None
    except Exception as error:  # of no one picture: no model, or on this machine no room for copies
        failure = error if isinstance(error, GdqError) else as_failure(error, "a batch")
        for entry in untold.values():
            tell(entry.job().failed(failure))
        return error if isinstance(error, OptionsError | WeightsError | DeviceError) else None


def _stage(
    batch: Sequence[Pending], folder: Path, transfers: ThreadPoolExecutor, tell: Callable[[Told], None]
) -> list[Job]:
    """Fetch a batch: what there is to do with files of this machine. What cannot be fetched is told."""
    files = [folder / f"{number}-in" for number in range(len(batch))]
    staged: list[Job] = []
    for entry, file in zip(batch, transfers.map(_fetch, batch, files), strict=True):
        if isinstance(file, Path):
            staged.append(entry.job(file, folder / f"{len(staged)}-out{PurePath(entry.target.name).suffix}"))
        else:
            tell(entry.job().failed(file))
    return staged


def _fetch(entry: Pending, file: Path) -> Path | GdqError:
    try:
        return entry.source.fetch(file)
    except Exception as error:  # a bad picture is an outcome, whatever is wrong with it
        return as_failure(error, str(entry.source))


class _Delivery(Listener):
    """Puts finished outputs where they belong while the next picture is upscaled, and tells when they are there."""

    def __init__(
        self,
        staged: Sequence[Job],
        batch: Sequence[Pending],
        overwrite: bool,
        transfers: ThreadPoolExecutor,
        tell: Callable[[Told], None],
    ) -> None:
        self._jobs = {job.target_name: job for job in staged}
        self._targets = {str(entry.target): entry.target for entry in batch}
        self._overwrite, self._transfers, self._tell = overwrite, transfers, tell
        self._moving: list[Future[Outcome]] = []

    def finished(self, outcome: Told) -> None:
        job = self._jobs[outcome.target_name]
        if isinstance(outcome, PictureRecord):
            self._moving.append(self._transfers.submit(self._deliver, outcome, job))
        else:
            if isinstance(outcome, Failed):
                shown = str(outcome.error).replace(str(job.target), job.shown)
                outcome = replace(outcome, error=type(outcome.error)(shown))
            self._tell(outcome)
        ready = [moving for moving in self._moving if moving.done()]
        self._moving = [moving for moving in self._moving if moving not in ready]
        for moving in ready:
            self._tell(moving.result())

    def end(self) -> None:
        """Wait for what is on its way."""
        for moving in self._moving:
            self._tell(moving.result())
        self._moving.clear()

    def _deliver(self, record: PictureRecord, job: Job) -> Outcome:
        target = self._targets[job.shown]
        file, fetched = job.target, job.source
        assert isinstance(file, Path)
        assert isinstance(fetched, Path)
        try:
            target.put(file, overwrite=self._overwrite)
        except OutputExistsError:
            if not _is_same(target, file):
                return job.skipped()
        except Exception as error:
            return job.failed(as_failure(error, job.shown))
        finally:
            for copy in {file, *([fetched] if fetched.parent == file.parent else ())}:
                with suppress(OSError):
                    copy.unlink()
        return record


def _is_same(target: Place, file: Path) -> bool:
    """Whether what stands in the output's place is this very output."""
    with suppress(GdqError, OSError):
        return filecmp.cmp(target.fetch(file.with_name(file.name + "-there")), file, shallow=False)
    return False
