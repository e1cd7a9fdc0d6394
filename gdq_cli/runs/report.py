"""What a run tells: options in vain before it, what becomes of each picture, and the totals at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gdq_cli.errors import GdqError
from gdq_cli.images import DEFAULT_QUALITY, FORMATS
from gdq_cli.options import Encoding, UpscaleOptions
from gdq_cli.runs.marks import Difference
from gdq_cli.runs.plan import Failed, Plan, Planned, Skipped
from gdq_cli.upscaling.record import PictureRecord

if TYPE_CHECKING:
    from gdq_cli.images import Picture

Outcome = PictureRecord | Skipped | Failed
"""What became of one picture: each has ``status``, ``name`` and ``to_dict``."""


@dataclass
class RunSummary:
    """Totals of a run.

    Attributes:
        ok, skipped: pictures.
        differing: of the skipped ones, by ``Difference``, those whose outputs are not what this run would make.
        ignored: files in the given folders that are hidden or no pictures.
        earlier: outputs of earlier runs in these folders.
        stale: unfinished files of killed runs that were removed.
        seconds: of the whole run; ``seconds_network`` of it the network was busy.
        failures: in the order in which they happened.
        workers: that the network ran on at a time.
        fatal: what ended the run early, because no picture could have worked: no model, no device.
    """

    ok: int = 0
    skipped: int = 0
    differing: Counter[Difference] = field(default_factory=Counter)
    ignored: int = 0
    earlier: int = 0
    stale: int = 0
    seconds: float = 0.0
    seconds_network: float = 0.0
    failures: list[Failed] = field(default_factory=list)
    workers: int = 1
    fatal: GdqError | None = None

    @property
    def failed(self) -> int:
        """Pictures."""
        return len(self.failures)

    @property
    def network_share(self) -> float:
        """Part of the workers' time in which the network was busy, 0 to 1."""
        return min(1.0, self.seconds_network / (self.seconds * self.workers)) if self.seconds > 0 else 0.0

    def add(self, outcome: Outcome) -> None:
        """Count a picture."""
        if isinstance(outcome, PictureRecord):
            self.ok += 1
            self.seconds_network += outcome.seconds["bits"] + outcome.seconds["network"]
        elif isinstance(outcome, Skipped):
            self.skipped += 1
            if outcome.differs is not None:
                self.differing[outcome.differs] += 1
        else:
            self.failures.append(outcome)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys as in docs/cli.md."""
        return {
            "ok": self.ok,
            "skipped": self.skipped,
            "differing": dict(self.differing),
            "failed": self.failed,
            "ignored": self.ignored,
            "earlier_outputs": self.earlier,
            "seconds": self.seconds,
            "network_share": self.network_share,
        }


class Listener:
    """Is told what happens, on the thread that called ``run_batch``; this one does not listen."""

    def started(self, job: Planned) -> None:
        """The network begins with a picture."""

    def progressed(self, job: Planned, done: int, total: int) -> None:
        """So many patches of all of the picture are through the network."""

    def upscaled(self, job: Planned, before: Picture, after: Picture) -> None:
        """The first frame of a picture is through the network; both are to be looked at now and not to be kept."""

    def finished(self, outcome: Outcome) -> None:
        """A picture is written, skipped or failed."""

    def counted(self, done: int, total: int) -> None:
        """So many pictures have an outcome, of a run whose pictures are not followed one by one."""


def without_effect(plan: Plan, options: UpscaleOptions) -> Iterator[str]:
    """What to say of options that have no effect on the outputs of a plan: a line each.

    Args:
        plan: of the run; of a plan without outputs nothing is said.
        options: of the run. One that has its default is not taken for given.
    """
    jobs, encoding = plan.planned, options.encoding
    if not jobs:
        return
    formats = dict.fromkeys(job.format for job in jobs)
    if encoding.quality is not None and (others := [name for name in formats if name not in DEFAULT_QUALITY]):
        yield f"`quality` has no effect on {', '.join(others)}; it is of {', '.join(DEFAULT_QUALITY)}"
    transparent = [job for job in jobs if job.header.has_alpha]
    if options.alpha != UpscaleOptions.alpha and not transparent:
        yield "`alpha` has no effect: no input has transparency"
    flattened = [job for job in transparent if not FORMATS[job.format].alpha]
    if encoding.background != Encoding.background and (not flattened or options.alpha == "drop"):
        yield "`background` has no effect: no transparency is lost in these outputs"
