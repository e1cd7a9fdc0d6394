"""Foreign checkpoints: the authors' format against a restatement and against their own outputs; EDSR and BasicSR."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gdq_cli.bits.entropy import patch_entropy
from gdq_cli.engines import choose_engine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import WeightsError
from gdq_cli.measure.paper_protocol import upscale_paper
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.models.convert import convert_file
from gdq_cli.networks import Srresnet, controller_head
from gdq_cli.networks.srresnet.weights import THRESHOLDS, ratio_threshold
from gdq_cli.program.operations import Conv, Quantize
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.edsr_state import basicsr_names, edsr_names, edsr_output, edsr_state
from tests.helpers.foreign_files import Payload, replaced, save
from tests.helpers.integers import codes_of
from tests.helpers.paths import SHARED
from tests.helpers.pictures import make_picture
from tests.helpers.release_state import make_release_state, release_logits, release_output

PARITY = SHARED / "parity"


# --- The release, restated ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4])
def test_a_release_state_computes_what_it_did(scale: int, tmp_path: Path) -> None:
    state = make_release_state(scale, seed=scale)
    checkpoint = convert_file(save(tmp_path, {"epoch": 300, "state_dict": state}), "srresnet")
    assert checkpoint.scale == scale
    assert checkpoint.facts["epoch"] == 300
    write_checkpoint(tmp_path / "s.safetensors", checkpoint)
    read = read_checkpoint(tmp_path / "s.safetensors")
    core = make_picture(22, 27, seed=1)
    pixels = torch.from_numpy(core[None]).permute(0, 3, 1, 2)
    engine = ReferenceEngine(read.network)
    for bits in (4, 5, 6, 8):
        expected = release_output(state, pixels, bits)
        with torch.inference_mode():
            for found in (read.network(pixels.float(), bits), engine.grey_levels(pixels.float(), bits)):
                difference = (found - expected).abs()
                assert float(difference.median()) <= 1e-3
                assert float(difference.square().mean().sqrt()) <= 0.03
    assert float(release_output(state, pixels, 4).std()) > 5
    assert read.controller is not None
    logits = read.controller.logits(read.controller.descriptors(core[None], controller_head(read.network)))
    np.testing.assert_allclose(logits, release_logits(state, pixels).numpy(), atol=2e-4)


def test_dead_tensors_are_dead(tmp_path: Path) -> None:
    state = make_release_state(2)
    changed = dict(state)
    for key in state:
        if "channel_threshold" in key or "act_q" in key or "mean.bias" in key:
            changed[key] = state[key] + 100
    first, second = (convert_file(save(tmp_path, s, f"{i}.pth"), "s") for i, s in enumerate((state, changed)))
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key])


@pytest.mark.parametrize(
    ("ratio", "percent"),
    [
        *((-0.3, 5), (0, 5), (0.0499, 5), (0.05, 10), (0.1, 10), (0.25, 30), (0.35, 40), (0.44, 40), (0.45, 50)),
        *((0.4999, 50), (0.5, 50), (0.5499, 50), (0.55, 60), (0.576083, 60), (0.65, 70), (0.75, 80), (0.8, 80)),
        *((0.838784, 80), (0.85, 90), (0.8999, 90), (0.9, 90), (0.9499, 90), (0.15, 20), (0.249, 20)),
    ],
)
def test_ratios_round_as_in_the_release(ratio: float, percent: int) -> None:
    assert ratio_threshold(ratio) == THRESHOLDS[f"{percent}.0"]


@pytest.mark.parametrize("ratio", [0.95, 1.0, 7.0, float("nan"), float("inf")])
def test_ratios_without_a_threshold(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        ratio_threshold(ratio)


def test_only_the_top_left_square_counts_for_the_entropy(tmp_path: Path) -> None:
    controller = convert_file(save(tmp_path, make_release_state(2)), "s").controller
    assert controller is not None
    core = make_picture(20, 50)
    head = controller_head(convert_file(save(tmp_path, make_release_state(2)), "s").network)
    assert controller.choose(core[None], head)[0].entropy == patch_entropy(core[:, :20])
    assert controller.choose(core[None], head)[0].entropy != patch_entropy(core)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replaced("surprise.weight", torch.zeros(1)), "surprise"),
        (replaced("body.0.conv1.alpha", torch.tensor([-0.1])), "step that is not positive"),
        (replaced("body.0.conv2.quant_act4.alpha", torch.tensor([0.0])), "step that is not positive"),
        (replaced("body.1.conv1.quant_act3.alpha", torch.tensor([torch.nan])), "not finite"),
        (replaced("body.1.conv1.quant_act3.alpha", torch.ones(2)), "single value"),
        (replaced("body.1.conv1.quant_act3.init_state", torch.zeros(1)), "never trained"),
        (replaced("body.1.conv1.quant_act3.signed", torch.full((1,), 2.0)), "signed flag"),
        (replaced("body.0.bn1.running_mean", None), "Missing key"),
        (replaced("body.0.bn1.weight", torch.ones(3)), "size mismatch"),
        (replaced("body.0.conv1.quant_act2.alpha", None), "quant_act2"),
        (replaced("encoder.gate.0.weight", torch.zeros(3, 64)), "controller's weight"),
        (replaced("encoder.second_divide_bit.fine_grain_ratito2", torch.full((1, 1, 1), 0.97)), "no threshold"),
        (replaced("tail.1.weight", torch.zeros(3, 64, 3, 3)), "size mismatch"),
    ],
)
def test_what_a_release_state_may_not_be(
    edit: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    state = make_release_state(2)
    edit(state)
    with pytest.raises(WeightsError, match=message):
        convert_file(save(tmp_path, state), "s")


# --- Files that are not to be trusted -------------------------------------------------------------------------------


def test_code_in_a_file_never_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"state_dict": Payload(target)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload(target)))
    (tmp_path / "evil.pth.tar").write_bytes(pickle.dumps(Payload(target), protocol=2))
    for name in ("evil.pth", "evil.pt", "evil.pth.tar"):
        with pytest.raises(WeightsError, match="not a file of plain tensors") as caught:
            convert_file(tmp_path / name, "s")
        assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no state dict"),
        ([torch.zeros(1)], "no state dict"),
        ({"head.weight": 3}, "not a tensor"),
        ({3: torch.zeros(1)}, "not a tensor"),
        ({"head.weight": torch.zeros(1).expand(1 << 40)}, "claims"),
        ({"head.weight": torch.zeros(2, 2).to_sparse()}, "not a plain one"),
        ({"conv.weight": torch.zeros(2, 2)}, "not a network gdq knows"),
    ],
)
def test_files_that_are_no_networks(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_file(save(tmp_path, content, "x.pth"), "s")


def test_files_that_are_not_there_or_not_readable(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        convert_file(tmp_path / "absent.pth", "s")
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"text{suffix}"
        path.write_text("neither tensors nor anything else that could be read")
        with pytest.raises(WeightsError, match="not a"):
            convert_file(path, "s")


# --- Float32 EDSR ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("rename", "value_range"),
    [(edsr_names, 255.0), (edsr_names, 1.0), (basicsr_names, 255.0), (lambda state, _: dict(state), 1.0)],
    ids=["edsr", "edsr-range-1", "basicsr", "plain"],
)
def test_edsr_weights(scale: int, rename: Callable[..., Any], value_range: float, tmp_path: Path) -> None:
    state = edsr_state(scale, value_range)
    path = save(tmp_path, rename(state, value_range), "edsr.pt")
    checkpoint = convert_file(path, "edsr")
    assert (checkpoint.scale, checkpoint.is_quantized) == (scale, False)
    core = make_picture(24, 27)
    # Away from the border: there, their zero padding stands for the true mean and ours for the rounded one.
    pixels = torch.from_numpy(core[None]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found = checkpoint.network(pixels.float())
    expected = edsr_output(state, pixels, value_range)
    inner = (..., slice(9 * scale, -9 * scale), slice(9 * scale, -9 * scale))
    assert found.shape == expected.shape
    assert float((found - expected)[inner].abs().max()) < 2e-3
    assert float((found - expected).abs().max()) < 0.02 * float(expected.std())
    assert float(expected[inner].std()) > 5


@pytest.mark.parametrize(("given", "factor"), [(None, 1.0), (0.1, 0.1)])
def test_residual_scale(given: float | None, factor: float, tmp_path: Path) -> None:
    state = edsr_state(2, 255.0)
    network = convert_file(save(tmp_path, edsr_names(state, 255.0)), "edsr", residual_scale=given).network
    pixels = torch.from_numpy(make_picture(16, 16)[None]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        difference = network(pixels.float()) - edsr_output(state, pixels, 255.0, factor)
    assert float(difference[..., 12:-12, 12:-12].abs().max()) < 0.02


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replaced("sub_mean.weight", 2 * torch.eye(3).reshape(3, 3, 1, 1)), "rescales colours"),
        (replaced("add_mean.bias", torch.zeros(3)), "output mean"),
        (replaced("attention.weight", torch.zeros(1)), "attention"),
        (replaced("body.0.body.0.weight", torch.zeros(16, 16, 5, 5)), "size mismatch"),
        (replaced("tail.1.weight", None), "tail.weight"),
        (replaced("head.0.bias", torch.full((16,), torch.inf)), "not finite"),
        (replaced("body.999999999.body.0.bias", torch.zeros(16)), "not those of 1000000000 blocks"),
        (replaced("head.0.weight", torch.zeros(5000, 3, 3, 3)), "of 5000 features"),
        (replaced("tail.0.0.weight", torch.zeros(80, 16, 3, 3)), "neither x2, x3 nor x4"),
        (replaced("tail.0.0.weight", None), "lacks the tensor"),
    ],
)
def test_what_an_edsr_may_not_be(edit: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path) -> None:
    state = edsr_names(edsr_state(2, 255.0), 255.0)
    edit(state)
    start = time.process_time()
    with pytest.raises(WeightsError, match=message):
        convert_file(save(tmp_path, state), "edsr")
    assert time.process_time() - start < 1


# --- The authors' own outputs (reference vectors that are not part of this repository) -----------------------------


@pytest.fixture(scope="module", params=[2, 4])
def parity(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Any]:
    """Converted through a file, as a user has it, and the vectors."""
    scale: int = request.param
    state, vectors = PARITY / f"srresnet_x{scale}_state.pt", PARITY / f"vectors_x{scale}.npz"
    if not state.is_file() or not vectors.is_file():
        pytest.skip(f"the release's reference vectors at x{scale} are not here ({vectors})")
    path = tmp_path_factory.mktemp("parity") / "srresnet.safetensors"
    write_checkpoint(path, convert_file(state, "srresnet"))
    return read_checkpoint(path), np.load(vectors)


def run_float(checkpoint: Checkpoint, lr: np.ndarray, bits: int) -> list[Tensor]:
    """Unrounded outputs of the fake-quantized network and of the reference engine."""
    pixels = torch.from_numpy(lr[None]).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    engine = ReferenceEngine(checkpoint.network)
    with torch.inference_mode():
        integers = engine.grey_levels(pixels, bits)
        return [checkpoint.network(pixels, bits)[0], integers[0]]


def assert_close(found: Tensor, expected: np.ndarray) -> None:
    difference = (found - torch.from_numpy(expected)).abs()
    assert float(difference.median()) <= 1e-3
    assert float(difference.square().mean().sqrt()) <= 0.03


def choice_of(checkpoint: Checkpoint, lr: np.ndarray) -> Any:
    assert checkpoint.controller is not None
    return checkpoint.controller.choose(lr[None], controller_head(checkpoint.network))[0]


def test_parity_of_thresholds(parity: tuple[Checkpoint, Any]) -> None:
    checkpoint, vectors = parity
    assert checkpoint.controller is not None
    np.testing.assert_allclose(checkpoint.controller.thresholds, vectors["thresholds"], atol=1e-6)


@pytest.mark.parametrize("patch", range(12))
def test_parity_of_patches(parity: tuple[Checkpoint, Any], patch: int) -> None:
    checkpoint, vectors = parity
    lr = vectors[f"lr_{patch:02d}"]
    choice = choice_of(checkpoint, lr)
    assert choice.bit_width == vectors["bit"][patch]
    assert abs(choice.entropy - vectors["entropy"][patch]) <= 2e-5
    np.testing.assert_allclose(choice.logits, vectors["gate_logits"][patch], atol=2e-4)
    for found in run_float(checkpoint, lr, choice.bit_width):
        assert_close(found, vectors[f"sr_{patch:02d}"])


@pytest.mark.parametrize("patch", range(3))
def test_parity_of_irregular_patches(parity: tuple[Checkpoint, Any], patch: int) -> None:
    checkpoint, vectors = parity
    lr = vectors[f"irr_{patch}_lr"]
    choice = choice_of(checkpoint, lr)
    assert choice.bit_width == vectors[f"irr_{patch}_bit"]
    assert abs(choice.entropy - vectors[f"irr_{patch}_entropy"]) <= 2e-5
    np.testing.assert_allclose(choice.logits, vectors[f"irr_{patch}_logits"], atol=2e-4)
    for found in run_float(checkpoint, lr, choice.bit_width):
        assert_close(found, vectors[f"irr_{patch}_sr"])


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_parity_of_forced_widths(parity: tuple[Checkpoint, Any], bits: int) -> None:
    checkpoint, vectors = parity
    for patch in vectors["forced_patches"]:
        for found in run_float(checkpoint, vectors[f"lr_{patch:02d}"], bits):
            assert_close(found, vectors[f"forced_sr_{patch:02d}_b{bits}"])


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_parity_of_the_first_convolution(parity: tuple[Checkpoint, Any], bits: int) -> None:
    checkpoint, vectors = parity
    network = checkpoint.network
    assert isinstance(network, Srresnet)
    conv = network.blocks[0].conv1
    lr = torch.from_numpy(vectors[f"lr_{int(vectors['dbg_patch']):02d}"][None]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        head = network.features(lr)
        x = network.head_act(torch.from_numpy(vectors["dbg_head_conv"])[None])
        engine = ReferenceEngine(network)
        _, quantize, first, *_ = engine.parameters.program.at(bits)
        assert isinstance(quantize, Quantize)
        assert isinstance(first, Conv)
        codes = engine._to_codes(x, quantize.codes)
        values = engine._conv_values(codes, first.layer)
    assert float((head[0] - torch.from_numpy(vectors["dbg_head_conv"])).abs().max()) <= 1e-3
    assert np.array_equal(first.layer.weight, vectors["dbg_wcode"])
    assert conv.input_step(bits).item() == float(vectors[f"dbg_act_alpha_b{bits}"][0])
    assert (conv.input_range(bits)[0] < 0) == bool(vectors[f"dbg_act_signed_b{bits}"][0])
    assert np.mean(codes[0].numpy() != vectors[f"dbg_actcode_b{bits}"]) <= 1e-4
    expected = vectors[f"dbg_conv1_out_ch0to15_b{bits}"]
    assert float(np.median(np.abs(values[0, :16].numpy() - expected))) <= 1e-5 * float(np.abs(expected).max())


def run_block(engine: ReferenceEngine, bits: int, index: int, x: Tensor) -> Tensor:
    """What the engine makes of one block's input, (1, C, h, w)."""
    operations = engine.parameters.program.at(bits)
    conv1, conv2 = (step for step in operations[2 + 2 * index : 4 + 2 * index] if isinstance(step, Conv))
    codes = next(made for made in map(codes_of, operations) if made is not None and made.to == conv1.source)
    assert conv2.epilogue.add is not None
    assert conv2.epilogue.keep is not None
    buffers = {conv2.epilogue.add: x, conv1.source: engine._to_codes(x, codes)}
    for conv in (conv1, conv2):
        engine._convolve_into(buffers, conv, add_ends=False)
    return buffers[conv2.epilogue.keep]


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_parity_of_blocks_on_the_true_inputs(parity: tuple[Checkpoint, Any], bits: int) -> None:
    """Each block alone: no error before it adds to its own; 1e-5, or about 1e-3 where a code falls the other way."""
    checkpoint, vectors = parity
    network = checkpoint.network
    assert isinstance(network, Srresnet)
    engine = ReferenceEngine(network)
    stream = torch.from_numpy(vectors[f"lay_blocks_b{bits}"])
    exact = 0
    with torch.inference_mode():
        for index, block in enumerate(network.blocks):
            x, expected = stream[index][None], stream[index + 1][None]
            for found in (block(x, bits), run_block(engine, bits, index, x)):
                difference = (found - expected).abs()
                assert float(difference.max()) <= 1e-2
                assert float(difference.median()) <= 1e-5
                exact += float(difference.max()) <= 1e-5
        skip = network.head_act(network.features(torch.from_numpy(vectors["lay_lr"][None]).permute(0, 3, 1, 2).float()))
        body = network.body_norm(network.body_conv(stream[-1][None])) + skip
        assert float((body[0] - torch.from_numpy(vectors[f"lay_body_out_b{bits}"])).abs().max()) <= 1e-3
        assert_close(network.reconstruct(stream[-1][None], skip)[0], vectors[f"lay_sr_b{bits}"])
    assert exact >= 24  # of 32: flips are the exception


def test_parity_of_a_whole_picture(parity: tuple[Checkpoint, Any]) -> None:
    checkpoint, vectors = parity
    result = upscale_paper(Upscaler(checkpoint, choose_engine(checkpoint.network).engine), vectors["img_lr"])
    assert result.bit_map.shape == tuple(vectors["img_grid"])
    assert result.bit_map.ravel().tolist() == vectors["img_patch_bits"].tolist()
    assert result.fab == float(vectors["img_fab"])
    difference = np.abs(result.image.astype(int) - vectors["img_sr_u8"].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
