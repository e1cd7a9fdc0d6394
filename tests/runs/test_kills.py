"""Runs that are killed at any moment: complete files only, no traces, and the same command makes the rest."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gdq_cli.commands.app import main
from gdq_cli.images import read_image
from tests.helpers.runs import save

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends by signal")
PICTURES = 12


def upscale(folder: Path, model: Path) -> None:
    """gdq upscale in a process of its own; what it prints goes to a file."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["gdq", "upscale", str(folder / "in"), "-x", "2", "-m", str(model), "-o", str(folder / "out"), "--quiet"]
    main()


def start(folder: Path, model: Path) -> Any:
    """Forked from a process that has imported everything: a kill costs a tenth of a second, not three."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "gdq_cli.commands.upscale", "gdq_cli.engines.native"])
    process = context.Process(target=upscale, args=(folder, model))
    process.start()
    return process


def begun(folder: Path) -> bool:
    return (folder / "out").is_dir() and any((folder / "out").iterdir())


def finish(process: Any, folder: Path) -> tuple[int, str]:
    """Exit code, negative for a signal, and what was printed."""
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, (folder / "log").read_text()


def complete(folder: Path) -> dict[str, bytes]:
    """Outputs by name; each is whole."""
    found = {path.name: path.read_bytes() for path in (folder / "out").glob("[!.]*")}
    for name in found:
        assert read_image(folder / "out" / name).size == (120, 160)
    return found


def kill_again_and_again(folder: Path, model: Path, kills: int) -> None:
    for index in range(PICTURES):
        save(folder / "in" / f"{index:02d}.png", 60, 80, index)
    assert finish(start(folder, model), folder)[0] == 0
    whole = complete(folder)
    assert len(whole) == PICTURES
    draw, done = random.Random(7), 0
    while done < kills:
        for path in (folder / "out").iterdir():
            path.unlink()
        while done < kills:
            before = len(complete(folder))
            process = start(folder, model)
            while process.is_alive() and len(list((folder / "out").glob("[!.]*"))) == before:
                time.sleep(0.002)  # up to its first output
            time.sleep(draw.uniform(0, 0.1))
            process.kill()
            code, printed = finish(process, folder)
            assert printed == ""
            found = complete(folder)
            assert found.items() <= whole.items()
            done += 1
            if code == 0 or len(found) == PICTURES:
                break
    assert finish(start(folder, model), folder)[0] == 0
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == whole


def test_ten_kills(tmp_path: Path, model: Path) -> None:
    kill_again_and_again(tmp_path, model, 10)


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path, model: Path) -> None:
    kill_again_and_again(tmp_path, model, 100)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_ask_leave_no_part(tmp_path: Path, model: Path, number: signal.Signals) -> None:
    for index in range(60):
        save(tmp_path / "in" / f"{index:02d}.png", 60, 80, index)
    process = start(tmp_path, model)
    while process.is_alive() and not begun(tmp_path):
        time.sleep(0.002)
    os.kill(process.pid, number)
    code, printed = finish(process, tmp_path)
    assert code == 128 + number
    assert printed == ""
    names = os.listdir(tmp_path / "out")
    assert len(names) < 60
    assert not any(name.startswith(".") for name in names)
    complete(tmp_path)
