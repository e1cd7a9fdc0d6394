"""The tab key offers values, as the shells ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdq_cli.images.formats import WRITABLE
from gdq_cli.models.store import list_models
from gdq_cli.options import BITS_CHOICES
from tests.helpers.commands import app as whole_app
from tests.helpers.commands import run_process, runner

NAMES = {model.name for model in list_models()}


def complete(line: str) -> list[str]:
    """What bash would be offered for the word at the end of a line."""
    environment = {"_GDQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return runner.invoke(whole_app, [], prog_name="gdq", env=environment).stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gdq upscale in.png -m ", {"auto", *NAMES}),
        ("gdq upscale in.png -m ph", {"photo"}),
        ("gdq eval hr -m e", {"edsr"}),
        ("gdq models info ", NAMES),
        ("gdq upscale -b ", set(BITS_CHOICES)),
        ("gdq bitmap -b f", {"fp32"}),
        ("gdq eval hr -b b", {"bicubic"}),
        ("gdq upscale -f ", {"auto", *WRITABLE}),
        ("gdq upscale -f we", {"webp"}),
        ("gdq train hr -d cu", {"cuda", "cuda:0"}),
        ("gdq doctor -d m", {"mps"}),
        ("gdq calibrate --gate ", {"ridge", "gumbel"}),
        ("gdq ups", {"upscale"}),
    ],
)
def test_values(line: str, offered: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(complete(line)) == offered


def test_checkpoints_are_found_by_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in ("mine/a_x2.safetensors", "mine/notes.txt", "mine_x4.safetensors"):
        (tmp_path / name).touch()
    assert complete("gdq upscale in.png -m mi") == ["mine_x4.safetensors", "mine/"]
    assert complete("gdq upscale in.png -m mine/") == ["mine/a_x2.safetensors"]


def test_as_a_process() -> None:
    environment = {"_GDQ_COMPLETE": "complete_bash", "COMP_WORDS": "gdq upscale -b 4", "COMP_CWORD": "3"}
    done = run_process(env=environment)
    assert done.stdout.split() == [b"4"]


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    home = dict.fromkeys(("HOME", "USERPROFILE"), str(tmp_path / "home"))
    done = run_process("--install-completion", "bash", env=home | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert done.returncode == 3
    assert done.stderr.startswith(b"error: ")
    assert b": cannot be written (" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_home_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").symlink_to("/dev/full")
    disabled = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run_process("--install-completion", "bash", env={"HOME": str(tmp_path)} | disabled)
    assert done.returncode == 3
    assert done.stderr == b"error: the completion: cannot be written (no space left on device)\n"
