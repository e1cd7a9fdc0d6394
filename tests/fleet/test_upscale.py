"""gdq upscale with addresses, on one machine."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gdq_cli.fleet import staging
from gdq_cli.places import Address
from tests.fleet.conftest import Bucket
from tests.helpers.commands import gdq
from tests.helpers.pictures import make_picture
from tests.helpers.runs import save

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies lie meanwhile; none stays."""
    folder = tmp_path / "stage"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(make_picture(12, 16, seed)).save(stream, "PNG")
    return stream.getvalue()


def test_bytes_are_those_of_files(memory: Any, model: Path, tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "in" / f"{'sub/' * (number > 3)}{number}.png", seed=number)
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    memory.put(str(tmp_path / "in"), "/in", recursive=True)
    gdq("upscale", tmp_path / "in", "-r", "-o", tmp_path / "out", "-x", 2, "-m", model, code=1)
    expected = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*.png")}

    output = gdq("upscale", "memory://in", "-r", "-o", "memory://out", "-x", 2, "-m", model, "--json", code=1)
    *rows, last = map(json.loads, (line for line in output.splitlines() if line.startswith("{")))
    assert (last["summary"]["ok"], last["summary"]["failed"]) == (6, 1)
    assert {row["output"] for row in rows} - {None} == {f"memory://out/{name}" for name in expected}
    for name, path in expected.items():
        assert memory.cat_file(f"/out/{name}") == path.read_bytes()
    gdq("upscale", "memory://in", "-r", "-o", tmp_path / "back", "-x", 2, "-m", model, "--quiet", code=1)
    for name, path in expected.items():
        assert (tmp_path / "back" / name).read_bytes() == path.read_bytes()
    again = gdq("upscale", "memory://in", "-r", "-o", "memory://out", "-x", 2, "-m", model, code=1)
    assert "0 upscaled, 6 skipped, 1 failed" in again


def test_a_single_picture(memory: Any, model: Path) -> None:
    memory.pipe_file("/in/a.png", png())
    output = gdq("upscale", "memory://in/a.png", "-x", 2, "-m", model)
    assert "memory://in/a.png 16x12 -> memory://in/a_x2.png 32x24" in output
    assert "skipped: memory://in/a_x2.png: exists already" in gdq("upscale", "memory://in/a.png", "-x", 2, "-m", model)
    memory.pipe_file("/in/b.png", b"nothing")
    gdq("upscale", "memory://in/b.png", "-x", 2, "-m", model, code=3)


def test_a_dry_run_decodes_and_writes_nothing(memory: Any, model: Path) -> None:
    memory.pipe_file("/in/a.png", png())
    memory.pipe_file("/in/cut.png", png()[:200])
    output = gdq("upscale", "memory://in", "-o", "memory://out", "-x", 2, "-m", model, "--dry-run", code=1)
    assert "memory://in/a.png 16x12 -> memory://out/a_x2.png 32x24" in output
    assert "memory://in/cut.png: would fail" in output
    assert memory.find("/out") == []


def test_an_output_that_cannot_be_written(memory: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        memory.pipe_file(f"/in/{number}.png", png(number))
    put_file = type(memory).put_file

    def refuse(self: Any, lpath: str, rpath: str, **more: Any) -> None:
        if "1_x2" in rpath:
            raise PermissionError("forbidden")
        put_file(self, lpath, rpath, **more)

    monkeypatch.setattr(type(memory), "put_file", refuse)
    output = gdq("upscale", "memory://in", "-o", "memory://out", "-x", 2, "-m", model, code=1)
    assert "memory://out/1_x2.png: cannot be written (no permission)" in output
    assert memory.find("/out") == ["/out/0_x2.png", "/out/2_x2.png"]


def test_no_model_ends_the_run_at_once(memory: Any) -> None:
    for number in range(9):
        memory.pipe_file(f"/in/{number}.png", png(number))
    fetched: list[str] = []
    fetch = Address.fetch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Address, "fetch", lambda self, file: fetched.append(str(self)) or fetch(self, file))
        output = gdq("upscale", "memory://in", "-o", "memory://out", "-x", 2, "-m", "none_x2.safetensors", code=4)
    assert "9 failed" in output
    assert len(fetched) < 9


def test_no_room_for_copies(memory: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        memory.pipe_file(f"/in/{number}.png", png(number))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    output = gdq("upscale", "memory://in", "-o", "memory://out", "-x", 2, "-m", model, code=1)
    assert "0 upscaled, 0 skipped, 6 failed" in output
    assert "no temporary folder can be made" in output


def test_what_appears_meanwhile_stays(memory: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that another program makes between plan and upload; this run's own, of a batch done before, is ours."""
    for number in range(2):
        memory.pipe_file(f"/in/{number}.png", png(number))
    gdq("upscale", "memory://in/1.png", "-o", "memory://kept/", "-x", 2, "-m", model, "--quiet")
    made = memory.cat_file("/kept/1_x2.png")
    fetch = Address.fetch

    def meddle(self: Address, file: Path) -> Path:
        memory.pipe_file("/out/0_x2.png", b"of somebody else")
        memory.pipe_file("/out/1_x2.png", made)
        return fetch(self, file)

    monkeypatch.setattr(Address, "fetch", meddle)
    output = gdq("upscale", "memory://in", "-o", "memory://out", "-x", 2, "-m", model)
    assert "1 upscaled, 1 skipped, 0 failed" in output
    assert memory.cat_file("/out/0_x2.png") == b"of somebody else"


def test_control_characters_are_not_printed_raw(memory: Any, model: Path) -> None:
    memory.pipe_file("/in/a\x1b[2J.png", png())
    output = gdq("upscale", "memory://in", "-o", "memory://out", "-x", 2, "-m", model)
    assert "\x1b" not in output
    assert "\\x1b[2J_x2.png" in output


def test_folders_of_killed_runs_are_removed(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage / "gdq-stage-dead").mkdir()
    (stage / "gdq-stage-dead" / "0-in").touch()
    monkeypatch.setattr(staging, "_YOUNG", -1.0)
    with staging.staging_folder() as used:
        assert staging.remove_stale_folders() == 1
        assert list(stage.iterdir()) == [used]


def test_s3_to_s3(bucket: Bucket, model: Path) -> None:
    bucket.put("small/a b+ü.png", png())
    bucket.put("small/bad.png", b"?")
    output = gdq("upscale", "s3://bucket/small", "-o", "s3://bucket/large", "-x", 2, "-m", model, code=1)
    assert "1 upscaled, 0 skipped, 1 failed" in output
    assert Image.open(io.BytesIO(bucket.get("large/a b+ü_x2.png"))).size == (32, 24)
    assert gdq("upscale", "s3://nothing-there/in", "-x", 2, "-m", model, code=3)


def test_ray_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    message = gdq("upscale", save(tmp_path / "a.png"), "-x", 2, "--ray", "auto", code=2)
    assert (
        message
        == "--ray needs the package Ray Data: pip install 'gdq-cli[ray]', or from a checkout: pip install '.[ray]'"
    )


def test_ray_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    message = gdq("upscale", save(tmp_path / "a.png"), "-x", 2, "--ray", "127.0.0.1:1", code=5)
    assert message.startswith("--ray 127.0.0.1:1: there is no Ray that can be used (")


def test_ray_is_not_started_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "out" / "a_x2.png")
    output = gdq("upscale", tmp_path / "in", "-o", tmp_path / "out", "-x", 2, "--ray", "auto")
    assert "skipped" in output
