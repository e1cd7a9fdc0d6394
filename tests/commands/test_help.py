"""Every --help of every command ends well and shows all that was written, whatever the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer.main
from typer.testing import CliRunner

from tests.helpers.commands import app


def find_commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from find_commands(below, (*path, name))


COMMANDS = dict(find_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("colour", ["", "1"])
@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help(path: tuple[str, ...], columns: str, colour: str) -> None:
    environment = {"COLUMNS": columns, "TERMINAL_WIDTH": columns, "FORCE_COLOR": colour or None, "NO_COLOR": None}
    result = CliRunner().invoke(app, [*path, "--help"], env=environment)
    assert result.exit_code == 0, result.exception
    assert "Usage: " in result.output
    text = re.sub(r"[\W_]+", "", re.sub(r"\x1b\[[0-9;]*m", "", result.output))
    for parameter in COMMANDS[path].params:  # type: ignore[attr-defined]
        shown = not getattr(parameter, "hidden", False)
        for word in re.findall(r"[^\W_]+", getattr(parameter, "help", None) or "") if shown else ():
            assert word in text, f"{parameter.name}: '{word}' was taken for markup"
