"""Every --help of every command ends well and shows all that was written, whatever the terminal."""

from __future__ import annotations

import re
import shlex
from functools import partial

import pytest
from typer.testing import CliRunner

from gdq_cli.commands.app import build_app
from gdq_cli.commands.line import flags
from gdq_cli.commands.line.help import EXAMPLES
from tests.helpers.commands import COMMANDS, app
from tests.helpers.paths import ROOT

PANELS = {maker.keywords["rich_help_panel"] for maker in vars(flags).values() if isinstance(maker, partial)}


def shown_help(path: tuple[str, ...], columns: str = "80", colour: str = "") -> str:
    environment = {"COLUMNS": columns, "TERMINAL_WIDTH": columns, "FORCE_COLOR": colour or None, "NO_COLOR": None}
    result = CliRunner().invoke(app, [*path, "--help"], env=environment)
    assert result.exit_code == 0, result.exception
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize("colour", ["", "1"])
@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help(path: tuple[str, ...], columns: str, colour: str) -> None:
    """No word of any help, no option and no metavar is broken or taken for markup."""
    output = shown_help(path, columns, colour)
    assert "Usage: " in output
    assert max(map(len, output.splitlines())) <= int(columns)
    words = set(re.split(r"[\s│,]+", output))
    command = COMMANDS[path]
    texts = {"": f"{command.help} {command.epilog or ''}"}
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            texts[parameter.name] = getattr(parameter, "help", None) or ""
            flags = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
            assert words.issuperset(flags), parameter.name
            metavar = None if getattr(parameter, "is_flag", False) else parameter.metavar
            assert metavar is None or metavar in words, parameter.name
    for name, text in texts.items():
        missing = set(re.split(r"[\s,]+", text.replace("\\", ""))) - words - {""}
        assert not missing, f"{name}: broken, or taken for markup"


@pytest.mark.parametrize("path", [path for path in COMMANDS if not hasattr(COMMANDS[path], "commands")], ids=" ".join)
def test_the_usage_is_that_of_the_page(path: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "cli" / f"{'-'.join(path)}.md").read_text(encoding="utf-8")
    (usage,) = re.findall(r"Usage: .*?(\[OPTIONS\].*?) *\n", shown_help(path))
    assert f"gdq {' '.join(path)} {usage}\n```" in page


@pytest.mark.parametrize("path", [path for path in COMMANDS if len(COMMANDS[path].params) > 8], ids=" ".join)
def test_long_helps_are_in_groups_and_have_examples(path: tuple[str, ...]) -> None:
    output = shown_help(path)
    titles = set(re.findall(r"╭─ (.+?) ─+╮", output))
    assert len(titles & PANELS) >= 3
    assert titles <= PANELS | {"Arguments", "Options"}
    assert re.findall(r"╭─ Options ─+╮\n│ --help[^\n]*\n╰", output), "an option stands in no group"
    assert len(re.findall(r"^ gdq ", output, flags=re.MULTILINE)) == 3


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line, _ in lines], ids=lambda line: line[4:])
def test_examples_are_command_lines(line: str) -> None:
    words = shlex.split(line)[1:]
    path = max((path for path in COMMANDS if tuple(words[: len(path)]) == path), key=len)
    COMMANDS[path].make_context("gdq", words[len(path) :])  # raises for what the command does not take
    assert any(line == shown for shown, _ in EXAMPLES[" ".join(path)])


def test_commands_that_are_only_listed() -> None:
    """The help of all commands, for which their options are not made, is the one that it would be with them."""
    listed, whole = (CliRunner().invoke(one, ["--help"]).output for one in (build_app(listed=True), app))
    assert listed == whole
