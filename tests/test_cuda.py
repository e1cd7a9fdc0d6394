"""The CUDA engine: its arithmetic in Triton's interpreter on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from gdq_cli.checkpoint import Checkpoint
from gdq_cli.engines import choose_device, choose_engine, self_test
from gdq_cli.engines.lowering import lower_network
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError
from gdq_cli.patches import plan_patches
from gdq_cli.upscaler import Upscaler

from .conftest import make_picture

interpreted = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton, and no GPU that its kernels are compiled for",
)


def windows_of(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


@interpreted
@pytest.mark.parametrize("bit_width", [5, 8])
def test_pixels_equal_the_reference(checkpoint: Checkpoint, bit_width: int) -> None:
    from gdq_cli.engines.cuda import CudaEngine

    windows = windows_of(make_picture(5, 7, seed=3), make_picture(5, 7, seed=4))
    engine = CudaEngine(checkpoint.network, "cpu")
    assert torch.equal(engine(windows, bit_width), ReferenceEngine(checkpoint.network)(windows, bit_width))


@interpreted
def test_accumulators_of_extreme_codes(small_checkpoint: Checkpoint) -> None:
    from gdq_cli.engines.cuda import CudaEngine

    engine, integers = CudaEngine(small_checkpoint.network, "cpu"), lower_network(small_checkpoint.network)
    generator = torch.Generator().manual_seed(0)
    for conv in (integers.blocks[8][0].conv2, integers.blocks[4][0].conv1, integers.static.tail):
        low, high = conv.input_range
        codes = torch.where(torch.rand((2, 64, 3, 5), generator=generator) < 0.5, low, high).to(torch.int16)
        exact = torch.nn.functional.conv2d(codes.double(), conv.weight.double(), padding=1).to(torch.int32)
        assert torch.equal(engine.accumulators(codes, conv), exact)


@interpreted
def test_several_devices_share_a_picture(small_checkpoint: Checkpoint) -> None:
    from gdq_cli.engines.cuda import MultiCudaEngine

    network = small_checkpoint.network
    image = make_picture(20, 30)
    plan = plan_patches((20, 30), patch_size=8, halo=2)
    bit_widths = [(4, 5, 6, 8)[index % 4] for index in range(len(plan))]
    one, shared = (np.zeros((40, 60, 3), np.uint8) for _ in range(2))
    ReferenceEngine(network).run(image, plan, bit_widths, one)
    seen: list[tuple[int, int]] = []
    engine = MultiCudaEngine(network, [ReferenceEngine(network), ReferenceEngine(network), ReferenceEngine(network)])
    engine.run(image, plan, bit_widths, shared, lambda done, total: seen.append((done, total)))
    assert np.array_equal(one, shared)
    assert max(seen) == (len(plan), len(plan))


def test_without_triton_there_is_a_reason(small_checkpoint: Checkpoint) -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from gdq_cli.engines.cuda import CudaEngine\n"
        "from gdq_cli.errors import DeviceError\n"
        "from gdq_cli.models import load_checkpoint\n"
        "try:\n    CudaEngine(load_checkpoint('edsr', 2).network, 'cpu')\n"
        "except DeviceError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
    assert b"need Triton" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(small_checkpoint: Checkpoint) -> None:
    network = small_checkpoint.network
    engine = choose_engine(network, choose_device("cuda"), "cuda").engine
    assert self_test(engine, network)
    image = make_picture(700, 700)
    for bits in ("auto", "4", "8"):
        here = Upscaler(small_checkpoint, engine).upscale(image, bits=bits)
        there = Upscaler(small_checkpoint, choose_engine(network).engine).upscale(image, bits=bits)
        assert np.array_equal(here.bit_map, there.bit_map)
        assert np.array_equal(here.image, there.image)


def test_no_gpu_is_a_clear_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")
