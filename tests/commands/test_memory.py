"""Where memory runs out, in whatever command and by whatever error: one line, with what to do, and its exit code."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gdq_cli.commands.line.help import PlainCommand
from gdq_cli.errors import DeviceError, memory_errors
from gdq_cli.models.store import bundled_folder
from tests.helpers.commands import COMMANDS, gdq
from tests.helpers.pictures import make_picture

HERE = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."),
]


def raising(error: BaseException) -> Any:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not hasattr(command, "commands")])
def test_every_command(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainCommand, "parse_args", raising(MemoryError()))
    assert gdq(*path, code=5).startswith("out of memory: ")


@pytest.mark.parametrize("error", HERE, ids=str)
def test_every_error(error: Exception) -> None:
    with pytest.raises(DeviceError, match=r"^out of memory: fly, or close other programs$"), memory_errors("fly"):
        raise error
    device = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    with pytest.raises(DeviceError, match=r"on the device: fly \(CUDA .* GiB\.\)$"), memory_errors("fly"):
        raise device


def test_no_more_threads(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(make_picture(16, 16)).save(tmp_path / "a.png")
    monkeypatch.setattr("threading.Thread.start", raising(RuntimeError("can't start new thread")))
    said = gdq("upscale", tmp_path / "a.png", "-x", 2, "-m", model, code=5)
    assert "no more threads can be started; raise the limit (ulimit -u, or of the container)" in said


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("a fault")], ids=str)
def test_no_other_error(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, memory_errors():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("command", "cure"),
    [
        (["train", "-x", 2], "give a smaller --batch or --patch, or fewer pictures"),
        (["calibrate", "--from", "{edsr}"], "give fewer or smaller pictures"),
        (["refine", "--from", "{edsr}"], "give fewer or smaller pictures"),
    ],
)
@pytest.mark.parametrize("error", [HERE[0], HERE[2]], ids=str)
def test_training_says_what_to_make_smaller(
    command: list[object], cure: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(make_picture(40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr("gdq_cli.measure.pairs.load_pairs", raising(error))
    words = [str(word).format(edsr=bundled_folder() / "edsr_x2.safetensors") for word in command]
    output = tmp_path / "new_x2.safetensors"
    assert cure in gdq(*words, tmp_path, "-o", output, code=5)
    assert not output.exists()
