"""The command line: one app, its commands in the modules beside it. torch is imported inside commands."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from gdq_cli._version import __version__
from gdq_cli.commands.line.help import PlainCommand, PlainGroup, examples
from gdq_cli.commands.line.usage import UsageError, usage_message
from gdq_cli.commands.terminal.wording import prepare_streams, print_error, tell
from gdq_cli.errors import FileError, GdqError, OptionsError, memory_errors

# Read by torch's OpenMP when it is loaded. By default its idle threads spin, which on a machine with other work makes
# every small operation wait for a thread that is not running: seconds at start-up. Measured, nothing gets slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read by NumPy's OpenBLAS when it is loaded, whose threads spin after they start: 0.1 s of processor time.
# Nothing here multiplies matrices with NumPy that are large enough for threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Read by pydantic, which Typer checks values with: it would look through all packages for plugins that change this.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

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


INTERRUPTED = 130


class _Group(PlainGroup):
    """All commands; Ctrl-C and a lack of memory end each of them with a word, if it has none of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with memory_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            tell("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


def build_app(names: Iterable[str] = COMMANDS, *, listed: bool = False) -> typer.Typer:
    """The app with these commands; all, unless it is known which one will run: making options takes time.

    Args:
        names: of ``COMMANDS``.
        listed: the commands are named by the help and none will run, so they need no options.
    """
    app = typer.Typer(
        cls=_Group,
        help="Upscale images with real Granular-DQ: every patch gets the bit-width it deserves.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        command = getattr(import_module(f"gdq_cli.commands.{COMMANDS[name]}"), name)
        if listed:
            text = command.info.help if isinstance(command, typer.Typer) else command.__doc__
            app.command(name, help=text)(lambda: None)
        elif isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(cls=PlainCommand, epilog=examples(name))(command)
    return app


def _end_by_signals() -> None:
    """Have SIGTERM and SIGHUP end a command as an error does, so that no unfinished file stays behind; nohup still
    keeps it from the latter."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def main() -> None:
    """Entry point: known errors become one line on stderr and their exit code."""
    gc.set_threshold(10_000)  # imports make objects by the ten thousand, and hardly any garbage
    prepare_streams()
    _end_by_signals()
    try:
        asked = sys.argv[1:2]
        listed = asked in ([], ["-h"], ["--help"]) and "_GDQ_COMPLETE" not in os.environ  # else the tab key asks
        app = build_app(asked if asked and asked[0] in COMMANDS else COMMANDS, listed=listed)
        sys.exit(app(standalone_mode=False, prog_name="gdq"))
    except GdqError as error:
        _fail(error)
    except UsageError as error:
        if message := usage_message(error):
            _fail(OptionsError(message))
        sys.exit(OptionsError.exit_code)
    except OSError as error:
        if "--install-completion" in sys.argv:
            place = error.filename or "the completion"  # of a full disk no name is told
            _fail(FileError(f"{place}: cannot be written ({(error.strerror or str(error)).lower()})"))
        if not isinstance(error, FileNotFoundError) or _has_folder():
            raise
        _fail(FileError("the current folder is gone, so relative paths lead nowhere; change to another one"))
    except KeyboardInterrupt:  # before a command runs: its import takes a moment
        tell("interrupted", err=True)
        sys.exit(INTERRUPTED)
    finally:
        # An interrupt that passed through exec(str), as dataclasses and torch use it, leaves CPython marked: it would
        # end by SIGINT whatever the exit code (Python/pythonrun.c, unhandled_keyboard_interrupt). Any exec unmarks it.
        exec("")


def _fail(error: GdqError) -> NoReturn:
    print_error(error)
    sys.exit(error.exit_code)


def _has_folder() -> bool:
    """Whether the current folder is still there."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _print_version(wanted: bool) -> None:
    if wanted:
        tell(f"gdq {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
