"""Hostile checkpoint files: each is refused with one line and exit code 4, in under a second and without allocating."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.networks.srresnet.weights import import_release
from tests.helpers.attacks import (
    Attack,
    assert_refused,
    config,
    declare,
    duplicate,
    folder,
    header,
    header_of,
    metadata,
    one,
    pipe,
    raw,
    sparse,
    tensor,
    text,
    widest,
)
from tests.helpers.checkpoints import rewrite
from tests.helpers.release_state import make_release_state


@pytest.fixture(scope="module")
def good(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "x.safetensors"
    write_checkpoint(path, small_checkpoint)
    return path.read_bytes()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    network, controller, facts = import_release(make_release_state(2, blocks=1, features=8))
    path = tmp_path_factory.mktemp("released") / "x.safetensors"
    write_checkpoint(path, Checkpoint(network, controller, facts, "srresnet"))
    return path.read_bytes()


ATTACKS: dict[str, tuple[Attack, str]] = {
    "empty file": (lambda path: path.write_bytes(b"") and None, "cut or too long"),
    "header longer than the file": (raw(b"{}", length=1 << 20), "cut or too long"),
    "header of exabytes": (raw(b"{}", length=(1 << 63) - 1), "cut or too long"),
    "huge real header": (raw(b"{" + b" " * (8 << 20) + b"}"), "cut or too long"),
    "header is not JSON": (raw(b"\x80\x04\x95 a pickle"), "not JSON"),
    "header is a list": (raw(b"[]"), "not a JSON object"),
    "header nested without end": (raw(b"[" * 100_000), "not JSON"),
    "header of huge numbers": (raw(b'{"a":' + b"9" * 100_000 + b"}"), "not JSON"),
    "header of broken Unicode": (raw(b'{"\xff\xfe":1}'), "not JSON"),
    "a tensor declared twice": (duplicate, "not JSON"),
    "negative shape": (declare("tail.bias", shape=[-3]), "not a readable"),
    "shape that overflows": (declare("tail.bias", shape=[1 << 62, 1 << 62]), "not a readable"),
    "shape of 10^9 channels": (declare("tail.bias", shape=[10**9]), "not a readable"),
    "data outside the file": (declare("tail.bias", data_offsets=[0, 1 << 60]), "not a readable"),
    "data backwards": (declare("tail.bias", data_offsets=[24, 12]), "not a readable"),
    "unknown data type": (declare("tail.bias", dtype="F128"), "not a readable"),
    "terabyte file": (sparse, "a checkpoint has at most 512"),
    "a pipe": (pipe, "not a file"),
    "a folder": (folder, "not a file"),
    "no metadata of ours": (header(lambda values: values.pop("__metadata__")), "not a gdq checkpoint"),
    "metadata not JSON": (text("{'format': 1}"), "not JSON"),
    "metadata nested without end": (text("[" * 100_000), "not JSON"),
    "metadata with NaN": (text('{"format": NaN}'), "not JSON"),
    "metadata with a field twice": (text('{"format": 1, "format": 1}'), "not JSON"),
    "format of the future": (metadata(format=[1] * 10_000), "checkpoint format"),
    "network of another kind": (metadata(network="__import__('os')"), "this gdq knows"),
    "name that climbs": (metadata(name="../../../etc/cron.d/x"), "model name"),
    "name that paints the terminal": (metadata(name="edsr\x1b]0;owned\x07"), "model name"),
    "name without end": (metadata(name="a" * 1_000_000), "model name"),
    "10^9 channels": (config(features=10**9), "out of range"),
    "more digits than an integer has": (config(features=10**4000), "out of range"),
    "10^9 blocks": (config(blocks=10**9), "out of range"),
    "sizes as fractions": (config(features=64.0), "not an integer"),
    "sizes as truth values": (config(blocks=True), "not an integer"),
    "no blocks": (config(blocks=0), "out of range"),
    "scale of 10^9": (config(scale=10**9), "scale must be"),
    "largest sizes without the data": (widest, "not those of the network"),
    "bit-widths that index anywhere": (config(bit_widths=[4, 5, 6, 10**6]), "bit-widths"),
    "static widths out of range": (config(static_bits=[8, 8, 99]), "bit-widths"),
    "static widths of a float32 network": (config(bit_widths=[], static_bits=[8]), "static_bits needs 0 entries"),
    "thresholds that are not numbers": (
        metadata(controller={"descriptor": "mean", "thresholds": ["1", "2"]}),
        "controller metadata",
    ),
    "thresholds beyond floats": (
        metadata(controller={"descriptor": "mean", "thresholds": [0, 10**400]}),
        "controller metadata",
    ),
    "descriptor of another kind": (
        metadata(controller={"descriptor": ["mean"], "thresholds": [1, 2]}),
        "controller metadata",
    ),
    "NaN step": (tensor("body.0.conv1.activation_step", one(float("nan"))), "not finite"),
    "zero step": (tensor("body.0.conv1.activation_step", one(0.0)), "not positive"),
    "negative step": (tensor("tail.wide_step", one(-1e-3)), "not positive"),
    "step that underflows": (tensor("tail.wide_step", one(1e-40)), "not positive"),
    "infinite weight": (tensor("head.weight", one(float("inf"))), "not finite"),
    "NaN in the controller": (tensor("controller.bias", one(float("nan"))), "not finite"),
    "weights of another type": (tensor("tail.weight", lambda x: x.to(torch.float16)), "float16"),
    "weights as integers": (tensor("tail.bias", lambda x: x.to(torch.int64)), "int64"),
    "controller weights of 1e308": (tensor("controller.weight", one(1e308)), "beyond 1e+06"),
    "a controller bias of -1e300": (tensor("controller.bias", one(-1e300)), "beyond 1e+06"),
    "weights of 1e38": (tensor("head.weight", one(3e38)), "beyond 1e+06"),
    "a step of 1e30": (tensor("tail.wide_step", one(1e30)), "beyond 1e+06"),
    "a step of 1e-19": (tensor("tail.wide_step", one(1e-19)), "not positive"),
    "a fact beyond all numbers": (text('{"format": 1, "facts": {"psnr": 1e999}}'), "not JSON"),
    "a tensor too many": (lambda path: rewrite(path, tensors={"../../x": torch.zeros(1)}), "unexpected ../../x"),
}

RELEASED: dict[str, tuple[Attack, str]] = {
    "negative variance": (tensor("body.0.bn1.running_var", one(-1.0)), "negative variances"),
    "variances of 1e37": (tensor("body.0.bn1.running_var", one(1e37)), "beyond 1e+06"),
    "flags of another kind": (tensor("body.0.conv1.activation_signed", one(7)), "neither 0 nor 1"),
    "zero weight step": (tensor("body.0.conv2.weight_step", one(0.0)), "not positive"),
    "square_entropy of another kind": (
        metadata(controller={"descriptor": "mean", "thresholds": [1, 2], "square_entropy": 1}),
        "controller metadata",
    ),
    "x3": (config(scale=3), "scale must be 2 or 4"),
}


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) + len(RELEASED) >= 30


@pytest.mark.parametrize("name", ATTACKS)
def test_refused(name: str, good: bytes, tmp_path: Path) -> None:
    attack, message = ATTACKS[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(good)
    attack(path)
    assert_refused(path, message)


@pytest.mark.parametrize("name", RELEASED)
def test_refused_of_a_released_network(name: str, released: bytes, tmp_path: Path) -> None:
    attack, message = RELEASED[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(released)
    attack(path)
    assert_refused(path, message)


def test_a_file_of_zeros(good: bytes, tmp_path: Path) -> None:
    """Everything declared as it should be, and no data behind it: steps of zero are refused."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(good)
    state = {key: torch.zeros_like(value) for key, value in load_file(path).items()}
    fields = header_of(path)["__metadata__"]
    save_file(state, path, metadata=fields)
    assert_refused(path, "not positive")


def test_the_untouched_files_are_fine(good: bytes, released: bytes, tmp_path: Path) -> None:
    for content in (good, released):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        rewrite(path)
        assert read_checkpoint(path).is_quantized
