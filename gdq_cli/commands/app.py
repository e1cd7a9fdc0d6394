"""The command line: one app, its commands in the modules beside it. torch is imported inside commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from gdq_cli._version import __version__
from gdq_cli.commands.wording import prepare_streams, print_error
from gdq_cli.errors import GdqError

COMMANDS = {
    "upscale": "upscale",
    "bitmap": "bitmap",
    "eval": "measure",
    "bench": "measure",
    "compare": "measure",
    "doctor": "doctor",
    "calibrate": "train",
    "train": "train",
    "refine": "train",
    "models": "models",
}
"""Every command, and the module that holds it."""


def build_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The app with these commands; all, unless it is known which one will run: making options takes time."""
    app = typer.Typer(
        help="Upscale images with real Granular-DQ: every patch gets the bit-width it deserves.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        command = getattr(import_module(f"gdq_cli.commands.{COMMANDS[name]}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command()(command)
    return app


INTERRUPTED = 130


def main() -> None:
    """Entry point: known errors become one line on stderr and their exit code."""
    prepare_streams()
    try:
        asked = sys.argv[1:2]
        build_app(asked if asked and asked[0] in COMMANDS else COMMANDS)()
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


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
