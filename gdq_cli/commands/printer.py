"""What gdq upscale prints while it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gdq_cli.commands.console import RunBar, print_error, print_map
from gdq_cli.errors import GdqError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdq_cli.runs.outcome import BatchSummary, Outcome
    from gdq_cli.runs.plan import Job, Plan
    from gdq_cli.runs.report import JobReport


class RunPrinter:
    """Tells what happens in a run: bar and notes on stderr, results on stdout (on stderr if stdout is the picture)."""

    def __init__(
        self,
        plan: Plan,
        as_json: bool,
        quiet: bool,
        verbose: bool,
        heatmap: bool | None,
        to_stdout: bool,
    ) -> None:
        self._as_json, self._quiet, self._err = as_json, quiet, to_stdout
        self._verbose = verbose
        self.bit_map: NDArray[np.int64] | None = None  # of the latest picture
        self._printed: GdqError | None = None  # the latest error: what ends a run is the error of all its pictures
        self._single = len(plan.jobs) == 1
        self._heatmap = self._single if heatmap is None else heatmap
        self._count = sum(job.header is not None for job in plan.jobs)
        self._total, self._finished, self._number = len(plan.jobs), 0, 0
        self._done = self._current = 0  # work of the pictures before, and of the one in the network
        self.bar = RunBar(sum(job.work for job in plan.jobs), shown=not quiet)

    def started(self, job: Job) -> None:
        """Of ``Listener``."""
        self._done += self._current
        self._current = job.work
        self._number += 1
        self._show(job, 0.0)

    def progressed(self, job: Job, share: float) -> None:
        """Of ``Listener``."""
        self._show(job, share)

    def _show(self, job: Job, share: float) -> None:
        number = f"{self._number}/{self._count} " if self._count > 1 else ""
        self.bar.update(number + Path(job.name).name, self._done + share * job.work)

    def finished(self, outcome: Outcome) -> None:
        """Of ``Listener``."""
        self.bar.stop()
        self._finished += 1
        job, report = outcome.job, outcome.report
        self.bit_map = None if report is None else report.bit_map
        if self._as_json:
            typer.echo(json.dumps(outcome.to_dict()), err=self._err)
            (sys.stderr if self._err else sys.stdout).flush()
        elif report is not None and not self._quiet:
            self._print_report(report)
        elif outcome.status == "skipped" and self._single and not self._quiet:
            typer.echo(f"skipped: {job.target_name}: exists already; --overwrite replaces it", err=True)
        if outcome.error is not None and outcome.error is not self._printed and (self._single or not self._as_json):
            print_error(outcome.error)
            self._printed = outcome.error

    def _print_report(self, report: JobReport) -> None:
        from gdq_cli.commands.summary import picture_line, step_line, summary_lines

        if self._heatmap:
            print_map(report.bit_map, report.in_size, err=self._err)
        for warning in report.warnings:
            typer.echo(f"note: {report.source}: {warning}", err=True)
        typer.echo(summary_lines(report) if self._single else picture_line(report), err=self._err)
        if self._verbose:
            typer.echo(step_line(report), err=True)

    def describe_interrupt(self) -> str:
        """What to say after Ctrl-C."""
        if self._single:
            return "interrupted"
        return f"interrupted after {self._finished} of {self._total} pictures; the same command goes on from there"

    def print_summary(self, summary: BatchSummary) -> None:
        """The last word."""
        from gdq_cli.commands.summary import run_lines

        if self._as_json:
            typer.echo(json.dumps({"summary": summary.to_dict()}), err=self._err)
        elif not self._single and not self._quiet:
            typer.echo(run_lines(summary), err=self._err)
