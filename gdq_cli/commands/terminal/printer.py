"""What gdq upscale prints: of a plan, while it runs, and at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdq_cli.commands.terminal.console import print_map
from gdq_cli.commands.terminal.progress import Bar
from gdq_cli.commands.terminal.summary import (
    bytes_text,
    picture_line,
    planned_line,
    run_lines,
    skip_line,
    step_line,
    summary_lines,
)
from gdq_cli.commands.terminal.wording import print_error, print_json, say, tell
from gdq_cli.errors import GdqError, OptionsError
from gdq_cli.runs.plan import Failed, Plan, Planned, Skipped
from gdq_cli.runs.report import Listener, Outcome, RunSummary
from gdq_cli.upscaling.record import PictureRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdq_cli.images import Picture


@dataclass(frozen=True)
class Manner:
    """How a run is told: notes, bars and errors on stderr, results on stdout.

    Attributes:
        as_json: results are objects, not text.
        quiet: errors alone are told.
        verbose: where the time went is told, too.
        heatmap: bit maps are drawn; None for those of a single picture.
        err: results go to stderr, since stdout is the picture.

    Raises:
        OptionsError: if these contradict each other.
    """

    as_json: bool
    quiet: bool
    verbose: bool
    heatmap: bool | None
    err: bool

    def __post_init__(self) -> None:
        said = {"--quiet": self.quiet, "--json": self.as_json, "--verbose": self.verbose, "--heatmap": self.heatmap}
        several = [option for option, given in said.items() if given]
        if len(several) > 1 and several != ["--verbose", "--heatmap"]:
            raise OptionsError(f"{several[0]} and {several[1]} contradict each other; give one of them")


def print_plan(plan: Plan, manner: Manner, also: Sequence[Path] = ()) -> None:
    """What a run would do.

    Args:
        plan: of the run.
        manner: of telling.
        also: other files that the run would write.
    """
    for job in plan.jobs:
        if manner.as_json:
            print_json(job.to_dict() | {"output": job.target_name}, err=manner.err)
        elif not manner.quiet:
            tell(planned_line(job), err=manner.err)
            for note in job.notes:
                say(f"{job.name}: {note}")
        elif isinstance(job, Failed):
            print_error(job.error)
    planned, skipped, failed = (sum(isinstance(job, kind) for job in plan.jobs) for kind in (Planned, Skipped, Failed))
    files = {str(file): file.exists() for file in also} if planned else {}
    if manner.as_json:
        counts = {"planned": planned, "skipped": skipped, "failed": failed}
        counts |= {"ignored": plan.ignored, "earlier_outputs": plan.earlier}
        others = [{"output": name, "exists": there} for name, there in files.items()]
        print_json({"summary": counts | {"also": others}}, err=manner.err)
    elif not manner.quiet:
        for name, there in files.items():
            tell(f"{name} would be {'replaced' if there else 'written'}, too", err=manner.err)
        if len(plan.jobs) > 1:
            size = f" (about {bytes_text(sum(job.disk_bytes for job in plan.planned))})" if planned else ""
            tell(f"{planned} to upscale{size}, {skipped} to skip, {failed} would fail", err=manner.err)


class RunPrinter(Listener):
    """Tells what happens in a run.

    Args:
        manner: of telling.
        jobs: how many pictures the run has.
        planned: those to be upscaled, where they are followed one by one.
        report: is told of the same.
    """

    def __init__(
        self, manner: Manner, jobs: int, planned: Sequence[Planned] = (), report: Listener | None = None
    ) -> None:
        self._manner, self._report = manner, report or Listener()
        self.bit_map: NDArray[np.int64] | None = None  # of the latest picture
        self._printed: GdqError | None = None  # the latest error: what ends a run is the error of all its pictures
        self._single = jobs == 1
        self._heatmap = self._single if manner.heatmap is None else manner.heatmap
        self._count, self._work = len(planned), sum(job.work for job in planned)
        self._total, self._finished, self._number = jobs, 0, 0
        self._done = self._current = 0  # work of the pictures before, and of the one in the network
        self._bar = Bar(Path(planned[0].name).name if planned else "", shown=not manner.quiet)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Leave no bar behind; Ctrl-C ends the command with what was done until then."""
        try:
            with self._bar:
                yield
        except KeyboardInterrupt:
            finished = f" after {self._finished} of {self._total} pictures; the same command goes on from there"
            tell("interrupted" + ("" if self._single else finished), err=True)
            raise typer.Exit(130) from None

    def started(self, job: Planned) -> None:
        self._done += self._current
        self._current = job.work
        self._number += 1
        self.progressed(job, 0, 1)

    def progressed(self, job: Planned, done: int, total: int) -> None:
        number = f"{self._number}/{self._count} " if self._count > 1 else ""
        work = self._done + done / total * job.work
        writing = "writing " if work == self._work else ""
        self._bar.update(f"{number}{writing}{Path(job.name).name}", work, self._work)

    def counted(self, done: int, total: int) -> None:
        if done < total:
            self._bar.update(f"{done}/{total}", done, total)

    def upscaled(self, job: Planned, before: Picture, after: Picture) -> None:
        self._report.upscaled(job, before, after)

    def finished(self, outcome: Outcome) -> None:
        self._report.finished(outcome)
        self._bar.stop()
        self._finished += 1
        record = outcome if isinstance(outcome, PictureRecord) else None
        self.bit_map = None if record is None else record.bit_map
        if self._manner.as_json:
            print_json(outcome.to_dict(), err=self._manner.err)
        elif record is not None and not self._manner.quiet:
            self._print_record(record)
        elif isinstance(outcome, Skipped) and self._single and not self._manner.quiet:
            tell(f"skipped: {skip_line(outcome)}; --overwrite replaces it", err=True)
        error = outcome.error if isinstance(outcome, Failed) else None
        if error is not None and error is not self._printed and (self._single or not self._manner.as_json):
            print_error(error)
            self._printed = error

    def _print_record(self, record: PictureRecord) -> None:
        if self._heatmap:
            print_map(record.bit_map, record.in_size, err=self._manner.err)
        for warning in record.warnings:
            say(f"{record.name}: {warning}")
        lines = summary_lines(record) if self._single else [picture_line(record)]
        tell(*lines, err=self._manner.err)
        if self._manner.verbose:
            tell(step_line(record), err=True)

    def print_summary(self, summary: RunSummary) -> None:
        """The last word."""
        if self._manner.as_json:
            print_json({"summary": summary.to_dict()}, err=self._manner.err)
        elif (not self._single or summary.earlier) and not self._manner.quiet:
            tell(*run_lines(summary), err=self._manner.err)
