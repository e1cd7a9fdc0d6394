"""A run over any places: outcomes as they come, from this machine or from Ray, counted and told as those of any run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from gdq_cli.errors import GdqError
from gdq_cli.fleet.batch import Told, work_batch
from gdq_cli.fleet.plan import FleetPlan, Pending
from gdq_cli.fleet.staging import remove_stale_folders
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.plan import Failed, Plan, Planned, Skipped
from gdq_cli.runs.report import Listener, RunSummary

if TYPE_CHECKING:
    from gdq_cli.upscaling.pool import UpscalerPool

Outcomes = Iterator[tuple[list[Told], GdqError | None]]
"""What became of some pictures, and what no other picture would fare better with, which ends the run."""

_BATCH = 4
"""Pictures whose copies lie on this machine at a time."""


def run_fleet(plan: FleetPlan, outcomes: Outcomes, listener: Listener, workers: int = 1) -> RunSummary:
    """Count and tell outcomes until each picture has one.

    Args:
        plan: from ``plan_fleet``.
        outcomes: of its pending pictures.
        listener: told.
        workers: that networks run on.
    """
    start = time.perf_counter()
    summary = RunSummary(ignored=plan.ignored, earlier=plan.earlier, workers=workers)
    unfinished = {str(entry.target): entry for entry in plan.pending}
    total = len(unfinished)

    def finish(outcome: Told) -> None:
        assert not isinstance(outcome, Planned)
        unfinished.pop(outcome.target_name, None)
        summary.add(outcome)
        listener.finished(outcome)

    for settled in plan.settled:
        finish(settled)
    listener.counted(0, total)
    for told, fatal in outcomes:
        for outcome in told:
            finish(outcome)
            listener.counted(total - len(unfinished), total)
        if fatal is not None:
            summary.fatal = fatal
            break
    if summary.fatal is not None:
        for entry in list(unfinished.values()):
            finish(entry.job().failed(summary.fatal))
    summary.seconds = time.perf_counter() - start
    return summary


def rehearse_fleet(plan: FleetPlan, outcomes: Outcomes) -> Plan:
    """The plan after all has been tried but the network, as ``rehearse`` of a run on one machine.

    Raises:
        GdqError: where no picture could be upscaled.
    """
    jobs: list[Planned | Skipped | Failed] = list(plan.settled)
    for told, fatal in outcomes:
        if fatal is not None:
            raise fatal
        jobs += [job for job in told if isinstance(job, Planned | Skipped | Failed)]
    return Plan(tuple(jobs), plan.ignored, plan.earlier)


def outcomes_here(
    pending: Sequence[Pending],
    options: UpscaleOptions,
    make_pool: Callable[[], UpscalerPool],
    *,
    dry_run: bool = False,
) -> Outcomes:
    """Upscale on this machine, batch by batch."""
    remove_stale_folders()
    pool = cache(make_pool)
    for start in range(0, len(pending), _BATCH):
        told: list[Told] = []
        fatal = work_batch(pending[start : start + _BATCH], options, pool, told.append, dry_run=dry_run)
        yield told, fatal
