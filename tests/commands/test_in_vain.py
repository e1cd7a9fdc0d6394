"""Options that change nothing are said to, and --dry-run finds what a header does not tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import gdq
from tests.helpers.pictures import make_picture


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture without transparency, one with, and a JPEG that is cut; the current folder."""
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(make_picture(20, 30))
    picture.save("opaque.png")
    picture.save("opaque.jpg")
    picture.putalpha(100)
    picture.save("clear.png")
    Path("cut.jpg").write_bytes(Path("opaque.jpg").read_bytes()[:-200])
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["opaque.png", "-o", "q.png", "-q", 80], "--quality has no effect on png; it is of jpg, webp, avif"),
        (["opaque.png", "opaque.jpg", "-q", 80], "--quality has no effect on png; it is of jpg, webp, avif"),
        (["opaque.jpg", "-f", "tiff", "-q", 80], "--quality has no effect on tiff; it is of jpg, webp, avif"),
        (["opaque.png", "-f", "bmp", "-q", 80], "--quality has no effect on bmp; it is of jpg, webp, avif"),
        (["opaque.png", "-f", "webp", "-q", 80], ""),
        (["opaque.png", "-o", "q.jpg", "-q", 80], ""),
        (["opaque.png", "--alpha", "drop"], "--alpha has no effect: no input has transparency"),
        (["opaque.png", "clear.png", "--alpha", "network"], ""),
        (["clear.png", "--background", "red"], "--background has no effect: no transparency is lost in these outputs"),
        (["opaque.png", "-f", "jpg", "--background", "red"], "--background has no effect: no transparency is lost"),
        (["clear.png", "-f", "jpg", "--background", "red"], ""),
        (["opaque.png", "-r"], "--recursive has no effect: no input is a folder"),
        ([".", "-r", "--lossless", "--strip-metadata"], ""),
    ],
)
def test_a_note_for_what_has_no_effect(arguments: list[object], note: str, model: Path) -> None:
    run = ["upscale", *arguments, "-x", 2, "-m", model, "--dry-run"]
    code = 1 if "." in arguments else 0  # cut.jpg is in the folder
    notes = [line for line in gdq(*run, code=code).splitlines() if line.startswith("note: ")]
    assert len(notes) == (note != "")
    assert all(line.startswith(f"note: {note}") for line in notes)
    assert gdq(*run, "--quiet", code=code).count("note: ") == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (["--overwrite"], ["--overwrite has no effect: nothing is written without --output"]),
        (["-d", "cpu", "-o", "map.csv"], ["--device has no effect: only for a report.html the network runs"]),
        (["--engine", "native", "--overwrite", "-o", "map.png"], ["--engine has no effect"]),
        (["--overwrite", "-o", "map.png"], []),
        (["-d", "cpu", "-o", "map.html"], []),
    ],
)
def test_a_bit_map_says_what_has_no_effect(arguments: list[object], notes: list[str], model: Path) -> None:
    lines = gdq("bitmap", "opaque.png", "-x", 2, "-m", model, *arguments).splitlines()
    found = [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]
    assert len(found) == len(notes)
    assert all(line.startswith(note) for line, note in zip(found, notes, strict=True))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["compare", "opaque.png", "opaque.png", "--overwrite"], "--overwrite has no effect: nothing is written"),
        (["compare", "opaque.png", "opaque.png", "-o", "d.png", "--overwrite"], ""),
        (["models", "path", "{model}", "-x", 4], "--scale has no effect: a file has one scale"),
        (["models", "info", "{model}", "-x", 4], "--scale has no effect: a file has one scale"),
        (["models", "pull", "{model}", "-x", 4], "--scale has no effect: a file has one scale"),
        (["models", "verify", "{model}", "{model}", "-x", 2], "--scale has no effect: a file has one scale"),
        (["models", "verify", "{model}", "edsr", "-x", 2], ""),
        (["models", "verify", "-x", 4], "--scale has no effect without a model's name"),
        (["models", "path", "edsr", "-x", 4], ""),
        (["models", "pull", "edsr", "--unverified"], "--unverified has no effect: nothing is downloaded"),
    ],
)
def test_other_commands_say_what_has_no_effect(arguments: list[object], note: str, model: Path) -> None:
    lines = gdq(*(str(word).format(model=model) for word in arguments)).splitlines()
    notes = [line for line in lines if line.startswith("note: ")]
    assert len(notes) == (note != "")
    assert all(line.startswith(f"note: {note}") for line in notes)


@pytest.mark.usefixtures("folder")
def test_a_model_that_does_not_exist_is_told_though_nothing_runs(model: Path) -> None:
    gdq("upscale", "opaque.png", "-x", 2, "-m", model)
    assert "exists already" in gdq("upscale", "opaque.png", "-x", 2, "-m", model)
    assert "there are: edsr x2" in gdq("upscale", "opaque.png", "-x", 2, "-m", "absent", code=4)
    assert "no such checkpoint file" in gdq("upscale", "opaque.png", "-x", 2, "-m", "absent.safetensors", code=4)


def test_dry_run_decodes(folder: Path, model: Path) -> None:
    before = sorted(folder.iterdir())
    arguments = ["upscale", "-x", 2, "-m", model, "--dry-run"]
    assert "would fail: cut.jpg: not a readable image (truncated file)" in gdq(*arguments, "cut.jpg", code=3)
    output = gdq(*arguments, ".", "--json", code=1)
    *lines, last = map(json.loads, output.splitlines())
    assert {line["input"]: line["status"] for line in lines} == {
        "clear.png": "planned",
        "cut.jpg": "failed",
        "opaque.jpg": "planned",
        "opaque.png": "planned",
    }
    assert (last["summary"]["planned"], last["summary"]["failed"]) == (3, 1)
    assert sorted(folder.iterdir()) == before


@pytest.mark.usefixtures("folder")
def test_dry_run_names_all_that_would_be_written(model: Path) -> None:
    arguments = ["upscale", "opaque.png", "-x", 2, "-m", model, "--report", "page.html", "--bitmap", "map.png"]
    output = gdq(*arguments, "--dry-run")
    assert "map.png would be written, too\npage.html would be written, too\n" in output
    Path("page.html").touch()
    assert "page.html would be replaced, too" in gdq(*arguments, "--dry-run", "--overwrite")
    summary = json.loads(gdq(*arguments, "--dry-run", "--overwrite", "--json").splitlines()[-1])["summary"]
    assert summary["also"] == [{"output": "map.png", "exists": False}, {"output": "page.html", "exists": True}]
    Path("page.html").unlink()
    gdq("upscale", "opaque.png", "-x", 2, "-m", model)
    assert "page.html" not in gdq(*arguments, "--dry-run")  # the picture is skipped
    assert not Path("page.html").exists()


@pytest.mark.usefixtures("folder")
def test_dry_run_tries_models_and_devices(model: Path) -> None:
    assert "no model 'absent'" in gdq("upscale", "opaque.png", "-m", "absent", "--dry-run", code=4)
    assert "cannot upscale x3" in gdq("upscale", "opaque.png", "-m", model, "-x", 3, "--dry-run", code=4)
    assert "unknown device" in gdq("upscale", "opaque.png", "-m", model, "-x", 2, "-d", "tpu", "--dry-run", code=5)
    output = gdq("upscale", "opaque.png", "-m", "hf:owner/absent", "--dry-run")
    assert "note: hf:owner/absent is not here yet; the run will download it" in output


@pytest.mark.usefixtures("folder")
def test_no_output_replaces_an_input(model: Path) -> None:
    before = Path("opaque.png").read_bytes()
    common = ["-x", 2, "-m", model, "--overwrite"]
    for arguments in (
        ["upscale", "opaque.png", *common, "--bitmap", "opaque.png"],
        ["bitmap", "opaque.png", *common, "-o", "./opaque.png"],
        ["compare", "opaque.png", "clear.png", "-o", "opaque.png", "--overwrite"],
    ):
        assert "would replace an input" in gdq(*arguments, code=3)
    assert Path("opaque.png").read_bytes() == before
