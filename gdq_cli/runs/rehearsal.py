"""A run without its work: everything is tried but the network and the writing. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from gdq_cli.errors import GdqError
from gdq_cli.images import read_frames
from gdq_cli.models.store import must_download
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.pipeline import as_failure
from gdq_cli.runs.plan import Plan, Planned, check_disk

if TYPE_CHECKING:
    from gdq_cli.upscaling.pool import UpscalerPool


def rehearse(
    plan: Plan,
    options: UpscaleOptions,
    make_pool: Callable[[], UpscalerPool],
    progress: Callable[[Planned, int, int], None] = lambda job, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Decode every picture of a plan, load every model that is here, and look at the disk.

    Decoding takes some thousandths of what upscaling takes. What is left to chance: memory, what other programs do to
    the files and the disk meanwhile.

    Args:
        plan: from ``plan_batch``.
        options: the same that made the plan.
        make_pool: called where a model is to be loaded.
        progress: called with a picture, the pixels of all pictures before it, and those of all.
        say: told of a model that the run would download.

    Returns:
        The plan, with what would fail as ``Failed``.

    Raises:
        GdqError: where the one model that all pictures need cannot run, as ``run_batch`` would end at once.
    """
    models = dict.fromkeys((job.model, job.native_scale) for job in plan.planned)
    faults: dict[tuple[str, int], GdqError] = {}
    pool = cache(make_pool)
    for model, scale in models:
        try:
            if must_download(model, scale):
                say(f"{model} is not here yet; the run will download it")
            else:
                pool().get(scale, model)
        except GdqError as error:
            if len(models) == 1:
                raise
            faults[model, scale] = error
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
