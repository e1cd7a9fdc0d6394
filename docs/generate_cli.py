"""Write a page per command to docs/cli/ from the declarations of the commands themselves.

    python docs/generate_cli.py

tests/docs/test_docs.py fails where a page is not what this script writes.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from gdq_cli.commands.app import build_app
from gdq_cli.commands.line.help import EXAMPLES

FOLDER = Path(__file__).resolve().parent / "cli"
VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def list_commands(group: typer.Typer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    """Commands of a group and of the groups in it: path of names -> function."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__.replace("_", "-")), command.callback
    for member in group.registered_groups:
        assert member.typer_instance is not None
        yield from list_commands(member.typer_instance, (*path, str(member.name)))


def plain_type(hint: Any) -> tuple[Any, bool]:
    """Type of a value and whether it may be repeated, without None."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return (get_args(hint)[0], True) if get_origin(hint) is list else (hint, False)


def parameters(function: Callable[..., Any]) -> Iterator[tuple[str, Any, bool, ArgumentInfo | OptionInfo, Any]]:
    """Name, type, repeatable, declaration and default of each parameter of a command that is not hidden."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if hint is typer.Context:
            continue
        assert get_origin(hint) is Annotated, f"{function.__name__}: {name} is not declared with Annotated"
        kind, *extras = get_args(hint)
        info = next(extra for extra in extras if isinstance(extra, ArgumentInfo | OptionInfo))
        if not info.hidden:
            yield name, *plain_type(kind), info, parameter.default


def option_cell(name: str, kind: Any, info: OptionInfo) -> str:
    """Flags of an option, short ones first, and the word for its value."""
    given = (info.default, *(info.param_decls or ()))  # inside Annotated, Typer's first argument is a flag as well
    declared = [flag for flag in given if isinstance(flag, str) and flag.startswith("-")]
    declared = declared or [f"--{name.replace('_', '-')}"]
    flags = ", ".join(f"`{flag}`" for flag in sorted(declared, key=lambda flag: flag.startswith("--")))
    return flags if kind is bool else f"{flags} {info.metavar or VALUES.get(kind, 'TEXT')}"


def cell(text: str | None) -> str:
    """A text as a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def page(path: tuple[str, ...], function: Callable[..., Any]) -> str:
    """The page of one command."""
    arguments: list[str] = []
    words: list[str] = []
    options: list[str] = []
    for name, kind, repeatable, info, default in parameters(function):
        shown = "" if default in (None, False, inspect.Parameter.empty) else "on" if default is True else f"`{default}`"
        if isinstance(info, ArgumentInfo):
            word = info.metavar or name.upper()
            words.append(word if default is inspect.Parameter.empty else f"[{word}]")
            arguments.append(f"| `{cell(word)}` | {cell(info.help)} |")
        else:
            note = cell(info.help)
            if repeatable and "repeated" not in note:
                note += " May be repeated."
            options.append(f"| {option_cell(name, kind, info)} | {note} | {shown} |")
    lines = [f"# {' '.join(path)}", "", inspect.cleandoc(function.__doc__ or ""), ""]
    lines += ["```", " ".join([*path, "[OPTIONS]"] * bool(options) + list(path) * (not options) + words), "```", ""]
    if arguments:
        lines += ["| argument | |", "| --- | --- |", *arguments, ""]
    if options:
        lines += ["| option | | default |", "| --- | --- | --- |", *options, ""]
    if shown := EXAMPLES.get(" ".join(path[1:])):
        width = max(len(line) for line, _ in shown)
        lines += ["```", *(f"{line:<{width}}  # {what}" for line, what in shown), "```", ""]
    lines.append("Exit codes, streams, environment variables and the objects of `--json`: [cli.md](../cli.md).")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every file of docs/cli by its name."""
    found = {"-".join(path[1:]): (path, function) for path, function in list_commands(build_app(), ("gdq",))}
    files = {f"{name}.md": page(path, function) for name, (path, function) in found.items()}
    index = [
        f"- [{' '.join(path)}]({name}.md): {inspect.cleandoc(function.__doc__ or '').splitlines()[0]}"
        for name, (path, function) in found.items()
    ]
    intro = "These pages are written by `python docs/generate_cli.py` from the commands themselves."
    files["README.md"] = "\n".join(["# Commands", "", intro, "", *index]) + "\n"
    return files


def main() -> None:
    files = pages()
    FOLDER.mkdir(exist_ok=True)
    for stale in {path.name for path in FOLDER.glob("*.md")} - files.keys():
        (FOLDER / stale).unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
