"""gdq models: what is listed, told, verified, converted and pushed, and which codes it exits with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gdq_cli.models.schema import MAX_FILE
from gdq_cli.models.store import bundled_folder, bundled_manifest
from gdq_cli.training.start import read_start
from tests.helpers.checkpoints import rewrite
from tests.helpers.commands import gdq
from tests.helpers.edsr_state import edsr_names, edsr_state
from tests.helpers.hub_server import HubServer, Repository, error_line, run
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture
from tests.helpers.release_state import make_release_state


@pytest.fixture
def folder(small_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GDQ_MODEL_DIR with one model."""
    own = tmp_path / "models"
    own.mkdir()
    write_checkpoint(own / "small_x2.safetensors", small_checkpoint)
    monkeypatch.setenv("GDQ_MODEL_DIR", str(own))
    return own


def test_list(folder: Path) -> None:
    lines = gdq("models", "list").splitlines()
    assert [line for line in lines if line.startswith("small ") and " x2 " in line and "GDQ_MODEL_DIR" in line]
    assert len([line for line in lines if " bundled " in line]) == len(bundled_manifest())


def test_list_as_json(folder: Path) -> None:
    listed = {(m["name"], m["scale"]): m for m in json.loads(gdq("models", "list", "--json"))}
    own = listed["small", 2]
    file = folder / "small_x2.safetensors"
    assert (own["path"], own["place"], own["size"]) == (str(file), "GDQ_MODEL_DIR", file.stat().st_size)
    assert len(listed) == 1 + len(bundled_manifest())


def test_path_and_pull_of_what_is_here(folder: Path) -> None:
    file = str(folder / "small_x2.safetensors")
    assert gdq("models", "path", "small", "-x", 2).strip() == file
    assert gdq("models", "pull", "small", "-x", 2).strip() == file
    assert "no model 'small' at x4" in gdq("models", "path", "small", code=4)
    assert "--scale" in gdq("models", "path", "small", "-x", 5, code=2)


def test_info(folder: Path, small_checkpoint: Checkpoint) -> None:
    values = json.loads(gdq("models", "info", "small", "-x", 2, "--json"))
    config = small_checkpoint.network.config
    assert (values["name"], values["network"], values["scale"]) == ("small", "edsr", 2)
    assert (values["blocks"], values["features"], values["bit_widths"]) == (config.blocks, 64, [4, 5, 6, 8])
    assert values["facts"] == small_checkpoint.facts
    assert values["halo"] == small_checkpoint.halo
    assert values["parameters"] == sum(p.numel() for p in small_checkpoint.network.parameters())
    assert values["controller"]["descriptor"] == "band_energy"


def test_info_shows_foreign_text_escaped(folder: Path) -> None:
    file = folder / "small_x2.safetensors"
    rewrite(file, metadata={"facts": {"note\x1b[2J": "\x1b]0;owned\x07" + "x" * 1000}})
    output = gdq("models", "info", file)
    assert output.replace("\n", "").isprintable()
    assert max(map(len, output.splitlines())) < 300


def test_verify(folder: Path) -> None:
    assert gdq("models", "verify").count("ok  ") == 1 + len(bundled_manifest())
    file = folder / "small_x2.safetensors"
    rewrite(file, tensors={"tail.wide_step": torch.zeros(3)})
    output = gdq("models", "verify", code=4)
    assert output.count("ok  ") == len(bundled_manifest())
    assert "error: " in output
    assert "not positive" in output
    assert "no such checkpoint" in gdq("models", "verify", folder / "absent.safetensors", code=4)


def test_a_bundled_file_is_vouched_for_by_any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundled_folder())
    assert "hash as in the manifest" in gdq("models", "verify", "edsr_x4.safetensors")
    assert "hash as in the manifest" in gdq("models", "verify", f"../{bundled_folder().name}/edsr_x4.safetensors")


def test_a_file_that_is_a_byte_too_large_is_said_to_be_larger(tmp_path: Path) -> None:
    file = tmp_path / "large_x2.safetensors"
    with file.open("wb") as stream:
        stream.truncate(MAX_FILE + 1)
    limit = MAX_FILE >> 20
    assert f"{limit + 1} MiB; a checkpoint has at most {limit}" in gdq("models", "info", file, code=4)


def test_convert_the_release(tmp_path: Path) -> None:
    source, target = tmp_path / "srresnet_x2@300.pth.tar", tmp_path / "srresnet_x2.safetensors"
    torch.save({"epoch": 300, "state_dict": make_release_state(2)}, source)
    assert "srresnet x2, 2 blocks of 64 features" in gdq("models", "convert", source, "-o", target)
    assert "--overwrite replaces it" in gdq("models", "convert", source, "-o", target, code=3)
    gdq("models", "convert", source, "-o", target, "--overwrite")
    assert "SHA-256" in gdq("models", "verify", target)
    picture = tmp_path / "in.png"
    Image.fromarray(make_picture(40, 60)).save(picture)
    assert "srresnet x2" in gdq("upscale", picture, "-x", 2, "-m", target, "--offline")
    assert Image.open(tmp_path / "in_x2.png").size == (120, 80)
    values = json.loads(gdq("bitmap", picture, "-x", 2, "-m", target, "--json"))
    assert values["grid"] == [1, 1]


def test_convert_refuses_its_own_files(folder: Path, tmp_path: Path) -> None:
    """A float32 checkpoint of ours has the names of plain EDSR weights, and another mean."""
    source = tmp_path / "float_x2.safetensors"
    write_checkpoint(source, Checkpoint(make_network(2, 1, 8), None))
    for path in (source, folder / "small_x2.safetensors"):
        output = gdq("models", "convert", path, "-o", tmp_path / "out_x2.safetensors", code=4)
        assert "a gdq checkpoint already" in output


def test_weights_of_others_are_not_run_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({}, "general.pth")
    assert "gdq models convert" in gdq("models", "path", "general.pth", code=4)


def test_convert_edsr_and_go_on(tmp_path: Path) -> None:
    source, target = tmp_path / "edsr.pt", tmp_path / "wide_x3.safetensors"
    torch.save(edsr_names(edsr_state(3, 255.0), 255.0), source)
    output = gdq("models", "convert", source, "-o", target, "--residual-scale", 0.5)
    assert f"gdq calibrate FOLDER --from {target}" in output
    half = read_checkpoint(target)
    assert torch.equal(read_start(target)[0].head.weight, half.network.head.weight)  # what gdq calibrate begins with
    assert (half.name, half.scale, half.is_quantized) == ("wide", 3, False)
    gdq("models", "convert", source, "-o", target, "--overwrite")
    for key, value in load_file(target).items():
        factor = 0.5 if ".conv2." in key else 1.0
        assert torch.equal(half.network.state_dict()[key], value * factor)


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("x.pth", 2, "ends with .safetensors"),
        ("-x_x2.safetensors", 2, "letters"),
        ("in.safetensors", 3, "replace an input"),
    ],
)
def test_convert_refuses_bad_outputs(
    output: str, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("in.safetensors"), Checkpoint(make_network(2, 1, 8), None))
    assert message in gdq("models", "convert", "in.safetensors", "--overwrite", f"--output={output}", code=code)


# --- push -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[HubServer]:
    running = HubServer()
    yield running
    running.stop()


def front_matter(card: str) -> dict[str, object]:
    lines = card.split("---\n")[1].splitlines()
    return {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in lines}


def test_push_dry_run(folder: Path) -> None:
    metrics = {"Set5": {"psnr_y": 37.25, "ssim_y": 0.9567, "fab": 4.75}}
    rewrite(folder / "small_x2.safetensors", metadata={"facts": {"license": "apache-2.0", "metrics": metrics}})
    output = gdq("models", "push", folder, "hf:gdq/small", "--dry-run")
    front = front_matter(output)
    assert front["library_name"] == "gdq-cli"
    assert front["pipeline_tag"] == "image-to-image"
    assert front["license"] == "apache-2.0"
    index = front["model-index"]
    assert isinstance(index, list)
    assert index[0]["results"][0]["metrics"][0] == {"type": "psnr", "name": "psnr_y", "value": 37.25}
    assert "| Set5 | x2 | 37.250 | 0.9567 | 4.75 |" in output
    assert "gdq upscale picture.jpg -x 2 -m hf:gdq/small" in output
    assert f"would upload {folder / 'small_x2.safetensors'}" in output


def test_push_needs_a_licence_and_sound_files(folder: Path, tmp_path: Path) -> None:
    assert "--license" in gdq("models", "push", folder, "hf:gdq/small", "--dry-run", code=2)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# mine\n")
    assert "lacks library_name, pipeline_tag" in gdq("models", "push", folder, "hf:gdq/small", "--dry-run", code=2)
    assert "leave out --license" in gdq("models", "push", folder, "hf:gdq/a", "--license", "mit", "--dry-run", code=2)
    (folder / "README.md").write_bytes(b"\xff")
    assert "cannot be read as UTF-8" in gdq("models", "push", folder, "hf:gdq/small", "--dry-run", code=2)
    (folder / "README.md").unlink()
    (folder / "small_x2.safetensors").rename(folder / "small_x4.safetensors")
    assert "must be named" in gdq("models", "push", folder, "hf:gdq/small", "--dry-run", code=4)
    assert "holds no" in gdq("models", "push", tmp_path, "hf:gdq/small", "--dry-run", code=4)
    assert "without a file" in gdq("models", "push", folder, "hf:gdq/small/x.safetensors", code=2)


def test_push_then_pull(folder: Path, server: HubServer, tmp_path: Path) -> None:
    """Over the real client: create, upload, commit; then another machine downloads what was pushed."""
    content = (folder / "small_x2.safetensors").read_bytes()
    push = ("models", "push", folder, "hf:gdq/new", "--license", "mit")
    assert "no token" in error_line(run(server, tmp_path / "a", *push, code=4)[1])
    assert "not allowed" in error_line(run(server, tmp_path / "a", *push, code=4, HF_TOKEN="hf_reader")[1])
    assert "HF_HUB_OFFLINE" in error_line(run(server, tmp_path / "a", *push, code=4, HF_HUB_OFFLINE="1")[1])
    stdout, _ = run(server, tmp_path / "a", *push, HF_TOKEN="hf_writer", HF_HUB_DISABLE_XET="1")
    assert stdout.strip().startswith(f"{server.url}/gdq/new/commit/")
    files = server.repositories["gdq/new"].files
    assert files["small_x2.safetensors"] == content
    assert front_matter(files["README.md"].decode())["license"] == "mit"
    stdout, _ = run(server, tmp_path / "b", "models", "pull", "hf:gdq/new", "-x", 2)
    assert Path(stdout.strip()).read_bytes() == content


def test_what_is_to_be_private_is_not_pushed_where_all_see_it(folder: Path, server: HubServer, tmp_path: Path) -> None:
    server.repositories["gdq/seen"] = Repository()
    token = {"HF_TOKEN": "hf_writer", "HF_HUB_DISABLE_XET": "1"}
    push = ("models", "push", folder, "--license", "mit", "--private")
    assert "is there already and public" in error_line(run(server, tmp_path, *push, "hf:gdq/seen", code=2, **token)[1])
    assert server.repositories["gdq/seen"].files == {}
    run(server, tmp_path, *push, "hf:gdq/hidden", **token)
    assert server.repositories["gdq/hidden"].private
    assert "small_x2.safetensors" in server.repositories["gdq/hidden"].files
