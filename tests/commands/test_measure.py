"""gdq eval, bench and compare."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gdq_cli.measure.degradation import EVAL_DEGRADATIONS
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from tests.helpers.commands import gdq
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "hr"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(make_picture(40, 52, index)).save(folder / f"{index}.png")
    return folder


def test_eval_table(pictures: Path, model: Path) -> None:
    output = gdq("eval", pictures, "-x", 2, "-m", model, "--engine", "reference", "-b", "auto", "-b", "fp32")
    lines = [line for line in output.splitlines() if "small" in line]
    assert ["fp32" in line for line in lines] == [True, False]
    assert "+0.000" in lines[0]
    assert "antialiased bicubic" in output


def test_eval_json_and_csv(pictures: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["eval", pictures, "-x", 2, "-m", model, "--engine", "reference", "--bits", "auto", "--bits", "bicubic"]
    table = tmp_path / "figures.csv"
    facts = json.loads(gdq(*arguments, "--csv", table, "--json"))
    assert {"model", "scale", "protocol", "rows"} <= facts.keys()
    bicubic, auto = facts["rows"]
    assert (bicubic["bits"], bicubic["fab"]) == ("bicubic", None)
    assert {"bits", "psnr_y", "ssim_y", "fab", "bitops_g", "seconds", "images"} <= auto.keys()
    assert [image["name"] for image in auto["images"]] == ["0.png", "1.png"]
    assert auto["psnr_y"] == pytest.approx(np.mean([image["psnr_y"] for image in auto["images"]]))
    written = list(csv.DictReader(table.open()))
    assert float(written[-1]["psnr_y"]) == auto["psnr_y"]
    assert "exists" in gdq(*arguments, "--csv", table, code=3)


def test_eval_with_lr_pictures_and_two_models(pictures: Path, model: Path, tmp_path: Path) -> None:
    lr = tmp_path / "lr"
    lr.mkdir()
    for index in range(2):
        Image.fromarray(make_picture(20, 26, index)).save(lr / f"{index}x2.png")
    plain = tmp_path / "plain_x2.safetensors"
    write_checkpoint(plain, Checkpoint(make_network(2, seed=3), None, name="plain"))
    arguments = ["eval", pictures, "--lr", lr, "-x", 2, "-m", model, "-m", plain, "--bits", "fp32", "--json"]
    first, second = (json.loads(line) for line in gdq(*arguments, "--protocol", "paper").splitlines())
    assert [first["model"], second["model"]] == ["small", "plain"]
    assert first["protocol"] == "paper"
    assert first["lr"] == str(lr)
    assert first["rows"][0]["psnr_y"] != second["rows"][0]["psnr_y"]


def test_models_share_a_table_and_its_bicubic_row(pictures: Path, model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain_x2.safetensors"
    write_checkpoint(plain, Checkpoint(make_network(2, seed=3), None, name="plain"))
    arguments = ["eval", pictures, "-x", 2, "-m", model, "-m", plain, "-b", "bicubic", "-b", "fp32"]
    rows = [re.findall(r"[\w.]+", line)[:2] for line in gdq(*arguments).splitlines() if line.startswith(("│", "|"))]
    assert rows == [["Pillow", "bicubic"], ["small", "fp32"], ["plain", "fp32"]]


def test_eval_of_degraded_pictures(pictures: Path, model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain_x2.safetensors"
    write_checkpoint(plain, Checkpoint(make_network(2, seed=3), None, name="plain"))
    arguments = ["eval", pictures, "-x", 2, "-m", model, "-m", plain, "-b", "bicubic", "-b", "fp32"]
    arguments += ["--degrade", "light,jpeg45", "--seed", 3]
    csv_file = tmp_path / "figures.csv"
    found = [json.loads(line) for line in gdq(*arguments, "--json", "--csv", csv_file).splitlines()]
    assert [(facts["degradation"], facts["model"]) for facts in found] == [
        ("light", "small"),
        ("light", "plain"),
        ("jpeg45", "small"),
        ("jpeg45", "plain"),
    ]
    assert {(facts["lr"], facts["seed"]) for facts in found} == {("degraded", 3)}
    assert found[0]["rows"][0]["psnr_y"] == found[1]["rows"][0]["psnr_y"] != found[2]["rows"][0]["psnr_y"]
    means = [line for line in csv.DictReader(csv_file.open()) if line["name"] == "mean"]
    assert [line["degradation"] for line in means] == ["light"] * 4 + ["jpeg45"] * 4
    assert float(means[1]["colour_shift"]) == found[0]["rows"][1]["colour_shift"]

    table = gdq(*arguments)
    rows = [re.findall(r"[\w.]+", line)[:3] for line in table.splitlines() if line.startswith(("│", "|"))]
    assert rows == [
        [kind, *row]
        for kind in ("light", "jpeg45")
        for row in (["Pillow", "bicubic"], ["small", "fp32"], ["plain", "fp32"])
    ]
    assert "degraded, seed 3" in table


def test_help_names_every_degradation() -> None:
    words = re.findall(r"\w+", gdq("eval", "--help"))
    assert set(EVAL_DEGRADATIONS) <= set(words)


def test_checkpoints_of_one_name_are_told_apart(pictures: Path, model: Path, tmp_path: Path) -> None:
    trained = tmp_path / "after.safetensors"
    write_checkpoint(trained, Checkpoint(make_network(2, seed=3), None, name="small"))
    table = tmp_path / "figures.csv"
    output = gdq("eval", pictures, "-x", 2, "-m", model, "-m", trained, "-b", "fp32", "--csv", table)
    hashes = [line["model_sha256"] for line in csv.DictReader(table.open()) if line["name"] == "mean"]
    assert len(set(hashes)) == 2
    for sha256 in hashes:
        assert f"small {sha256[:8]}" in output


def test_eval_finds_all_models_before_it_runs_one(pictures: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a model ran")

    monkeypatch.setattr("gdq_cli.measure.evaluation.evaluate", refuse)
    assert "no model 'absent'" in gdq("eval", pictures, "-x", 2, "-m", model, "-m", "absent", "--offline", code=4)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-x", "5"], 2, "--scale"),
        (["-x", "2", "--protocol", "mine"], 2, "--protocol"),
        (["-x", "2", "-j", "0"], 2, "--threads must be"),
        (["-x", "2", "--bits", "7"], 2, "--bits"),
        (["-x", "2", "--lr", "absent"], 3, "no such folder"),
        (["-x", "4"], 4, "cannot upscale x4"),
        (["-x", "2", "--degrade", "jpeg80"], 2, "--degrade must be of clean, jpeg90"),
        (["-x", "2", "--degrade", "light", "--lr", "absent"], 2, "give one of them"),
        (["-x", "2", "--degrade", "light", "--protocol", "paper"], 2, "for clean LR pictures"),
        (["-x", "2", "--degrade", "light", "--seed", "-1"], 2, "--seed"),
        (["-x", "2", "--seed", "1"], 2, "give both or neither"),
    ],
)
def test_eval_refuses(pictures: Path, model: Path, arguments: list[str], code: int, message: str) -> None:
    assert message in gdq("eval", pictures, "-m", model, *arguments, code=code)


def test_eval_of_an_empty_folder(tmp_path: Path, model: Path) -> None:
    assert "no images" in gdq("eval", tmp_path, "-x", 2, "-m", model, code=3)


def test_bench_json(model: Path) -> None:
    arguments = ["--size", "24x20", "-x", 2, "-m", model, "--engine", "reference", "--repeats", 2, "-j", 1]
    facts = json.loads(gdq("bench", *arguments, "-b", "auto", "-b", "fp32", "-b", "4", "--json"))
    assert {"machine", "network", "in_size", "rows"} <= facts.keys()
    assert facts["in_size"] == [20, 24]
    names = [(row["engine"], row["bits"]) for row in facts["rows"]]
    assert names == [
        ("torch, whole picture", "fp32"),
        ("torch", "fp32"),
        ("reference", "auto"),
        ("reference", "4"),
    ]
    floats = [row["seconds_median"] for row in facts["rows"] if row["bits"] == "fp32"]
    for row in facts["rows"]:
        assert 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert row["ratio_to_fp32"] == pytest.approx(min(floats) / row["seconds_median"])
        assert row["output_mp_per_s"] == pytest.approx(20 * 24 * 4 / 1e6 / row["seconds_median"])
        assert row["threads"] == 1
    assert facts["rows"][3]["fab"] == 4
    assert list(facts["stages"]["seconds"]) == ["read", "bits", "network", "write"]
    assert facts["machine"]["cores"] >= 1


def test_bench_table_of_a_picture(pictures: Path, model: Path) -> None:
    options = ["-x", 2, "-m", model, "--engine", "reference", "--repeats", 1, "-b", "5", "-j", 1]
    output = gdq("bench", pictures / "0.png", *options)
    assert "52x40" in output
    assert "reference" in output
    assert "network includes joining" in output
    assert "counted" in output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "12"], 2, "--size must be"),
        (["--size", "00x9"], 2, "--size must be"),
        (["--size", "9" * 5000 + "x9"], 2, "--size must be"),
        (["--size", "99999x99999"], 2, "pixels"),
        (["--repeats", "0"], 2, "--repeats"),
        (["-j", "0"], 2, "--threads"),
        (["-b", "bicubic"], 2, "not bicubic"),
        (["--engine", "steam"], 5, "no engine named steam"),
        (["absent.png"], 3, "absent.png"),
    ],
)
def test_bench_refuses(model: Path, arguments: list[str], code: int, message: str) -> None:
    assert message in gdq("bench", "-x", 2, "-m", model, *arguments, code=code)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(make_picture(30, 40)).save(paths[0])
    Image.fromarray(np.minimum(make_picture(30, 40), 200)).save(paths[1])
    return paths


def test_compare(two: tuple[Path, Path], tmp_path: Path) -> None:
    output = gdq("compare", *two, "-o", tmp_path / "d.png")
    assert "PSNR-Y" in output
    assert "largest difference" in output
    assert Image.open(tmp_path / "d.png").size == (40, 30)
    facts = json.loads(gdq("compare", *two, "--json"))
    assert facts["largest"] == int(make_picture(30, 40).max()) - 200
    assert not facts["equal"]
    assert "are equal" in gdq("compare", two[0], two[0])
    pages = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue", "white", "black")]
    for name, order in (("f.tif", (0, 1, 2, 3, 4)), ("g.tif", (0, 3, 4, 3, 1))):
        first, *others = (pages[n] for n in order)
        first.save(tmp_path / name, save_all=True, append_images=others)
    assert gdq("compare", tmp_path / "f.tif", tmp_path / "g.tif").startswith("frames or pages 2-3, 5 of 5 differ, most")
    pages[0].save(tmp_path / "h.tif", save_all=True, append_images=pages[1:4] + pages[:1])
    assert gdq("compare", tmp_path / "f.tif", tmp_path / "h.tif").startswith("frame or page 5 of 5 differs: PSNR-Y")
    assert "are equal: 20x20 pixels, 5 frames" in gdq("compare", tmp_path / "f.tif", tmp_path / "f.tif")
    for name, value in (("a.tif", 1.5), ("b.tif", 2.5)):
        Image.fromarray(np.full((9, 9), value, np.float32)).save(tmp_path / name)
    assert "no difference in what gdq reads: 9x9 pixels" in gdq("compare", tmp_path / "a.tif", tmp_path / "b.tif")
    assert not json.loads(gdq("compare", tmp_path / "a.tif", tmp_path / "b.tif", "--json"))["equal"]
    same = json.loads(gdq("compare", two[0], two[0], "--json"))
    assert same["equal"]
    assert same["psnr_y"] is None


def test_compare_refuses(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "c.png"
    Image.fromarray(make_picture(30, 41)).save(other)
    assert "only equal sizes" in gdq("compare", two[0], other, code=3)
    assert "leaves nothing" in gdq("compare", *two, "--shave", 15, code=2)
    assert "--shave" in gdq("compare", *two, "--shave", -1, code=2)
    assert "replace an input" in gdq("compare", *two, "-o", two[1], code=3)
    assert "does not write" in gdq("compare", *two, "-o", tmp_path / "d.xyz", code=2)
