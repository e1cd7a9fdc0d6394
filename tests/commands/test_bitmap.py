"""gdq bitmap: the report page, forced widths, and independence from engines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import gdq, run_process
from tests.helpers.pictures import make_picture


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(make_picture(110, 300)).save(path)
    return path


def test_report_page(picture: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    arguments = ["bitmap", picture, "-x", 2, "-m", model, "--engine", "reference", "-o", page]
    output = gdq(*arguments)
    assert "1x3 patches" in output
    text = page.read_text(encoding="utf-8")
    assert text.lower().startswith("<!doctype html>")
    for fact in ("in.png", "FAB", "reference", "600"):
        assert fact in text
    assert "exists" in gdq(*arguments, code=3)
    gdq(*arguments, "--overwrite")


def test_every_output_is_named_when_it_is_there(picture: Path, model: Path, tmp_path: Path) -> None:
    for suffix, words in (
        (".png", "over the picture"),
        (".csv", "a line per patch"),
        (".json", "the object of --json"),
    ):
        output = gdq("bitmap", picture, "-x", 2, "-m", model, "-o", tmp_path / f"map{suffix}")
        assert re.search(rf"map\{suffix}: .*{words}$", output.strip())
    printed = gdq("bitmap", picture, "-x", 2, "-m", model, "-o", tmp_path / "again.json", "--json")
    assert (tmp_path / "map.json").read_text() == (tmp_path / "again.json").read_text() == printed


def test_no_engine_is_asked_for_a_map(picture: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("an engine was chosen")

    monkeypatch.setattr("gdq_cli.upscaling.pool.choose_engine", refuse)
    facts = json.loads(gdq("bitmap", picture, "-x", 2, "-m", model, "--json"))
    assert facts["grid"] == [1, 3]
    assert {reason for row in facts["reason"] for reason in row} <= {"controller", "entropy"}


def test_forced_widths(picture: Path, model: Path, tmp_path: Path) -> None:
    facts = json.loads(gdq("bitmap", picture, "-x", 2, "-m", model, "--bits", 6, "--json"))
    assert facts["bit_map"] == [[6, 6, 6]]
    assert facts["reason"] == [["forced"] * 3]
    assert facts["entropy"] is None
    assert "forced" in gdq("bitmap", picture, "-x", 2, "-m", model, "-b", 6)
    budget = json.loads(gdq("bitmap", picture, "-x", 2, "-m", model, "--budget", 5, "--json"))
    assert budget["reason"] == [["budget"] * 3]
    assert budget["fab"] <= 5
    assert "within the budget" in gdq("bitmap", picture, "-x", 2, "-m", model, "--budget", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "7"], "--bits must be"),
        (["--bits", "6", "--budget", "5"], "contradicts"),
        (["-o", "map.gif"], "written as .png, .html, .csv or .json"),
        (["--numbers"], "--numbers belongs to the overlay"),
        (["--numbers", "-o", "map.csv"], "--numbers belongs to the overlay"),
    ],
)
def test_bad_options(picture: Path, model: Path, arguments: list[str], message: str) -> None:
    assert message in gdq("bitmap", picture, "-x", 2, "-m", model, *arguments, code=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("encoding", "blocks"), [("ascii", False), ("utf-8", True)])
def test_a_terminal_that_cannot_write_blocks_gets_digits(
    picture: Path, model: Path, encoding: str, blocks: bool
) -> None:
    master, slave = os.openpty()
    environment = os.environ | {"PYTHONIOENCODING": encoding, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "gdq_cli", "bitmap", str(picture), "-x", "2", "-m", str(model)]
    with subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE, env=environment) as process:
        os.close(slave)
        output = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:
                break
            if not block:
                break
            output += block
        assert process.wait(timeout=60) == 0, process.stderr.read() if process.stderr else b""
    os.close(master)
    assert ("▀".encode() in output) is blocks
    assert (b"\x1b[" in output) is blocks
    assert b"FAB" in output


def test_output_to_a_file_has_no_blocks(picture: Path, model: Path) -> None:
    done = run_process("bitmap", picture, "-x", 2, "-m", model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_an_animation_says_which_frame_is_shown(model: Path, tmp_path: Path) -> None:
    frames = [Image.fromarray(make_picture(30, 40, seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    done = run_process("bitmap", tmp_path / "a.png", "-x", 2, "-m", model)
    assert b"this is the first of 2 frames or pages" in done.stderr
