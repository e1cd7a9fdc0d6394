"""Whose output a file is, what a second run says of it, and names that nobody expects."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from gdq_cli.engines import choose_engine
from gdq_cli.errors import FileError, OptionsError
from gdq_cli.images.mark import read_mark
from gdq_cli.measure.doctor import Diagnosis, _disk
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.models.store import list_models
from gdq_cli.options import Encoding, TargetSize
from gdq_cli.runs.inputs import collect_inputs
from gdq_cli.runs.names import choose_destination
from gdq_cli.runs.pipeline import run_batch
from gdq_cli.runs.plan import Plan, Skipped
from gdq_cli.upscaling.pool import UpscalerPool
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.commands import gdq, run_process
from tests.helpers.runs import Pool, Recorder, make_options, make_plan, run, save

posix = pytest.mark.skipif(os.name == "nt", reason="names and pipes of POSIX")


@pytest.fixture(scope="module")
def upscaler(small_checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(small_checkpoint, choose_engine(small_checkpoint.network).engine)


def names(plan: Plan) -> dict[str, str]:
    """Names of outputs by those of inputs; in brackets for what is skipped."""
    return {
        Path(job.name).name: f"({Path(job.target_name).name})"
        if isinstance(job, Skipped)
        else Path(job.target_name).name
        for job in plan.jobs
    }


def differences(plan: Plan) -> list[str | None]:
    return [job.differs for job in plan.jobs if isinstance(job, Skipped)]


# What an output was made of


@pytest.mark.parametrize(
    "options", [{"format": "webp"}, {"name": "{stem}_big", "format": "png"}, {"suffix": "", "format": "tiff"}]
)
def test_a_newcomer_with_the_same_stem_is_upscaled(tmp_path: Path, upscaler: Upscaler, options: dict[str, Any]) -> None:
    save(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    run(make_plan(tmp_path / "in", output=out, **options), upscaler, **options)
    first = next(out.iterdir())
    before = first.read_bytes()
    for newcomer, seed in (("b.jpg", 1), ("b.bmp", 2)):  # both come before b.png, which has the name
        save(tmp_path / "in" / newcomer, seed=seed)
        plan = make_plan(tmp_path / "in", output=out, **options)
        assert names(plan)["b.png"] == f"({first.name})"
        assert f"because {first.name} is the output of" in next(job for job in plan.planned).notes[0]
        run(plan, upscaler, **options)
    assert first.read_bytes() == before
    assert len(list(out.iterdir())) == 3
    again = make_plan(tmp_path / "in", output=out, **options)
    assert [type(job) for job in again.jobs] == [Skipped] * 3
    assert differences(again) == [None] * 3
    # Alone, each finds its own output again, too.
    for name in ("b.jpg", "b.bmp", "b.png"):
        assert names(make_plan(tmp_path / "in" / name, output=out, **options))[name] == names(again)[name]
    replaced = make_plan(tmp_path / "in", output=out, overwrite=True, **options)
    assert {name: f"({target})" for name, target in names(replaced).items()} == names(again)


def test_a_name_that_makes_a_lossless_file_lossy_is_told(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png", "WEBP", lossless=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "c.jpg")
    notes = [job.notes for job in make_plan(tmp_path).planned]
    told = "is a lossless PNG, whatever its name says; jpg loses details that png would keep"
    assert notes == [(told,), (), ()]
    assert [job.notes for job in make_plan(tmp_path, format="png").planned] == [(), (), ()]


def test_an_output_of_a_picture_elsewhere_is_not_taken(tmp_path: Path, upscaler: Upscaler) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg", seed=1)
    out = f"{tmp_path / 'out'}/"
    run(make_plan(tmp_path / "a.png", output=out, format="webp"), upscaler, format="webp")
    plan = make_plan(tmp_path / "a.jpg", output=out, format="webp")
    assert names(plan) == {"a.jpg": "a.jpg_x2.webp"}
    assert "a_x2.webp is the output of another picture" in plan.jobs[0].notes[0]


def test_names_like_those_of_outputs_are_no_outputs(tmp_path: Path) -> None:
    for index, name in enumerate(("rose.jpg", "rose_h1.jpg", "rose_x2.jpg", "rose_x2-2.jpg")):
        save(tmp_path / "in" / name, seed=index)
    plan = make_plan(tmp_path / "in", output=tmp_path / "out")
    assert (len(plan.planned), plan.earlier) == (4, 0)
    beside = make_plan(tmp_path / "in")  # there rose_x2.jpg has the very name of rose.jpg's output
    assert (len(beside.planned), differences(beside), beside.earlier) == (2, ["unknown"], 1)


def test_outputs_can_be_inputs_of_another_run(tmp_path: Path, upscaler: Upscaler) -> None:
    for folder, seed in (("one", 0), ("two", 1)):
        save(tmp_path / folder / "a.png", seed=seed)
        run(make_plan(tmp_path / folder, output=tmp_path / f"{folder}-out"), upscaler)
    assert names(make_plan(tmp_path / "one-out", output=tmp_path / "more")) == {"a_x2.png": "a_x2_x2.png"}
    assert make_plan(tmp_path / "one", tmp_path / "one-out", output=tmp_path / "more").earlier == 1
    assert make_plan(tmp_path / "one", tmp_path / "two-out", output=tmp_path / "more").earlier == 0


# What a skip says


@pytest.mark.parametrize(
    "changed",
    [
        {"encoding": Encoding("jpg", quality=80)},
        {"encoding": Encoding("jpg", strip_metadata=True)},
        {"bits": "4"},
        {"budget": 5.0},
        {"model": "edsr"},
        {"size": TargetSize(width=40), "name": "{stem}_x2"},
    ],
    ids=str,
)
def test_other_options_are_told(tmp_path: Path, upscaler: Upscaler, changed: dict[str, Any]) -> None:
    first: dict[str, Any] = {"encoding": Encoding("jpg"), "model": "photo"}
    source = save(tmp_path / "a.png")
    run(make_plan(source, **first), upscaler, **first)
    assert differences(make_plan(source, **first)) == [None]
    same = first | {"encoding": Encoding("jpg", quality=95), "size": TargetSize(width=32), "name": "{stem}_x2"}
    assert differences(make_plan(source, **same)) == [None]  # other words for the same
    assert differences(make_plan(source, **first | changed)) == ["options"]


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp", "ppm"])
def test_another_state_of_the_input_is_told(tmp_path: Path, upscaler: Upscaler, suffix: str, strip: bool) -> None:
    options: dict[str, Any] = {"encoding": Encoding(strip_metadata=strip)}
    source = save(tmp_path / f"a.{suffix}")
    run(make_plan(source, **options), upscaler, **options)
    made = source.stat().st_mtime
    os.utime(source, (made + 1000, made + 1000))  # the same picture, newer
    assert differences(make_plan(source, **options)) == [None]
    save(source, seed=1)
    os.utime(source, (made - 1000, made - 1000))  # another picture, older
    assert differences(make_plan(source, **options)) == ["input"]


def test_a_changed_checkpoint_is_told(tmp_path: Path, upscaler: Upscaler) -> None:
    model = tmp_path / "own.safetensors"
    model.write_bytes(b"weights")
    source = save(tmp_path / "a.png")
    options: dict[str, Any] = {"model": str(model)}
    run(make_plan(source, **options), upscaler, **options)
    (tmp_path / "other.safetensors").write_bytes(b"weights")
    assert differences(make_plan(source, model=str(tmp_path / "other.safetensors"))) == [None]
    model.write_bytes(b"other weights")
    assert differences(make_plan(source, **options)) == ["options"]


def test_a_file_of_another_program_is_told_and_kept(tmp_path: Path) -> None:
    source, other = save(tmp_path / "a.png"), save(tmp_path / "out" / "a_x2.png", seed=5)
    before = other.read_bytes()
    assert differences(make_plan(source, output=tmp_path / "out")) == ["unknown"]
    assert differences(make_plan(source, output=other)) == ["unknown"]
    assert other.read_bytes() == before


# Names


@posix
@pytest.mark.parametrize(
    "name",
    [
        "back\\slash.png",
        "tab\there.png",
        "new\nline.png",
        ".hidden.png",
        "\x1b]0;x\x07.png",
        os.fsdecode(b"caf\xe9.png"),
    ],
)
def test_any_name_of_a_file_will_do(tmp_path: Path, upscaler: Upscaler, name: str) -> None:
    for path in (tmp_path / name, tmp_path / "ok.png"):
        save(path)
    recorder = run(make_plan(tmp_path / name, tmp_path / "ok.png", output=tmp_path / "out"), upscaler)
    assert [outcome.status for outcome in recorder.outcomes] == ["ok", "ok"]
    assert read_mark(tmp_path / "out" / f"{name[:-4]}_x2.png") is not None
    for template in ("{name}", "{stem}-{bits}"):
        assert len(make_plan(tmp_path / name, tmp_path / "ok.png", name=template).planned) == 2


@pytest.mark.parametrize("template", ["{stem:\n<20}", "{stem:/<20}", ".{stem}", "{stem:.0}"])
def test_templates_still_cannot_hide_or_move_outputs(tmp_path: Path, template: str) -> None:
    with pytest.raises(OptionsError, match="`name`"):
        make_plan(save(tmp_path / "a.png"), name=template)


@posix
def test_names_on_a_terminal_and_in_json(tmp_path: Path) -> None:
    """One line a picture, no control characters, and the bytes of names that are not UTF-8."""
    for name in (b"caf\xe9.png", b"new\nline.png", b"\x1b[31m.png"):
        save(tmp_path / os.fsdecode(name))
    for encoding in ("utf-8", "ascii", "latin-1"):
        env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        done = run_process("upscale", tmp_path, "-x", 2, "--dry-run", env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(done.stdout.splitlines()) == 4
        assert (b"caf?.png" if encoding == "ascii" else b"caf\xe9.png") in done.stdout
        assert b"new\\nline.png" in done.stdout
        assert b"\x1b" not in done.stdout
    done = run_process("upscale", tmp_path / os.fsdecode(b"caf\xe9.jpg"), "-x", 2)
    assert done.returncode == 3
    assert b"caf\xe9.jpg: no such file" in done.stderr
    done = run_process("upscale", tmp_path, "-x", 2, "--dry-run", "--json")
    assert rb"caf\udce9.png" in done.stdout


# Pipes, devices and closed streams


@posix
def test_a_pipe_in_a_folder_is_ignored(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    inputs = collect_inputs([str(tmp_path), str(tmp_path / "*.png")])
    assert [found.path.name for found in inputs.files] == ["a.png"]
    assert inputs.ignored == 3


@posix
def test_a_pipe_that_is_named_is_read(tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdq_cli.files._PATIENCE", 0.05)
    data = save(tmp_path / "a.png").read_bytes()
    os.mkfifo(tmp_path / "pipe.png")
    said: list[str] = []

    def feed() -> None:
        while not said:  # what waits says so
            pass
        (tmp_path / "pipe.png").write_bytes(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    inputs = collect_inputs([str(tmp_path / "pipe.png"), str(tmp_path / "pipe.png")], say=said.append)
    feeder.join()
    assert [found.source.read() for found in inputs.files if not isinstance(found.source, Path)] == [data]
    assert said[0].endswith("pipe.png is a pipe; waiting for all that goes into it")


@posix
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no descriptors by name")
def test_a_descriptor_of_a_file_is_read(tmp_path: Path, upscaler: Upscaler) -> None:
    with save(tmp_path / "a.png").open("rb") as file:
        recorder = run(make_plan(f"/dev/fd/{file.fileno()}", output=tmp_path / "out.png"), upscaler)
    assert recorder.errors == {}
    assert Image.open(tmp_path / "out.png").size == (32, 24)


@posix
def test_process_substitution_both_ways(tmp_path: Path, model: Path) -> None:
    source, target = save(tmp_path / "a.png"), tmp_path / "out.jpg"
    gdq = f"'{sys.executable}' -m gdq_cli upscale -x 2 -m '{model}' --quiet"
    script = f"{gdq} <(cat '{source}') -f jpg -o >(cat > '{target}'); wait; {gdq} <(cat '{source}')"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=120, check=False)
    assert Image.open(target).size == (32, 24)
    assert done.returncode == 3
    assert b"is a pipe, and beside it is no place for a file; give --output" in done.stderr
    assert done.stderr.count(b"\n") == 1


@posix
def test_a_stream_as_output_takes_one_picture(tmp_path: Path) -> None:
    one, two = (
        collect_inputs([str(save(tmp_path / "a.png"))]),
        collect_inputs([str(tmp_path), str(save(tmp_path / "b.png"))]),
    )
    place = choose_destination("/dev/null", io.BytesIO(), one)
    assert place.file is not None
    with pytest.raises(OptionsError, match="give exactly one"):
        choose_destination("/dev/null", io.BytesIO(), two)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(FileError, match="socket: cannot be written"):
            choose_destination(str(tmp_path / "socket"), io.BytesIO(), one)


@posix
@pytest.mark.parametrize("to", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_by_its_names(tmp_path: Path, model: Path, to: str) -> None:
    source = save(tmp_path / "a.png")
    with (tmp_path / "redirected").open("wb") as file:
        command = [sys.executable, "-m", "gdq_cli", "upscale", str(source), "-x2", "-m", str(model), "-o", to]
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "redirected").size == (32, 24)


@posix
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("upscale a.png -x 2 -m {model} -o out.png >&-", 0, ""),
        ("upscale a.png -x 2 -m {model} -o out.png --json <&- >&- 2>&-", 0, ""),
        ("upscale a.png -x 2 -m {model} -o - >&-", 3, "error: standard output: is closed"),
        ("upscale - -x 2 -m {model} -o out.png <&-", 3, "error: standard input: is closed"),
        ("doctor -d cpu >&-", 0, ""),
    ],
)
def test_closed_streams(tmp_path: Path, model: Path, command: str, code: int, words: str) -> None:
    save(tmp_path / "a.png")
    script = f"'{sys.executable}' -m gdq_cli {command.format(model=model)}"
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.decode().strip()) == (code, words)
    assert (tmp_path / "out.png").exists() == (code == 0 and "upscale" in command)
    if (tmp_path / "out.png").exists():
        assert Image.open(tmp_path / "out.png").size == (32, 24)


@posix
def test_a_reader_who_leaves_costs_no_picture_its_name(tmp_path: Path, upscaler: Upscaler) -> None:
    """A fault of who listens is not reported as one of pictures."""
    for index in range(6):
        save(tmp_path / f"{index}.png", seed=index)

    class Leaving(Recorder):
        def progressed(self, job: Any, done: int, total: int) -> None:
            if job.name.endswith("3.png") and done:
                raise BrokenPipeError

    recorder = Leaving()
    with pytest.raises(BrokenPipeError):
        run_batch(make_plan(tmp_path), make_options(), lambda: cast(UpscalerPool, Pool(upscaler)), recorder)
    assert not recorder.errors


@posix
def test_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    save(Path("~photo.png"))
    assert names(make_plan("~photo.png", output="~out.png")) == {"~photo.png": "~out.png"}
    assert isinstance(make_plan("~/a.png").jobs[0].name, str)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("GDQ_MODEL_DIR", "~/models")
    assert list_models()
    assert len(_disk(Diagnosis())) == 3


@posix
def test_no_link_leads_an_output_to_an_input(tmp_path: Path, upscaler: Upscaler) -> None:
    red, blue = save(tmp_path / "d" / "a.png", seed=1), save(tmp_path / "d" / "b.png", seed=2)
    (tmp_path / "d" / "a_x2.png").symlink_to("b.png")
    held = blue.read_bytes()
    for names in ((tmp_path / "d",), (red, blue)):
        done = run(make_plan(*names, overwrite=True), upscaler, overwrite=True)
        assert "another input" in str(done.errors["a.png"])
        assert blue.read_bytes() == held


@posix
def test_an_output_folder_by_another_name_holds_the_same_inputs(tmp_path: Path, upscaler: Upscaler) -> None:
    rose, other = save(tmp_path / "e" / "rose.png", seed=1), save(tmp_path / "e" / "rose_x2.png", seed=2)
    (tmp_path / "link").symlink_to("e")
    held = other.read_bytes()
    done = run(make_plan(rose, other, output=tmp_path / "link", overwrite=True), upscaler, overwrite=True)
    assert "another input" in str(done.errors["rose.png"])
    assert other.read_bytes() == held


@posix
def test_a_folder_and_its_link_are_one(tmp_path: Path, upscaler: Upscaler) -> None:
    save(tmp_path / "d" / "a.png")
    link = tmp_path / "link"
    link.symlink_to("d")
    assert len(make_plan(tmp_path / "d", link, output=tmp_path / "x").planned) == 1
    run(make_plan(link, output=tmp_path / "d" / "out", recursive=True), upscaler)
    again = make_plan(link, output=tmp_path / "d" / "out", recursive=True)
    assert [Path(job.name).name for job in again.jobs] == ["a.png"]


@posix
def test_two_links_to_one_picture_are_two(tmp_path: Path) -> None:
    first = save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert len(make_plan(first, tmp_path / "b.png").planned) == 2


def test_a_bit_map_never_takes_the_output_s_place(tmp_path: Path) -> None:
    rose = save(tmp_path / "e" / "rose.png")
    (tmp_path / "link").symlink_to("e")
    there = tmp_path / "link" / "rose_x2.png"
    assert "is the output itself" in gdq("upscale", rose, "-x", 2, "--bitmap", there, "--overwrite", code=2)


LONG = "a" * 300


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ((LONG,), 3, "too long"),
        (("good.png", LONG), 2, "no such file"),
        (("good.png", "-o", f"{LONG}.png"), 3, "too long"),
        (("good.png", "-o", f"{LONG}/"), 3, "too long"),
        (("good.png", "-m", LONG), 4, "no model"),
        (("good.png", "-m", f"./{LONG}.safetensors"), 4, "no such"),
        (("good.png", "--bitmap", f"{LONG}.png"), 3, "too long"),
        (("good.png", "--report", f"{LONG}.html"), 3, "too long"),
    ],
)
def test_names_that_no_file_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], code: int, words: str
) -> None:
    save(tmp_path / "good.png")
    monkeypatch.chdir(tmp_path)
    assert words in gdq("upscale", "-x", 2, *line, code=code)


def test_one_name_that_no_file_can_have_stops_no_other(tmp_path: Path, upscaler: Upscaler) -> None:
    done = run(make_plan(save(tmp_path / "good.png"), f"{LONG}.png"), upscaler)
    assert list(done.errors) == [f"{LONG}.png"]
    assert (tmp_path / "good_x2.png").exists()


@posix
def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    root = Path(__file__).parents[2]
    script = f"cd {gone}; rmdir {gone}; PYTHONPATH={root} {sys.executable} -m gdq_cli upscale a.png"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_two_runs_at_once_say_in_what_they_differ(tmp_path: Path, upscaler: Upscaler) -> None:
    """What another run has made between the plan and a picture's turn is told like what was there before."""
    source, out = save(tmp_path / "a.png"), tmp_path / "out"
    plan = make_plan(source, output=f"{out}/")
    run(make_plan(source, output=f"{out}/", bits="4"), upscaler, bits="4")
    (outcome,) = run(plan, upscaler).outcomes
    assert isinstance(outcome, Skipped)
    assert outcome.differs == "options"
