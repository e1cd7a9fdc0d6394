"""gdq called by tests: in this process, or as a user would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import typer.main
from typer.testing import CliRunner

from gdq_cli.commands.app import build_app
from gdq_cli.commands.terminal.wording import as_options
from gdq_cli.errors import GdqError

runner = CliRunner()
app = build_app()


def _find_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _find_commands(below, (*path, name))


COMMANDS = dict(_find_commands(typer.main.get_command(app)))
"""Every command and group of commands, by the words that call it."""


def gdq(*arguments: object, code: int = 0) -> str:
    """Run a command in this process; a known error counts as its exit code, as ``main`` has it."""
    result = runner.invoke(app, [str(argument) for argument in arguments])
    found = result.exception.exit_code if isinstance(result.exception, GdqError) else result.exit_code
    assert found == code, (result.output, result.exception)
    return as_options(str(result.exception)) if isinstance(result.exception, GdqError) else result.output


def run_process(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -m gdq_cli`` as a user would."""
    command = [sys.executable, "-m", "gdq_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]
