"""Words that no command takes, whichever it is: empty ones, and a second value of an option that has one."""

from __future__ import annotations

from typing import Any

import pytest

from gdq_cli.commands.line.usage import MAY_BE_EMPTY
from tests.helpers.commands import COMMANDS, gdq

PARAMETERS = [(path, param) for path, command in COMMANDS.items() for param in command.params if path]
OPTIONS = [(path, param) for path, param in PARAMETERS if param.param_type_name == "option" and not param.is_eager]
ARGUMENTS = [(path, param) for path, param in PARAMETERS if param.param_type_name == "argument"]
VALUED = [(path, param) for path, param in OPTIONS if not param.is_flag]
SINGLE = [(path, param) for path, param in VALUED if not param.multiple]
SWITCHES = [(path, param) for path, param in OPTIONS if param.is_flag and param.secondary_opts]


@pytest.mark.parametrize(("path", "param"), [case for case in VALUED if case[1].opts[-1] not in MAY_BE_EMPTY])
def test_no_option_takes_an_empty_value(path: tuple[str, ...], param: Any) -> None:
    for flag in param.opts:
        assert f"{max(param.opts, key=len)} is empty" in gdq(*path, "word", flag, "", code=2)


@pytest.mark.parametrize(("path", "param"), ARGUMENTS)
def test_no_argument_is_empty(path: tuple[str, ...], param: Any) -> None:
    before = [other for place, other in ARGUMENTS if place == path]
    message = gdq(*path, *["word"] * before.index(param), "", code=2)
    assert message.startswith(f"{param.metavar} is empty; is a variable of the shell unset?")


@pytest.mark.parametrize(("path", "param"), SINGLE)
def test_an_option_with_one_value_is_given_once(path: tuple[str, ...], param: Any) -> None:
    message = gdq(*path, "word", param.opts[0], "1", param.opts[-1], "2", code=2)
    assert f"{max(param.opts, key=len)} is given twice" in message


@pytest.mark.parametrize(("path", "param"), SWITCHES)
def test_a_switch_is_on_or_off(path: tuple[str, ...], param: Any) -> None:
    assert "is given twice" in gdq(*path, "word", param.opts[0], param.secondary_opts[0], code=2)


def test_a_flag_given_twice_is_the_flag() -> None:
    assert "no such file" in gdq("compare", "absent.png", "absent.png", "--json", "--json", code=3)


def test_the_help_comes_first() -> None:
    assert "Usage:" in gdq("eval", "", "--help")
