"""``--model auto``: which model a picture gets by its file, in the CLI and in Python; scales that a model lacks."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gdq_cli
from gdq_cli.errors import OptionsError
from gdq_cli.images import Compression
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.models.choice import NEARLY_LOSSLESS, choose_model
from gdq_cli.models.digests import file_sha256
from gdq_cli.models.store import native_scale
from gdq_cli.options import AUTO_MODEL, ControllerOptions, UpscaleOptions
from gdq_cli.training.calibration.calibrate import calibrate_checkpoint
from tests.helpers.commands import app, gdq, run_process, runner
from tests.helpers.image_samples import saved
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_pairs, make_picture

PICTURE = Image.fromarray(make_picture(20, 30))


@pytest.fixture(scope="module")
def box_of_models(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small networks under the names of the bundled ones: edsr at x2, x3 and x4, photo at x2 and x4."""
    folder = tmp_path_factory.mktemp("box")
    of_scale = {2: small_checkpoint} | {
        scale: calibrate_checkpoint(
            make_network(scale), make_pairs(scale, 2), ControllerOptions(), name="small", patches=4
        )
        for scale in (3, 4)
    }
    for name, scale in (("edsr", 2), ("edsr", 3), ("edsr", 4), ("photo", 2), ("photo", 4)):
        write_checkpoint(folder / f"{name}_x{scale}.safetensors", dataclasses.replace(of_scale[scale], name=name))
    files = {path.name: {"sha256": file_sha256(path), "size": path.stat().st_size} for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps(files))
    return folder


@pytest.fixture
def box(box_of_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("gdq_cli.models.store.bundled_folder", lambda: box_of_models)
    return box_of_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of each kind."""
    path = tmp_path / "in"
    path.mkdir()
    frames = [Image.fromarray(make_picture(20, 30, seed)) for seed in range(2)]
    PICTURE.save(path / "a.jpg", quality=85)
    PICTURE.save(path / "b.png")
    PICTURE.save(path / "c.webp")
    PICTURE.save(path / "d.webp", lossless=True)
    PICTURE.save(path / "e.jpg", quality=99)
    PICTURE.save(path / "f.tif", compression="jpeg")
    frames[0].save(path / "g.webp", save_all=True, append_images=frames[1:])
    return path


CHOICES = {
    "a.jpg": ("photo", "JPEG quality 85"),
    "b.png": ("edsr", "lossless PNG"),
    "c.webp": ("photo", "lossy WebP"),
    "d.webp": ("edsr", "lossless WebP"),
    "e.jpg": ("edsr", "JPEG quality 99, nearly lossless"),
    "f.tif": ("photo", "lossy TIFF"),
    "g.webp": ("photo", "lossy WebP"),
}


def objects(*arguments: object) -> list[dict[str, Any]]:
    """What a run with --json prints on stdout."""
    result = runner.invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def chosen(lines: list[dict[str, Any]]) -> dict[str, tuple[str, str | None]]:
    return {Path(line["input"]).name: (line["model"], line["model_reason"]) for line in lines if "input" in line}


# The decision


def test_the_rule() -> None:
    for quality, model in ((1, "photo"), (NEARLY_LOSSLESS - 1, "photo"), (NEARLY_LOSSLESS, "edsr"), (100, "edsr")):
        assert choose_model("auto", Compression("JPEG", False, quality))[0] == model
    assert choose_model("auto", Compression("JPEG", False)) == ("photo", "lossy JPEG")
    assert choose_model("auto", None) == ("edsr", "pixels without a file")
    for named in ("edsr", "photo", "hf:a/b", "weights/auto_x2.safetensors"):
        assert choose_model(named, Compression("JPEG", False, 50)) == (named, None)


def test_auto_is_the_default() -> None:
    assert UpscaleOptions().model == AUTO_MODEL
    assert gdq_cli.load.__defaults__ is not None
    assert gdq_cli.load.__defaults__[0] == AUTO_MODEL


# The command line


def test_every_file_of_a_folder_gets_its_own(folder: Path, box: Path, tmp_path: Path) -> None:
    arguments = ("upscale", folder, "-x", 2, "-o", tmp_path / "out")
    planned = objects(*arguments, "--dry-run")
    assert chosen(planned) == CHOICES
    lines = objects(*arguments)
    assert chosen(lines) == CHOICES
    assert lines[-1]["summary"]["ok"] == len(CHOICES)
    hashes = {line["model"]: line["model_sha256"] for line in lines[:-1]}
    assert hashes == {name: file_sha256(box / f"{name}_x2.safetensors") for name in ("edsr", "photo")}


def test_the_model_that_ran_is_the_one_that_is_named(folder: Path, box: Path, tmp_path: Path) -> None:
    for model in ("auto", "photo"):
        gdq("upscale", folder / "a.jpg", "-x", 2, "-m", model, "-o", tmp_path / f"{model}.png")
    assert (tmp_path / "auto.png").read_bytes() == (tmp_path / "photo.png").read_bytes()


def test_lines_for_people(folder: Path, box: Path, tmp_path: Path) -> None:
    arguments = ("upscale", folder / "a.jpg", "-x", 2)
    assert "| photo x2 for JPEG quality 85" in gdq(*arguments, "--dry-run")
    assert re.search(r"^photo x2 for JPEG quality 85 \(", gdq(*arguments), re.MULTILINE)
    assert re.search(r"^edsr x2 \(", gdq(*arguments, "-m", "edsr", "--overwrite"), re.MULTILINE)
    many = gdq("upscale", folder, "-x", 2, "-o", tmp_path / "out")
    assert "| edsr for lossless PNG | FAB" in many
    assert " for " not in gdq("upscale", folder, "-x", 2, "-o", tmp_path / "by_hand", "-m", "photo")


def test_named_models_give_no_reason(folder: Path, box: Path, model: Path) -> None:
    for name, found in (("edsr", "edsr"), ("photo", "photo"), (model, "small")):
        (line, _) = objects("upscale", folder / "a.jpg", "-x", 2, "-m", name, "--overwrite")
        assert (line["model"], line["model_reason"]) == (found, None)


def test_standard_input(folder: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        data = (folder / name).read_bytes()
        done = run_process("upscale", "-", "-o", f"{tmp_path}/", "--name", "{model}", "--dry-run", "--json", input=data)
        line = json.loads(done.stdout.splitlines()[0])
        assert (line["model"], line["model_reason"]) == CHOICES[name]
        assert Path(line["output"]).stem == CHOICES[name][0]


def test_names_hold_each_files_model_and_a_repeated_command_knows_its_outputs(folder: Path, box: Path) -> None:
    arguments = ("upscale", folder, "-x", 2, "--name", "{stem}-{model}")
    lines = objects(*arguments)
    made = {Path(line["input"]).name: Path(line["output"]).stem for line in lines[:-1]}
    assert made == {name: f"{Path(name).stem}-{model}" for name, (model, _) in CHOICES.items()}
    summary = objects(*arguments)[-1]["summary"]
    assert (summary["ok"], summary["skipped"], summary["earlier_outputs"]) == (0, len(CHOICES), len(CHOICES))


def test_a_picture_that_cannot_be_read_fails_alone(folder: Path, box: Path) -> None:
    (folder / "h.jpg").write_bytes((folder / "a.jpg").read_bytes()[:50])
    text = gdq("upscale", folder, "-x", 2, "--name", "{model}_{stem}", "--json", code=1)
    status = {line.get("input", ""): line.get("status") for line in map(json.loads, re.findall(r"^\{.*", text, re.M))}
    assert status.pop(str(folder / "h.jpg")) == "failed"
    assert set(status.values()) == {"ok", None}


def test_pictures_of_another_model_survive_a_damaged_one(
    folder: Path, box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "box"
    damaged.mkdir()
    for path in box.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "photo_x2.safetensors").write_bytes(b"no checkpoint")
    monkeypatch.setattr("gdq_cli.models.store.bundled_folder", lambda: damaged)
    text = gdq("upscale", folder, "-x", 2, "--json", code=1)
    lines = [json.loads(line) for line in re.findall(r"^\{.*", text, re.MULTILINE)]
    for line in lines[:-1]:
        assert line["status"] == ("ok" if CHOICES[Path(line["input"]).name][0] == "edsr" else "failed")
    assert "SHA-256" in gdq("upscale", folder / "a.jpg", folder / "c.webp", "-x", 2, "--overwrite", code=4)


# Scales that a model lacks


def test_the_next_larger_scale_runs(box: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [native_scale("photo", scale) for scale in (2, 3, 4)] == [2, 4, 4]
    assert [native_scale("edsr", scale) for scale in (2, 3, 4)] == [2, 3, 4]
    for other in ("nothing", str(model), "hf:owner/photo"):
        assert native_scale(other, 3) == 3
    monkeypatch.setenv("GDQ_MODEL_DIR", str(model.parent))
    assert (native_scale("small", 2), native_scale("small", 3)) == (2, 3)  # there is no larger one


@pytest.mark.parametrize("given", [[], ["-m", "photo"]])
@pytest.mark.parametrize("size", [["-x", "3"], ["--width", "90"], ["-x", "2.5"]])
def test_a_lacking_scale_is_reduced_from_a_larger_one_and_said(
    folder: Path, box: Path, tmp_path: Path, given: list[str], size: list[str]
) -> None:
    (line, _) = objects("upscale", folder / "a.jpg", *size, *given, "-o", tmp_path / "out.png")
    height, width = (50, 75) if "2.5" in size else (60, 90)
    assert (line["model"], line["out_size"]) == ("photo", [height, width])
    assert line["warnings"] == [
        "photo has no x3, so its x4 runs",
        f"upscaled x4 by the network, then resized to {width}x{height} with Lanczos",
    ]
    assert Image.open(tmp_path / "out.png").size == (width, height)
    planned = gdq("upscale", folder / "a.jpg", *size, *given, "-o", tmp_path / "new.png", "--dry-run")
    assert "photo has no x3, so its x4 runs" in planned
    assert "| photo x4" in planned


def test_a_model_of_that_scale_is_not_reduced(folder: Path, box: Path, tmp_path: Path) -> None:
    (line, _) = objects("upscale", folder / "b.png", "-x", 3, "-o", tmp_path / "out.png")
    assert (line["model"], line["warnings"]) == ("edsr", [])


# The bit map


def test_the_bit_map_of_the_chosen_model(folder: Path, box: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        (facts,) = objects("bitmap", folder / name, "-x", 2)
        assert (facts["model"], facts["model_reason"], facts["scale"]) == (*CHOICES[name], 2)
        assert f"| {CHOICES[name][0]} x2 for {CHOICES[name][1]} |" in gdq("bitmap", folder / name, "-x", 2)
    (facts,) = objects("bitmap", folder / "a.jpg", "-x", 2, "-m", "edsr")
    assert (facts["model"], facts["model_reason"]) == ("edsr", None)
    page = tmp_path / "page.html"
    output = gdq("bitmap", folder / "a.jpg", "-x", 3, "-o", page)
    assert f"note: {folder / 'a.jpg'}: photo has no x3, so its x4 runs" in output
    assert "photo x4 for JPEG quality 85" in output
    text = page.read_text(encoding="utf-8")
    for fact in ("Model chosen for", "JPEG quality 85", "photo has no x3, so its x4 runs", "120 &times; 80"):
        assert fact in text
    (facts,) = objects("bitmap", folder / "a.jpg", "-x", 3, "-m", "photo")
    assert facts["scale"] == 4


# Python


def test_python_judges_a_pillow_image_by_its_file(folder: Path, box: Path) -> None:
    model = gdq_cli.load(scale=2, device="cpu")
    assert (model.name, model.scale, model.device) == ("auto", 2, "cpu")
    for name in ("a.jpg", "b.png", "c.webp", "e.jpg", "f.tif"):
        with Image.open(folder / name) as image:
            result = model.upscale(image)
        assert (result.model, result.model_reason, result.native_scale) == (*CHOICES[name], 2)
        by_hand = gdq_cli.load(result.model, scale=2, device="cpu").upscale(Image.open(folder / name))
        assert np.array_equal(by_hand.image, result.image)
        assert (by_hand.model, by_hand.model_reason) == (result.model, None)


def test_python_has_no_file_behind_an_array(folder: Path, box: Path) -> None:
    model = gdq_cli.load("auto", scale=2, device="cpu")
    with Image.open(folder / "a.jpg") as image:
        for pixels in (np.asarray(image), image.convert("RGB").resize((9, 9)), Image.fromarray(np.asarray(image))):
            result = model.upscale(pixels)
            assert (result.model, result.model_reason) == ("edsr", "pixels without a file")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_python_reduces_a_lacking_scale(box: Path, mode: str) -> None:
    model = gdq_cli.load("photo", scale=3, device="cpu")
    image = PICTURE.convert(mode)
    result = model.upscale(image)
    assert (model.scale, result.native_scale, result.pil.size, result.pil.mode) == (3, 4, (90, 60), mode)
    auto = gdq_cli.load(scale=3, device="cpu")
    lossy, clean = auto.upscale(Image.open(io.BytesIO(saved(PICTURE, "JPEG")))), auto.upscale(PICTURE)
    assert [(found.pil.size, found.native_scale) for found in (lossy, clean)] == [((90, 60), 4), ((90, 60), 3)]


def test_python_refuses_scales_that_nobody_has(box: Path) -> None:
    for model in ("auto", "edsr", "photo"):
        with pytest.raises(OptionsError, match="`scale` must be 2, 3 or 4"):
            gdq_cli.load(model, scale=5)
