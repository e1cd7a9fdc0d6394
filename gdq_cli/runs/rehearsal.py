"""A run without its work: everything is tried but the network and the writing. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from gdq_cli.errors import GdqError
from gdq_cli.images import read_frames
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.pipeline import as_failure
from gdq_cli.runs.plan import Plan, Planned, check_disk


def rehearse(
    plan: Plan,
    options: UpscaleOptions,
    load: Callable[[str, int], object],
    progress: Callable[[Planned, int, int], None] = lambda job, done, total: None,
) -> Plan:
    """Decode every picture of a plan, load every model, and look at the disk.

    Decoding takes some thousandths of what upscaling takes. What is left to chance: memory, what other programs do to
    the files and the disk meanwhile.

    Args:
        plan: from ``plan_batch``.
        options: the same that made the plan.
        load: called once with each model and native scale; raises GdqError where it cannot run.
        progress: called with a picture, the pixels of all pictures before it, and those of all.

    Returns:
        The plan, with what would fail as ``Failed``.

    Raises:
        GdqError: where the one model that all pictures need cannot run, as ``run_batch`` would end at once.
    """
    models = dict.fromkeys((job.model, job.native_scale) for job in plan.planned)
    faults: dict[tuple[str, int], GdqError] = {}
    for model in models:
        try:
            load(*model)
        except GdqError as error:
            if len(models) == 1:
                raise
            faults[model] = error
    done, total = 0, sum(job.work for job in plan.planned)
    jobs = list(plan.jobs)
    for index, job in enumerate(plan.jobs):
        if not isinstance(job, Planned):
            continue
        progress(job, done, total)
        done += job.work
        fault = faults.get((job.model, job.native_scale)) or _try_picture(job, options)
        if fault is not None:
            jobs[index] = job.failed(as_failure(fault, job.name))
    return replace(plan, jobs=tuple(jobs))


def _try_picture(job: Planned, options: UpscaleOptions) -> Exception | None:
    """What is wrong with a picture, or with the room for its output."""
    try:
        with suppress(FileNotFoundError):  # a folder that the run would make
            check_disk(job)
        for _ in read_frames(job.source, max_pixels=options.max_pixels, name=job.name):
            pass
    except Exception as error:
        return error
    return None
