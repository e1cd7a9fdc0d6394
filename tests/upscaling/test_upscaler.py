"""The core: patched against whole, joins between widths, determinism, tiny pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gdq_cli.bits.patches import plan_patches
from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.bits.windows import plan_windows
from gdq_cli.engines import choose_engine, kernels
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.upscaling.pool import load_checkpoint
from gdq_cli.upscaling.upscaler import NETWORK_WORK, Upscaler
from tests.helpers.networks import make_network
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture


@pytest.fixture(scope="module")
def upscaler(small_checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(small_checkpoint, choose_engine(small_checkpoint.network).engine)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))


def test_patches_join_without_a_seam(upscaler: Upscaler) -> None:
    """Two blocks see 7 pixels, the halo has 4: the difference to the whole image is there, but far below a level."""
    image = make_picture(400, 190, seed=2)  # rows of patches in two windows
    result = upscaler.upscale(image, bits="fp32")
    assert len(result.plan.windows) == 2
    patched = result.image
    windows = torch.from_numpy(image[None]).permute(0, 3, 1, 2)
    whole = upscaler.engine(windows, 32)[0].permute(1, 2, 0).numpy()
    assert psnr(patched, whole) > 55
    difference = np.abs(patched.astype(int) - whole).max(axis=(1, 2))
    assert difference[:380].max() == difference[420:].max() == 0  # rows far from the join at 200 LR rows are untouched


def test_patches_of_different_widths_join(upscaler: Upscaler) -> None:
    """On the seam between a 4- and an 8-bit patch the step is no larger than what 4 bits cost inside the patch."""
    image = make_picture(100, 200, seed=2)
    plan = plan_patches((100, 200))
    assert plan.grid == (1, 2)
    mixed = np.empty((200, 400, 3), np.uint8)
    upscaler.engine.run(image, plan_windows(plan, (4, 8)), mixed)
    four, eight = (upscaler.upscale(image, bits=bits).image for bits in ("4", "8"))  # one window each
    assert np.array_equal(mixed[:, :180], four[:, :180])
    assert np.array_equal(mixed[:, 220:], eight[:, 220:])
    noise = np.abs(four.astype(int) - eight).mean(axis=(0, 2))
    assert noise[198:202].max() <= noise.max()
    gradient = np.abs(np.diff(mixed.astype(int), axis=1)).mean(axis=(0, 2))
    expected = np.abs(np.diff(eight.astype(int), axis=1)).mean(axis=(0, 2))
    assert gradient[199] <= expected[199] + 2 * noise.max()


@pytest.mark.parametrize("bits", ["auto", "4", "fp32"])
def test_same_bytes_for_any_batch_and_thread_count(small_checkpoint: Checkpoint, bits: str) -> None:
    image = make_picture(210, 200, seed=7)
    results = []
    threads = torch.get_num_threads()
    try:
        for batch_size, count in ((1, 1), (3, 2)):
            torch.set_num_threads(count)
            engine = choose_engine(small_checkpoint.network).engine
            engine.batch_size = batch_size
            results.append(Upscaler(small_checkpoint, engine).upscale(image, bits=bits))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(results[0].bit_map, results[1].bit_map)
    if bits == "fp32":
        assert np.abs(results[0].image.astype(int) - results[1].image).max() <= 1
    else:
        assert np.array_equal(results[0].image, results[1].image)


def test_engines_give_the_same_picture(small_checkpoint: Checkpoint, upscaler: Upscaler) -> None:
    image = make_picture(150, 150, seed=8)
    reference = Upscaler(small_checkpoint, ReferenceEngine(small_checkpoint.network)).upscale(image)
    fast = upscaler.upscale(image)
    assert np.array_equal(reference.bit_map, fast.bit_map)
    assert np.array_equal(reference.image, fast.image)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (97, 5)])
def test_tiny_and_thin_pictures(checkpoint: Checkpoint, size: tuple[int, int]) -> None:
    scale = checkpoint.scale
    result = Upscaler(checkpoint, choose_engine(checkpoint.network).engine).upscale(make_picture(*size))
    assert result.image.shape == (size[0] * scale, size[1] * scale, 3)


def test_facts_of_a_result(upscaler: Upscaler) -> None:
    calls: list[tuple[int, int]] = []
    result = upscaler.upscale(make_picture(200, 300), progress=lambda done, total: calls.append((done, total)))
    assert result.bit_map.shape == (2, 3)
    assert result.fab == result.bit_map.mean()
    assert 0 < result.bitops_g <= result.bitops_8bit_g < result.bitops_fp32_g
    assert calls[0] == (6, 6 * (1 + NETWORK_WORK))  # bits are chosen
    assert len({total for _, total in calls}) == 1
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert len(result.plan.choices) == 6


def test_budget_moves_the_average(upscaler: Upscaler) -> None:
    image = make_picture(300, 300, seed=9)
    fabs = [upscaler.plan_bits(image, budget=budget).fab for budget in (4, 5, 6.5, 8)]
    assert fabs[0] == 4
    assert fabs == sorted(fabs)
    assert fabs[-1] == 8
    assert all(fab <= budget for fab, budget in zip(fabs, (4, 5, 6.5, 8), strict=True))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_an_image(upscaler: Upscaler, image: np.ndarray) -> None:
    with pytest.raises(OptionsError, match="an image is"):
        upscaler.upscale(image)


def test_bits_that_take_no_time_are_spent() -> None:
    """By time a patch gets the widest width that runs by the same kernels, never a narrower one than was chosen."""
    checkpoint = load_checkpoint("edsr", 4)
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.parameters).engine)
    image = np.asarray(Image.open(ROOT / "examples" / "coffee.jpg").convert("RGB"))[:200, :300]
    plan = upscaler.plan_bits(image, prefer="time")
    chosen, by_time = [choice.bit_width for choice in plan.choices], plan.bit_widths
    isa = getattr(upscaler.engine, "isa", None)
    has_f2 = any("winograd" in one.algorithms for one in kernels.report().isas if one.name == isa)
    four = kernels.Layer(np.ones((64, 64, 3, 3), np.int8), (-8, 7)).algorithm  # whether 4 bits have a faster kernel
    free = {4: 4 if four == "winograd_gauss" else 6, 5: 6, 6: 6, 8: 8} if has_f2 else dict.fromkeys(BIT_WIDTHS, 8)
    assert len(set(chosen)) > 1
    assert all(found >= free[bits] for found, bits in zip(by_time, chosen, strict=True))
    assert set(by_time) <= set(free.values())
    result = upscaler.upscale(image, prefer="time")
    assert result.plan.bit_widths == by_time
    slow = Upscaler(checkpoint, ReferenceEngine(checkpoint.network))
    assert set(slow.plan_bits(image, prefer="time").bit_widths) == {8}
    with pytest.raises(OptionsError, match="contradicts `bits=4`"):
        upscaler.upscale(image, bits="4", prefer="time")


@pytest.mark.parametrize(("model", "scale"), [("photo", 4), ("edsr", 2)])
def test_what_auto_saves_is_not_lost_on_context(model: str, scale: int) -> None:
    """The map costs no more than its widest width everywhere, nor than the choice with windows of its own widths."""
    upscaler = Upscaler(load_checkpoint(model, scale), None)
    program = upscaler.checkpoint.parameters.outline
    image = np.asarray(Image.open(ROOT / "examples" / "coffee.jpg").convert("RGB"))
    plan = upscaler.plan_bits(image)
    assert plan.bitops_g(program) <= upscaler.plan_bits(image, bits=str(max(plan.bit_widths))).bitops_g(program)
    own = plan_windows(plan.patches, [choice.bit_width for choice in plan.choices])
    assert plan.bitops_g(program) < replace(plan, windows=own).bitops_g(program)


@pytest.mark.parametrize("budget", [4, 4.3, 5, 5.6, 8])
def test_a_budget_holds_with_what_windows_add(budget: float) -> None:
    upscaler = Upscaler(load_checkpoint("photo", 4), None)
    plan = upscaler.plan_bits(np.asarray(Image.open(ROOT / "examples" / "coffee.jpg").convert("RGB")), budget=budget)
    assert budget - 0.5 < plan.fab <= budget


def test_a_larger_budget_never_gives_fewer_bits() -> None:
    upscaler = Upscaler(load_checkpoint("edsr", 4), None)
    image = np.asarray(Image.open(ROOT / "examples" / "coffee.jpg").convert("RGB"))[:256, :300]
    found = [upscaler.plan_bits(image, budget=4 + step / 10).fab for step in range(41)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (4, 8)


@pytest.mark.parametrize(("bits", "budget"), [("7", None), ("4", 5.0), ("auto", 9.0)])
def test_bad_widths(upscaler: Upscaler, bits: str, budget: float | None) -> None:
    with pytest.raises(OptionsError):
        upscaler.upscale(make_picture(8, 8), bits=bits, budget=budget)


def test_float_checkpoints_run_in_float_only() -> None:
    network = make_network(2)
    upscaler = Upscaler(Checkpoint(network, None), choose_engine(network).engine)
    assert upscaler.upscale(make_picture(8, 8), bits="fp32").image.shape == (16, 16, 3)
    with pytest.raises(WeightsError, match="`bits=fp32`"):
        upscaler.upscale(make_picture(8, 8))


def test_the_photo_network_joins_without_a_seam() -> None:
    """It sees farther than its halo, by which no pixel may change by more than one level."""
    image = np.asarray(Image.open(ROOT / "examples" / "coffee.jpg").convert("RGB"))[100:196, 200:392].copy()
    checkpoint = load_checkpoint("photo", 4)
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.parameters).engine)
    patched = upscaler.upscale(image, bits="8")
    assert len(patched.plan.patches) == 2
    window = torch.from_numpy(image[None]).permute(0, 3, 1, 2)
    whole = upscaler.engine(window, 8)[0].permute(1, 2, 0).numpy()
    assert int(np.abs(patched.image.astype(int) - whole).max()) <= 1


def test_targets_that_cannot_be_written(upscaler: Upscaler) -> None:
    image, target = make_picture(10, 12), np.zeros((20, 24, 4), np.uint8)
    for bad in (target, target[:, :, :3], target[:, :, :3].astype(np.int8), np.zeros((20, 23, 3), np.uint8)):
        with pytest.raises(OptionsError, match="target"):
            upscaler.upscale(image, bits="6", target=bad)
    frozen = np.zeros((20, 24, 3), np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(OptionsError, match="writeable"):
        upscaler.upscale(image, bits="6", target=frozen)
    rows = np.zeros((20, 30, 3), np.uint8)
    upscaler.upscale(image, bits="6", target=rows[:, :24])
    assert np.array_equal(rows[:, :24], upscaler.upscale(image, bits="6").image)
    assert not rows[:, 24:].any()
