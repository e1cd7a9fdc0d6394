"""Wrong command lines, a table of them (tests/data/wrong_lines.txt): each ends with one clear line and its exit code,
and leaves every file as it was."""

from __future__ import annotations

import functools
import io
import shlex
import sys
from pathlib import Path

import pytest
import torch
import typer.main
from PIL import Image

import gdq_cli.commands.app as commands
from gdq_cli.models.store import bundled_folder
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture

TABLE = ROOT / "tests" / "data" / "wrong_lines.txt"
LINES = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
BUILD = functools.cache(lambda names, build=commands.build_app: typer.main.get_command(build(names)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lines of the table name."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("small.png", "other.jpg", "pics/a.png", "pics/b.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(make_picture(30, 40)).save(folder / name)
    Image.fromarray(make_picture(20, 20)).save(folder / "tiny.png")
    Image.fromarray(make_picture(30, 40)).save(folder / "made.png")
    (folder / "cut.jpg").write_bytes((folder / "other.jpg").read_bytes()[:600])
    (folder / "empty").mkdir()
    for name in ("-a.png", "--help.png", "-x2.png"):
        (folder / name).touch()
    for name in ("text.txt", "junk.pth", "junk.safetensors"):
        (folder / name).write_text("hello")
    (folder / "empty.pth").touch()
    torch.save({"x": 3}, folder / "numbers.pth")
    torch.save([1, 2], folder / "list.pth")
    torch.save({"conv.weight": torch.zeros(3, 3)}, folder / "foreign.pth")
    torch.save(torch.nn.Linear(2, 2), folder / "module.pth")
    (folder / "half.pth").write_bytes((folder / "foreign.pth").read_bytes()[:600])
    return folder


@pytest.fixture(autouse=True)
def surroundings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the current one, standard input is empty, the network is out of bounds."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(commands, "build_app", lambda names, **_: BUILD(tuple(names)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("GDQ_MODEL_DIR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder, with what would change if it were written."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("line", LINES)
def test_wrong_line(
    line: str, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words, message = (part.strip() for part in line.split(" | "))
    weights = {"model": model} | {f"edsr_x{scale}": bundled_folder() / f"edsr_x{scale}.safetensors" for scale in (2, 4)}
    before = state(folder)
    monkeypatch.setattr(sys, "argv", ["gdq", *shlex.split(words.format(**weights))])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    output = capsys.readouterr()
    assert ended.value.code == int(code), output
    assert output.out == ""
    errors = [text for text in output.err.splitlines() if not text.startswith("note: ")]
    assert len(errors) == 1, output.err
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert len(errors[0]) < 400
    assert state(folder) == before


def test_the_table_is_about_every_command() -> None:
    assert len(LINES) >= 200
    assert len(set(LINES)) == len(LINES)
    assert {shlex.split(line.split(" | ")[1])[0] for line in LINES} >= commands.COMMANDS.keys()
