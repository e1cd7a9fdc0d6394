"""The objects of --json: every key is in docs/cli.md, and every key named there is in the objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.commands import gdq
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture

PAGE = ROOT / "docs" / "cli.md"
OPAQUE = {"machine", "versions", "torch", "cpu", "kernels", "weights", "formats", "environment", "stdout"}
OPAQUE |= {"devices", "engines", "disk", "controller", "facts"}
"""Sections whose content is for people; only their own names are part of the contract."""

VALUES = {
    "ok",
    "skipped",
    "failed",
    "controller",
    "entropy",
    "window",
    "budget",
    "forced",
    "bicubic",
    "degraded",
    "mean",
}
VALUES |= {"differs"}
"""What docs/cli.md puts in code style beside the keys; some are keys elsewhere."""


def documented(command: str) -> set[str]:
    """Words in code style of a command's entry."""
    entry = re.search(
        rf"^- `gdq {command}`:(.*?)(?=^- |^#)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert entry, command
    return {word for code in re.findall(r"`([^`]+)`", entry[1]) for word in re.findall(r"[a-z]\w+", code)}


def keys(value: Any) -> Iterator[str]:
    """Keys of an object and of those in it, counts per bit-width left out."""
    for item in value if isinstance(value, list) else ():
        yield from keys(item)
    for key, item in value.items() if isinstance(value, dict) else ():
        if not key.isdigit():
            yield key
        if key not in OPAQUE:
            yield from keys(item)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("upscale", ["{picture}", "-x", "2", "-m", "{model}", "-o", "{folder}/out.png"]),
        (
            "upscale --dry-run",
            ["{picture}", "-x", "2", "-m", "{model}", "-o", "{folder}/out.png", "--report", "{folder}/a.html"],
        ),
        ("bitmap", ["{picture}", "-x", "2", "-m", "{model}"]),
        ("eval", ["{folder}", "-x", "2", "-m", "{model}", "-b", "auto", "-b", "bicubic"]),
        ("bench", ["{picture}", "-x", "2", "-m", "{model}", "-b", "4", "--repeats", "1", "-j", "1"]),
        ("compare", ["{picture}", "{picture}", "-o", "{folder}/difference.png"]),
        ("doctor", ["-d", "cpu"]),
        ("models list", []),
        ("models info", ["{model}"]),
    ],
)
def test_objects_are_what_the_page_says(command: str, arguments: list[str], model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    Image.fromarray(make_picture(32, 40)).save(picture)
    filled = [word.format(picture=picture, model=model, folder=tmp_path) for word in arguments]
    objects = [json.loads(line) for line in gdq(*command.split(), *filled, "--json").splitlines()]
    found = set(keys(objects))
    if command == "doctor":  # on a sound machine the list of problems is empty
        found |= {"level", "what", "remedy"}
    assert found - documented(command) == set(), "keys that the page does not name"
    assert documented(command) - found - VALUES == set(), "names on the page that are no keys"
