"""What a run reports: what became of each picture, and the totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gdq_cli.errors import GdqError
from gdq_cli.runs.plan import Job
from gdq_cli.runs.report import JobReport


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes:
        job: the picture.
        status: as in --json.
        report: of a picture that was upscaled.
        error: of one that failed.
    """

    job: Job
    status: Literal["ok", "skipped", "failed"]
    report: JobReport | None = None
    error: GdqError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys as in docs/cli.md."""
        if self.report is not None:
            return self.report.to_dict()
        output = self.job.target_name if self.status == "skipped" else None
        error = str(self.error) if self.error is not None else None
        return {"input": self.job.name, "output": output, "status": self.status, "error": error}


@dataclass
class BatchSummary:
    """Totals of a run.

    Attributes:
        ok, skipped, failed: pictures.
        ignored: files in the given folders that are hidden or no pictures.
        earlier: outputs of earlier runs in these folders.
        stale: unfinished files of killed runs that were removed.
        seconds: of the whole run; ``seconds_network`` of it the network was busy.
        failures: of the failed ones, in the order in which they failed.
        fatal: what ended the run early, because no picture could have worked: no model, no device.
    """

    ok: int = 0
    skipped: int = 0
    failed: int = 0
    ignored: int = 0
    earlier: int = 0
    stale: int = 0
    seconds: float = 0.0
    seconds_network: float = 0.0
    failures: list[Outcome] = field(default_factory=list)
    fatal: GdqError | None = None

    @property
    def network_share(self) -> float:
        """Part of the time in which the network was busy, 0 to 1."""
        return min(1.0, self.seconds_network / self.seconds) if self.seconds > 0 else 0.0

    def add(self, outcome: Outcome) -> None:
        if outcome.status == "ok":
            self.ok += 1
        elif outcome.status == "skipped":
            self.skipped += 1
        else:
            self.failed += 1
            self.failures.append(outcome)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys as in docs/cli.md."""
        return {
            "ok": self.ok,
            "skipped": self.skipped,
            "failed": self.failed,
            "ignored": self.ignored,
            "earlier_outputs": self.earlier,
            "seconds": self.seconds,
            "network_share": self.network_share,
        }


class Listener(Protocol):
    """Is told what happens, on the thread that called ``run_batch``."""

    def started(self, job: Job) -> None:
        """The network begins with a picture."""

    def progressed(self, job: Job, share: float) -> None:
        """That much of the picture, 0 to 1, is through the network."""

    def finished(self, outcome: Outcome) -> None:
        """A picture is written, skipped or failed."""


class Silent:
    """Listens to nothing."""

    def started(self, job: Job) -> None:
        pass

    def progressed(self, job: Job, share: float) -> None:
        pass

    def finished(self, outcome: Outcome) -> None:
        pass
