"""Scores of models on folders, and the geometry of the paper's protocol."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from gdq_cli.commands.terminal.wording import to_json
from gdq_cli.engines import choose_engine
from gdq_cli.engines.base import Engine
from gdq_cli.errors import ImageError, OptionsError, WeightsError
from gdq_cli.measure.degradation import EVAL_DEGRADATIONS, EvalDegradation, degrade
from gdq_cli.measure.evaluation import (
    BICUBIC,
    Evaluation,
    EvaluationRow,
    PictureScore,
    evaluate,
    evaluations_csv,
    find_pairs,
    parse_degradations,
    read_pair,
    row_order,
    score,
)
from gdq_cli.measure.metrics import psnr_y, ssim_y
from gdq_cli.measure.pairs import ImagePair, downscale
from gdq_cli.measure.paper_protocol import PATCH_SIZE, plan_axis, upscale_paper
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint
from gdq_cli.networks import controller_head
from gdq_cli.program import cost
from gdq_cli.program.layers import IntegerConv
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.networks import make_network
from tests.helpers.paths import ROOT, SHARED
from tests.helpers.pictures import make_picture

GEOMETRY = SHARED / "parity" / "geometry.json"
SET5 = SHARED / "data" / "bench" / "Set5"


class Repeat(Engine):
    """Repeats pixels; remembers what it was given."""

    name = "repeat"

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.calls: list[tuple[tuple[int, ...], int]] = []

    def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
        self.calls.append((tuple(windows.shape), bit_width))
        return windows.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)

    def accumulators(self, codes: Tensor, conv: IntegerConv) -> Tensor:
        raise AssertionError


@pytest.fixture(scope="module")
def upscaler(small_checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(small_checkpoint, choose_engine(small_checkpoint.network, name="reference").engine)


def save(folder: Path, name: str, image: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (1, [(0, 1, 0, 1)]),
        (95, [(0, 95, 0, 95)]),
        (185, [(0, 185, 0, 185)]),
        (186, [(0, 96, 0, 93), (90, 186, 93, 186)]),
        (300, [(0, 96, 0, 93), (90, 186, 93, 183), (180, 300, 183, 300)]),
    ],
)
def test_paper_spans(side: int, expected: list[tuple[int, ...]]) -> None:
    assert [(s.start, s.stop, s.core, s.core_stop) for s in plan_axis(side)] == expected


@given(st.integers(1, 2000))
def test_every_pixel_of_an_axis_has_one_owner(side: int) -> None:
    spans = plan_axis(side)
    assert [span.core for span in spans] == [0, *(span.core_stop for span in spans[:-1])]
    assert spans[-1].core_stop == spans[-1].stop == side
    for span in spans:
        assert 0 <= span.start <= span.core < span.core_stop <= span.stop
        assert PATCH_SIZE <= span.stop - span.start <= 185 or len(spans) == 1


def test_paper_spans_need_a_pixel() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        plan_axis(0)


@pytest.mark.skipif(not GEOMETRY.is_file(), reason="the released code's geometry is not part of the repository")
def test_paper_geometry_is_the_released_codes() -> None:
    cases = json.loads(GEOMETRY.read_text())["cases"]
    assert len(cases) == 32
    for case in cases:
        rows, cols, scale = plan_axis(case["h"]), plan_axis(case["w"]), case["scale"]
        assert [[r.start, r.stop, c.start, c.stop] for r in rows for c in cols] == case["crops_lr_y0y1x0x1"]
        owned = [[scale * v for v in (r.core, r.core_stop, c.core, c.core_stop)] for r in rows for c in cols]
        assert owned == case["owned_sr_y0y1x0x1"]


def test_paper_patches_run_alone_and_join_hard(small_checkpoint: Checkpoint) -> None:
    engine = Repeat(2)
    image = make_picture(100, 200)
    result = upscale_paper(Upscaler(small_checkpoint, engine), image, bits="6")
    assert np.array_equal(result.image, image.repeat(2, 0).repeat(2, 1))
    assert sorted(engine.calls) == [((1, 3, 100, 96), 6), ((1, 3, 100, 110), 6)]
    assert result.bit_map.tolist() == [[6, 6]]
    assert result.fab == 6
    program = small_checkpoint.parameters.program
    assert result.bitops_g == pytest.approx(cost.bit_operations(program, {6: 100 * 96 + 100 * 110}))


def test_paper_patches_choose_by_what_they_see(small_checkpoint: Checkpoint) -> None:
    engine = Repeat(2)
    image = make_picture(96, 190)
    result = upscale_paper(Upscaler(small_checkpoint, engine), image)
    assert small_checkpoint.controller is not None
    head = controller_head(small_checkpoint.network)
    seen = [np.ascontiguousarray(image[:, 0:96]), np.ascontiguousarray(image[:, 90:190])]
    expected = [small_checkpoint.controller.choose(patch[None], head)[0].bit_width for patch in seen]
    assert result.bit_map.tolist() == [expected]
    assert [bit_width for _, bit_width in sorted(engine.calls)] == expected
    assert result.fab == np.mean(expected)


def test_paper_protocol_refuses_what_a_checkpoint_has_not() -> None:
    plain = Checkpoint(make_network(2), None)
    with pytest.raises(WeightsError, match="float32 checkpoint"):
        upscale_paper(Upscaler(plain, Repeat(2)), make_picture(8, 8), bits="4")
    with pytest.raises(OptionsError, match="must be one of auto"):
        upscale_paper(Upscaler(plain, Repeat(2)), make_picture(8, 8), bits="7")


def test_rows_come_bicubic_first_then_fp32() -> None:
    assert row_order((), quantized=True) == ("fp32", "8", "6", "5", "4", "auto")
    assert row_order((), quantized=False) == ("fp32",)
    assert row_order(("auto", "4", "fp32", "4", "bicubic"), quantized=True) == ("bicubic", "fp32", "auto", "4")
    with pytest.raises(OptionsError, match="not 7"):
        row_order(("7",), quantized=True)


def test_pairs_by_name(tmp_path: Path) -> None:
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    for name in ("a.png", "0801.png", "b.png", "sub/c.png"):
        save(hr, name, make_picture(40, 40))
    for name in ("a.jpg", "0801x2.png", "b_x2.png", "sub/c.png", "stranger.png"):
        save(lr, name, make_picture(20, 20))
    found = {pair[0].name: pair[1] for pair in find_pairs(hr, lr, 2)}
    assert {name: path.name for name, path in found.items() if path} == {
        "a.png": "a.jpg",
        "0801.png": "0801x2.png",
        "b.png": "b_x2.png",
        "c.png": "c.png",
    }
    assert [pair[1] for pair in find_pairs(hr, None, 2)] == [None] * 4
    (lr / "b_x2.png").unlink()
    with pytest.raises(ImageError, match=r"no LR picture for b\.png"):
        find_pairs(hr, lr, 2)
    with pytest.raises(ImageError, match="no such folder"):
        find_pairs(hr, tmp_path / "absent", 2)
    save(tmp_path, "set/HR/a.png", make_picture(40, 40))
    save(tmp_path, "set/LR/a.png", make_picture(20, 20))
    with pytest.raises(ImageError, match=r"holds LR pictures, too; give \S+HR and `lr=\S+LR`"):
        find_pairs(tmp_path / "set", None, 2)


def test_hr_is_cut_to_whole_multiples(tmp_path: Path) -> None:
    image = make_picture(41, 63)
    hr = save(tmp_path, "hr.png", image)
    made = read_pair(hr, None, 2)
    assert np.array_equal(made.hr, image[:40, :62])
    assert np.array_equal(made.lr, downscale(image[:40, :62], 2))
    given_lr = save(tmp_path, "lr.png", make_picture(20, 31, seed=1))
    pair = read_pair(hr, given_lr, 2)
    assert np.array_equal(pair.hr, image[:40, :62])
    assert np.array_equal(pair.lr, make_picture(20, 31, seed=1))


def test_pictures_that_do_not_fit(tmp_path: Path) -> None:
    hr = save(tmp_path, "hr.png", make_picture(40, 60))
    with pytest.raises(ImageError, match="are not 1/2 of"):
        read_pair(hr, save(tmp_path, "lr.png", make_picture(20, 29)), 2)
    with pytest.raises(ImageError, match="at least 15 pixels"):
        read_pair(save(tmp_path, "small.png", make_picture(14, 60)), None, 2)


@pytest.mark.parametrize("protocol", ["gdq", "paper"])
def test_scores_are_those_of_the_upscaled_pictures(tmp_path: Path, upscaler: Upscaler, protocol: str) -> None:
    for index, size in enumerate([(40, 52), (44, 60)]):
        save(tmp_path, f"{index}.png", make_picture(*size, seed=index))
    done: list[tuple[int, int]] = []
    found = evaluate(
        upscaler,
        find_pairs(tmp_path, None, 2),
        bits=("auto", "bicubic", "fp32"),
        protocol="paper" if protocol == "paper" else "gdq",
        progress=lambda *numbers: done.append(numbers),
    )
    assert done == [(n, 6) for n in range(1, 7)]
    bicubic, fp32, auto = found.rows
    assert [row.bits for row in found.rows] == ["bicubic", "fp32", "auto"]
    hr = make_picture(44, 60, seed=1)
    lr = downscale(hr, 2)  # one patch in either protocol, so the picture is that of a plain run
    result = upscaler.upscale(lr)
    second = auto.images[1]
    assert (second.psnr_y, second.ssim_y) == (psnr_y(result.image, hr, 2), ssim_y(result.image, hr, 2))
    assert second.fab == result.fab
    assert second.bitops_g == pytest.approx(result.bitops_g)
    assert auto.mean("psnr_y") == pytest.approx((auto.images[0].psnr_y + auto.images[1].psnr_y) / 2)
    assert fp32.mean("fab") == 32
    enlarged = np.asarray(Image.fromarray(lr).resize((60, 44), Image.Resampling.BICUBIC))
    assert bicubic.images[1].psnr_y == psnr_y(enlarged, hr, 2)
    assert bicubic.mean("fab") is None


def test_a_float_checkpoint_has_one_row(tmp_path: Path) -> None:
    save(tmp_path, "a.png", make_picture(30, 30))
    network = make_network(2)
    plain = Upscaler(Checkpoint(network, None), choose_engine(network).engine)
    assert [row.bits for row in evaluate(plain, find_pairs(tmp_path, None, 2)).rows] == ["fp32"]


def test_equal_pictures_are_null_in_json_and_the_csv_has_means() -> None:
    images = (
        PictureScore("a.png", math.inf, 1.0, 4.0, 2.0, 0.5, 0.0),
        PictureScore("b.png", 30.0, 0.5, 6.0, 4.0, 1.5, 2.0),
    )
    found = Evaluation("m", "00", 2, "gdq", BICUBIC, "reference", (EvaluationRow("auto", images),))
    facts = json.loads(to_json(found.to_dict()))
    row = facts["rows"][0]
    assert row["psnr_y"] is None
    assert row["images"][0]["psnr_y"] is None
    assert (row["ssim_y"], row["fab"], row["seconds"], row["colour_shift"]) == (0.75, 5.0, 1.0, 1.0)
    assert (facts["degradation"], facts["seed"]) == (None, None)
    lines = list(csv.DictReader(io.StringIO(evaluations_csv([found]))))
    assert [line["name"] for line in lines] == ["a.png", "b.png", "mean"]
    assert float(lines[2]["ssim_y"]) == 0.75
    assert (lines[1]["bits"], lines[1]["degradation"]) == ("auto", "")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_degraded_pictures_are_drawn_from_seed_and_place(tmp_path: Path, scale: int) -> None:
    for index in range(2):
        save(tmp_path, f"{index}.png", make_picture(20 * scale, 24 * scale + 1, seed=index))
    repeat = Upscaler(Checkpoint(make_network(scale), None), Repeat(scale))
    pairs = find_pairs(tmp_path, None, scale)

    def figures(degradation: EvalDegradation, seed: int = 0) -> list[tuple[float, float, float]]:
        found = evaluate(repeat, pairs, bits=(BICUBIC, "fp32"), degradation=degradation, seed=seed)
        assert (found.lr_source, found.degradation, found.seed) == ("degraded", degradation, seed)
        return [(i.psnr_y, i.ssim_y, i.colour_shift) for row in found.rows for i in row.images]

    drawn = {degradation: figures(degradation) for degradation in EVAL_DEGRADATIONS}
    assert len({tuple(values) for values in drawn.values()}) == len(EVAL_DEGRADATIONS)
    assert drawn["strong"] == figures("strong")
    assert drawn["strong"] != figures("strong", seed=1)
    assert drawn["jpeg75"] == figures("jpeg75", seed=1), "nothing is drawn there"
    plain = evaluate(repeat, pairs, bits=(BICUBIC, "fp32"))
    assert drawn["clean"] == [(i.psnr_y, i.ssim_y, i.colour_shift) for row in plain.rows for i in row.images]

    pair = read_pair(pairs[1][0], None, scale, "light", (0, 1))
    assert np.array_equal(pair.lr, degrade(pair.hr, scale, "light", np.random.default_rng((0, 1))))
    assert evaluate(repeat, pairs, bits=(BICUBIC,), degradation="light").rows[0].images[1] == replace(
        score(pair, BICUBIC, repeat, "gdq"), seconds=ANY
    )


def test_colour_shift_is_that_of_the_farthest_channel() -> None:
    class Tint(Repeat):
        def __call__(self, windows: Tensor, bit_width: int) -> Tensor:
            return super().__call__(windows, bit_width) + torch.tensor([1, 0, 3], dtype=torch.uint8)[:, None, None]

    lr = np.full((20, 24, 3), 90, np.uint8)
    pair = ImagePair("flat.png", lr.repeat(2, 0).repeat(2, 1), lr)
    tint = Upscaler(Checkpoint(make_network(2), None), Tint(2))
    assert score(pair, "fp32", tint, "gdq").colour_shift == 3
    assert score(pair, BICUBIC, tint, "gdq").colour_shift == 0


def test_degradations_by_name() -> None:
    assert parse_degradations("light, jpeg75,light") == ("light", "jpeg75")
    for text in ("jpeg80", "photo", "", "light,"):
        with pytest.raises(OptionsError, match=r"`degrade` must be of clean, .* strong, not \w+$"):
            parse_degradations(text)


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not part of the repository (../shared/data/bench)")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_made_lr_is_close_to_matlabs(scale: int, record_property: Callable[[str, object], None]) -> None:
    """At most 2 levels off but for the border, where MATLAB mirrors and Pillow cuts the kernel off."""
    squares, inner = [], 0
    for hr_file, lr_file in find_pairs(SET5 / f"x{scale}" / "HR", SET5 / f"x{scale}" / "LR", scale):
        theirs = read_pair(hr_file, lr_file, scale)
        off = np.abs(downscale(theirs.hr, scale).astype(int) - theirs.lr)
        inner = max(inner, int(off[3:-3, 3:-3].max()))
        squares.append(off.ravel() ** 2)
    rmse = float(np.concatenate(squares).mean() ** 0.5)
    record_property("rmse", rmse)
    assert inner <= 2
    assert rmse < 0.45


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not part of the repository (../shared/data/bench)")
def test_the_bicubic_row_is_the_literatures() -> None:
    pairs = find_pairs(SET5 / "x4" / "HR", SET5 / "x4" / "LR", 4)
    four = Upscaler(Checkpoint(make_network(4), None), Repeat(4))
    row = evaluate(four, pairs, bits=(BICUBIC,)).rows[0]
    assert len(row.images) == 5
    assert row.mean("psnr_y") == pytest.approx(28.42, abs=0.02)
    assert row.mean("ssim_y") == pytest.approx(0.8104, abs=0.001)


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not part of the repository (../shared/data/bench)")
@pytest.mark.parametrize("scale", [pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 4])
def test_the_fp32_row_is_that_of_an_independent_computation(scale: int) -> None:
    """Other code for everything: reading, network (pictures whole, not in patches), luma, PSNR and SSIM."""
    pytest.importorskip("skimage")
    from tests.measure.independent_eval import score_folder

    folder = SET5 / f"x{scale}"
    path = ROOT / "weights" / f"edsr_x{scale}.safetensors"
    checkpoint = read_checkpoint(path)
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.network, name="reference").engine)
    row = evaluate(upscaler, find_pairs(folder / "HR", folder / "LR", scale), bits=("fp32",)).rows[0]
    theirs = score_folder(folder, path)
    assert [image.name for image in row.images] == [score.name for score in theirs]
    assert row.mean("psnr_y") == pytest.approx(np.mean([score.psnr for score in theirs]), abs=0.005)
    assert row.mean("ssim_y") == pytest.approx(np.mean([score.ssim for score in theirs]), abs=1e-4)
