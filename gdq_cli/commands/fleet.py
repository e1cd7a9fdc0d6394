"""gdq upscale where an input or the output is an address, and on Ray."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gdq_cli.commands.terminal.printer import Manner, RunPrinter, print_plan
from gdq_cli.commands.terminal.wording import say
from gdq_cli.errors import OptionsError
from gdq_cli.fleet.plan import plan_fleet
from gdq_cli.fleet.run import outcomes_here, rehearse_fleet, run_fleet
from gdq_cli.options import UpscaleOptions
from gdq_cli.places import parse_place
from gdq_cli.runs.plan import Plan
from gdq_cli.runs.report import RunSummary

if TYPE_CHECKING:
    from gdq_cli.fleet.run import Outcomes
    from gdq_cli.upscaling.pool import UpscalerPool


def check_fleet(names: list[str], to_stdout: bool, needs_disk: dict[str, Path | None]) -> None:
    """Refuse what is for files of this machine only.

    Args:
        names: of the inputs.
        to_stdout: the output is standard output.
        needs_disk: options that write other files, with what was given.
    """
    for option, given in needs_disk.items():
        if given is not None:
            raise OptionsError(f"{option} is for paths on one machine, without addresses and --ray")
    if "-" in names or to_stdout:
        raise OptionsError("- (a standard stream) is for paths on one machine, without addresses and --ray")


def upscale_fleet(
    names: list[str],
    options: UpscaleOptions,
    output: str | None,
    recursive: bool,
    ray: str | None,
    make_pool: Callable[[], UpscalerPool],
    engine: str,
    offline: bool,
    dry_run: bool,
    manner: Manner,
) -> Plan | RunSummary:
    """Plan, run and tell: what became of the pictures, or the plan of a dry run."""
    if ray is not None:
        from gdq_cli.fleet import cluster

        options = cluster.settle(options)
        for name in [*names, *([] if output is None else [output])]:
            parse_place(name).check_shared()
    plan = plan_fleet(names, options, output, recursive=recursive, say=say)
    outcomes: Outcomes
    workers = 1
    with ExitStack() as stack:
        if ray is not None and plan.pending:
            stack.enter_context(cluster.connected(ray))
            workers = cluster.count_actors(options, len(plan.pending))
            work = cluster.Work(options, engine, offline, dry_run)
            outcomes = cluster.outcomes_on_ray(plan.pending, work, workers)
        else:
            outcomes = outcomes_here(plan.pending, options, make_pool, dry_run=dry_run)
        if dry_run:
            rehearsed = rehearse_fleet(plan, outcomes)
            print_plan(rehearsed, manner)
            return rehearsed
        printer = RunPrinter(manner, len(plan.pending) + len(plan.settled))
        with printer.watching():
            summary = run_fleet(plan, outcomes, printer, workers)
    printer.print_summary(summary)
    return summary
