"""What gdq upscale prints while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdq_cli.commands.terminal.console import print_map
from gdq_cli.commands.terminal.progress import Bar
from gdq_cli.commands.terminal.summary import picture_line, run_lines, skip_line, step_line, summary_lines
from gdq_cli.commands.terminal.wording import print_error, print_json, printable, say, tell
from gdq_cli.errors import GdqError
from gdq_cli.runs.plan import Failed, Planned, Skipped
from gdq_cli.runs.report import Listener, Outcome, RunSummary
from gdq_cli.upscaling.record import PictureRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdq_cli.images import Picture


class RunPrinter(Listener):
    """Tells what happens in a run: bar and notes on stderr, results on stdout (on stderr if stdout is the picture)."""

    def __init__(
        self,
        jobs: int,
        planned: Sequence[Planned],
        as_json: bool,
        quiet: bool,
        verbose: bool,
        heatmap: bool | None,
        to_stdout: bool,
        report: Listener,
    ) -> None:
        self._as_json, self._quiet, self._err = as_json, quiet, to_stdout
        self._verbose, self._report = verbose, report
        self.bit_map: NDArray[np.int64] | None = None  # of the latest picture
        self._printed: GdqError | None = None  # the latest error: what ends a run is the error of all its pictures
        self._single = jobs == 1
        self._heatmap = self._single if heatmap is None else heatmap
        self._count, self._work = len(planned), sum(job.work for job in planned)
        self._total, self._finished, self._number = jobs, 0, 0
        self._done = self._current = 0  # work of the pictures before, and of the one in the network
        self.bar = Bar(printable(Path(planned[0].name).name) if planned else "", shown=not quiet)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Leave no bar behind; Ctrl-C ends the command with what was done until then."""
        try:
            yield
        except KeyboardInterrupt:
            self.bar.stop()
            tell(self.describe_interrupt(), err=True)
            raise typer.Exit(130) from None
        finally:
            self.bar.stop()

    def started(self, job: Planned) -> None:
        self._done += self._current
        self._current = job.work
        self._number += 1
        self.progressed(job, 0, 1)

    def progressed(self, job: Planned, done: int, total: int) -> None:
        number = f"{self._number}/{self._count} " if self._count > 1 else ""
        work = self._done + done / total * job.work
        name = printable(Path(job.name).name)
        self.bar.update(f"{number}{'writing ' if work == self._work else ''}{name}", work, self._work)

    def counted(self, done: int, total: int) -> None:
        if done < total:
            self.bar.update(f"{done}/{total}", done, total)

    def upscaled(self, job: Planned, before: Picture, after: Picture) -> None:
        self._report.upscaled(job, before, after)

    def finished(self, outcome: Outcome) -> None:
        self._report.finished(outcome)
        self.bar.stop()
        self._finished += 1
        record = outcome if isinstance(outcome, PictureRecord) else None
        self.bit_map = None if record is None else record.bit_map
        if self._as_json:
            print_json(outcome.to_dict(), err=self._err)
        elif record is not None and not self._quiet:
            self._print_record(record)
        elif isinstance(outcome, Skipped) and self._single and not self._quiet:
            tell(f"skipped: {skip_line(outcome)}; --overwrite replaces it", err=True)
        error = outcome.error if isinstance(outcome, Failed) else None
        if error is not None and error is not self._printed and (self._single or not self._as_json):
            print_error(error)
            self._printed = error

    def _print_record(self, record: PictureRecord) -> None:
        if self._heatmap:
            print_map(record.bit_map, record.in_size, err=self._err)
        for warning in record.warnings:
            say(f"{record.name}: {warning}")
        tell(*(summary_lines(record) if self._single else picture_line(record)).split("\n"), err=self._err)
        if self._verbose:
            tell(step_line(record), err=True)

    def describe_interrupt(self) -> str:
        """What to say after Ctrl-C."""
        if self._single:
            return "interrupted"
        return f"interrupted after {self._finished} of {self._total} pictures; the same command goes on from there"

    def print_summary(self, summary: RunSummary) -> None:
        """The last word."""
        if self._as_json:
            print_json({"summary": summary.to_dict()}, err=self._err)
        elif (not self._single or summary.earlier) and not self._quiet:
            tell(*run_lines(summary).split("\n"), err=self._err)
