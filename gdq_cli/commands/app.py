"""The command line: one app, its commands in the modules beside it. torch is imported inside commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gdq_cli._version import __version__
from gdq_cli.commands.bitmap import bitmap
from gdq_cli.commands.doctor import doctor
from gdq_cli.commands.measure import bench, compare, eval
from gdq_cli.commands.models import models
from gdq_cli.commands.train import calibrate, refine, train
from gdq_cli.commands.upscale import upscale
from gdq_cli.commands.wording import print_error
from gdq_cli.errors import GdqError

app = typer.Typer(
    help="Upscale images with real Granular-DQ: every patch gets the bit-width it deserves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (upscale, bitmap, eval, bench, compare, doctor, calibrate, train, refine):
    app.command()(command)
app.add_typer(models, name="models")

INTERRUPTED = 130


def main() -> None:
    """Entry point: known errors become one line on stderr and their exit code."""
    try:
        app()
    except GdqError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    finally:
        # An interrupt that passed through exec(str), as dataclasses and torch use it, leaves CPython marked: it would
        # end by SIGINT whatever the exit code (Python/pythonrun.c, unhandled_keyboard_interrupt). Any exec unmarks it.
        exec("")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gdq {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
