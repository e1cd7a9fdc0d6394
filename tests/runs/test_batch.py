"""Runs over many pictures: what is found, what outputs are called, what is skipped, what survives a kill."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from gdq_cli.engines import choose_engine
from gdq_cli.errors import DeviceError, ImageError, OptionsError, WeightsError
from gdq_cli.images import read_frames
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.options import TargetSize, UpscaleOptions
from gdq_cli.runs.inputs import collect_inputs
from gdq_cli.runs.names import Destination, NameTemplate, choose_destination, choose_template
from gdq_cli.runs.pipeline import run_batch
from gdq_cli.runs.plan import Failed, Plan, Planned, Skipped
from gdq_cli.runs.report import Outcome
from gdq_cli.runs.task import Task
from gdq_cli.upscaling.pool import UpscalerPool
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.pictures import make_picture
from tests.helpers.runs import X2, Pool, Recorder, make_plan, run, save


@pytest.fixture(scope="module")
def upscaler(small_checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(small_checkpoint, choose_engine(small_checkpoint.network).engine)


def targets(plan: Plan) -> list[str]:
    return [Path(job.target_name).name for job in plan.jobs]


# What is found


def test_folders_hold_pictures_and_other_things(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", ".hidden.png", "._a.jpg", "sub/c.png", ".git/d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    flat = collect_inputs([str(tmp_path)])
    assert [found.path.name for found in flat.files] == ["a.jpg", "b.png"]
    assert flat.ignored == 3
    deep = collect_inputs([str(tmp_path)], recursive=True)
    assert [(found.path.name, str(found.below)) for found in deep.files] == [
        ("a.jpg", "."),
        ("b.png", "."),
        ("c.png", "sub"),
    ]


def test_a_picture_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "./a.png", str(tmp_path / "a.png"), ".", "*.png", "../" + tmp_path.name + "/a.png"]
    assert len(collect_inputs(names).files) == 1


def test_globs_keep_the_tree_below_their_fixed_part(tmp_path: Path) -> None:
    for name in ("in/a/x.png", "in/b/x.png", "in/b/notes.txt"):
        save(tmp_path / name) if name.endswith("png") else (tmp_path / name).touch()
    found = collect_inputs([str(tmp_path / "in" / "*" / "*")])
    assert [str(file.below) for file in found.files] == ["a", "b"]
    assert found.ignored == 1
    plan = make_plan(tmp_path / "in" / "**" / "*.png", output=tmp_path / "out")
    assert [Path(job.target_name).relative_to(tmp_path / "out").as_posix() for job in plan.jobs] == [
        "a/x_x2.png",
        "b/x_x2.png",
    ]


def test_what_is_not_there(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "empty" / "below" / "b.png")
    inputs = collect_inputs([str(tmp_path / "a.png"), str(tmp_path / "no.png"), str(tmp_path / "*.webp")])
    assert [str(error).rpartition(": ")[2] for _, error in inputs.problems] == [
        "no such file or folder",
        "matches no file",
    ]
    with pytest.raises(ImageError, match="no pictures in this folder; `recursive`"):
        collect_inputs([str(tmp_path / "empty")])


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    assert len(collect_inputs([str(tmp_path / "in")], recursive=True).files) == 1
    (tmp_path / "in" / "a.png").unlink()
    with pytest.raises(ImageError, match=r"no pictures in this folder$"):
        collect_inputs([str(tmp_path / "in")])


# What outputs are called


def test_recursion_keeps_the_tree(tmp_path: Path, upscaler: Upscaler) -> None:
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "deep" / "er" / "a.png", seed=1)
    run(make_plan(tmp_path / "in", output=tmp_path / "out", recursive=True), upscaler)
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert made == ["a_x2.png", "deep/er/a_x2.png"]


def test_outputs_that_would_have_one_name(tmp_path: Path, upscaler: Upscaler) -> None:
    for folder in ("one", "two", "three"):
        save(tmp_path / folder / "a.png")
    save(tmp_path / "one" / "a.jpg")
    folders = [tmp_path / folder for folder in ("one", "two", "three")]
    plan = make_plan(*folders, output=tmp_path / "out", format="png")
    assert targets(plan) == ["a_x2.png", "a.png_x2.png", "a.png_x2-2.png", "a.png_x2-3.png"]
    assert [len(job.notes) for job in plan.jobs] == [0, 1, 1, 1]
    assert "because a_x2.png is the output of" in plan.jobs[1].notes[0]
    recorder = run(plan, upscaler, format="png")
    assert [outcome.status for outcome in recorder.outcomes] == ["ok"] * 4
    assert recorder.records[1].warnings == plan.jobs[1].notes
    again = make_plan(*folders, output=tmp_path / "out", format="png")
    assert [type(job) for job in again.jobs] == [Skipped] * 4


@pytest.mark.parametrize("options", [{}, {"suffix": "-big"}, {"name": "big_{stem}"}, {"format": "png"}])
def test_a_repeated_command_leaves_its_own_outputs_alone(
    tmp_path: Path, upscaler: Upscaler, options: dict[str, Any]
) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg", seed=1)
    first = run(make_plan(tmp_path, **options), upscaler, **options)
    assert [outcome.status for outcome in first.outcomes] == ["ok", "ok"]
    before = sorted(tmp_path.iterdir())
    plan = make_plan(tmp_path, **options)
    assert plan.earlier == 2
    assert [outcome.status for outcome in run(plan, upscaler, **options).outcomes] == ["skipped"] * 2
    assert sorted(tmp_path.iterdir()) == before


def test_outputs_of_another_scale_are_left_alone_unless_named(tmp_path: Path, upscaler: Upscaler) -> None:
    """What a file was made of decides, and not that it is called as an output might be."""
    save(tmp_path / "a.png")
    for name in ("{stem}_x4", "big"):
        run(make_plan(tmp_path / "a.png", name=name), upscaler, name=name)
    for name in ("a_w640.png", "b_x4.png"):
        save(tmp_path / name)
    plan = make_plan(tmp_path)
    assert targets(plan) == ["a_x2.png", "a_w640_x2.png", "b_x4_x2.png"]
    assert plan.earlier == 2
    assert targets(make_plan(tmp_path / "a_x4.png")) == ["a_x4_x2.png"]
    elsewhere = make_plan(tmp_path, output=tmp_path / "out")
    assert targets(elsewhere) == targets(plan)


def test_an_output_folder_inside_the_input_folder(tmp_path: Path, upscaler: Upscaler) -> None:
    save(tmp_path / "a.png")
    for _ in range(2):
        run(make_plan(tmp_path, output=tmp_path / "big", recursive=True), upscaler)
    assert [path.name for path in (tmp_path / "big").rglob("*.png")] == ["a_x2.png"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_never_replaces_an_input(tmp_path: Path, upscaler: Upscaler, overwrite: bool) -> None:
    own, other = save(tmp_path / "a.png"), save(tmp_path / "a_x2.png", seed=1)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    before = own.read_bytes(), other.read_bytes()
    for plan in (
        make_plan(own, overwrite=overwrite, name="{stem}"),
        make_plan(own, overwrite=overwrite, output=tmp_path / "link" / "a.png"),
        make_plan(own, other, overwrite=overwrite),
    ):
        first = run(plan, upscaler, overwrite=overwrite).outcomes[0]
        assert first.status == ("failed" if overwrite or len(plan.jobs) == 1 else "skipped")
    assert (own.read_bytes(), other.read_bytes()) == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{stem}_x{scale}", "a_x2.png"),
        ("{name}", "a.png.png"),
        ("{stem}.{ext}", "a.png"),
        ("{stem}-{width:05d}x{height}", "a-00032x24.png"),
        ("{model}@{bits}_{stem}", "edsr@auto_a.png"),
        ("{{{stem}}}", "{a}.png"),
    ],
)
def test_names_by_template(tmp_path: Path, name: str, expected: str) -> None:
    source = save(tmp_path / "a.png")
    assert targets(make_plan(source, name=name, output=str(tmp_path / "out") + "/")) == [expected]


def test_fields_of_the_size_are_those_of_the_output(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", 12, 16)
    options: dict[str, Any] = {"size": TargetSize(width=40), "name": "{width}x{height}_x{scale}"}
    assert targets(make_plan(source, **options)) == ["40x30_x2.5.png"]


@pytest.mark.parametrize("name", ["{nothing}", "a/{stem}", "..\\{stem}", "{stem", "", "{stem.__class__}", "{0}", "{}"])
def test_bad_templates(name: str) -> None:
    with pytest.raises(OptionsError, match="`name`"):
        NameTemplate(name)


@pytest.mark.parametrize(
    ("name", "rendered"),
    [
        ("b.png", "b.png"),
        ("{stem}_b.PNG", "a_b.PNG"),
        ("{stem}.jpg", "a.jpg.png"),
        ("{name}", "a.png.png"),
    ],
)
def test_no_suffix_is_doubled(name: str, rendered: str) -> None:
    assert NameTemplate(name).render({"stem": "a", "name": "a.png", "ext": "png"}) == rendered


@pytest.mark.parametrize("format", [":1000000000", ":>99999999", ":.999999999f", ":99d", "!r", ":{scale}"])
def test_formats_that_take_memory(format: str) -> None:
    with pytest.raises(OptionsError, match="up to 9"):
        NameTemplate(f"{{width{format}}}")


def test_bad_template_values(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    for name in ("{stem:d}", ".{stem}"):
        with pytest.raises(OptionsError, match="`name`"):
            make_plan(source, name=name)
    with pytest.raises(OptionsError, match="contradict"):
        choose_template("{stem}", "x", X2)


def test_where_output_leads(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.png"), save(tmp_path / "b.png")
    one, two = collect_inputs([str(a)]), collect_inputs([str(a), str(b)])
    stream = io.BytesIO()
    assert choose_destination(None, stream, two) == Destination()
    assert choose_destination("-", stream, one).file is stream
    assert choose_destination(str(tmp_path), stream, one).folder == tmp_path
    assert choose_destination("new/", stream, one).folder == Path("new")
    assert choose_destination("new", stream, two).folder == Path("new")
    assert choose_destination("out.png", stream, one).file == Path("out.png")
    for output in ("-", "out.png", str(a)):
        with pytest.raises(OptionsError):
            choose_destination(output, stream, two)


def test_suffixes_of_animations_and_of_nameless_files(tmp_path: Path) -> None:
    frames = [Image.fromarray(make_picture(8, 8, seed)) for seed in range(3)]
    frames[0].save(tmp_path / "still.gif")
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "nameless", "jpeg")
    names = [tmp_path / name for name in ("still.gif", "moving.gif", "nameless")]
    assert targets(make_plan(*names)) == ["still_x2.png", "moving_x2.webp", "nameless_x2.jpg"]


# What is known before the run


def test_limits_are_checked_on_the_header(tmp_path: Path) -> None:
    long = save(tmp_path / "long.png", 2, 9000)
    frames = [Image.fromarray(make_picture(8, 8, seed)) for seed in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tiff", save_all=True, append_images=frames[1:])
    for plan, message in (
        (make_plan(long, format="webp"), "webp holds at most 16383"),
        (make_plan(long, max_pixels=100), "`max_pixels`"),
        (make_plan(long, size=TargetSize(width=10)), "smaller than the input"),
        (make_plan(tmp_path / "moving.gif", format="jpg"), "moving.gif: "),
        (make_plan(tmp_path / "pages.tiff", format="png"), "pages.tiff: png holds no documents"),
    ):
        assert isinstance(plan.jobs[0], Failed)
        assert message in str(plan.jobs[0].error)


def test_disk_space(tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(save(tmp_path / "a.png", 100, 100))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert "has only 0 MiB free" in str(run(plan, upscaler).errors["a.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# The run


def make_mixed_folder(folder: Path, good: int, broken: int) -> None:
    """Pictures of seven formats, and broken ones of several kinds between them."""
    suffixes = ("png", "jpg", "webp", "tiff", "bmp", "gif", "ppm")
    for index in range(good):
        save(folder / f"good{index:03d}.{suffixes[index % 7]}", 8 + index % 5, 9 + index % 7, index)
    buffer = io.BytesIO()
    Image.fromarray(make_picture(40, 40)).save(buffer, "png")
    data = buffer.getvalue()
    kinds = (b"", b"text", data[: len(data) // 2], data[:30], data[:40] + bytes(100) + data[140:])
    for index in range(broken):
        (folder / f"good{index * good // broken:03d}-broken.png").write_bytes(kinds[index % 5])


def test_broken_pictures_do_not_stop_a_run(tmp_path: Path, upscaler: Upscaler) -> None:
    make_mixed_folder(tmp_path, 28, 7)
    recorder = Recorder()
    options = UpscaleOptions(size=X2)
    plan = make_plan(tmp_path, output=str(tmp_path / "out") + "/")
    summary = run_batch(plan, options, lambda: cast(UpscalerPool, Pool(upscaler)), recorder)
    assert (summary.ok, summary.skipped, summary.failed) == (28, 0, 7)
    assert all("-broken.png: not a readable image" in str(error) for error in recorder.errors.values())
    assert all(json.loads(json.dumps(failed.to_dict()))["error"] for failed in summary.failures)
    assert len(list((tmp_path / "out").iterdir())) == 28
    assert recorder.threads == {threading.get_ident()}
    assert 0 < summary.network_share <= 1


def test_the_steps_overlap(tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second picture is in the network, the third is decoded and the first is written."""
    for index in range(3):
        save(tmp_path / f"{index}.png")
    begun = {"read 2": threading.Event(), "write 0": threading.Event()}

    def watch(step: str) -> None:
        original = getattr(Task, step)

        def watched(task: Task, *arguments: Any) -> Any:
            begun.get(f"{step} {Path(task.job.name).stem}", threading.Event()).set()
            return original(task, *arguments)

        monkeypatch.setattr(Task, step, watched)

    class Waiting(Recorder):
        def progressed(self, job: Planned, done: int, total: int) -> None:
            if job.name.endswith("1.png"):
                self.shares += [event.wait(30) for event in begun.values()]

    watch("read")
    watch("write")
    recorder = Waiting()
    run_batch(make_plan(tmp_path), UpscaleOptions(size=X2), lambda: cast(UpscalerPool, Pool(upscaler)), recorder)
    assert recorder.shares
    assert all(recorder.shares)


def test_outputs_equal_those_of_single_runs(tmp_path: Path, upscaler: Upscaler) -> None:
    make_mixed_folder(tmp_path, 14, 0)
    run(make_plan(tmp_path, output=tmp_path / "all"), upscaler)
    for source in tmp_path.glob("good*"):
        run(make_plan(source, output=str(tmp_path / "single") + "/"), upscaler)
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "single").iterdir())
    for name in names:
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()


def test_animations_and_documents(tmp_path: Path, upscaler: Upscaler) -> None:
    frames = [Image.fromarray(make_picture(10, 14, seed)) for seed in range(9)]
    durations = [40, 80, 120, 40, 60, 80, 100, 40, 200]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    frames[0].save(tmp_path / "pages.tiff", save_all=True, append_images=[frames[1], frames[2].crop((0, 0, 9, 7))])
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:3], duration=durations[:3])
    recorder = run(make_plan(tmp_path), upscaler)
    assert [outcome.status for outcome in recorder.outcomes] == ["ok"] * 3
    ends = [a for a, b in itertools.pairwise([*recorder.shares, 0]) if b < a]
    assert ends == [1.0] * 3  # it grows to the end of each file
    moving = read_frames(tmp_path / "moving_x2.webp")
    assert [frame.duration_ms for frame in moving] == durations
    assert moving.header.plays == 0
    assert [frame.picture.size for frame in read_frames(tmp_path / "pages_x2.tiff")] == [(20, 28), (20, 28), (14, 18)]
    record = recorder.records[0]
    assert (record.frames, sum(record.bits.values())) == (9, 9)
    still = upscaler.upscale(next(iter(read_frames(tmp_path / "moving.png"))).picture.rgb).image
    assert np.array_equal(next(iter(read_frames(tmp_path / "moving_x2.png"))).picture.rgb, still)


def test_an_animation_that_breaks_off(tmp_path: Path, upscaler: Upscaler) -> None:
    frames = [Image.fromarray(make_picture(60, 60, seed)) for seed in range(12)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) * 2 // 3])
    save(tmp_path / "b.png")
    recorder = run(make_plan(tmp_path), upscaler)
    assert {Path(outcome.name).name: outcome.status for outcome in recorder.outcomes} == {
        "a.gif": "failed",
        "b.png": "ok",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.png", "b_x2.png"]


def test_an_encoder_that_fails_in_the_middle(tmp_path: Path, upscaler: Upscaler, monkeypatch: Any) -> None:
    """The frames still on their way must not end up in the next picture, and nothing may hang."""
    frames = [Image.fromarray(make_picture(20, 20, seed)) for seed in range(30)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    save(tmp_path / "b.jpg")
    calls = []

    def fail(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    from gdq_cli.images.writing import png

    original = png._delay
    monkeypatch.setattr(png, "_delay", fail)
    recorder = run(make_plan(tmp_path), upscaler)
    assert [outcome.status for outcome in recorder.outcomes] == ["failed", "ok"]
    assert "the disk is full" in str(recorder.errors["a.png"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.jpg", "b_x2.jpg"]


def test_a_fault_in_the_network_is_one_pictures_fault(tmp_path: Path, upscaler: Upscaler, monkeypatch: Any) -> None:
    for index in range(4):
        save(tmp_path / f"{index}.png", seed=index)
    faults: list[Exception | None] = [MemoryError(), None, RuntimeError("CUDA out of memory"), KeyError("x")]
    original: Callable[..., Any] = upscaler.upscale

    def upscale(*arguments: Any, **options: Any) -> Any:
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return original(*arguments, **options)

    monkeypatch.setattr(upscaler, "upscale", upscale)
    errors = run(make_plan(tmp_path), upscaler).errors
    assert sorted(errors) == ["0.png", "2.png", "3.png"]
    assert all(isinstance(error, DeviceError) and name in str(error) for name, error in errors.items())
    assert "out of memory" in str(errors["0.png"])
    assert "out of memory on the device" in str(errors["2.png"])
    assert "internal error (KeyError" in str(errors["3.png"])


def test_no_model_ends_the_run_at_once(tmp_path: Path, upscaler: Upscaler) -> None:
    for index in range(30):
        save(tmp_path / f"{index}.png")
    recorder = Recorder()
    options = UpscaleOptions(size=TargetSize(scale=3))
    plan = make_plan(tmp_path, size=options.size)
    summary = run_batch(plan, options, lambda: cast(UpscalerPool, Pool(upscaler)), recorder)
    assert isinstance(summary.fatal, WeightsError)
    assert summary.failed == 30
    assert len(list(tmp_path.iterdir())) == 30


def test_ctrl_c_ends_the_run_with_complete_files(tmp_path: Path, upscaler: Upscaler) -> None:
    for index in range(20):
        save(tmp_path / f"{index:02d}.png", seed=index)

    class Impatient(Recorder):
        def started(self, job: Planned) -> None:
            if job.name.endswith("10.png"):
                raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_batch(make_plan(tmp_path), UpscaleOptions(size=X2), lambda: cast(UpscalerPool, Pool(upscaler)), Impatient())
    assert threading.active_count() == before
    made = list(tmp_path.glob("*_x2.png"))
    assert 5 <= len(made) <= 10
    assert all(Image.open(path).size == (32, 24) for path in made)
    assert not list(tmp_path.glob(".*"))


def test_an_error_of_the_listener_passes_through(tmp_path: Path, upscaler: Upscaler) -> None:
    for index in range(8):
        save(tmp_path / f"{index}.png")

    class Broken(Recorder):
        def finished(self, outcome: Outcome) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_batch(make_plan(tmp_path), UpscaleOptions(size=X2), lambda: cast(UpscalerPool, Pool(upscaler)), Broken())


def test_nothing_is_loaded_when_everything_exists(tmp_path: Path, upscaler: Upscaler) -> None:
    save(tmp_path / "a.png")
    run(make_plan(tmp_path), upscaler)

    def refuse() -> UpscalerPool:
        raise AssertionError("a pool was asked for")

    assert run_batch(make_plan(tmp_path), UpscaleOptions(size=X2), refuse).skipped == 1


def test_stale_files_of_killed_runs_are_removed(tmp_path: Path, upscaler: Upscaler) -> None:
    save(tmp_path / "a.png")
    stale = tmp_path / ".a_x2.png.0123456789ab.part"
    stale.write_bytes(b"half a picture")
    plan = make_plan(tmp_path)
    assert stale.exists()  # planning alone (--dry-run) touches nothing
    summary = run_batch(plan, UpscaleOptions(size=X2), lambda: cast(UpscalerPool, Pool(upscaler)))
    assert summary.stale == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a_x2.png"]


KILLER = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)
from gdq_cli.commands import app as cli
from gdq_cli.upscaling import pool as models
out, arguments, delays = sys.argv[1], sys.argv[1:-1], [float(delay) for delay in sys.argv[-1].split()]
count = lambda: sum(not name.startswith(".") for name in os.listdir(out)) if os.path.isdir(out) else 0
for delay in delays:
    before, ended = count(), 0
    child = os.fork()
    if child == 0:
        sys.argv = ["gdq", "upscale", "-o", *arguments]
        cli.main()
    while count() <= before and not (ended := os.waitpid(child, os.WNOHANG)[0]):
        time.sleep(0.001)
    if ended:
        break
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.WIFSIGNALED(status), count())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_and_resumed(tmp_path: Path, small_checkpoint: Checkpoint, upscaler: Upscaler) -> None:
    """Forked children share one import of torch, so that a kill costs tenths of a second. Long version: benchmarks."""
    model = tmp_path / "small.safetensors"
    write_checkpoint(model, small_checkpoint)
    source = tmp_path / "in"
    for index in range(40):
        save(source / f"{index:02d}.{('png', 'jpg', 'tiff')[index % 3]}", 40, 40, index)
    frames = [Image.fromarray(make_picture(30, 30, seed)) for seed in range(20)]
    frames[0].save(source / "30.gif", save_all=True, append_images=frames[1:])
    run(make_plan(source, output=tmp_path / "whole", model=str(model)), upscaler, model=str(model))
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", KILLER, str(killed), str(source), "-x2", "-m", str(model), "-j1"]
    delays = np.random.default_rng(4).uniform(0, 0.06, 5)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, " ".join(map(str, delays))], check=True, timeout=120, capture_output=True, env=env)
    assert done.stdout.count(b"True") >= 2  # killed before it had finished; the machine may be fast
    complete = {path.name: path.read_bytes() for path in killed.glob("[!.]*")}
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(expected) == 41
    assert complete == {name: expected[name] for name in complete}
    run(make_plan(source, output=killed, model=str(model)), upscaler, model=str(model))
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == expected
