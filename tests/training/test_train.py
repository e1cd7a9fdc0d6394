"""Training: it learns, it goes on exactly where it stopped, and it stops cleanly when something is wrong."""

from __future__ import annotations

import copy
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from step_sampler import StepSampler
from typer.testing import CliRunner

from gdq_cli.commands.terminal.wording import as_options
from gdq_cli.engines import choose_engine, kernels
from gdq_cli.errors import GdqError, ImageError, OptionsError, WeightsError
from gdq_cli.measure.pairs import ImagePair, downscale, list_images, load_pairs, split_validation
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks import build_network, quantizers
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.networks.edsr.weights import import_fp32
from gdq_cli.training.calibration.calibrate import quantized_copy
from gdq_cli.training.calibration.steps import calibrate_steps
from gdq_cli.training.data import PatchSampler
from gdq_cli.training.loop import DivergedError, Trainer, TrainOptions, TrainProgress
from gdq_cli.training.muon import Muon, orthogonalize
from gdq_cli.training.stages import FloatStage, QuantizedStage, split_weights
from gdq_cli.training.start import collapse_upsampler, float_copy, read_start, reshaped
from gdq_cli.training.validate import validate_network
from tests.helpers.commands import app
from tests.helpers.engines import onednn_is_exact
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_pairs, make_picture


def sampler(scale: int = 2, seed: int = 0) -> PatchSampler:
    return PatchSampler(make_pairs(scale), 12, seed)


def float_trainer(tmp_path: Path, steps: int = 12, **options: float) -> Trainer:
    network = make_network(2, blocks=1)
    given = {"steps": steps, "batch": 4, "rate": 1e-3, "save_every": 4} | options
    return Trainer(FloatStage(network), sampler(), TrainOptions(**given), tmp_path / "run.state")  # type: ignore[arg-type]


def test_the_float_stage_learns(tmp_path: Path) -> None:
    trainer = float_trainer(tmp_path, 60)
    seen: list[TrainProgress] = []
    assert trainer.run(seen.append)
    assert [p.step for p in seen] == [10, 20, 30, 40, 50, 60]
    assert seen[-1].loss < 0.7 * seen[0].loss
    pairs = make_pairs(2, 2)
    assert validate_network(trainer.average, pairs)[32] > validate_network(make_network(2, blocks=1), pairs)[32]


@pytest.mark.parametrize("stage", ["fp32", "quantized"])
def test_a_run_cut_in_two_equals_an_unbroken_one(stage: str, small_checkpoint: Checkpoint, tmp_path: Path) -> None:
    def trainer(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        if stage == "fp32":
            return float_trainer(tmp_path / folder)
        loss = QuantizedStage(copy.deepcopy(small_checkpoint.network))
        return Trainer(loss, sampler(), TrainOptions(steps=12, batch=4, save_every=4), tmp_path / folder / "run.state")

    whole = trainer("a")
    whole.run(lambda _: None)
    first = trainer("b")
    assert not first.run(lambda _: None, seconds=0)
    assert 0 < first.step < 12
    second = trainer("b")
    assert second.step == first.step
    assert second.run(lambda _: None)
    for one, other in zip(whole.average.parameters(), second.average.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_training_reuses_the_memory_it_frees() -> None:
    script = """
import numpy, resource, sys
from gdq_cli.runs.memory import keep_freed_memory
assert sys.argv[1] == "given back" or keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    large = [numpy.ones(48 << 20, numpy.uint8) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(8)))
"""
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", script, way], capture_output=True, text=True, check=True).stdout)
        for way in ("given back", "kept")
    )
    assert kept < 10 < given_back


def test_sigterm_saves_and_ends(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = float_trainer(tmp_path, 10_000)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert not trainer.run(lambda _: None)
    assert signal.getsignal(signal.SIGTERM) is before
    assert float_trainer(tmp_path, 10_000).step == trainer.step


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    float_trainer(tmp_path, 4).run(lambda _: None)
    with pytest.raises(WeightsError, match="another run \\(steps"):
        float_trainer(tmp_path, 5)
    with pytest.raises(WeightsError, match="another run \\(seed differ"):
        float_trainer(tmp_path, 4, seed=1)
    varied = PatchSampler(make_pairs(2), 12, vary=True)
    options = TrainOptions(steps=4, batch=4, rate=1e-3)
    with pytest.raises(WeightsError, match="another run \\(vary differ"):
        Trainer(FloatStage(make_network(2, blocks=1)), varied, options, tmp_path / "run.state")
    ahead = StepSampler(make_pairs(2), 12)
    options = TrainOptions(steps=4, batch=4, rate=1e-3)
    stage, ahead_state = FloatStage(make_network(2, blocks=1)), tmp_path / "ahead.state"
    Trainer(stage, ahead, options, ahead_state).save()
    with pytest.raises(WeightsError, match="another run \\(drawn differ"):
        Trainer(stage, PatchSampler(make_pairs(2), 12), options, ahead_state)
    state = torch.load(tmp_path / "run.state", weights_only=True)
    torch.save(state | {"optimizers": state["optimizers"][:1]}, tmp_path / "run.state")
    with pytest.raises(WeightsError, match="does not fit"):
        float_trainer(tmp_path, 4)
    (tmp_path / "run.state").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="not a readable training state"):
        float_trainer(tmp_path, 4)


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path: Path) -> None:
    trainer = float_trainer(tmp_path, 20)
    good = trainer._stage.backward

    def backward(lr: torch.Tensor, hr: torch.Tensor, step: int) -> float:
        return float("nan") if step == 6 else good(lr, hr, step)

    trainer._stage.backward = backward  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="step 6"):
        trainer.run(lambda _: None)
    assert float_trainer(tmp_path, 20).step == 4


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_full_disk_keeps_the_last_good_files(small_checkpoint: Checkpoint, tmp_path: Path) -> None:
    import resource

    trainer = float_trainer(tmp_path, 20)
    trainer.run(lambda _: None, seconds=0)
    file = tmp_path / "good_x2.safetensors"
    write_checkpoint(file, small_checkpoint)
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=r"run\.state: cannot be written \(file too large\)$"):
            trainer.run(lambda _: None)
        with pytest.raises(WeightsError, match=r"good_x2\.safetensors: cannot be written \(file too large\)$"):
            write_checkpoint(file, small_checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good
    assert float_trainer(tmp_path, 20).step == 1


@pytest.fixture
def quantized(small_checkpoint: Checkpoint) -> Edsr:
    return copy.deepcopy(small_checkpoint.network)


def test_the_quantized_stage_trains_every_step_size_and_keeps_grids_fitting(quantized: Edsr, tmp_path: Path) -> None:
    before = {name: value.detach().clone() for name, value in quantized.named_parameters()}
    stage = QuantizedStage(quantized, seed=1)
    trainer = Trainer(stage, sampler(), TrainOptions(steps=25, batch=4, rate=1e-4), tmp_path / "q.state")
    assert trainer.run(lambda _: None)
    moved = {name for name, value in trainer._network.named_parameters() if not torch.equal(value, before[name])}
    assert {name for name in before if name.endswith(("weight", "bias", "activation_step", "wide_step"))} <= moved
    for conv in trainer.average.modules():
        for grid in conv.config.bound_grids if isinstance(conv, QuantConv2d) else ():
            codes = quantizers.weight_codes(conv.equalized_weight().detach(), conv.grid_step(grid).detach())
            assert bool(quantizers.fits_grid(codes, grid).all())
    assert {name.rsplit(".", 1)[1] for name in before if "body.0" in name} >= {"narrow_step", "coarse_step"}


def test_training_at_four_bits_pays(quantized: Edsr, tmp_path: Path) -> None:
    """Distance to the float teacher on held-out patches shrinks at 4 bits, drawn 20 times, and does not grow at 8."""
    lr, _ = sampler(seed=9).draw(8)
    teacher = float_copy(quantized)

    def distance(network: Edsr, bits: int) -> float:
        with torch.inference_mode():
            return float((network(lr, bits) - teacher(lr)).abs().mean())

    before = {bits: distance(quantized, bits) for bits in (4, 8)}
    stage = QuantizedStage(quantized, distillation=4, seed=1)
    trainer = Trainer(stage, sampler(), TrainOptions(steps=160, batch=4, rate=2e-4), tmp_path / "q.state")
    trainer.run(lambda _: None)
    assert distance(trainer.average, 4) < 0.97 * before[4]
    assert distance(trainer.average, 8) < 1.3 * before[8]


def test_sampler_is_repeatable_and_aligned() -> None:
    first, again = sampler(seed=3), sampler(seed=3)
    lr, hr = first.draw(6)
    assert torch.equal(lr, again.draw(6)[0])
    assert hr.shape == (6, 3, 24, 24)
    for one_lr, one_hr in zip(lr, hr, strict=True):
        small = downscale(one_hr.permute(1, 2, 0).byte().numpy(), 2).astype(float)
        assert np.abs(small - one_lr.permute(1, 2, 0).numpy())[2:-2, 2:-2].mean() < 1.5
    state = first.state
    expected = first.draw(2)[0]
    again.state = state
    assert torch.equal(again.draw(2)[0], expected)


def count_known(lr: torch.Tensor, pairs: list[ImagePair]) -> int:
    """How many LR patches of 12 lie in a picture as they are, but for turns and flips."""
    places = [(y, x) for y in range(21) for x in range(21)]
    known = {pair.lr[y : y + 12, x : x + 12].tobytes() for pair in pairs for y, x in places}
    images = [patch.permute(1, 2, 0).byte().numpy() for patch in lr]
    return sum(
        any(np.ascontiguousarray(np.rot90(p, k)).tobytes() in known for p in (image, image[:, ::-1]) for k in range(4))
        for image in images
    )


def assert_reduced_by_bicubic(lr: torch.Tensor, hr: torch.Tensor) -> None:
    for one_lr, one_hr in zip(lr, hr, strict=True):
        small = downscale(one_hr.permute(1, 2, 0).byte().numpy(), 2).astype(float)
        assert np.abs(small - one_lr.permute(1, 2, 0).numpy())[2:-2, 2:-2].mean() < 1.5


def test_varied_patches_are_new_and_still_reduced_by_bicubic() -> None:
    """Every LR patch is what its HR patch reduces to, whatever was done to the picture; colours keep their range."""
    pairs = make_pairs(2)
    varied = PatchSampler(pairs, 12, 5, vary=True)
    lr, hr = varied.draw(64)
    assert lr.shape == (64, 3, 12, 12)
    assert hr.shape == (64, 3, 24, 24)
    assert_reduced_by_bicubic(lr, hr)
    old = count_known(lr, pairs)
    assert old < 16
    whole = PatchSampler(pairs, min(pairs[0].lr.shape[:2]), 5, vary=True)  # no room for a margin, nor for a reduction
    assert whole.draw(3)[1].shape[2:] == pairs[0].hr.shape[:2]


def test_raised_contrast_clips_and_is_still_reduced_by_bicubic() -> None:
    """Half of the patches keep their pixels; the others reach the ends of the range more often than the pictures do."""
    pairs = make_pairs(2)
    plain, raised = PatchSampler(pairs, 12, 5), PatchSampler(pairs, 12, 5, raise_contrast=True)
    lr, hr = raised.draw(64)
    assert_reduced_by_bicubic(lr, hr)
    assert 16 < count_known(lr, pairs) < 48
    ends = [float(((patches == 0) | (patches == 255)).float().mean()) for patches in (hr, plain.draw(64)[1])]
    assert ends[0] > 1.5 * ends[1] + 0.01


def test_pictures_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(OptionsError, match="smaller `patch`"):
        PatchSampler(make_pairs(2, side=8), 12)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "absent")
    with pytest.raises(ImageError, match="no images"):
        list_images(tmp_path)
    (tmp_path / "folder.png").mkdir()
    for index in range(12):
        Image.fromarray(make_picture(31, 33, index)).save(tmp_path / f"{index:02}.png")
    training, held_out = split_validation(list_images(tmp_path))
    assert not set(training) & set(held_out)
    assert (len(training), len(held_out)) == (10, 2)
    pair = load_pairs(training, 2)[0]
    assert (pair.hr.shape, pair.lr.shape) == ((30, 32, 3), (15, 16, 3))


def plain_weights(network: Edsr) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_imported_weights_give_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain EDSR weights subtract their own mean; ours subtracts an integer one: only the border may differ."""
    plain = make_network(3)
    mean = (0.4488, 0.4371, 0.4040)
    network = import_fp32(plain_weights(plain), 3, mean)
    lr = torch.from_numpy(make_picture(30, 30)[None]).permute(0, 3, 1, 2).float()
    shift = torch.tensor(mean).reshape(1, 3, 1, 1) * 255
    with torch.inference_mode():
        found = network(lr)
        monkeypatch.setattr("gdq_cli.networks.edsr.network.mean_of", lambda _: shift)
        difference = (found - plain(lr)).abs()[:, :, 30:60, 30:60]
    assert float(difference.max()) < 0.05


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_collapsed_upsampler_starts_near_the_old_one(scale: int) -> None:
    network = make_network(scale)
    direct = reshaped(network, upsampler="pixelshuffledirect")
    assert direct.config == replace(network.config, upsampler="pixelshuffledirect")
    assert torch.equal(direct.body_conv.weight, network.body_conv.weight)
    flat = torch.full((1, 3, 24, 24), 90.0)  # equal inside, where no border is seen
    with torch.inference_mode():
        inside = (..., slice(12 * scale, 13 * scale), slice(12 * scale, 13 * scale))
        assert torch.allclose(network(flat)[inside], direct(flat)[inside], atol=0.05)
    # An upsampler that sees one LR pixel only is the same convolution, taps in their places.
    with torch.no_grad():
        for conv in (*network.upsampler_convs[1:], network.tail):
            keep = conv.weight[:, :, 1, 1].clone()
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = keep
        weight, bias = collapse_upsampler(network)
        x = torch.randn(1, 64, 9, 9)
        expected = x
        for layer in (*network.upsampler, network.tail):
            expected = layer(expected)
        found = F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1), scale)
    assert torch.allclose(found, expected, atol=1e-4)


def test_read_start_knows_what_it_reads(tmp_path: Path, small_checkpoint: Checkpoint) -> None:
    from safetensors.torch import save_file

    for scale in (2, 3, 4):
        save_file(plain_weights(make_network(scale)), tmp_path / "plain.safetensors")
        assert read_start(tmp_path / "plain.safetensors")[0].config.scale == scale
    write_checkpoint(tmp_path / "ours_x2.safetensors", small_checkpoint)
    network, _ = read_start(tmp_path / "ours_x2.safetensors")
    assert network.config.bit_widths == ()
    for scale in (3, 4):  # another scale starts from the same body
        rescaled = reshaped(network, scale)
        assert rescaled.config.scale == scale
        assert torch.equal(rescaled.body_conv.weight, network.body_conv.weight)
        assert torch.equal(rescaled.tail.weight, network.tail.weight)
        assert rescaled(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8 * scale, 8 * scale)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not a network gdq knows"):
        read_start(tmp_path / "other.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match="is a pipe or device"):
        read_start(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match="scale x4, not x2"):
        read_start(tmp_path / "plain.safetensors", 2)


def gdq(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, GdqError):
        return result.exception.exit_code, as_options(str(result.exception))
    return result.exit_code, result.output


def test_commands_from_pictures_to_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdq_cli.training.calibration.calibrate.SEARCH_PATCHES", 12)
    pictures = tmp_path / "hr"
    pictures.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(64, 64, index)).save(pictures / f"{index}.png")
    start = tmp_path / "start_x2.safetensors"
    write_checkpoint(start, Checkpoint(make_network(2, blocks=1), None, {}, "start"))
    float_file, first, final = (tmp_path / f"{name}_x2.safetensors" for name in ("float", "first", "final"))
    run = ("--batch", 2, "--patch", 12)
    code, text = gdq("train", pictures, "--from", start, "-o", float_file, "--steps", 3, *run)
    assert code == 0, text
    assert not read_checkpoint(float_file).is_quantized
    code, text = gdq("calibrate", pictures, "--from", float_file, "-o", first)
    assert code == 0, text
    code, text = gdq("train", pictures, "--stage", "quantized", "--from", first, "-o", final, "--steps", 3, *run)
    assert code == 0, text
    checkpoint = read_checkpoint(final)
    assert checkpoint.controller is not None
    assert [run["stage"] for run in checkpoint.facts["training"]] == ["fp32", "quantized"]
    assert json.dumps(checkpoint.facts)
    assert not list(tmp_path.glob("*.state"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--stage", "half"), 2, "--stage"),
        (("--steps", "0"), 2, "--steps"),
        (("--rate", "0"), 2, "--rate"),
        (("--fab", "9"), 2, "--fab"),
        (("--descriptor", "colour"), 2, "--descriptor"),
        (("--stage", "quantized"), 4, "gdq calibrate first"),
    ],
)
def test_bad_options(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    start = tmp_path / "start_x2.safetensors"
    write_checkpoint(start, Checkpoint(make_network(2, blocks=1), None, {}, "start"))
    result = gdq("train", tmp_path, "--from", start, "-o", tmp_path / "out_x2.safetensors", *arguments)
    assert result[0] == code
    assert message in result[1]


def test_orthogonalize_evens_out_singular_values() -> None:
    torch.manual_seed(0)
    decaying = torch.randn(3, 12, 20) @ torch.diag(torch.logspace(0, -1.5, 20))
    for matrices in (decaying, decaying.mT):
        values = torch.linalg.svdvals(orthogonalize(matrices))
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.3


def test_muon_steps_all_directions_of_a_matrix_alike() -> None:
    weight = torch.nn.Parameter(torch.zeros(4, 2, 3, 3))
    weight.grad = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    weight.grad[0] *= 100  # Adam or plain descent would follow this row alone
    Muon([weight], lr=0.1).step()
    rows = weight.detach().flatten(1).norm(dim=1)
    assert float(rows.max() / rows.min()) < 2
    assert float(torch.linalg.svdvals(weight.detach().flatten(1)).max()) == pytest.approx(0.1 * 0.2 * 18**0.5, rel=0.3)


def test_every_weight_has_one_optimizer() -> None:
    network = make_network(2, blocks=2)
    matrices, others = split_weights(network)
    assert len(matrices) == 6  # two blocks of two, the body convolution, one upsampler convolution
    assert {id(p) for p in (*matrices, *others)} == {id(p) for p in network.parameters()}
    assert len(matrices) + len(others) == len(list(network.parameters()))


def test_calibrate_takes_widths_of_static_layers(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder, start, output = tmp_path / "hr", tmp_path / "plain.safetensors", tmp_path / "few_x2.safetensors"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(64, 64, index)).save(folder / f"{index}.png")
    save_file(plain_weights(make_network(2, blocks=1)), start)
    for wrong in ("8,8", "8,7,8", "8;6;8"):
        code, text = gdq("calibrate", folder, "--from", start, "-o", output, "--static-bits", wrong)
        assert code == 2
        assert "--static-bits takes 3 widths" in text
    code, text = gdq("calibrate", folder, "--from", start, "-o", output, "--static-bits", "8,6,8")
    assert code == 0, text
    network = read_checkpoint(output).network
    assert network.config.static_bits == (8, 6, 8)
    pairs = make_pairs(2, 1)
    there = {"reference": True, "onednn": onednn_is_exact(), "native": bool(kernels.report().chosen)}
    engines = [choose_engine(network, "cpu", name).engine for name, found in there.items() if found]
    window = torch.from_numpy(pairs[0].lr[None]).permute(0, 3, 1, 2)
    outputs = [engine(window, 4) for engine in engines]
    assert all(torch.equal(output, outputs[0]) for output in outputs[1:])


def test_calibrated_static_layers_reach_the_largest_value_seen() -> None:
    """A clipped highlight is visible; at 8 bits there are codes enough for it."""
    network = quantized_copy(make_network(2, blocks=1))
    draws = PatchSampler(make_pairs(2), 12, 1, by_texture=False)
    calibrate_steps(network, draws, patches=8)
    draws = PatchSampler(make_pairs(2), 12, 1, by_texture=False)
    peaks = {}
    for conv in (network.body_conv, *network.upsampler_convs, network.tail):
        conv.register_forward_pre_hook(lambda conv, inputs: peaks.update({conv: inputs[0].abs().amax((0, 2, 3))}))
    with torch.no_grad():
        network(draws.draw(8)[0])
        for conv, peak in peaks.items():
            reach = 127 * conv.activation_step * conv.equalization
            assert torch.allclose(reach, peak.clamp_min(1e-6), rtol=1e-4)


def test_a_layer_without_input_gets_positive_steps() -> None:
    network = make_network(2, blocks=1)
    with torch.no_grad():
        network.blocks[0].conv1.weight.zero_()
        network.blocks[0].conv1.bias.fill_(-1.0)  # conv2 sees zeros only
    network = quantized_copy(network)
    calibrate_steps(network, sampler(), patches=4)
    assert all(bool((p > 0).all()) for name, p in network.named_parameters() if name.endswith("_step"))
    assert torch.isfinite(network(torch.full((1, 3, 12, 12), 100.0), 4)).all()


def test_smooth_patches_count_as_much_as_they_weigh_in_decibels() -> None:
    """A texture on which the teacher fails must not drown what quantization does to a smooth patch."""
    network = make_network(2, blocks=1)
    stage = QuantizedStage(quantized_copy(network), autocast=None)
    lr = torch.full((2, 3, 12, 12), 100.0)
    with torch.no_grad():
        aim = network(lr)
    hopeless = aim[:1] + 80 * torch.sign(torch.randn(aim[:1].shape, generator=torch.Generator().manual_seed(0)))
    loss = stage.backward(lr, torch.cat([hopeless, aim[1:]]), 0)
    both_smooth = stage.backward(lr, aim, 0)
    assert loss - both_smooth < 0.05 * 80  # unweighted: 40, a half of 80 / 2 for each of two widths


def test_sampling_without_texture_takes_smooth_places_too() -> None:
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :64] = make_picture(64, 64)  # detail on the left, nothing on the right
    pairs = [ImagePair("half", picture, downscale(picture, 2))]
    smooth = []
    for by_texture in (True, False):
        lr, _ = PatchSampler(pairs, 16, 0, by_texture=by_texture).draw(200)
        smooth.append(float((lr.std(dim=(1, 2, 3)) == 0).float().mean()))
    assert smooth[0] < 0.2 < smooth[1]


def test_train_from_scratch(tmp_path: Path) -> None:
    folder, output = tmp_path / "hr", tmp_path / "new_x3.safetensors"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(48, 48, index)).save(folder / f"{index}.png")
    code, text = gdq("train", folder, "-o", output)
    assert code == 2
    assert "--scale 2, 3 or 4" in text
    command = ("train", folder, "-o", output, "-x", 3, "--steps", 2, "--batch", 1, "--patch", 8)
    code, text = gdq(*command, "--minutes", 1e-9)
    assert code == 0, text
    assert f"step 1 is kept in {output}.state" in text
    assert f"{output}: stopped at step 1 of 2" in text
    assert read_checkpoint(output).facts["training"][0]["steps"] == 1
    code, text = gdq(*command, "--overwrite")
    assert code == 0, text
    assert "going on from step 1" in text
    checkpoint = read_checkpoint(output)
    assert checkpoint.facts["training"][0]["steps"] == 2
    assert checkpoint.scale == 3
    assert checkpoint.facts["training"][0]["from"] == "scratch"


def test_the_grid_of_four_bits_changes_no_other_step() -> None:
    """Two calibrations that differ in it agree in everything else, 4 bits' activation steps included."""
    tensors = []
    for grid in ("narrow", "coarse"):
        network = build_network(replace(quantized_copy(make_network(2)).config, four_bit_grid=grid))
        network.load_state_dict(make_network(2).state_dict(), strict=False)
        calibrate_steps(network, sampler(), patches=4)
        tensors.append(network.state_dict())
    narrow, coarse = tensors
    assert {name.rsplit(".", 1)[1] for name in set(coarse) - set(narrow)} == {"coarse_step"}
    for name, value in narrow.items():
        assert torch.equal(value, coarse[name]), name


def test_training_for_another_scale_follows_the_seed(tmp_path: Path) -> None:
    folder, start = tmp_path / "hr", tmp_path / "start_x2.safetensors"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(48, 48, index)).save(folder / f"{index}.png")
    few = ("--steps", 1, "--batch", 1, "--patch", 8)
    code, text = gdq("train", folder, "-o", start, "-x", 2, *few)
    assert code == 0, text
    made = []
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        output = tmp_path / name / "new_x3.safetensors"
        output.parent.mkdir()
        code, text = gdq("train", folder, "--from", start, "-o", output, "-x", 3, "--seed", seed, *few)
        assert code == 0, text
        made.append(read_checkpoint(output).network.state_dict())
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())
    assert not torch.equal(made[0]["upsampler.0.weight"], made[2]["upsampler.0.weight"])
