"""One picture's way through the steps, and the memory it may take."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from gdq_cli.engines import choose_engine
from gdq_cli.engines.base import Engine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError, ImageError, OptionsError
from gdq_cli.images import read_image, upscale_samples16
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.options import TargetSize, UpscaleOptions
from gdq_cli.runs.inputs import Found, Inputs
from gdq_cli.runs.memory import MINIMUM, ArrayStore, default_budget, free_memory, parse_size
from gdq_cli.runs.names import Destination
from gdq_cli.runs.pipeline import MemoryGate, StoppedError, run_batch
from gdq_cli.runs.plan import plan_batch
from gdq_cli.runs.task import Task
from gdq_cli.upscaling.pool import UpscalerPool
from gdq_cli.upscaling.resample import deepen_into, resize_into
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.image_samples import png16
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture
from tests.helpers.runs import Pool, Recorder, make_plan, run, save


@pytest.fixture(scope="module")
def upscaler(small_checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(small_checkpoint, choose_engine(small_checkpoint.network).engine)


# Memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("800M", 800 << 20), ("1.5g", 3 << 29), ("134217728", 1 << 27), ("64 MB", 64 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1G", "1M", "2X", "1e9", "nan", "9" * 400 + "G"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(OptionsError, match="`memory`"):
        parse_size(text)


def test_free_memory_is_plausible() -> None:
    assert MINIMUM <= default_budget() <= max(MINIMUM, free_memory())
    assert free_memory() < 1 << 50


def test_the_gate_holds_what_does_not_fit() -> None:
    stop = threading.Event()
    gate = MemoryGate(100, stop)
    entered: list[bool] = []

    def enter(need: int) -> None:
        try:
            gate.enter(need)
        except StoppedError:
            entered.append(False)
        else:
            entered.append(True)

    enter(70)
    waiting = threading.Thread(target=enter, args=(40,))
    waiting.start()
    time.sleep(0.05)
    assert entered == [True]
    gate.leave(70)
    waiting.join(5)
    assert entered == [True, True]
    gate.leave(40)
    enter(1000)  # alone, even the largest gets in
    closed = threading.Thread(target=enter, args=(1,))
    closed.start()
    stop.set()
    closed.join(5)
    assert entered == [True, True, True, False]


@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_in_memory_and_in_files(tmp_path: Path, mapped: bool) -> None:
    store = ArrayStore(tmp_path, mapped=mapped)
    with store.trimmed():
        array = store.empty((300, 400, 3))
        array[...] = make_picture(300, 400)
        deep = store.empty((5, 7), np.uint16)
        deep[...] = 4660
        time.sleep(0.5)  # two rounds of giving pages back
        assert np.array_equal(array, make_picture(300, 400))
        assert (deep == 4660).all()
    assert isinstance(array, np.memmap) == mapped
    assert list(tmp_path.iterdir()) == []  # no name, so nothing that a killed run could leave


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(ImageError, match=r"temporary file of 3 MiB \(the disk is full\)"):
        ArrayStore(tmp_path, mapped=True).empty((1024, 1024, 3))


@pytest.mark.parametrize("size", [TargetSize(scale=2), TargetSize(scale=1.7)])
@pytest.mark.parametrize("kind", ["rgb", "alpha", "deep"])
def test_a_small_budget_gives_the_same_file(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, kind: str, size: TargetSize
) -> None:
    source = tmp_path / "a.png"
    picture = make_picture(120, 130)
    if kind == "deep":
        source.write_bytes(png16(picture.astype(np.uint16) * 256 + np.arange(130, dtype=np.uint16)[:, None]))
    elif kind == "alpha":
        Image.fromarray(np.dstack([picture, make_picture(120, 130, 5)[:, :, 0]])).save(source)
    else:
        Image.fromarray(picture).save(source)
    made: list[bool] = []
    original = ArrayStore.empty

    def spy(self: ArrayStore, shape: Any, dtype: Any = np.uint8) -> Any:
        made.append(self.mapped)
        return original(self, shape, dtype)

    monkeypatch.setattr(ArrayStore, "empty", spy)
    for memory, folder in ((1 << 30, "large"), (1000, "small")):
        plan = make_plan(source, output=f"{tmp_path / folder}/", size=size, memory=memory)
        assert run(plan, upscaler, size=size, memory=memory).outcomes[0].status == "ok"
    assert made == [False] * (len(made) // 2) + [True] * (len(made) // 2)
    (large,), (small,) = ((tmp_path / folder).iterdir() for folder in ("large", "small"))
    assert large.read_bytes() == small.read_bytes()


def test_pictures_in_flight_stay_within_the_budget(tmp_path: Path, upscaler: Upscaler, monkeypatch: Any) -> None:
    for index in range(8):
        save(tmp_path / f"{index}.png", 30, 30, index)
    plan = make_plan(tmp_path)
    need = Task(plan.planned[0], UpscaleOptions(size=TargetSize(scale=2)), 1 << 30).memory
    used: list[int] = []
    enter = MemoryGate.enter

    def watch(self: MemoryGate, amount: int) -> None:
        enter(self, amount)
        used.append(self._used)

    monkeypatch.setattr(MemoryGate, "enter", watch)
    recorder = run(plan, upscaler, memory=2 * need)
    assert [outcome.status for outcome in recorder.outcomes] == ["ok"] * 8
    assert max(used) <= 2 * need


# Resampling in bands


@pytest.mark.parametrize("size", [(70, 90), (33, 90), (200, 41), (400, 500), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_bands_are_resampled_as_the_whole(size: tuple[int, int], channels: int, monkeypatch: Any) -> None:
    source = make_picture(70, 90)[:, :, :channels].squeeze()
    whole = np.empty((*size, *source.shape[2:]), np.uint8)
    resize_into(source, whole)
    monkeypatch.setattr("gdq_cli.upscaling.resample._BAND_PIXELS", 1500)
    target = np.empty_like(whole)
    resize_into(source, target)
    assert np.abs(target.astype(int) - whole).max() <= 1
    assert (target != whole).mean() < 0.001
    pillow = np.asarray(Image.fromarray(np.ascontiguousarray(source)).resize(size[::-1], Image.Resampling.LANCZOS))
    assert np.abs(whole.astype(int) - pillow).mean() < 0.5  # the order of passes decides what is clipped in between


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("shape", [(50, 40), (50, 40, 3)])
def test_deep_bands_are_those_of_the_whole(factor: int, shape: tuple[int, ...], monkeypatch: Any) -> None:
    monkeypatch.setattr("gdq_cli.upscaling.resample._BAND_PIXELS", 1000)
    samples = np.random.default_rng(1).integers(0, 65536, shape, np.uint16)
    image = make_picture(50 * factor, 40 * factor)
    target = np.empty((50 * factor, 40 * factor, *shape[2:]), np.uint16)
    deepen_into(samples, image, target)
    difference = np.abs(target.astype(int) - upscale_samples16(samples, image))
    assert difference.max() <= 1
    assert difference.mean() < 0.001


# The steps


def test_a_record_is_plain_json(tmp_path: Path, upscaler: Upscaler) -> None:
    source = save(tmp_path / "a.png", 100, 210)
    record = run(make_plan(source), upscaler).records[0]
    facts = json.loads(json.dumps(record.to_dict()))
    assert facts["patches"] == sum(facts["bits"].values()) == record.bit_map.size == 2
    assert facts["fab"] == record.bit_map.mean() == upscaler.plan_bits(read_image(source).rgb).fab
    seconds = dict(facts["seconds"])
    assert seconds.pop("total") == pytest.approx(sum(seconds.values()))
    assert facts["output_mp_per_s"] == pytest.approx(200 * 420 / 1e6 / facts["seconds"]["total"])


def test_alpha_by_every_way(tmp_path: Path, upscaler: Upscaler) -> None:
    rgba = np.dstack([make_picture(40, 50), np.asarray(Image.linear_gradient("L").resize((50, 40)))])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    alphas = {}
    for alpha in ("lanczos", "network", "drop"):
        plan = make_plan(tmp_path / "a.png", alpha=alpha, suffix=alpha)
        told = run(plan, upscaler, alpha=alpha, suffix=alpha)
        assert told.outcomes[0].status == "ok"
        assert told.shares == sorted(told.shares), "progress never goes back"
        assert told.shares[-1] == 1
        alphas[alpha] = read_image(tmp_path / f"a{alpha}.png").alpha
    assert alphas["drop"] is None
    grey = np.repeat(rgba[:, :, 3:], 3, axis=2)
    assert np.array_equal(cast(np.ndarray, alphas["network"]), upscaler.upscale(grey).image[:, :, 1])
    lanczos = np.asarray(Image.fromarray(rgba[:, :, 3]).resize((100, 80), Image.Resampling.LANCZOS))
    assert np.abs(cast(np.ndarray, alphas["lanczos"]).astype(int) - lanczos).max() <= 1


def test_streams_in_and_out(tmp_path: Path, upscaler: Upscaler) -> None:
    target = open(tmp_path / "out", "w+b")  # noqa: SIM115
    inputs = Inputs((Found(save(tmp_path / "a.jpg")),), one_file=True)
    options = UpscaleOptions(size=TargetSize(scale=2))
    plan = plan_batch(inputs, options, Destination(file=target))
    assert run(plan, upscaler).outcomes[0].status == "ok"
    target.seek(0)
    with Image.open(target) as image:
        assert (image.format, image.size) == ("JPEG", (32, 24))
    target.close()


def test_values_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    """Weights that overflow float32 in the middle of the network: never a black picture."""
    network = make_network(2)
    with torch.no_grad():
        network.head.weight.mul_(1e30)
        network.body_conv.weight.mul_(1e30)
    upscaler = Upscaler(Checkpoint(network, None), choose_engine(network).engine)
    save(tmp_path / "a.png")
    error = run(make_plan(tmp_path, bits="fp32"), upscaler, bits="fp32").errors["a.png"]
    assert isinstance(error, DeviceError)
    assert "no numbers" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class FullDevice(ReferenceEngine):
    """The reference engine on a device whose memory takes so many windows at a time."""

    def __init__(self, checkpoint: Checkpoint, capacity: int) -> None:
        super().__init__(checkpoint.network)
        self.device, self.capacity, self.batch_size, self.calls = "cuda:0", capacity, 8, []

    def __call__(self, windows: torch.Tensor, bit_width: int) -> torch.Tensor:
        self.calls.append(len(windows))
        if len(windows) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.device = "cpu"
        try:
            return super().__call__(windows, bit_width)
        finally:
            self.device = "cuda:0"


def test_a_full_device_halves_the_batch_and_says_so_once(
    tmp_path: Path, small_checkpoint: Checkpoint, upscaler: Upscaler
) -> None:
    engine: Engine = FullDevice(small_checkpoint, 1)
    for index in range(2):
        save(tmp_path / f"{index}.png", 768, 40, index)  # windows of 3, 3 and 2 patches; 8 patches are a batch
    recorder = run(make_plan(tmp_path, bits="8"), Upscaler(small_checkpoint, engine), bits="8")
    assert [outcome.status for outcome in recorder.outcomes] == ["ok", "ok"]
    assert [record.warnings for record in recorder.records] == [
        ("out of memory on cuda:0: went on with smaller batches",),
        (),
    ]
    assert cast(FullDevice, engine).calls == [2, 1, 1, 1, 1, 1, 1]
    for index in range(2):
        expected = upscaler.upscale(make_picture(768, 40, index), bits="8").image
        assert np.array_equal(read_image(tmp_path / f"{index}_x2.png").rgb, expected)


def test_a_device_too_small_for_one_patch(tmp_path: Path, small_checkpoint: Checkpoint) -> None:
    save(tmp_path / "a.png")
    recorder = Recorder()
    pool = cast(UpscalerPool, Pool(Upscaler(small_checkpoint, FullDevice(small_checkpoint, 0))))
    options = UpscaleOptions(size=TargetSize(scale=2))
    summary = run_batch(make_plan(tmp_path), options, lambda: pool, recorder)
    assert summary.failed == 1
    assert "out of memory on the device" in str(recorder.errors["a.png"])
