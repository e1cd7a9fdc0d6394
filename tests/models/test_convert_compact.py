"""Compact networks of other people: recognised by spandrel, read by us, calibrated and run; all else refused.

A stand-in for spandrel covers our side; where the real one can be imported, it is asked as well.
"""

from __future__ import annotations

import builtins
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import read_checkpoint
from gdq_cli.models.convert import convert_file
from gdq_cli.networks.compact.weights import import_compact
from tests.helpers.commands import gdq
from tests.helpers.compact_state import compact_output, compact_state, make_compact
from tests.helpers.edsr_state import edsr_names, edsr_state
from tests.helpers.engines import windows_of
from tests.helpers.foreign_files import Payload, replaced, save
from tests.helpers.pictures import make_picture

State = dict[str, Tensor]


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for spandrel that tells three architectures apart, in its order of detection."""

    def entry(id: str, name: str, *keys: str) -> SimpleNamespace:
        def detect(state: State) -> bool:
            return all(key in state for key in keys)

        return SimpleNamespace(architecture=SimpleNamespace(id=id, name=name), detect=detect)

    entries = [
        entry("ESRGAN", "ESRGAN", "model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
        entry("SPAN", "SPAN", "conv_1.sk.weight"),
        entry("Compact", "RealESRGAN Compact", "body.0.weight", "body.1.weight"),
    ]

    def architectures(order: str) -> list[SimpleNamespace]:
        assert order == "detection"
        return entries

    module = ModuleType("spandrel")
    module.MAIN_REGISTRY = SimpleNamespace(architectures=architectures)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel", module)


@pytest.fixture
def real_spandrel() -> Any:
    """The real one; torchvision, which it imports, raises more than ImportError beside a torch of another build."""
    try:
        import spandrel
    except Exception as error:
        pytest.skip(f"spandrel cannot be imported here ({error})")
    return spandrel


def break_import(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = builtins.__import__

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "spandrel":
            raise error
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "hr"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(make_picture(64, 64, index)).save(folder / f"{index}.png")
    return folder


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"params_ema": s, "params": {}}], ids=["plain", "wrapped"])
def test_weights_are_read(scale: int, wrap: Callable[[State], Any], tmp_path: Path) -> None:
    body = make_compact(scale, convs=2, features=24)
    checkpoint = convert_file(save(tmp_path, wrap(compact_state(body)), "general.pth"), "general")
    assert (checkpoint.config.name, checkpoint.scale, checkpoint.is_quantized) == ("compact", scale, False)
    assert checkpoint.facts["converted_from"] == "Compact"
    assert len(checkpoint.facts["source_sha256"]) == 64
    pixels = windows_of(make_picture(20, 20)).float()
    with torch.inference_mode():
        difference = checkpoint.network(pixels) - compact_output(body, pixels, scale)
    assert float(difference.abs().max()) < 1e-3


@pytest.mark.usefixtures("spandrel")
def test_half_precision_weights(tmp_path: Path) -> None:
    """Many files on the internet hold float16."""
    state = {key: value.half() for key, value in compact_state(make_compact(2)).items()}
    network = convert_file(save(tmp_path, state, "half.pth"), "half").network
    assert {value.dtype for value in network.parameters()} == {torch.float32}


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_from_foreign_weights_to_a_picture(suffix: str, tmp_path: Path, pictures: Path) -> None:
    source, target = tmp_path / f"general-x4v3{suffix}", tmp_path / "general_x4.safetensors"
    state = compact_state(make_compact(4, convs=2, features=16))
    if suffix == ".pth":
        torch.save({"params": state}, source)
    else:
        save_file(dict(state), source)
    assert "calibrated in" in gdq("calibrate", pictures, "--from", source, "-o", target, "--fab", 5)
    checkpoint = read_checkpoint(target)
    assert (checkpoint.config.name, checkpoint.name, checkpoint.is_quantized) == ("compact", "general", True)
    assert checkpoint.controller is not None
    assert checkpoint.facts["source"] == source.name
    picture = tmp_path / "in.png"
    Image.fromarray(make_picture(40, 60)).save(picture)
    output = gdq("upscale", picture, "-x", 4, "-m", target)
    assert "FAB" in output
    assert Image.open(tmp_path / "in_x4.png").size == (240, 160)
    assert '"convs": 2' in gdq("models", "info", target, "--json")
    assert "ok " in gdq("models", "verify", target)
    again = gdq("calibrate", pictures, "--from", target, "-o", tmp_path / "again_x4.safetensors")
    assert "calibrated in" in again


@pytest.mark.usefixtures("spandrel")
def test_convert_first(tmp_path: Path) -> None:
    source = save(tmp_path, compact_state(make_compact(2)), "x.pth")
    target = tmp_path / "float_x2.safetensors"
    output = gdq("models", "convert", source, "-o", target)
    assert "compact x2, 3 convolutions of 32 features, float32; quantize it with gdq calibrate" in output
    assert not read_checkpoint(target).is_quantized


def test_edsr_weights_need_no_extra(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_import(monkeypatch, ModuleNotFoundError("No module named 'spandrel'", name="spandrel"))
    source, target = tmp_path / "edsr.pt", tmp_path / "edsr_x2.safetensors"
    torch.save(edsr_names(edsr_state(2, 255.0), 255.0), source)
    assert "calibrated in" in gdq("calibrate", pictures, "--from", source, "-o", target)
    assert read_checkpoint(target).config.name == "edsr"
    assert "scale x2, not x4" in gdq(
        "calibrate", pictures, "--from", source, "-o", target, "--overwrite", "-x", 4, code=4
    )


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'spandrel'", name="spandrel"), "pip install spandrel"),
        (ModuleNotFoundError("No module named 'torchvision'", name="torchvision"), "No module named 'torchvision'"),
        (RuntimeError("operator torchvision::nms\ndoes not exist"), "operator torchvision::nms does not exist"),
    ],
)
def test_without_spandrel(
    error: Exception, message: str, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_import(monkeypatch, error)
    source = save(tmp_path, compact_state(make_compact(2)), "general.pth")
    target = tmp_path / "x_x2.safetensors"
    line = gdq("calibrate", pictures, "--from", source, "-o", target, code=4)
    assert line.startswith(f"{source}: ")
    assert message in line
    assert "\n" not in line
    assert not target.exists()


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), "a network of the architecture ESRGAN"),
        (("conv_1.sk.weight",), "a network of the architecture SPAN"),
        (("conv.weight",), "nor one that spandrel knows"),
    ],
)
def test_other_networks_are_named(keys: tuple[str, ...], message: str, tmp_path: Path, pictures: Path) -> None:
    source = save(tmp_path, {key: torch.zeros(1) for key in keys}, "other.pth")
    line = gdq("calibrate", pictures, "--from", source, "-o", tmp_path / "x_x2.safetensors", code=4)
    assert message in line
    assert "\n" not in line


@pytest.mark.usefixtures("spandrel")
def test_training_refuses_them(tmp_path: Path, pictures: Path) -> None:
    source, target = save(tmp_path, compact_state(make_compact(2)), "x.pth"), tmp_path / "x_x2.safetensors"
    message = "compact networks can be run and calibrated but not trained"
    assert message in gdq("train", pictures, "--from", source, "-o", target, code=4)
    gdq("calibrate", pictures, "--from", source, "-o", target)
    again = ("train", pictures, "--stage", "quantized", "--from", target, "-o", tmp_path / "y_x2.safetensors")
    assert message in gdq(*again, code=4)


def grown(last: int | str) -> Callable[[State], None]:
    return replaced(f"body.{last}.weight", torch.zeros(12, 32, 3, 3))


REFUSED: list[tuple[Callable[[State], None], str]] = [
    (replaced("body.0.weight", torch.zeros(32, 1, 3, 3)), "convolutions of RGB"),
    (replaced("body.0.weight", torch.zeros(32, 3, 9, 9)), "convolutions of RGB"),
    (replaced("body.0.weight", torch.zeros(())), "convolutions of RGB"),
    (replaced("body.0.weight", torch.zeros(0, 3, 3, 3)), "out of range"),
    (replaced("body.0.weight", torch.zeros(4096, 3, 3, 3)), "out of range"),
    (replaced("body.8.weight", torch.zeros(9, 32, 3, 3)), "no RGB picture"),
    (replaced("body.8.weight", torch.zeros(3, 32, 3, 3)), "scale must be 2, 3 or 4, not 1"),
    (replaced("body.8.weight", torch.zeros(0, 32, 3, 3)), "scale must be 2, 3 or 4, not 0"),
    (replaced("body.8.weight", torch.zeros(12, 32, 1, 1)), "size mismatch"),
    (replaced("body.4.weight", None), "Missing key"),
    (replaced("body.3.weight", torch.zeros(1)), "size mismatch"),
    (replaced("body.2.weight", torch.full((32, 32, 3, 3), torch.nan)), "not finite"),
    (replaced("body.3.bias", torch.zeros(32)), "Unexpected key"),
    (replaced("attention.weight", torch.zeros(1)), "attention.weight' belongs to no Compact"),
    (replaced("body.2.weight_scale", torch.zeros(1)), "belongs to no Compact"),
    (grown(10), "Missing key"),
    (grown(998), "out of range"),
    (grown(10**9), "belongs to no Compact"),
    (grown("9" * 5000), "belongs to no Compact"),
    (grown("08"), "belongs to no Compact"),
]


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize(("edit", "message"), REFUSED)
def test_what_a_compact_may_not_be(edit: Callable[[State], None], message: str, tmp_path: Path) -> None:
    state = dict(compact_state(make_compact(2)))
    edit(state)
    source = save(tmp_path, state, "x.pth")
    start = time.process_time()
    with pytest.raises(WeightsError, match=message) as caught:
        convert_file(source, "x")
    assert time.process_time() - start < 1
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(source)) + 400


@pytest.mark.usefixtures("spandrel")
def test_code_in_a_file_never_runs(tmp_path: Path, pictures: Path) -> None:
    source = save(tmp_path, {"params": Payload(tmp_path / "ran")}, "evil.pth")
    gdq("calibrate", pictures, "--from", source, "-o", tmp_path / "x_x2.safetensors", code=4)
    assert not (tmp_path / "ran").exists()


# --- The real spandrel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_spandrels_own_network(real_spandrel: Any, scale: int, tmp_path: Path) -> None:
    """Its loader builds its network from the file, ours builds ours: they compute the same."""
    source = save(tmp_path, {"params_ema": compact_state(make_compact(scale))}, "x.pth")
    theirs = real_spandrel.ModelLoader().load_from_file(source)
    assert (theirs.architecture.id, theirs.scale) == ("Compact", scale)
    pixels = windows_of(make_picture(20, 20)).float()
    with torch.inference_mode():
        difference = convert_file(source, "x").network(pixels) - 255 * theirs.model.eval()(pixels / 255)
    assert float(difference.abs().max()) < 1e-3


def test_spandrel_names_other_networks(real_spandrel: Any, tmp_path: Path) -> None:
    from spandrel.architectures.ESRGAN import ESRGAN

    state = ESRGAN(num_filters=8, num_blocks=1).state_dict()
    with pytest.raises(WeightsError, match="a network of the architecture ESRGAN; gdq runs EDSR and Compact"):
        convert_file(save(tmp_path, state, "x.pth"), "x")
    with pytest.raises(WeightsError, match="nor one that spandrel knows"):
        convert_file(save(tmp_path, {"conv.weight": torch.zeros(1)}, "x.pth"), "x")


def test_the_oracle_can_tell_networks_apart() -> None:
    """The picture depends on every kind of tensor, so equality above means something."""
    body, pixels = make_compact(2), windows_of(make_picture(12, 12)).float()
    before = compact_output(body, pixels, 2)
    for key, value in compact_state(body).items():
        state = compact_state(body)
        state[key] = value * 1.5
        with torch.inference_mode():
            assert float((import_compact(state)(pixels) - before).abs().max()) > 0.01, key
