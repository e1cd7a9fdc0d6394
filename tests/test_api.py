"""The Python interface, and the page that documents it."""

from __future__ import annotations

import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gdq_cli
from gdq_cli import ImageError, OptionsError
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from tests.helpers.pages import prose
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture


@pytest.fixture(scope="module")
def path(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("weights") / "small_x2.safetensors"
    write_checkpoint(file, small_checkpoint)
    return str(file)


@pytest.fixture(scope="module")
def model(path: str) -> gdq_cli.Model:
    return gdq_cli.load(path, scale=2, device="cpu")


def test_importing_is_cheap() -> None:
    code = "import sys, gdq_cli; print(sorted({'torch', 'numpy', 'PIL', 'typer', 'rich'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"[]"


def test_every_public_name_is_there() -> None:
    for name in gdq_cli.__all__:
        assert getattr(gdq_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gdq_cli.nothing  # noqa: B018


def test_array_in_array_out(model: gdq_cli.Model) -> None:
    picture = make_picture(110, 200)
    result = model.upscale(picture)
    assert isinstance(result, gdq_cli.UpscaleResult)
    assert (result.image.shape, result.image.dtype) == ((220, 400, 3), np.uint8)
    assert result.bit_map.shape == (1, 2)
    assert result.fab == result.bit_map.mean()
    assert 0 < result.bitops_g <= result.bitops_8bit_g < result.bitops_fp32_g
    assert result.plan.choices
    assert np.array_equal(model.upscale(Image.fromarray(picture)).image, result.image)
    assert np.array_equal(np.asarray(result.pil), result.image)
    assert (model.name, model.scale, model.device) == ("small", 2, "cpu")
    assert model.engine in ("native", "onednn", "reference")


def test_arrays_that_are_views(model: gdq_cli.Model) -> None:
    picture = make_picture(30, 40)
    read_only = picture.copy()
    read_only.flags.writeable = False
    turned = np.ascontiguousarray(picture[:, ::-1])
    assert np.array_equal(model.upscale(turned[:, ::-1]).image, model.upscale(picture).image)
    assert np.array_equal(model.upscale(read_only).image, model.upscale(picture).image)


def test_options(model: gdq_cli.Model) -> None:
    picture = make_picture(20, 20)
    assert model.upscale(picture, bits="6").fab == 6
    assert model.upscale(picture, bits=6).fab == 6
    assert model.upscale(picture, bits="fp32").fab == 32
    assert model.upscale(picture, budget=4).fab == 4
    calls: list[tuple[int, int]] = []
    model.upscale(picture, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0
    assert calls == sorted(calls)


@pytest.mark.parametrize(
    ("mode", "result"), [("L", "L"), ("1", "L"), ("RGBA", "RGBA"), ("LA", "RGBA"), ("La", "RGBA"), ("P", "RGB")]
)
def test_modes(model: gdq_cli.Model, mode: str, result: str) -> None:
    image = Image.fromarray(make_picture(20, 30))
    if "A" in mode.upper():
        image.putalpha(Image.linear_gradient("L").resize((30, 20)))
    upscaled = model.upscale((image.convert("LA") if mode == "La" else image).convert(mode))
    assert (upscaled.pil.mode, upscaled.pil.size) == (result, (60, 40))
    if result == "RGBA":
        gradient = Image.linear_gradient("L").resize((30, 20)).resize((60, 40), Image.Resampling.LANCZOS)
        assert np.abs(upscaled.image[:, :, 3].astype(int) - np.asarray(gradient)).max() <= 1


def test_grey_and_alpha_arrays(model: gdq_cli.Model) -> None:
    picture = make_picture(20, 30)
    assert model.upscale(picture[:, :, 0]).image.shape == (40, 60)
    assert model.upscale(np.dstack([picture, picture[:, :, :1]])).image.shape == (40, 60, 4)


def test_orientation_is_applied(model: gdq_cli.Model) -> None:
    image = Image.fromarray(make_picture(20, 30))
    image.getexif()[0x0112] = 6
    assert model.upscale(image).pil.size == (40, 60)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        Image.new("I", (3, 3)),
        Image.new("F", (3, 3)),
        np.ma.masked_greater(np.zeros((4, 4, 3), np.uint8), 3),
        [[1, 2], [3]],
        "picture.png",
        None,
    ],
)
def test_what_is_no_image(model: gdq_cli.Model, image: object) -> None:
    with pytest.raises(gdq_cli.OptionsError):
        model.upscale(image)  # type: ignore[arg-type]


def closed() -> Image.Image:
    image = Image.new("RGB", (3, 3))
    image.close()
    return image


def with_transparency(mode: str, transparency: object) -> Image.Image:
    image = Image.new(mode, (3, 3))
    image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize("image", [closed(), with_transparency("P", bytes(300)), with_transparency("RGB", "x")])
def test_what_pillow_cannot_read(model: gdq_cli.Model, image: Image.Image) -> None:
    with pytest.raises(ImageError, match="the Pillow image cannot be read"):
        model.upscale(image)


@pytest.mark.parametrize(
    "options",
    [
        *({"budget": budget} for budget in ("5", True, float("nan"), [5], 5 + 0j, np.array([5]), 3, 8.5)),
        *({"bits": bits} for bits in (None, True, 4.0, [4], "", "FP32", b"auto")),
        *({"prefer": prefer} for prefer in (None, True, "Time", [], {})),
        *({"progress": progress} for progress in (3, "x", True)),
    ],
    ids=str,
)
def test_options_of_a_wrong_kind(model: gdq_cli.Model, options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=f"`{next(iter(options))}` must be"):
        model.upscale(make_picture(4, 4), **options)


def test_numbers_of_numpy(model: gdq_cli.Model) -> None:
    assert model.upscale(make_picture(4, 4), budget=np.float32(4)).fab == 4
    assert model.upscale(make_picture(4, 4), bits=np.int64(6)).fab == 6


def test_bad_arguments(path: str, model: gdq_cli.Model) -> None:
    for arguments, error in (
        ({"model": "nothing"}, gdq_cli.WeightsError),
        ({"model": path, "scale": 3}, gdq_cli.WeightsError),
        ({"model": path, "scale": 2, "device": "tpu"}, gdq_cli.DeviceError),
        ({"model": path, "scale": 2, "threads": 0}, gdq_cli.OptionsError),
    ):
        with pytest.raises(error):
            gdq_cli.load(**arguments)  # type: ignore[arg-type]
    with pytest.raises(gdq_cli.OptionsError):
        model.upscale(make_picture(4, 4), bits="7")
    with pytest.raises(OptionsError, match="not 7"):
        model.upscale(make_picture(4, 4), bits=7)


def test_out_of_memory_is_a_device_error(model: gdq_cli.Model) -> None:
    def exhausted(done: int, total: int) -> None:
        raise MemoryError

    with pytest.raises(gdq_cli.DeviceError, match="out of memory"):
        model.upscale(make_picture(8, 8), progress=exhausted)


def test_the_page_names_everything(model: gdq_cli.Model) -> None:
    public = [*gdq_cli.__all__, *inspect.signature(gdq_cli.load).parameters]
    public += [*inspect.signature(model.upscale).parameters, *dir(model), *dir(model.upscale(make_picture(8, 8)))]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", prose(ROOT / "docs" / "python-api.md")))))
    assert {name for name in public if not name.startswith("_")} <= named


@pytest.mark.parametrize("scale", [0, 1, -2, True, 2.5, 5, "4", None])
def test_a_scale_that_no_model_has(scale: Any) -> None:
    with pytest.raises(OptionsError, match="`scale` must be 2, 3 or 4"):
        gdq_cli.load(scale=scale)


@pytest.mark.parametrize("options", [{"model": None}, {"device": None}, {"threads": 1.5}, {"threads": True}])
def test_arguments_of_other_types(options: Any) -> None:
    with pytest.raises(OptionsError):
        gdq_cli.load(**options)


def test_a_path_names_a_checkpoint(path: str) -> None:
    assert gdq_cli.load(Path(path), scale=2).upscale(np.zeros((8, 8, 3), np.uint8)).image.shape == (16, 16, 3)


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_a_pillow_image_that_is_cut(model: gdq_cli.Model, format: str) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format)
    cut = Image.open(io.BytesIO(stream.getvalue()[: len(stream.getvalue()) // 2]))
    with pytest.raises(ImageError, match="cannot be read"):
        model.upscale(cut)


def test_a_daemon_thread_ends_with_the_program() -> None:
    """The interpreter does not wait for such a thread, which came back from the kernels to none and aborted."""
    pytest.importorskip("gdq_cli._kernels")
    code = (
        "import threading, time, numpy, gdq_cli\n"
        "model = gdq_cli.load(scale=4)\n"
        "image = numpy.random.default_rng(0).integers(0, 256, (600, 900, 3), numpy.uint8)\n"
        "threading.Thread(target=model.upscale, args=[image], daemon=True).start()\n"
        "time.sleep(0.3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
