"""The scripts in examples/ run as they stand, and do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.paths import ROOT

EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: object, code: int = 0) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A part of a picture: examples are to take seconds."""
    path = tmp_path / "in.png"
    Image.open(EXAMPLES / "coffee.jpg").crop((200, 100, 330, 200)).save(path)
    return path


def test_python_api(picture: Path, tmp_path: Path) -> None:
    output = run("python_api.py", picture, tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (520, 400)
    assert "bits on average" in output


def test_bit_map(picture: Path, tmp_path: Path) -> None:
    output = run("bit_map.py", picture, tmp_path / "map.png")
    assert re.search(r"^entropy [\d.]+ nats, logits .*: \d bits, by the (controller|entropy)$", output, re.MULTILINE)
    assert re.search(r"^against FP32: \d+\.\d dB", output, re.MULTILINE)
    counts = [int(count) for count in re.findall(r"^\d bits: (\d+) of", output, re.MULTILINE)]
    assert sum(counts) == int(re.findall(r"of (\d+) patches", output)[0])
    overlay = Image.open(tmp_path / "map.png")
    assert (overlay.width, overlay.height > 100) == (130, True)
    assert np.asarray(overlay.convert("RGB"))[:100].tolist() != np.asarray(Image.open(picture)).tolist()


def test_batch_pipeline(picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture.rename(folder / "a.png")
    (folder / "damaged.png").write_bytes(b"no picture")
    arguments = ("batch_pipeline.py", folder, tmp_path / "out", "-x", "2")
    first = run(*arguments, code=1)
    assert "1 upscaled, 0 skipped, 1 failed" in first
    assert re.search(r"^failed: .*damaged\.png", first, re.MULTILINE)
    assert Image.open(tmp_path / "out" / "a_x2.png").size == (260, 200)
    (folder / "damaged.png").unlink()
    assert run(*arguments) == "0 upscaled, 1 skipped, 0 failed\n"


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_without_arguments_an_example_says_what_it_takes(script: str) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLES / script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {script} ")
    assert "Traceback" not in done.stderr


def test_every_example_is_listed_and_tested() -> None:
    listed = set(re.findall(r"`examples/(\w+\.py)`", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert (
        listed
        == {path.name for path in EXAMPLES.glob("*.py")}
        == set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text()))
    )


def test_pictures_are_small_and_their_origin_is_said() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    # README's first command leaves cat_x4.png here
    pictures = [p for p in EXAMPLES.iterdir() if p.suffix in (".png", ".jpg") and not re.search(r"_x\d+$", p.stem)]
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 300_000
        assert f"`{path.name}`" in text
