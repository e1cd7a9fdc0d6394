"""Pictures, pipes and links that change, block or mislead: a run ends, does all it can, and publishes nothing wrong."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from gdq_cli.engines import choose_engine
from gdq_cli.errors import FileError, GdqError, ImageError
from gdq_cli.files import check_target, open_regular, remove_stale_parts, why_missing
from gdq_cli.images import probe_image, read_image
from gdq_cli.images.mark import fingerprint, read_mark
from gdq_cli.measure.pairs import list_images
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.runs.pipeline import run_batch
from gdq_cli.runs.plan import Planned, plan_again
from gdq_cli.upscaling.pool import UpscalerPool
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.pictures import make_picture
from tests.helpers.runs import Pool, Recorder, make_options, make_plan, run, save

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links are POSIX's")


@pytest.fixture(scope="module")
def upscaler(small_checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(small_checkpoint, choose_engine(small_checkpoint.network).engine)


def in_time(call: Callable[[], Any]) -> Any:
    """What a call gives or raises, which must come soon."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(call())
        except (OSError, GdqError) as error:
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it waits"
    return found[0]


@posix
def test_a_pipe_by_its_descriptor_is_no_target() -> None:
    reading, writing = os.pipe()
    with pytest.raises(FileError, match="a pipe or device stands there"):
        check_target(Path(f"/dev/fd/{writing}"))
    os.close(reading)
    os.close(writing)


@posix
def test_why_there_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("gone.png")
    assert why_missing(tmp_path / "pipe") == "is a pipe or device, and a file on a disk is wanted"
    assert why_missing(tmp_path / "link") == "no such file, but a link to gone.png, which is not there"
    assert why_missing(tmp_path / "none") == "no such file"


@posix
def test_nobody_waits_for_a_pipe_that_was_not_named(tmp_path: Path) -> None:
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    for call in (open_regular, fingerprint):
        assert isinstance(in_time(lambda call=call: call(pipe)), OSError)
    assert in_time(lambda: read_mark(pipe)) is None
    assert isinstance(in_time(lambda: list_images(tmp_path)), ImageError)
    assert isinstance(in_time(lambda: check_target(pipe, overwrite=True)), FileError)


@posix
def test_pipes_and_sockets_among_part_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".a.png.0123456789ab.part")
    (tmp_path / ".b.png.0123456789ab.part").symlink_to("/dev/zero")
    (tmp_path / ".c.png.0123456789ab.part").write_bytes(b"half")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / ".d.png.0123456789ab.part"))
        assert in_time(lambda: remove_stale_parts(tmp_path)) == 1
    assert len(list(tmp_path.iterdir())) == 3


@posix
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_pipe_where_an_output_should_be(tmp_path: Path, upscaler: Upscaler, overwrite: bool) -> None:
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "a_x2.png")
    recorder = in_time(
        lambda: run(
            make_plan(tmp_path / "in", output=tmp_path / "out", overwrite=overwrite), upscaler, overwrite=overwrite
        )
    )
    assert list(recorder.errors) == ["a.png"]
    assert [Path(record.name).name for record in recorder.records] == ["b.png"]
    assert (tmp_path / "out" / "a_x2.png").is_fifo()


@posix
def test_a_socket_is_no_picture(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a.png"))
        assert isinstance(in_time(lambda: probe_image(tmp_path / "a.png")), ImageError)
        assert make_plan(tmp_path / "a.png").jobs[0].status == "failed"


@posix
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_link_that_leaves_the_output_folder(
    tmp_path: Path, upscaler: Upscaler, overwrite: bool, exists: bool
) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "sub" / "b.png")
    (out / "a_x2.png").symlink_to(outside / "precious.png")
    (out / "sub").symlink_to(outside)
    if exists:
        (outside / "precious.png").write_bytes(b"precious")
    plan = make_plan(tmp_path / "in", output=out, recursive=True, overwrite=overwrite)
    recorder = run(plan, upscaler, overwrite=overwrite)
    assert set(recorder.errors) == {"a.png", "b.png"}
    assert all("leads out of" in str(error) for error in recorder.errors.values())
    assert [path.name for path in outside.iterdir()] == ["precious.png"] * exists
    if exists:
        assert (outside / "precious.png").read_bytes() == b"precious"


@posix
def test_links_that_lead_nowhere_else_are_followed(tmp_path: Path, upscaler: Upscaler) -> None:
    """The folder itself may be one: the user named it. So may a file that is named with --output."""
    save(tmp_path / "in" / "a.png")
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    (tmp_path / "disk" / "a_x2.png").symlink_to("real.png")
    assert not run(make_plan(tmp_path / "in", output=tmp_path / "out"), upscaler).errors
    assert read_image(tmp_path / "disk" / "real.png").size == (24, 32)
    (tmp_path / "named.png").symlink_to("disk/named.png")
    assert not run(make_plan(tmp_path / "in" / "a.png", output=tmp_path / "named.png"), upscaler).errors
    assert read_image(tmp_path / "disk" / "named.png").size == (24, 32)


@posix
def test_an_output_folder_that_is_a_link_to_nothing(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "out").symlink_to("gone")
    with pytest.raises(FileError, match="out: no such folder, but a link to gone, which is not there"):
        make_plan(tmp_path / "in", output=tmp_path / "out")


def animate(path: Path) -> None:
    frames = [Image.fromarray(make_picture(12, 16, seed)) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def resize(path: Path) -> None:
    Image.fromarray(make_picture(20, 10)).save(path)


def deepen(path: Path) -> None:
    Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300).save(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, tuple[Callable[[Path], None], tuple[int, int] | None]] = {
    "a still becomes an animation": (animate, (24, 32)),
    "another size": (resize, (40, 20)),
    "another depth": (deepen, (24, 32)),
    "damaged": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n") and None, None),
    "gone": (Path.unlink, None),
    "a pipe": (pipe, None),
}


@posix
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_planned_is_looked_at_again(tmp_path: Path, upscaler: Upscaler, change: str) -> None:
    """Before its turn: the picture is upscaled as it is now, or told to be none; the others are not touched by it."""
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "b.png", seed=1)
    plan = make_plan(tmp_path / "in", output=tmp_path / "out")
    edit, size = CHANGES[change]
    edit(tmp_path / "in" / "a.png")
    recorder = in_time(lambda: run(plan, upscaler))
    made = [Path(record.name).name for record in recorder.records]
    assert made == (["a.png", "b.png"] if size else ["b.png"])
    if size is None:
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["b_x2.png"]
        return
    header = probe_image(tmp_path / "out" / "a_x2.png")
    assert (header.height, header.width) == size
    assert header.frames == (3 if "animation" in change else 1)
    assert header.bit_depth == (16 if "depth" in change else 8)
    mark = read_mark(tmp_path / "out" / "a_x2.png")
    assert mark is not None
    assert mark.source == fingerprint(tmp_path / "in" / "a.png")


def test_a_picture_that_changes_while_it_is_read(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens between the last look and the last byte, no output is published."""
    for change in ("another", "animation", "same header"):
        source = save(tmp_path / change / "a.png")
        plan = make_plan(source, output=tmp_path / change / "out.png")

        def look(job: Planned, options: Any, change: str = change, source: Path = source) -> Planned:
            found = plan_again(job, options)
            if change == "same header":
                Image.fromarray(make_picture(12, 16, 7)).save(source.with_name("other.png"))
                shutil.copy(source.with_name("other.png"), source)
            elif change == "another":
                resize(source)
            else:
                animate(source)
            assert isinstance(found, Planned)
            return found

        if change == "same header":  # the mark is taken, then the file changes
            original = ImageChanger.install(monkeypatch, source)
            recorder = run(plan, upscaler)
            monkeypatch.setattr("gdq_cli.runs.task.read_frames", original)
        else:
            monkeypatch.setattr("gdq_cli.runs.pipeline.plan_again", look)
            recorder = run(plan, upscaler)
            monkeypatch.setattr("gdq_cli.runs.pipeline.plan_again", plan_again)
        assert list(recorder.errors) == ["a.png"]
        assert "try again" in str(recorder.errors["a.png"])
        assert not (tmp_path / change / "out.png").exists()


class ImageChanger:
    """Has a picture change after its frames were decoded and before they are published."""

    @staticmethod
    def install(monkeypatch: pytest.MonkeyPatch, source: Path) -> Any:
        from gdq_cli.runs import task

        original = task.read_frames

        def read(*arguments: Any, **options: Any) -> Iterator[Any]:
            yield from original(*arguments, **options)
            Image.fromarray(make_picture(12, 16, 7)).save(source)

        monkeypatch.setattr(task, "read_frames", read)
        return original


def test_a_fault_behind_the_first_frame_publishes_nothing(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path / "a.png")
    plan = make_plan(source, output=tmp_path / "out.png")

    def read(self: Any) -> Iterator[Any]:
        yield from original(self)
        raise ImageError("a.png: the end is not good")

    from gdq_cli.runs.task import Task

    original = Task.read
    monkeypatch.setattr(Task, "read", read)
    recorder = Recorder()
    run_batch(plan, make_options(), lambda: cast(UpscalerPool, Pool(upscaler)), recorder)
    assert "the end is not good" in str(recorder.errors["a.png"])
    assert not (tmp_path / "out.png").exists()
