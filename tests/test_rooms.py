"""The plan of the house: imports go down the list of rooms, and no room is overfull (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gdq_cli

ROOT = Path(gdq_cli.__file__).parent

ROOMS = (
    "commands", "api", "fleet", "runs", "training", "measure", "upscaling", "models", "engines", "networks", "program",
    "bitmaps", "bits", "images", "options", "places", "files", "errors", "_version",
)  # fmt: skip
"""From what the user calls to what knows nobody."""

SHARED = {"gdq_cli.bits.widths"}
"""Constants that every room may read."""

SHIMS = {"__init__", "__main__", "comparison", "heatmap_overlay"}
"""Doors to the house, old ones among them."""


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else file.stem


def imports(file: Path) -> Iterator[str]:
    """Modules of this package that a file imports when it runs, at its top or in a function."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
            if node.module == "gdq_cli":
                yield from (f"gdq_cli.{alias.name}" for alias in node.names)
            elif node.module.startswith("gdq_cli."):
                yield node.module


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("room", sorted({room_of(file) for file in FILES} - SHIMS))
def test_imports_go_down(room: str) -> None:
    assert room in ROOMS, f"{room} has no place in the list"
    for file in FILES:
        if room_of(file) != room:
            continue
        for module in imports(file):
            other = module.split(".")[1]
            if module not in SHARED:
                assert ROOMS.index(other) >= ROOMS.index(room), f"{file.relative_to(ROOT)} imports {module}"


def test_no_room_is_overfull() -> None:
    rooms: dict[Path, list[str]] = {}
    for file in FILES:
        if file.stem not in SHIMS:
            rooms.setdefault(file.parent, []).append(file.stem)
    assert {room: modules for room, modules in rooms.items() if len(modules) > 10} == {}


def test_there_is_something_to_check() -> None:
    found = {module.split(".")[1] for file in FILES for module in imports(file)}
    assert {"engines", "networks", "images", "files"} <= found


def test_wheels_hold_every_folder() -> None:
    """A folder that pyproject.toml does not name works in a checkout and is absent from what users install."""
    named = set(re.findall(r'^    "(gdq_cli[\w.]*)",$', (ROOT.parent / "pyproject.toml").read_text(), re.MULTILINE))
    folders = {".".join(file.relative_to(ROOT.parent).parent.parts) for file in FILES}
    assert named - {"gdq_cli.weights"} == folders
