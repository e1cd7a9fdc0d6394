"""The command line by table: what it prints, what it writes, which code it exits with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdq_cli.images import IMAGE_SUFFIXES, read_image
from tests.helpers.commands import app, gdq, run_process, runner
from tests.helpers.damage import mutate
from tests.helpers.image_samples import small_files
from tests.helpers.pictures import make_picture


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(make_picture(40, 60)).save(path)
    return path


def test_upscale_writes_the_picture_and_tells_about_it(picture: Path, model: Path) -> None:
    output = gdq("upscale", picture, "-x", 2, "-m", model)
    target = picture.with_name("in_x2.png")
    assert Image.open(target).size == (120, 80)
    assert "FAB" in output
    assert "60x40" in output
    assert "120x80" in output
    assert "BitOPs" in output
    assert "gdq calculates all parts of this picture with" in output


def test_json_has_the_promised_keys(picture: Path, model: Path) -> None:
    lines = [json.loads(line) for line in gdq("upscale", picture, "-x", 2, "-m", model, "--json").splitlines()]
    facts, last = lines
    promised = (
        "input output status error model model_sha256 scale engine device threads in_size out_size patches bits fab "
        "bitops_g bitops_fp32_g seconds output_mp_per_s peak_rss_mib warnings"
    )
    assert set(promised.split()) <= facts.keys()
    assert facts["in_size"] == [40, 60]
    assert facts["out_size"] == [80, 120]
    assert sum(facts["bits"].values()) == facts["patches"] == 1
    assert {"read", "bits", "network", "write", "total"} <= facts["seconds"].keys()
    assert last["summary"]["ok"] == 1


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["-x", "1.5"], (90, 60)),
        (["-x", "1"], (60, 40)),
        (["--width", "100"], (100, 67)),
        (["--height", "50"], (75, 50)),
        (["--longest", "120"], (120, 80)),
    ],
)
def test_other_sizes(picture: Path, model: Path, tmp_path: Path, arguments: list[str], size: tuple[int, int]) -> None:
    target = tmp_path / "out.png"
    output = gdq("upscale", picture, "-m", model, "-o", target, *arguments)
    assert Image.open(target).size == size
    assert ("Lanczos" in output) == (size != (120, 80))


def test_verbose_tells_where_the_time_went(picture: Path, model: Path) -> None:
    result = runner.invoke(app, ["upscale", str(picture), "-x", "2", "-m", str(model), "-v"])
    assert "seconds: read " in result.stderr
    assert "network " in result.stderr
    assert "contradict" in gdq("upscale", picture, "-v", "--quiet", code=2)


@pytest.mark.parametrize("bits", ["auto", "4", "5", "6", "8", "fp32"])
def test_every_width(picture: Path, model: Path, bits: str) -> None:
    facts = json.loads(gdq("upscale", picture, "-x", 2, "-m", model, "--bits", bits, "--json").splitlines()[0])
    if bits not in ("auto", "fp32"):
        assert facts["bits"][bits] == 1
        assert facts["fab"] == float(bits)
    if bits == "fp32":
        assert facts["fab"] == 32


def test_an_existing_output_is_skipped_and_replaced_on_request(picture: Path, model: Path) -> None:
    target = picture.with_name("in_x2.png")
    target.write_bytes(b"precious")
    assert "exists" in gdq("upscale", picture, "-x", 2, "-m", model)
    assert target.read_bytes() == b"precious"
    gdq("upscale", picture, "-x", 2, "-m", model, "--overwrite")
    assert Image.open(target).size == (120, 80)


def test_the_output_is_never_the_input(picture: Path, model: Path) -> None:
    before = picture.read_bytes()
    assert "replace the input" in gdq("upscale", picture, "-x", 2, "-m", model, "-o", picture, "--overwrite", code=3)
    assert picture.read_bytes() == before


MODES = {
    "grey.png": ("L", "L"),
    "alpha.png": ("RGBA", "RGBA"),
    "palette.png": ("P", "RGB"),
    "cmyk.jpg": ("CMYK", "RGB"),
    "grey_alpha.png": ("LA", "LA"),
    "deep.png": ("I;16", "I;16"),
}


@pytest.mark.parametrize("name", MODES)
def test_kinds_of_pictures(tmp_path: Path, model: Path, name: str) -> None:
    mode, expected = MODES[name]
    source = Image.fromarray(make_picture(20, 30))
    if mode == "I;16":
        source = Image.fromarray(make_picture(20, 30)[:, :, 0].astype(np.uint16) * 257)
    elif "A" in mode:
        source = source.convert("RGBA")
        source.putalpha(Image.linear_gradient("L").resize((30, 20)))
        source = source.convert(mode)
    else:
        source = source.convert(mode)
    path = tmp_path / name
    source.save(path)
    gdq("upscale", path, "-x", 2, "-m", model, "-o", tmp_path / f"out{path.suffix}")
    result = Image.open(tmp_path / f"out{path.suffix}")
    assert result.size == (60, 40)
    assert result.mode == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (97, 3)])
def test_tiny_pictures(tmp_path: Path, model: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "tiny.png"
    Image.fromarray(make_picture(*size)).save(path)
    gdq("upscale", path, "-x", 2, "-m", model)
    assert Image.open(tmp_path / "tiny_x2.png").size == (size[1] * 2, size[0] * 2)


def test_orientation_is_applied_and_the_profile_kept(tmp_path: Path, model: Path) -> None:
    from PIL import ImageCms

    path = tmp_path / "turned.jpg"
    image = Image.fromarray(make_picture(20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(path, exif=exif, icc_profile=profile)
    gdq("upscale", path, "-x", 2, "-m", model)
    result = Image.open(tmp_path / "turned_x2.jpg")
    assert result.size == (40, 60)
    assert result.getexif().get(0x0112, 1) == 1
    assert result.info["icc_profile"] == profile


def test_bitmap_in_every_format(picture: Path, model: Path, tmp_path: Path) -> None:
    output = gdq("bitmap", picture, "-x", 2, "-m", model, "-o", tmp_path / "map.png")
    assert "decided by" in output
    assert Image.open(tmp_path / "map.png").width >= 60
    gdq("bitmap", picture, "-x", 2, "-m", model, "-o", tmp_path / "map.csv")
    assert len((tmp_path / "map.csv").read_text().splitlines()) == 2
    facts = json.loads(gdq("bitmap", picture, "-x", 2, "-m", model, "-o", tmp_path / "map.json", "--json"))
    assert facts == json.loads((tmp_path / "map.json").read_text())
    assert facts["grid"] == [1, 1]
    assert len(facts["logits"][0][0]) == 3


def test_overlay_beside_the_picture(picture: Path, model: Path, tmp_path: Path) -> None:
    gdq("upscale", picture, "-x", 2, "-m", model, "--bitmap", tmp_path / "map.png")
    assert Image.open(tmp_path / "map.png").width >= 60
    arguments = ["upscale", picture, "-x", 2, "-m", model, "--bitmap", tmp_path / "map.png", "-o", tmp_path / "new.png"]
    assert "exists already" in gdq(*arguments, code=3)
    assert not (tmp_path / "new.png").exists()


def test_a_folder_of_pictures(tmp_path: Path, model: Path) -> None:
    for index in range(3):
        Image.fromarray(make_picture(10, 12, index)).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "broken.jpg").write_text("not a picture either")
    output = gdq("upscale", tmp_path, "-x", 2, "-m", model, code=1)
    assert "3 upscaled, 0 skipped, 1 failed" in output
    assert {p.name for p in tmp_path.glob("*_x2*")} == {"0_x2.png", "1_x2.png", "2_x2.png"}


def test_a_folder_as_json(tmp_path: Path, model: Path) -> None:
    for index in range(3):
        Image.fromarray(make_picture(10, 12, index)).save(tmp_path / f"{index}.png")
    (tmp_path / "1_x2.png").write_bytes(b"made before")
    (tmp_path / "broken.png").write_bytes(b"")
    (tmp_path / "notes.txt").touch()
    output = gdq("upscale", tmp_path / "absent.png", tmp_path, "-x", 2, "-m", model, "--json", code=1)
    *lines, last = [json.loads(line) for line in output.splitlines()]
    found = {Path(line["input"]).name: (line["status"], line["output"] is not None) for line in lines}
    assert found == {
        "0.png": ("ok", True),
        "1.png": ("skipped", True),
        "2.png": ("ok", True),
        "broken.png": ("failed", False),
        "absent.png": ("failed", False),
    }
    summary = last["summary"]
    assert [summary[key] for key in ("ok", "skipped", "failed", "ignored", "earlier_outputs")] == [2, 1, 2, 1, 1]
    assert summary["differing"] == {"unknown": 1}
    assert [line.get("differs") for line in lines if line["status"] == "skipped"] == ["unknown"]
    assert 0 < summary["network_share"] <= 1


def test_failures_are_listed_at_the_end(tmp_path: Path, model: Path) -> None:
    Image.fromarray(make_picture(10, 12)).save(tmp_path / "a.png")
    for name in ("b.png", "c.webp"):
        (tmp_path / name).write_bytes(b"text")
    lines = gdq("upscale", tmp_path, "-x", 2, "-m", model, code=1).splitlines()
    assert lines[-3].startswith("1 upscaled, 0 skipped, 2 failed in ")
    assert [line.split(": ")[0:2] for line in lines[-2:]] == [
        ["  failed", str(tmp_path / "b.png")],
        ["  failed", str(tmp_path / "c.webp")],
    ]


def test_a_repeated_folder_run_prints_counts_only(tmp_path: Path, model: Path) -> None:
    for index in range(4):
        Image.fromarray(make_picture(10, 12, index)).save(tmp_path / f"{index}.png")
    gdq("upscale", tmp_path, "-x", 2, "-m", model)
    output = gdq("upscale", tmp_path, "-x", 2, "-m", model)
    assert output.startswith("0 upscaled, 4 skipped, 0 failed in ")
    assert "4 outputs of earlier runs left alone" in output
    assert len(output.splitlines()) == 1
    output = gdq("upscale", tmp_path, "-x", 2, "-m", "edsr")
    assert output.splitlines()[1:] == ["  skipped: 4 exist, made with other options; --overwrite replaces them"]
    (tmp_path / "0_x2.png").unlink()
    gdq("upscale", tmp_path / "0.png", "-x", 2, "-m", "edsr")
    output = gdq("upscale", tmp_path / "0.png", tmp_path / "1.png", "-x", 2, "-m", "edsr")
    assert output.splitlines()[1:] == ["  skipped: 1 exists, made with other options; --overwrite replaces it"]
    assert "0 to upscale, 2 to skip" in gdq("upscale", tmp_path / "0.png", tmp_path / "1.png", "-x", 2, "--dry-run")


def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(make_picture(10, 12)).save(folder / "a.png")
    Image.fromarray(make_picture(10, 12)).save(folder / "a.jpg")
    (folder / "b.png").write_bytes(b"text")
    arguments = ["upscale", folder, "-o", tmp_path / "out", "-f", "png", "--name", "{stem}_{width}", "--dry-run"]
    output = gdq(*arguments, code=1)
    assert f"{folder / 'a.jpg'} 12x10 -> {tmp_path / 'out' / 'a_48.png'} 48x40" in output
    assert "a.png_48.png" in output
    assert "would fail" in output
    assert re.search(r"2 to upscale \(about [0-9]+ KiB\)", output)
    lines = [json.loads(line) for line in gdq(*arguments, "--json", code=1).splitlines()]
    assert [line["status"] for line in lines[:-1]] == ["planned", "planned", "failed"]
    assert lines[-1]["summary"] == {
        "planned": 2,
        "skipped": 0,
        "failed": 1,
        "ignored": 0,
        "earlier_outputs": 0,
        "also": [],
    }
    assert lines[0]["out_size"] == [40, 48]
    assert not (tmp_path / "out").exists()


def test_recursive_into_a_new_folder(tmp_path: Path, model: Path) -> None:
    for name in ("in/a.png", "in/b/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(make_picture(10, 12)).save(tmp_path / name)
    gdq("upscale", tmp_path / "in", "-r", "-x", 2, "-m", model, "-o", tmp_path / "out", "--suffix", "")
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")} == {
        "a.png",
        "b/c.png",
    }


def test_quiet_prints_errors_only(tmp_path: Path, model: Path) -> None:
    Image.fromarray(make_picture(10, 12)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"text")
    output = gdq("upscale", tmp_path, "-x", 2, "-m", model, "--quiet", code=1)
    assert output.startswith("error: ")
    assert len(output.splitlines()) == 1


def test_a_model_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    for index in range(5):
        Image.fromarray(make_picture(10, 12, index)).save(tmp_path / f"{index}.png")
    result = runner.invoke(app, ["upscale", str(tmp_path), "-m", "nothing"])
    assert result.exit_code == 4
    assert result.stderr.count("no model") == 1
    assert result.stdout.count("no model") == 1  # in the list at the end
    assert "(5 pictures)" in result.stdout


def on_a_terminal(*args: str, delay: float = 0) -> tuple[int, bytes, bytes]:
    """Exit code, stdout, and what a terminal on stderr saw of a command whose bar appears after a delay."""
    pty = pytest.importorskip("pty")
    start = (
        f"import gdq_cli.commands.terminal.progress as p; p.BAR_DELAY = {delay}; "
        "from gdq_cli.commands.app import main; main()"
    )
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", start, *args], stdout=subprocess.PIPE, stderr=child, env=environment
    ) as process:
        os.close(child)
        seen = b""
        with contextlib.suppress(OSError):  # how a terminal without anyone on it ends
            while block := os.read(parent, 4096):
                seen += block
        assert process.stdout is not None
        results = process.stdout.read()
    os.close(parent)
    return process.returncode, results, seen


def test_a_bar_on_a_terminal(tmp_path: Path, model: Path) -> None:
    """The bar is one line that is gone at the end; results are whole lines."""
    for index in range(12):
        Image.fromarray(make_picture(20, 20, index)).save(tmp_path / f"{index:02d}.png")
    code, results, seen = on_a_terminal("upscale", str(tmp_path), "-x", "2", "-m", str(model))
    assert code == 0
    assert results.count(b"\n") == 13
    assert b"\x1b" not in results
    assert b"/12 " in seen
    assert b"%" in seen


def test_choosing_bits_shows_the_bar(tmp_path: Path, model: Path) -> None:
    Image.fromarray(make_picture(2000, 1200)).save(tmp_path / "one.png")
    code, results, seen = on_a_terminal("bitmap", str(tmp_path / "one.png"), "-x", "2", "-m", str(model))
    assert code == 0
    assert b"\x1b" not in results
    assert b"one.png" in seen
    assert b"100%" in seen


def test_the_bar_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that tells nothing for long shows that it goes on; one bar takes the place of another."""
    from rich.console import Console

    from gdq_cli.commands.terminal import progress

    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "make_console", lambda *, stderr: terminal)
    monkeypatch.setattr(progress, "BAR_DELAY", 0.01)
    first = progress.Bar("reading")
    for _ in range(500):
        if "reading" in screen.getvalue():
            break
        time.sleep(0.01)
    assert "reading" in screen.getvalue()
    second = progress.Bar("downloading")
    before = len(screen.getvalue())
    second.update("downloading", 1, 2)
    time.sleep(0.3)  # three times as long as a bar waits before it is drawn anew
    second.stop()
    assert "downloading" in screen.getvalue()[before:]
    assert "reading" not in screen.getvalue()[before:]
    first.update("read", 1, 1)
    first.stop()
    assert "read " in screen.getvalue()[before:]


FUZZ = int(os.environ.get("GDQ_FUZZ", "160"))


def test_mutated_files_in_one_run(tmp_path: Path, model: Path) -> None:
    """Through the whole command: readable or named as failed, no traceback, no output for what cannot be read."""
    rng = np.random.default_rng(20251123)
    files = small_files()
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    names = list(files)
    for index in range(FUZZ):
        name = names[index % len(names)]
        (folder / f"{index:04d}.{name.partition('-')[0]}").write_bytes(mutate(files[name], rng))
    arguments = ["upscale", folder, "-x", 2, "-m", model, "-o", out, "--max-pixels", 100_000, "--json"]
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.exception
    assert "Traceback" not in result.output
    *lines, last = [json.loads(line) for line in result.stdout.splitlines()]
    statuses = [line["status"] for line in lines]
    assert len(lines) == sum(p.suffix in IMAGE_SUFFIXES for p in folder.iterdir())
    assert 0.2 * FUZZ < statuses.count("failed") < 0.9 * FUZZ
    assert last["summary"]["failed"] == statuses.count("failed")
    errors = [line["error"] for line in lines if line["error"] is not None]
    assert all(len(error) < 400 and "\n" not in error and "internal error" not in error for error in errors)
    made = {str(path) for path in out.iterdir()}
    assert made == {line["output"] for line in lines if line["status"] == "ok"}
    for path in made:
        read_image(Path(path))


def broken_jpeg(folder: Path) -> Path:
    (folder / "text.jpg").write_text("this is text")
    return folder / "text.jpg"


def truncated_png(folder: Path) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(make_picture(50, 50)).save(buffer, "png")
    (folder / "cut.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    return folder / "cut.png"


def test_bad_inputs(tmp_path: Path, model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in (
        (broken_jpeg(tmp_path), "not a readable image"),
        (truncated_png(tmp_path), "truncated"),
        (tmp_path / "absent.png", "no such file"),
        (empty, "no pictures"),
    ):
        before = sorted(tmp_path.rglob("*"))
        output = gdq("upscale", path, "-x", 2, "-m", model, code=3)
        assert message in output, output
        assert "Traceback" not in output
        assert len([line for line in output.splitlines() if line.strip()]) == 1
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-x", "0"], 2, "--scale must be"),
        (["-x", "3.7e9"], 2, "--scale must be"),
        (["-x", "2", "--width", "9"], 2, "contradict"),
        (["-x", "2", "-o", "absent/out.png"], 3, "no folder"),
        (["-x", "2", "-o", "out.xyz"], 2, "does not write"),
        (["-x", "2", "-d", "tpu"], 5, "unknown device"),
        (["-x", "2", "-m", "nothing"], 4, "no model"),
        (["-x", "2", "-m", "nothing.safetensors"], 4, "no such checkpoint"),
        (["-x", "4"], 4, "cannot upscale x4"),
        (["-x", "2", "--bits", "7"], 2, "--bits must be"),
        (["-x", "2", "--budget", "3"], 2, "--budget must be"),
        (["-x", "2", "--max-pixels", "100"], 3, "pixels"),
        (["-x", "2", "--memory", "lots"], 2, "--memory takes"),
        (["-x", "2", "--name", "{nope}"], 2, "no field {nope}"),
        (["-x", "2", "--name", "a", "--suffix", "b"], 2, "contradict"),
        (["-x", "2", "--background", "mud"], 2, "not a colour"),
        (["-x", "2", "--format", "doc"], 2, "does not write"),
        (["-x", "2", "-f", "jpg", "--lossless"], 2, "never lossless"),
        (["-x", "2", "-o", "absent"], 2, "no such folder"),
        (["--width", "30"], 2, "smaller than the input"),
    ],
)
def test_bad_options(
    picture: Path, model: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(picture.parent)
    given = arguments if "-m" in arguments else [*arguments, "-m", str(model)]
    assert message in gdq("upscale", picture, *given, code=code)
    assert [p.name for p in picture.parent.iterdir()] == ["in.png"]


def test_a_checkpoint_cut_in_half(picture: Path, model: Path, tmp_path: Path) -> None:
    half = tmp_path / "half_x2.safetensors"
    half.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    assert "not a readable" in gdq("upscale", picture, "-x", 2, "-m", half, code=4)


def test_a_bundled_checkpoint_with_a_wrong_hash(
    picture: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = tmp_path / "box"
    box.mkdir()
    (box / "edsr_x2.safetensors").write_bytes(model.read_bytes())
    (box / "manifest.json").write_text(json.dumps({"edsr_x2.safetensors": {"sha256": "0" * 64, "size": 1}}))
    monkeypatch.setattr("gdq_cli.models.store.bundled_folder", lambda: box)
    assert "SHA-256" in gdq("upscale", picture, "-x", 2, code=4)


def test_as_a_process_one_line_and_no_traceback(picture: Path) -> None:
    done = run_process("upscale", picture, "-x", "0")
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().startswith("error: --scale")
    assert done.stderr.count(b"\n") == 1


def test_stdin_to_stdout_and_no_colour_without_a_terminal(picture: Path, model: Path) -> None:
    done = run_process("upscale", "-", "-x", 2, "-m", model, "-o", "-", input=picture.read_bytes())
    assert done.returncode == 0, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).size == (120, 80)
    assert b"FAB" in done.stderr
    assert b"\x1b" not in done.stderr


def test_stdin_into_a_folder_and_json_beside_the_picture(picture: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["upscale", "-x", "2", "-m", str(model)]
    result = runner.invoke(app, [*arguments, "-", "-o", f"{tmp_path / 'out'}/"], input=picture.read_bytes())
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["stdin_x2.png"]
    result = runner.invoke(app, [*arguments, str(picture), "-o", "-", "-f", "webp", "--json"])
    assert Image.open(io.BytesIO(result.stdout_bytes)).format == "WEBP"
    assert json.loads(result.stderr.splitlines()[0])["output"] == "standard output"


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_dry_run_leaves_stdout_to_the_picture(picture: Path, model: Path, options: list[str]) -> None:
    """What reads pictures from the pipe gets nothing, as text or as JSON, of a run that makes none."""
    result = runner.invoke(
        app, ["upscale", "-x", "2", "-m", str(model), str(picture), "-o", "-", "--dry-run", *options]
    )
    assert (result.exit_code, result.stdout_bytes) == (0, b"")
    assert "standard output" in result.stderr


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_stdin_that_is_no_picture(model: Path, data: bytes) -> None:
    result = runner.invoke(app, ["upscale", "-", "-x", "2", "-m", str(model), "-o", "-"], input=data)
    assert (result.exit_code, result.stdout_bytes) == (3, b"")
    assert result.stderr.startswith("error: standard input: not a readable image")
    assert result.stderr.count("\n") == 1


def test_help_does_not_import_torch() -> None:
    code = "import sys; from gdq_cli.commands.app import build_app; build_app(); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert not {"'torch'", "'numpy'", "'PIL'"} & set(done.stdout.decode().strip("[]\n").split(", "))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_interrupt_leaves_nothing_behind(tmp_path: Path, model: Path) -> None:
    source = tmp_path / "large.png"
    Image.fromarray(make_picture(1500, 1500)).save(source)
    command = [sys.executable, "-m", "gdq_cli", "upscale", str(source), "-x", "2", "-m", str(model), "--bits", "fp32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while "libtorch_cpu" not in maps.read_text():  # the command is at work, past Python's own start
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip() == "interrupted"
    assert [p.name for p in tmp_path.iterdir()] == ["large.png"]


def test_interrupt_within_exec_has_the_same_exit_code(tmp_path: Path) -> None:
    """Ctrl-C while an import builds a dataclass: the interrupt passes through exec(str), which CPython remembers."""
    build = "lambda *_, **__: exec('raise KeyboardInterrupt')"
    code = f"import gdq_cli.commands.app as cli\ncli.build_app = {build}\ncli.main()\n"
    (tmp_path / "interrupted_gdq.py").write_text(code)
    done = subprocess.run([sys.executable, "-m", "interrupted_gdq"], capture_output=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (130, b"interrupted")


def test_a_reader_that_goes_away(picture: Path, model: Path) -> None:
    """``gdq ... -o - | head -c 10``: ends quietly, as other programs do."""
    command = [sys.executable, "-m", "gdq_cli", "upscale", str(picture), "-x", "2", "-m", str(model), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"Traceback" not in errors
    assert b"internal error" not in errors
