"""What is wrong with a command line whatever its command, told in the one line that every error gets."""

from __future__ import annotations

import os
import re
import shlex
import sys
from difflib import get_close_matches
from typing import Any

import typer

from gdq_cli.errors import OptionsError

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Typer's, which has no public name: newer versions hold a copy of Click, older ones depend on it."""

MAY_BE_EMPTY = ("--suffix",)

_FILES = ("--output", "--bitmap", "--csv", "--report")
"""Options that name a file to write; but the output of gdq upscale may be a folder."""

_MEANT = dict.fromkeys(
    [("bitmap", "--bitmap"), ("bitmap", "--csv"), ("bitmap", "--report")], "--output FILE.png, .csv, .json or .html"
)
"""What a command has in place of an option that others have."""

_HINT = re.compile(r"^Invalid value for .*?: ", re.DOTALL)
_PYDANTIC = re.compile(r"^Value error, |, unable to parse string as an? \w+$")


def usage_message(error: Any) -> str:
    """One line: which word is wrong, why, and whose ``--help`` tells more; empty where the help itself was shown.

    Args:
        error: a ``UsageError``.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    text = " ".join(_describe(error).split()).rstrip(".")
    for word in sys.argv[1:]:
        if word.startswith("-") and word != "-" and os.path.lexists(word):
            return f"{text.partition(', did you mean')[0]}; for the file {word} give ./{word}"
    if error.ctx is None or text.endswith("?"):
        return text
    return f"{text}; see {error.ctx.command_path} --help"


def given(context: typer.Context, *options: str) -> list[str]:
    """Those of these options that are on the command line, be it with the value that they have without."""
    names = {flag: param.name or "" for param in context.command.params for flag in param.opts}
    sources = {option: context.get_parameter_source(names[option]) for option in options}
    return [option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def check_words(command: str | None, values: dict[str, Any], given: list[Any], others: list[str]) -> None:
    """Refuse words that are no value of what they are given for, before they are converted.

    An empty one would be the current folder as a path; one that ends with a slash names a folder, and as a path of
    Python's it would not; and there may be a second word for what takes one.

    Args:
        command: its name.
        values: by the names of parameters, before they are converted.
        given: the parameters, each as often as it is given.
        others: words for which there is no parameter.

    Raises:
        OptionsError: as said.
    """
    if "" in others:
        raise OptionsError("a word too many, and empty; is a variable of the shell unset?")
    for param in given:
        value, name = values[param.name], _name(param)
        words = value if isinstance(value, list | tuple) else [value]
        if "" in words and name not in MAY_BE_EMPTY:
            raise OptionsError(f"{name} is empty; is a variable of the shell unset?")
        if name in _FILES and (command, name) != ("upscale", "--output") and value.endswith(("/", os.sep)):
            raise OptionsError(f"{name} {value}: the name of a file is wanted, and this is one of a folder")
        if given.count(param) > 1 and not param.multiple and not (param.is_flag and not param.secondary_opts):
            raise OptionsError(f"{name} is given twice; give it once")


def _describe(error: Any) -> str:
    message = str(error.format_message())
    if hasattr(error, "possibilities"):
        wrong = str(error.option_name)
        meant = _MEANT.get((error.ctx.command.name, wrong))
        near = [meant] if meant else get_close_matches(wrong, error.possibilities or (), 1, 0.7)
        return f"there is no option {wrong}" + (f", did you mean {near[0]}?" if near else "")
    if (found := re.match(r"No such command '(.+?)'\.", message)) and os.path.exists(found[1]):
        return f"'{found[1]}' is no command, did you mean gdq upscale {shlex.quote(found[1])}?"
    param = getattr(error, "param", None)
    if param is None:
        return message
    name = _name(param)
    if message.startswith("Missing "):
        return f"{name} is missing" + (f": {param.help}" if getattr(param, "help", None) else "")
    return f"{name}: {_with_value(_HINT.sub('', message), error.__cause__)}"


def _name(param: Any) -> str:
    """What messages call an option or argument."""
    options = [name for name in param.opts if name.startswith("-")]
    return str(max(options, key=len) if options else param.metavar or param.name.upper())


def _with_value(message: str, cause: Any) -> str:
    """A complaint about a value, with the value in it: newer Typers quote none."""
    message = _PYDANTIC.sub("", message)
    details = cause.errors() if hasattr(cause, "errors") else ()
    return message.replace("Input", repr(details[0]["input"]), 1) if details else message
