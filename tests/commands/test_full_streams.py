"""A standard output that is full or whose reader has gone: a clean end, one line at most, healthy pictures made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import save

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.mark.parametrize(
    ("arguments", "to", "code", "words"),
    [
        ("models list", "> /dev/full", 1, "error: standard output: cannot be written (no space left on device)\n"),
        ("upscale in -x 2 -m {model} -o out", "> /dev/full", 1, "error: standard output: cannot be written"),
        ("upscale in -x 2 -m {model} -o out", "| true", 1, ""),
        ("upscale in -x 2 -m {model} -o out --quiet", "> /dev/full", 0, ""),
        ("upscale in/0.png -x 2 -m {model}", "2> /dev/full", 0, ""),
    ],
)
def test_streams_that_take_nothing(arguments: str, to: str, code: int, words: str, model: Path, tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png")
    script = (
        f"cd '{tmp_path}'; '{sys.executable}' -m gdq_cli {arguments.format(model=model)} {to}; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) <= 1
    assert "internal error" not in done.stdout + done.stderr
    assert not list((tmp_path / "out").glob(".*"))
