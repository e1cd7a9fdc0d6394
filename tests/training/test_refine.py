"""Last steps to a trained checkpoint: averages lie between, steps move only where it pays, controllers are new."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks import Parameters, SrresnetConfig, build_network, parameters_of
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.training.calibration import refine
from gdq_cli.training.calibration.refine import average_checkpoints, refine_steps
from tests.helpers.commands import gdq
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture


def test_an_average_lies_between_and_says_so() -> None:
    first, second = (
        Checkpoint(make_network(2, blocks=1, seed=seed), None, {"training": [{"stage": "fp32", "steps": seed}]}, "m")
        for seed in (1, 2)
    )
    found = average_checkpoints(first, second, 0.25)
    start, end = first.network.state_dict(), second.network.state_dict()
    for name, value in found.network.state_dict().items():
        torch.testing.assert_close(value, 0.75 * start[name] + 0.25 * end[name])
    assert found.facts["training"] == [{"stage": "fp32", "steps": 1}, {"stage": "fp32", "steps": 2, "averaged": 0.25}]
    with pytest.raises(WeightsError, match="different networks"):
        average_checkpoints(first, Checkpoint(make_network(2, blocks=2), None, {}, "m"), 0.5)


@pytest.mark.parametrize(("worth", "moved"), [(1.0, {"tail": 0.497, "first convolutions, 6 bits": 2.011}), (1e-4, {})])
def test_steps_move_where_pictures_gain(
    worth: float, moved: dict[str, float], small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = copy.deepcopy(small_checkpoint.network)
    tail, inner = network.tail.activation_step.clone(), network.blocks[1].conv1.activation_step.clone()
    column = network.config.bit_widths.index(6)

    def judge(judged: Edsr, pairs: object, widths: tuple[int, ...]) -> float:
        ratios = (judged.tail.activation_step / tail)[0], (judged.blocks[1].conv1.activation_step / inner)[column]
        return 30 - worth * sum(abs(float(ratio.log2()) - best) for ratio, best in zip(ratios, (-1, 1), strict=True))

    monkeypatch.setattr(refine, "_mean_psnr", judge)
    said: list[str] = []
    assert refine_steps(network, [], lambda *told: said.append(told)) == moved
    assert len(said) == 2 * len(network.config.bit_widths) + 2 + len(network.upsampler_convs)
    assert float((network.tail.activation_step / tail)[0].detach()) == pytest.approx(moved.get("tail", 1), abs=1e-3)
    expected = torch.ones_like(inner)
    expected[column] = moved.get("first convolutions, 6 bits", 1)
    torch.testing.assert_close(network.blocks[1].conv1.activation_step / inner, expected, rtol=1e-3, atol=0)


def test_the_command(small_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(network: object, pairs: object, progress: object) -> dict[str, float]:
        return {"tail": 0.87}

    monkeypatch.setattr(refine, "refine_steps", pretend)
    folder, start, other, plain = (
        tmp_path / name for name in ("hr", "a_x2.safetensors", "b.safetensors", "p.safetensors")
    )
    folder.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(64, 64, index)).save(folder / f"{index}.png")
    write_checkpoint(start, replace(small_checkpoint, halo=8))
    write_checkpoint(other, small_checkpoint)
    write_checkpoint(plain, Checkpoint(make_network(2), None, {}, "plain"))
    output = tmp_path / "done_x2.safetensors"
    said = gdq("refine", folder, "--from", start, "-o", output, "--average", other, "--steps", "--fab", 5)
    assert "validation PSNR dB: fp32" in said
    done = read_checkpoint(output)
    assert (done.name, done.halo) == ("done", 8)
    assert done.facts["calibration"]["target_fab"] == 5
    assert done.facts["steps_refined"] == {"tail": 0.87}
    assert done.facts["training"][-1]["averaged"] == 0.5
    assert "--overwrite" in gdq("refine", folder, "--from", start, "-o", output, code=3)
    assert "neither steps nor a controller" in gdq(
        "refine", folder, "--from", plain, "-o", output, "--overwrite", code=4
    )
    assert "averaged" not in str(read_checkpoint(plain).facts)
    gdq("refine", folder, "--from", plain, "--average", plain, "-o", output, "--overwrite")
    assert not read_checkpoint(output).is_quantized


def test_an_older_checkpoint_gets_the_grid_of_four_bits(small_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The steps that calibration gives, and nothing else: weights, other steps and the controller stay."""
    config, tensors = small_checkpoint.config, small_checkpoint.parameters.tensors
    assert config.four_bit_grid == "coarse"
    kept = {name: value for name, value in tensors.items() if not name.endswith("coarse_step")}
    assert len(tensors) - len(kept) == 2 * config.blocks
    older = replace(small_checkpoint, parameters=Parameters(replace(config, four_bit_grid="narrow"), kept))
    start, output, folder = tmp_path / "old_x2.safetensors", tmp_path / "new_x2.safetensors", tmp_path / "hr"
    write_checkpoint(start, older)
    folder.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(64, 64, index)).save(folder / f"{index}.png")
    gdq("refine", folder, "--from", start, "-o", output, "--coarse")
    found = read_checkpoint(output)
    assert (found.config, found.facts) == (config, older.facts)
    np.testing.assert_equal(vars(found.controller), vars(older.controller))
    assert set(found.parameters.tensors) == set(tensors)
    for name, value in found.parameters.tensors.items():
        np.testing.assert_array_equal(value, tensors[name], name)
    assert not any(
        np.array_equal(kept[name.replace("coarse", "narrow")], tensors[name]) for name in set(tensors) - set(kept)
    )


def test_networks_without_grids_get_none() -> None:
    network = build_network(SrresnetConfig(scale=4, blocks=1, features=64))
    with pytest.raises(WeightsError, match="one grid for all widths"):
        refine.add_coarse_grid(Checkpoint(parameters_of(network), None, {}, "srresnet"))
