"""What commands must not destroy, ignore or call finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import gdq, run_process
from tests.helpers.paths import ROOT
from tests.helpers.runs import save


@pytest.mark.parametrize("of", ["hr", "lr", "model"])
def test_figures_never_replace_what_they_are_about(tmp_path: Path, model: Path, of: str) -> None:
    picture, small = save(tmp_path / "hr" / "a.png", 24, 32), save(tmp_path / "lr" / "a.png", 12, 16)
    target = {"hr": picture, "lr": small, "model": model}[of]
    held = target.read_bytes()
    line = ("eval", tmp_path / "hr", "-x", 2, "-b", "bicubic", "-m", model, "--csv", target, "--overwrite")
    lr = ("--lr", tmp_path / "lr") if of == "lr" else ()
    assert "would replace an input" in gdq(*line, *lr, code=3)
    assert target.read_bytes() == held


@pytest.mark.parametrize("alpha", [0, 100, 254])
def test_alpha_that_is_the_same_everywhere_is_dropped_too(tmp_path: Path, model: Path, alpha: int) -> None:
    Image.new("RGBA", (16, 12), (200, 0, 0, alpha)).save(tmp_path / "a.png")
    for name in ("o.png", "o.jpg"):
        said = gdq("upscale", tmp_path / "a.png", "-m", model, "-x", 2, "--alpha", "drop", "-o", tmp_path / name)
        assert "alpha dropped" in said
        done = Image.open(tmp_path / name)
        assert done.mode == "RGB"
        kept = gdq("upscale", tmp_path / "a.png", "-m", model, "-x", 2, "-o", tmp_path / f"kept_{name}")
        assert "alpha dropped" not in kept
    assert Image.open(tmp_path / "kept_o.png").getpixel((3, 3))[3] == alpha


@pytest.mark.parametrize("colour", ["rgb(300,0,0)", "rgb(999999,0,0)", "rgba(1,2,3,4)", "#ffffff00"])
def test_a_background_that_is_no_opaque_colour(tmp_path: Path, colour: str) -> None:
    picture = save(tmp_path / "a.png")
    said = gdq("upscale", picture, "-x", 2, "--background", colour, "-o", tmp_path / "o.jpg", code=2)
    assert "not an opaque colour" in said
    assert not (tmp_path / "o.jpg").exists()


@pytest.mark.parametrize("command", [("upscale", "-o", "o.png", "-x", 2), ("bitmap", "-x", 2)])
def test_a_terminal_of_no_width(tmp_path: Path, model: Path, command: tuple[object, ...]) -> None:
    picture = save(tmp_path / "a.png")
    line = (command[0], picture, "-m", model, *command[1:])
    done = run_process(*line, cwd=tmp_path, env={**os.environ, "COLUMNS": "0", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


def test_a_background_counts_for_a_second_run_only_where_it_is_used(tmp_path: Path, model: Path) -> None:
    picture = np.dstack([np.full((12, 16, 3), 90, np.uint8), np.arange(192, dtype=np.uint8).reshape(12, 16)])
    Image.fromarray(picture).save(tmp_path / "a.png")
    for name, differs in (("o.png", False), ("o.jpg", True)):
        line = ("upscale", tmp_path / "a.png", "-m", model, "-x", 2, "-o", tmp_path / name)
        gdq(*line)
        assert ("other options" in gdq(*line, "--background", "red")) is differs


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_output_cut_since_does_not_count_as_finished(tmp_path: Path, model: Path, suffix: str) -> None:
    target = tmp_path / f"o{suffix}"
    line = ("upscale", save(tmp_path / "a.png", 30, 40), "-m", model, "-x", 2, "-o", target)
    gdq(*line)
    assert "not marked" not in gdq(*line)
    target.write_bytes(target.read_bytes()[:-9])
    assert "not marked" in gdq(*line)


def test_a_bmp_tells_its_own_size(tmp_path: Path, model: Path) -> None:
    target = tmp_path / "o.bmp"
    gdq("upscale", save(tmp_path / "a.png"), "-m", model, "-x", 2, "-o", target)
    assert int.from_bytes(target.read_bytes()[2:6], "little") == target.stat().st_size
    assert Image.open(target).size == (32, 24)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_training_that_was_stopped_does_not_end_as_one_that_is_done(tmp_path: Path) -> None:
    for index in range(10):
        save(tmp_path / "hr" / f"{index}.png", 48, 48, seed=index)
    line = ["train", "hr", "-o", "t_x2.safetensors", "-x", "2", "--batch", "1", "--patch", "8", "--steps", "100000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gdq_cli", *line]
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for said in run.stderr:
        if said.startswith("step "):
            break
    (tmp_path / "t_x2.safetensors").write_bytes(b"precious")
    time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode in (3, 4), said  # what has appeared in the meantime stays
    assert (tmp_path / "t_x2.safetensors").read_bytes() == b"precious"
    (tmp_path / "t_x2.safetensors").unlink()
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for said in run.stderr:
        if said.startswith("step "):
            break
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM, said
    assert (tmp_path / "t_x2.safetensors").exists()


@pytest.mark.parametrize("command", ["train", "refine", "calibrate"])
def test_a_seed_below_zero(tmp_path: Path, command: str) -> None:
    more = () if command == "train" else ("--from", "a.safetensors")
    gdq(command, tmp_path, *more, "-o", tmp_path / "o_x2.safetensors", "--seed", -1, code=2)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("command", ["compare", "bitmap", "bench"])
def test_a_pipe_is_read_once(tmp_path: Path, model: Path, command: str) -> None:
    picture, pipe = save(tmp_path / "a.png"), tmp_path / "pipe"
    os.mkfifo(pipe)
    network = ("-m", model, "-x", 2)
    more = {
        "compare": (picture,),
        "bitmap": (*network, "-o", tmp_path / "map.png"),
        "bench": (*network, "-b", 8, "--repeats", 1),
    }[command]
    with subprocess.Popen(["sh", "-c", f"cat {picture} > {pipe}"]) as writer:
        done = run_process(command, pipe, *more)
        writer.wait(10)
    assert done.returncode == 0, done.stderr
    assert (b"are equal" in done.stdout) == (command == "compare")
    assert (tmp_path / "map.png").exists() == (command == "bitmap")
