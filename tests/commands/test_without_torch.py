"""The main job loads no torch: it runs in a process where importing torch raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gdq_cli.engines import kernels
from tests.helpers.pictures import make_picture

pytestmark = pytest.mark.skipif(kernels.report().chosen is None, reason="no compiled kernels for this processor")

HOOK = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise AssertionError("torch was imported")

sys.meta_path.insert(0, NoTorch())
"""
COMMAND = HOOK + "from gdq_cli.commands.app import main; main()"
PYTHON_API = (
    HOOK
    + """
import gdq_cli
from PIL import Image
result = gdq_cli.load(scale=2).upscale(Image.open("small.png"))
assert result.pil.size == (80, 60), result.pil.size
"""
)


def run(tmp_path: Path, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("upscale", "small.png", "-x", "4", "--json"),
        ("upscale", "small.jpg", "-x", "3", "-o", "out/", "--threads", "1", "--bits", "6"),
        ("bitmap", "small.png", "-o", "map.png"),
        ("bitmap", "small.png", "-o", "map.html"),
        ("models", "list"),
        ("models", "info", "edsr", "-x", "2"),
        ("models", "verify"),
        ("models", "path", "edsr"),
    ],
    ids=" ".join,
)
def test_commands(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for name in ("small.png", "small.jpg"):
        Image.fromarray(make_picture(30, 40)).save(tmp_path / name)
    assert run(tmp_path, COMMAND, *arguments)


def test_python_api(tmp_path: Path) -> None:
    Image.fromarray(make_picture(30, 40)).save(tmp_path / "small.png")
    run(tmp_path, PYTHON_API)


def test_the_hook_catches_torch(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="torch was imported"):
        run(tmp_path, HOOK + "import torch.nn")
