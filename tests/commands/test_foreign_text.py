"""Names, metadata and what servers say cannot command a terminal, whatever command prints them; JSON is JSON."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gdq_cli.commands.terminal.wording import print_error, printable, tell, to_json
from gdq_cli.errors import GdqError
from tests.helpers.commands import app, runner
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture

HOSTILE = "\x1b]0;owned\x07\x1b[31m\x7f\u009b2J\u202egnp\u2066\u200f\r"
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\udc80-\udc9f]")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such names are POSIX's")


def test_what_is_escaped() -> None:
    for code in (*range(32), *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)):
        assert printable(f"a{chr(code)}b").isascii()
        assert printable(f"a{chr(code)}b") != f"a{chr(code)}b"
    assert printable(os.fsdecode(b"\x9b2J")) == "\\udc9b2J"  # a byte that 8-bit terminals take for CSI
    for text in ("plain", "é ü ñ", "日本語", "العربية", "👩‍🚀", os.fsdecode(b"caf\xe9")):
        assert printable(text) == text


def test_json_is_json() -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    value = {"a": [float("inf"), (float("nan"), 1.5)], "b": {"c": -float("inf")}, "d": HOSTILE + "\udcff"}
    text = to_json(value)
    assert text.isascii()
    assert not FORBIDDEN.search(text)
    found = json.loads(text, parse_constant=refuse)
    assert found == {"a": [None, [None, 1.5]], "b": {"c": None}, "d": HOSTILE + "\udcff"}


def test_commands_print_by_one_function() -> None:
    """``tell`` escapes; the bit map, whose colours are ours, and rich's tables and bars are all that goes past it."""
    found = []
    for path in sorted((ROOT / "gdq_cli" / "commands").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("print", "json.dumps") or name.endswith((".echo", ".secho", ".print", "stdout.write")):
                found.append(f"{path.stem} {name}")
    assert sorted(found) == ["console console.print", "console typer.echo", "wording json.dumps", "wording typer.echo"]


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a hostile name, with pictures, a damaged one and a checkpoint of such names."""
    folder = tmp_path_factory.mktemp("foreign") / f"{HOSTILE}[/red]"
    (folder / "hr").mkdir(parents=True)
    for seed, name in enumerate(("a", "b")):
        Image.fromarray(make_picture(24, 32, seed)).save(folder / f"{name}{HOSTILE}.png")
    Image.fromarray(make_picture(48, 48)).save(folder / "hr" / f"{HOSTILE}.png")
    (folder / f"{HOSTILE}.gif").write_bytes(b"GIF89a broken")
    (folder / f"small{HOSTILE}_x2.safetensors").write_bytes(model.read_bytes())
    (folder / f"broken{HOSTILE}.safetensors").write_bytes(b"\x1b]0;owned\x07" * 10)
    return folder


COMMANDS = [
    "upscale {folder} -x 2 -m {model} --dry-run",
    "upscale {folder} -x 2 -m {model} --dry-run --json",
    "upscale {folder} -x 2 -m {model} -o {out}",
    "upscale {folder} -x 2 -m {model} -o {out} --json",
    "upscale {picture} -x 2 -m {model} -o {out}{hostile}.png -v",
    "upscale {picture} -x 2 -m {model} -o {out}{hostile}.png",
    "upscale {broken} -x 2 -m {model}",
    "upscale {hostile} -x 2",
    "upscale {picture} -m {hostile}",
    "upscale {picture} --name {{stem}}{hostile}",
    "upscale {picture} -m hf:{hostile}",
    "bitmap {picture} -x 2 -m {model}",
    "bitmap {picture} -x 2 -m {model} --budget 5 -o {out}{hostile}.png",
    "bitmap {picture} -x 2 -m {model} --json",
    "bitmap {broken}",
    "eval {folder}/hr -x 2 -m {model} -b 8",
    "eval {folder}/hr -x 2 -m {model} -b 8 --json",
    "bench {picture} -x 2 -m {model} -b 8 --repeats 1 -j 1",
    "compare {picture} {other} -o {out}{hostile}.png",
    "compare {picture} {picture} --json",
    "compare {picture} {broken}",
    "models list",
    "models list --json",
    "models info {checkpoint}",
    "models info {checkpoint} --json",
    "models path {checkpoint}",
    "models pull {checkpoint}",
    "models verify {checkpoint} {unreadable}",
    "models convert {unreadable} -o {out}_x2.safetensors",
    "models push {folder} hf:a/b --dry-run --license mit",
    "calibrate {folder} --from {unreadable} -o {out}_x2.safetensors",
    "doctor -d cpu",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_foreign_commands_the_terminal(
    command: str, folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDQ_MODEL_DIR", str(folder))
    words: dict[str, Any] = {
        "folder": folder,
        "model": model,
        "out": tmp_path / "out",
        "hostile": HOSTILE,
        "picture": folder / f"a{HOSTILE}.png",
        "other": folder / f"b{HOSTILE}.png",
        "broken": folder / f"{HOSTILE}.gif",
        "checkpoint": folder / f"small{HOSTILE}_x2.safetensors",
        "unreadable": folder / f"broken{HOSTILE}.safetensors",
    }
    arguments = [word.format(**words) for word in command.split(" ")]
    result = runner.invoke(app, arguments)
    text = result.stdout + result.stderr
    if isinstance(result.exception, GdqError):
        shown: list[str] = []
        monkeypatch.setattr("gdq_cli.commands.terminal.wording.typer.echo", lambda line, err: shown.append(str(line)))
        print_error(result.exception)
        text += "".join(shown)
    else:
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in text.split("\n") if "█" not in line and "\x1b[38;" not in line]
    assert lines
    assert not FORBIDDEN.search("\n".join(lines))
    if "--json" in command:
        for line in result.stdout.splitlines():
            json.loads(line)


def test_tell_keeps_lines_apart(capsys: pytest.CaptureFixture[str]) -> None:
    tell("a\nb", "c")
    assert capsys.readouterr().out == "a\\nb\nc\n"
