"""The scripts in benchmarks/ that draw pictures to look at, and the texts of model cards."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from gdq_cli.models.checkpoint import read_checkpoint
from gdq_cli.networks.edsr.config import EdsrConfig
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture
from tests.helpers.scripts import load_script


def run(script: str, *arguments: object, code: int = 0) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hr"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(make_picture(60, 70, index)).save(folder / f"{index}.png")
    return folder


def test_contact_sheet(folder: Path, tmp_path: Path) -> None:
    arguments = ("contact_sheet.py", folder, "-x", 2, "--samples", 3, "--side", 12, "--zoom", 3)
    sheets = [tmp_path / f"{name}.png" for name in ("light", "again", "strong")]
    for sheet, kind, seed in zip(sheets, ("light", "light", "strong"), (1, 1, 1), strict=True):
        assert "3 samples" in run(*arguments, "--degradation", kind, "--seed", seed, "-o", sheet)
    light, again, strong = map(pixels, sheets)
    assert np.array_equal(light, again)
    width = 12 * 2 * 3  # of a picture; two samples of three pictures each stand side by side, with gaps and a frame
    assert light.shape[1] == 2 * (3 * width + 2 * 2) + 3 * 8
    top = np.flatnonzero((light[:, 8:80] < 250).any(axis=2).all(axis=1))[0]  # the first row of the first picture
    row = slice(top, top + width)
    hr, clean, degraded = (slice(8 + i * (width + 2), 8 + i * (width + 2) + width) for i in range(3))
    assert np.array_equal(light[row, hr], strong[row, hr]), "the same place for every degradation"
    assert np.array_equal(light[row, clean], strong[row, clean])
    assert not np.array_equal(light[row, degraded], strong[row, degraded])
    squares = light[row, degraded].reshape(12, 6, 12, 6, 3)
    assert (squares == squares[:, :1, :, :1]).all(), "LR pixels are squares"


def test_contact_sheet_of_pictures_that_are_too_small(folder: Path, tmp_path: Path) -> None:
    output = run("contact_sheet.py", folder, "-x", 4, "--side", 40, "-o", tmp_path / "sheet.png", code=3)
    assert output.count("\n") == 1
    assert "use a smaller --side" in output


def test_crops(model: Path, tmp_path: Path) -> None:
    picture, output = tmp_path / "in.png", tmp_path / "out.png"
    lr = make_picture(40, 52)
    Image.fromarray(lr).save(picture)
    arguments = ("crops.py", picture, "-x", 2, "--models", f"bicubic,{model}", "-o", output)
    said = run(*arguments, "--crop", "4,6,20,10", "--crop", "30,20,16,16")
    assert said == f"{output}: bicubic, small_x2\n"
    sheet = pixels(output)
    enlarged = np.asarray(Image.fromarray(lr).resize((104, 80), Image.Resampling.BICUBIC))
    assert np.array_equal(sheet[8:28, 8:48], enlarged[12:32, 8:48])
    assert not np.array_equal(sheet[8:28, 56:96], enlarged[12:32, 8:48])
    assert "reaches out of the picture's 52x40 pixels" in run(*arguments, "--crop", "40,0,20,10", code=2)
    assert "must be X,Y,W,H" in run(*arguments, "--crop", "4,6,20", code=2)
    assert "no model" in run("crops.py", picture, "--models", "absent", "--crop", "0,0,8,8", "-o", output, code=4)


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "release_weights.py")


def test_cards_say_which_layers_have_which_bits(release: ModuleType) -> None:
    text = release._static_text
    assert text(EdsrConfig(4)) == "everything after them at 8 bits"
    assert text(EdsrConfig(4, static_bits=(8, 8, 6, 8))).endswith("upsampler and tail at 8; 8, 6; 8 bits")
    direct = EdsrConfig(4, static_bits=(6, 8), upsampler="pixelshuffledirect")
    assert text(direct) == "after them body convolution and tail at 6; 8 bits"
    assert "straight into pixels" in release._upsampler_text(direct)
    assert release._upsampler_text(EdsrConfig(4)) == ""


def test_cards_tell_the_history(release: ModuleType, model: Path) -> None:
    run_facts = {
        "stage": "fp32",
        "from": "scratch",
        "steps": 9,
        "batch": 2,
        "patch": 32,
        "rate": 1e-3,
        "device": "a CPU",
    }
    facts = {"training": [run_facts, run_facts | {"varied": True, "degradation": "photo"}]}
    small = read_checkpoint(model)
    card = release.card(model, replace(small, facts=facts), "| figures |")
    lines = [line for line in card.splitlines() if line.startswith("- Trained")]
    assert ["LR degraded (photo)" in line for line in lines] == [False, True]
    assert "batch 2 x 32 px LR, varied, LR degraded (photo), rate 0.001, a CPU" in lines[1]
    assert small.sha256 in card
    assert card.endswith("| figures |\n")
