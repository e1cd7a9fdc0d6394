"""A run over many pictures, from a plan to a summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from gdq_cli.errors import GdqError, ImageError
from gdq_cli.images import remove_stale_parts
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.outcome import BatchSummary, Listener, Outcome, Silent
from gdq_cli.runs.pipeline import POLL_SECONDS, FatalError, Pipeline, StoppedError
from gdq_cli.runs.plan import Plan

if TYPE_CHECKING:
    from gdq_cli.models.pool import UpscalerPool

__all__ = ["BatchSummary", "Listener", "Outcome", "run_batch"]


def run_batch(
    plan: Plan,
    options: UpscaleOptions,
    make_pool: Callable[[], UpscalerPool],
    listener: Listener | None = None,
) -> BatchSummary:
    """Upscale what a plan says. One bad picture does not stop the run.

    A run killed at any moment leaves complete files only (see ``images.atomic_file``); the same run again goes on where
    it ended. Ctrl-C (KeyboardInterrupt on the calling thread) passes through after the file being encoded is complete.

    Args:
        plan: from ``plan_batch``.
        options: the same that made the plan.
        make_pool: called when the first picture is being decoded; not at all when there is nothing to upscale.
        listener: told what happens.

    Raises:
        ImageError: if a folder for outputs cannot be made.
    """
    start = time.perf_counter()
    summary = BatchSummary(ignored=plan.ignored, earlier=plan.earlier)
    run = Pipeline(plan, options, listener or Silent(), summary)
    summary.stale = _prepare_folders(plan)
    for job in plan.jobs:
        if job.problem is not None:
            run.finish(Outcome(job, "failed", error=job.problem))
        elif job.exists:
            run.finish(Outcome(job, "skipped"))
    if run.jobs:
        _run_steps(run, make_pool)
    summary.seconds = time.perf_counter() - start
    return summary


def _run_steps(run: Pipeline, make_pool: Callable[[], UpscalerPool]) -> None:
    threads = run.start()
    fatal: GdqError | None = None
    try:
        try:
            pool = make_pool()
        except GdqError as error:
            raise FatalError(error) from error
        run.upscale(pool)
        for thread in threads:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                run.drain()
    except FatalError as error:
        fatal = error.error
    except StoppedError:
        pass
    finally:
        run.stop_all()
        for thread in threads:
            thread.join()
    run.drain()
    if run.crash is not None:
        raise run.crash
    if fatal is not None:
        run.give_up(fatal)


def _prepare_folders(plan: Plan) -> int:
    """Make the folders of outputs, and remove what killed runs left there; how many such files."""
    removed = 0
    for folder in plan.folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{folder}: this folder cannot be made ({error.strerror or error})") from error
        with suppress(OSError):
            removed += remove_stale_parts(folder)
    return removed
