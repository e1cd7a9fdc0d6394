"""Options that change nothing in a run: whoever gives one expects something of it. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

from gdq_cli.images import DEFAULT_QUALITY, FORMATS
from gdq_cli.options import Encoding, UpscaleOptions
from gdq_cli.runs.plan import Plan


def without_effect(plan: Plan, options: UpscaleOptions) -> Iterator[str]:
    """What to say of options that have no effect on the outputs of a plan: a line each.

    Args:
        plan: of the run; of a plan without outputs nothing is said.
        options: of the run. One that has its default is not taken for given.
    """
    jobs, encoding = plan.planned, options.encoding
    if not jobs:
        return
    formats = {job.encoding.format or "": None for job in jobs}
    if encoding.quality is not None and (others := [name for name in formats if name not in DEFAULT_QUALITY]):
        yield f"`quality` has no effect on {', '.join(others)}; it is of {', '.join(DEFAULT_QUALITY)}"
    transparent = [job for job in jobs if job.header.has_alpha]
    if options.alpha != UpscaleOptions.alpha and not transparent:
        yield "`alpha` has no effect: no input has transparency"
    flattened = [job for job in transparent if not FORMATS[job.encoding.format or ""].alpha]
    if encoding.background != Encoding.background and (not flattened or options.alpha == "drop"):
        yield "`background` has no effect: no transparency is lost in these outputs"
