"""Choosing bits: compiled and in NumPy the same, to the last bit; progress."""

from dataclasses import replace

import numpy as np
import pytest

from gdq_cli.bits.controller import Controller
from gdq_cli.bits.controller_release import ReleaseHead
from gdq_cli.bits.patches import plan_patches
from gdq_cli.engines import kernels
from gdq_cli.errors import DeviceError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import controller_head
from gdq_cli.program.layers import IntegerHead
from gdq_cli.upscaling.choosing import Chooser
from tests.helpers.pictures import make_picture


@pytest.fixture
def parts(small_checkpoint: Checkpoint) -> tuple[Controller, IntegerHead | ReleaseHead]:
    assert small_checkpoint.controller is not None
    return small_checkpoint.controller, controller_head(small_checkpoint.network)


def in_numpy(monkeypatch: pytest.MonkeyPatch, controller: Controller, head: IntegerHead | ReleaseHead) -> Chooser:
    """What chooses where the extension is not built."""

    def refuse(name: str | None = None) -> str:
        raise DeviceError("not built")

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "choose_isa", refuse)
        return Chooser(controller, head)


@pytest.mark.parametrize("size", [(300, 200), (97, 5), (1, 1), (101, 390)])
@pytest.mark.parametrize("square", [False, True])
def test_compiled_and_numpy_choose_the_same(
    parts: tuple[Controller, IntegerHead | ReleaseHead],
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    square: bool,
) -> None:
    controller, head = replace(parts[0], square_entropy=square), parts[1]
    compiled, plain = Chooser(controller, head), in_numpy(monkeypatch, controller, head)
    assert kernels.report().chosen is None or compiled.is_compiled
    assert not plain.is_compiled
    image = make_picture(*size, seed=3)
    image[: size[0] // 3] = 255
    patches = plan_patches(size, patch_size=32)
    assert compiled.choose(image, patches) == plain.choose(image, patches)
    alone = [controller.choose(np.ascontiguousarray(image[patch.core_slices])[None], head)[0] for patch in patches]
    assert list(compiled.choose(image, patches)) == alone


@pytest.mark.parametrize("other", ["mean", "release"])
def test_other_descriptors(
    parts: tuple[Controller, IntegerHead | ReleaseHead], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    controller, head = parts
    if other == "mean":
        controller = replace(controller, descriptor="mean")
    else:
        head = ReleaseHead(np.random.default_rng(0).normal(size=(64, 3, 9, 9)).astype(np.float32))
    image, patches = make_picture(120, 90), plan_patches((120, 90), patch_size=32)
    plain = in_numpy(monkeypatch, controller, head)
    assert Chooser(controller, head).choose(image, patches) == plain.choose(image, patches)


def test_progress_counts_patches_and_may_end_it(parts: tuple[Controller, IntegerHead | ReleaseHead]) -> None:
    image, patches = make_picture(300, 300), plan_patches((300, 300), patch_size=10)
    calls: list[tuple[int, int]] = []
    chooser = Chooser(*parts)
    chooser.choose(image, patches, lambda done, total: calls.append((done, total)))
    assert len(calls) > 1
    assert calls == sorted(calls)
    assert calls[-1] == (900, 900)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chooser.choose(image, patches, stop)
