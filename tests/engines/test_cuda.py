"""The CUDA engine: its arithmetic in Triton's interpreter on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdq_cli.bits.patches import plan_patches
from gdq_cli.bits.windows import plan_windows
from gdq_cli.engines import choose_device, choose_engine, self_test
from gdq_cli.engines.base import Engine
from gdq_cli.engines.cuda.multi import MultiCudaEngine
from gdq_cli.engines.cuda.pipeline import SLOTS, HostQueue, Network, Pipeline, make_slot, split_evenly
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import DeviceError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import CompactConfig, EdsrConfig, Parameters, lower_network, outline, parameters_of
from gdq_cli.networks.compact.weights import import_compact
from gdq_cli.networks.srresnet.weights import import_release
from gdq_cli.options import ControllerOptions
from gdq_cli.program.operations import Codes, Conv, Epilogue, Head, Operation, Pixels, Program, Quantize
from gdq_cli.training.calibration.calibrate import calibrate_checkpoint
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.compact_state import compact_state, make_compact
from tests.helpers.engines import windows_of
from tests.helpers.pictures import make_pairs, make_picture
from tests.helpers.release_state import make_release_state

has_triton = importlib.util.find_spec("triton") is not None
interpreted = pytest.mark.skipif(
    not has_triton or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton, and no GPU that its kernels are compiled for",
)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@interpreted
@pytest.mark.parametrize("bit_width", [5, 8])
def test_pixels_equal_the_reference(checkpoint: Checkpoint, bit_width: int) -> None:
    from gdq_cli.engines.cuda.engine import CudaEngine

    windows = windows_of(make_picture(5, 7, seed=3), make_picture(5, 7, seed=4))
    engine = CudaEngine(checkpoint.network, "cpu")
    assert torch.equal(engine(windows, bit_width), ReferenceEngine(checkpoint.network)(windows, bit_width))


@interpreted
@pytest.mark.parametrize(
    ("bit_widths", "steps"), [((4, 5, 6, 8, 4, 5), [3, 6]), ((6, 6, 4, 6, 6, 8), [4, 6]), ((5, 5, 5, 4, 8, 6), [3, 6])]
)
def test_a_picture_of_mixed_widths(small_checkpoint: Checkpoint, bit_widths: tuple[int, ...], steps: list[int]) -> None:
    """Windows of all widths in one batch, of several shapes, and a pixel block that ends within a window."""
    from gdq_cli.engines.cuda.engine import CudaEngine

    network = small_checkpoint.network
    image = make_picture(17, 24)
    plan = plan_patches((17, 24), patch_size=8, halo=2)
    ours, theirs = (np.zeros((34, 48, 3), np.uint8) for _ in range(2))
    seen: list[tuple[int, int]] = []
    engine = CudaEngine(network, "cpu")
    engine.batch_size = 4
    engine.run(image, plan_windows(plan, bit_widths), ours, lambda done, total: seen.append((done, total)))
    ReferenceEngine(network).run(image, plan_windows(plan, bit_widths), theirs)
    assert np.array_equal(ours, theirs)
    assert seen == [(done, 6) for done in steps]


@interpreted
def test_slots_that_do_not_fit(small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out while slots are made makes batches smaller, too."""
    from gdq_cli.engines.cuda import engine as module

    make_slot, batches = module.make_slot, []

    def make(batch: int, *arguments: Any) -> Any:
        batches.append(batch)
        if batch > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return make_slot(batch, *arguments)

    monkeypatch.setattr(module, "make_slot", make)
    engine = module.CudaEngine(small_checkpoint.network, "cpu")
    engine.batch_size = 4
    image, plan = make_picture(8, 16), plan_patches((8, 16), patch_size=8, halo=2)
    windows, ours, theirs = plan_windows(plan, (4, 6)), *(np.zeros((16, 32, 3), np.uint8) for _ in range(2))
    engine.run(image, windows, ours)
    ReferenceEngine(small_checkpoint.network).run(image, windows, theirs)
    assert np.array_equal(ours, theirs)
    assert batches == [4, 2, 1, 1, 1]
    assert engine.take_notes() == ("out of memory on cpu: went on with smaller batches",)


@interpreted
def test_slots_of_other_shapes_make_room(small_checkpoint: Checkpoint) -> None:
    """Before batches shrink, or a single window is given up, what is kept for other shapes goes."""
    from gdq_cli.engines.cuda.engine import CudaEngine

    engine = CudaEngine(small_checkpoint.network, "cpu")
    engine.batch_size, compute = 4, engine._compute

    def crowded(*tensors: torch.Tensor) -> None:
        if len(engine._prepared) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        compute(*tensors)

    engine._compute = crowded  # type: ignore[method-assign]
    image, plan = make_picture(16, 24), plan_patches((16, 24), patch_size=8, halo=2)
    windows, ours, theirs = plan_windows(plan, (6, 6, 6, 6, 8, 8)), *(np.zeros((32, 48, 3), np.uint8) for _ in range(2))
    assert len({window.seen.size for window in windows}) == 3
    engine.run(image, windows, ours)
    ReferenceEngine(small_checkpoint.network).run(image, windows, theirs)
    assert np.array_equal(ours, theirs)
    assert engine.take_notes() == ()


@interpreted
def test_accumulators_of_extreme_codes(small_checkpoint: Checkpoint) -> None:
    from gdq_cli.engines.cuda.engine import CudaEngine

    engine = CudaEngine(small_checkpoint.network, "cpu")
    convs = engine.parameters.program.convs
    assert {conv.input_range for conv in convs[:2]} == {(-8, 7), (0, 15)}
    generator = torch.Generator().manual_seed(0)
    for conv in (*convs[:2], convs[-1], *(conv for conv in convs if conv.input_range[1] == 255)):
        low, high = conv.input_range
        codes = torch.where(torch.rand((2, 64, 3, 5), generator=generator) < 0.5, low, high).to(torch.int16)
        weight = torch.from_numpy(conv.weight).double()
        exact = torch.nn.functional.conv2d(codes.double(), weight, padding=1).to(torch.int32)
        assert torch.equal(engine.accumulators(codes, conv), exact)


@pytest.fixture(scope="module", params=[2, 3, 4])
def compact(request: pytest.FixtureRequest) -> Checkpoint:
    """A small calibrated Compact at each scale."""
    scale: int = request.param
    network = import_compact(compact_state(make_compact(scale, convs=2)))
    return calibrate_checkpoint(network, make_pairs(scale, 4), ControllerOptions(5.5), name="small", patches=8)


@interpreted
@pytest.mark.parametrize("size", [(1, 1), (9, 15)])
def test_compact_equals_the_reference(compact: Checkpoint, size: tuple[int, int]) -> None:
    """Windows of odd sides, one of each width in a batch."""
    from gdq_cli.engines.cuda.engine import CudaEngine

    image, scale = make_picture(*size, seed=3), compact.scale
    plan = plan_patches(size, patch_size=8, halo=2)
    bit_widths = (4, 5, 6, 8)[: len(plan)]
    ours, theirs = (np.zeros((size[0] * scale, size[1] * scale, 3), np.uint8) for _ in range(2))
    engine = CudaEngine(compact.network, "cpu")
    engine.batch_size = 4
    engine.run(image, plan_windows(plan, bit_widths), ours)
    ReferenceEngine(compact.network).run(image, plan_windows(plan, bit_widths), theirs)
    assert len(plan) == len(bit_widths)
    assert np.array_equal(ours, theirs)


@interpreted
def test_every_step_of_a_program(small_checkpoint: Checkpoint) -> None:
    """What no network has: codes from a stream, slopes before sums, an input added behind a shuffle."""
    from gdq_cli.engines.cuda.engine import CudaEngine

    def altered(operation: Operation, spare: int) -> list[Operation]:
        if isinstance(operation, Pixels):
            return [replace(operation, enlarged=True)]
        if not isinstance(operation, Head | Conv) or (isinstance(operation, Conv) and operation.shuffle > 1):
            return [operation]
        epilogue, channels = operation.epilogue, len(operation.layer.weight)
        codes = epilogue.codes
        assert codes is not None
        if epilogue.is_plain:
            changed = replace(codes, bounds=(-codes.bounds[1] // 2, codes.bounds[1]), factor=np.array(1.25, np.float32))
            return [replace(operation, epilogue=Epilogue(np.full(1, -0.5, np.float32), codes=changed))]
        kept = spare if epilogue.keep is None else epilogue.keep
        slope = np.linspace(-1, 1, channels, dtype=np.float32)
        return [replace(operation, epilogue=Epilogue(slope, epilogue.add, keep=kept)), Quantize(kept, codes)]

    parameters = parameters_of(small_checkpoint.network)
    parameters = Parameters(parameters.config, parameters.tensors)
    lists = {
        bits: tuple(new for index, operation in enumerate(operations) for new in altered(operation, 100 + index))
        for bits, operations in lower_network(parameters).operations.items()
    }
    parameters.__dict__["program"] = Program(2, lists)
    windows = windows_of(make_picture(5, 7, seed=3), make_picture(5, 7, seed=4))
    engine, reference = CudaEngine(parameters, "cpu"), ReferenceEngine(parameters)
    for bit_width in (4, 8):
        expected = reference(windows, bit_width)
        assert not torch.equal(expected, ReferenceEngine(small_checkpoint.network)(windows, bit_width))
        assert torch.equal(engine(windows, bit_width), expected)


@interpreted
def test_what_the_kernels_lack_is_said() -> None:
    from gdq_cli.engines.cuda.engine import CudaEngine
    from gdq_cli.engines.cuda.network import CudaNetwork

    srresnet, _, _ = import_release(make_release_state(2, blocks=1))
    with pytest.raises(DeviceError, match=r"integer layers only; here stem and reconstruct stay float32$"):
        CudaEngine(srresnet, "cpu")
    with pytest.raises(DeviceError, match="multiples of 32, not 48"):
        CudaNetwork(outline(EdsrConfig(2, 1, 48)), "cpu")
    head, conv, end = outline(CompactConfig(2, 1)).at(4)
    assert isinstance(head, Head)
    assert isinstance(conv, Conv)
    shifted = replace(head, epilogue=Epilogue(codes=Codes(0, (-8, 7), shift=np.ones(64, np.float32))))
    scaled = replace(conv, epilogue=Epilogue(add=5, add_factor=0.5, keep=6))
    for operations in ((shifted, conv, end), (head, scaled, end)):
        with pytest.raises(DeviceError, match="lack the shift or the factor"):
            CudaNetwork(Program(2, {4: operations}), "cpu")


@interpreted
def test_memory_runs_out(small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is finished stays, the rest runs in halves, whatever error hides the one about memory."""
    from gdq_cli.engines.cuda.engine import CudaEngine

    network = small_checkpoint.network
    engine = CudaEngine(network, "cpu")
    compute, sizes = engine._compute, []

    def full(windows: torch.Tensor, choice: torch.Tensor, target: torch.Tensor) -> None:
        sizes.append(len(windows))
        if windows.shape[1] == 2:
            raise RuntimeError("device-side assert triggered")
        if len(windows) > 1 and len(sizes) > 1:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            except torch.OutOfMemoryError:
                raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        compute(windows, choice, target)

    monkeypatch.setattr(engine, "_compute", full)
    windows = windows_of(*(make_picture(3, 4, seed) for seed in range(4)))
    assert torch.equal(engine(windows, 6), ReferenceEngine(network)(windows, 6))
    assert sizes == [2, 2, 1, 1]
    assert engine.take_notes() == ("out of memory on cpu: went on with smaller batches",)
    with pytest.raises(RuntimeError, match="assert"):
        engine(windows[:, :, :2], 6)


@interpreted
def test_a_shape_runs_as_a_graph_from_its_second_time(
    small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdq_cli.engines.cuda import engine as cuda

    class Replayed:
        """A graph: it reads and writes where it was captured, whatever the batch's own buffers are."""

        def replay(self) -> None:
            taken.append("replay")
            pixels.copy_(static + 1)

    def step_by_step(windows: torch.Tensor, choice: torch.Tensor) -> torch.Tensor:
        taken.append("steps")
        return windows + 1

    def capture(windows: torch.Tensor, choice: torch.Tensor) -> object:
        taken.append("capture")
        return cuda._Graph(Replayed(), static, choice.clone(), pixels)

    taken: list[str] = []
    static, pixels = torch.zeros((2, 3, 4, 3), dtype=torch.uint8), torch.zeros((2, 3, 4, 3), dtype=torch.uint8)
    engine = cuda.CudaEngine(small_checkpoint.network, "cpu")
    engine.device = "cuda:0"
    monkeypatch.setattr(engine, "_network", step_by_step)
    monkeypatch.setattr(engine, "_capture", capture)
    for value in (5, 6, 7):
        windows, target = torch.full_like(static, value), torch.zeros_like(static)
        engine._compute(windows, torch.zeros(2, dtype=torch.int32), target)
        assert int(target.min()) == int(target.max()) == value + 1
    engine._compute(windows[:1], torch.zeros(1, dtype=torch.int32), target[:1])
    assert taken == ["steps", "capture", "replay", "replay", "steps"]


@pytest.mark.skipif(not has_triton, reason="needs Triton")
@pytest.mark.parametrize("architecture", [80, 90])
def test_kernels_compile_and_round_twice(architecture: int, tmp_path: Path) -> None:
    """The interpreter takes what the compiler refuses, and never fuses: so compile every launch, too, as for a GPU."""
    script = Path(__file__).with_name("compile_triton_kernels.py")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script, str(architecture)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(facts) == 15
    for kernel in facts:
        assert (kernel["fused"], kernel["flushed"]) == (0, 0), kernel
        assert (kernel["int8_products"] > 0) == kernel["kernel"].startswith("conv3x3"), kernel
        assert kernel["shared"] <= 99 << 10, kernel  # what a block may have on the smallest of these GPUs
        assert kernel["binary"] > 0


class LazyEvent:
    """The end of a piece of work that is done only when somebody waits for it."""

    def __init__(self, queue: LazyQueue, count: int) -> None:
        self.queue, self.count = queue, count

    def synchronize(self) -> None:
        self.queue.advance(self.count)


class LazyQueue:
    """A stream as late as its events allow: work waits until its end, or that of later work, is asked for."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[[], object], LazyEvent | None]] = []
        self.done = 0

    def run(self, work: Callable[[], object], after: LazyEvent | None = None) -> LazyEvent:
        self.work.append((work, after))
        return LazyEvent(self, len(self.work))

    def advance(self, count: int) -> None:
        while self.done < count:
            work, after = self.work[self.done]
            if after is not None:
                after.synchronize()
            self.done += 1
            work()

    def synchronize(self) -> None:
        self.advance(len(self.work))


def make_pipeline(queue: Callable[[], Any], network: Network, slots: int = SLOTS) -> Pipeline:
    return Pipeline([make_slot(4, (1, 1), 1, "cpu") for _ in range(slots)], queue(), queue(), queue(), network)


def numbers(pipeline: Pipeline, spans: list[range]) -> list[int]:
    """Send the numbers of the windows through a pipeline; what comes back."""
    seen: list[int] = []

    def fill(span: range, windows: torch.Tensor, choice: torch.Tensor) -> None:
        windows[:, 0, 0, 0] = torch.tensor(list(span), dtype=torch.uint8)
        choice.copy_(torch.tensor(list(span)))

    def drain(span: range, pixels: torch.Tensor) -> None:
        assert [int(value) - 1 for value in pixels[:, 0, 0, 1]] == list(span)
        seen.extend(int(value) - 1 for value in pixels[:, 0, 0, 0])

    pipeline.run(spans, fill, drain)
    return seen


def add_one(windows: torch.Tensor, choice: torch.Tensor, pixels: torch.Tensor) -> None:
    pixels[..., 0] = windows[..., 0] + 1
    pixels[..., 1] = (choice + 1).reshape(-1, 1, 1)


@pytest.mark.parametrize("slots", [1, 2, SLOTS])
@pytest.mark.parametrize("queue", [HostQueue, LazyQueue])
def test_batches_do_not_meet_however_late_the_streams_are(queue: Callable[[], Any], slots: int) -> None:
    pipeline = make_pipeline(queue, add_one, slots)
    assert numbers(pipeline, split_evenly(0, 23, 4)) == list(range(23))
    assert numbers(pipeline, split_evenly(5, 9, 4)) == list(range(5, 9))  # the slots again


def test_the_host_waits_for_the_oldest_batch_only() -> None:
    """While a batch is drained, the ones behind it are on their way: that is the overlap."""
    pipeline = make_pipeline(LazyQueue, add_one)
    under_way: list[int] = []
    queued: list[range] = []

    def fill(span: range, windows: torch.Tensor, choice: torch.Tensor) -> None:
        queued.append(span)

    def drain(span: range, pixels: torch.Tensor) -> None:
        under_way.append(len(queued) - queued.index(span) - 1)

    pipeline.run(split_evenly(0, 20, 4), fill, drain)
    assert under_way == [2, 2, 2, 1, 0]


@pytest.mark.parametrize("queue", [HostQueue, LazyQueue])
def test_a_batch_that_fails_does_not_take_the_ones_before_it(queue: Callable[[], Any]) -> None:
    def full(windows: torch.Tensor, choice: torch.Tensor, pixels: torch.Tensor) -> None:
        if int(choice[0]) >= 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        add_one(windows, choice, pixels)

    def fill(span: range, windows: torch.Tensor, choice: torch.Tensor) -> None:
        choice.copy_(torch.tensor(list(span)))

    drained: list[range] = []
    with pytest.raises(torch.OutOfMemoryError):
        make_pipeline(queue, full).run(split_evenly(0, 20, 4), fill, lambda span, pixels: drained.append(span))
    if queue is HostQueue:  # a lazy queue fails later than any real one: there memory is taken when work is appended
        assert drained == [range(0, 4), range(4, 8)]


@pytest.mark.parametrize(("total", "batch"), [(1, 16), (9, 16), (17, 16), (121, 16), (5, 1)])
def test_batches_are_alike(total: int, batch: int) -> None:
    spans = split_evenly(3, 3 + total, batch)
    assert [number for span in spans for number in span] == list(range(3, 3 + total))
    assert len(spans) == -(-total // batch)
    lengths = {len(span) for span in spans}
    assert max(lengths) - min(lengths) <= 1


def test_several_devices_share_a_picture(small_checkpoint: Checkpoint) -> None:
    network = small_checkpoint.network
    image = make_picture(20, 30)
    plan = plan_patches((20, 30), patch_size=8, halo=2)
    bit_widths = [(4, 5, 6, 8)[index % 4] for index in range(len(plan))]
    one, shared = (np.zeros((40, 60, 3), np.uint8) for _ in range(2))
    ReferenceEngine(network).run(image, plan_windows(plan, bit_widths), one)
    seen: list[tuple[int, int]] = []
    engines = [ReferenceEngine(network) for _ in range(3)]
    engine = MultiCudaEngine(network, engines)
    engine.run(image, plan_windows(plan, bit_widths), shared, lambda done, total: seen.append((done, total)))
    assert np.array_equal(one, shared)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(plan), len(plan))
    engines[1]._notes.append("out of memory on cuda:1: went on with smaller batches")
    assert engine.take_notes() == ("out of memory on cuda:1: went on with smaller batches",)
    assert engine.take_notes() == ()


class Failing(ReferenceEngine):
    """A device that computes something else, and fails when asked for a picture."""

    def __call__(self, windows: torch.Tensor, bit_width: int) -> torch.Tensor:
        return super().__call__(windows, bit_width) ^ 1

    def run(self, *arguments: Any) -> None:
        raise DeviceError("cuda:1 fell off the bus")


def test_one_of_several_devices_is_wrong(small_checkpoint: Checkpoint) -> None:
    network = small_checkpoint.network
    engines: list[Engine] = [ReferenceEngine(network), Failing(network)]
    engine = MultiCudaEngine(network, engines)
    with pytest.raises(DeviceError, match="cpu gives other integers"):
        self_test(engine, network)
    plan = plan_patches((40, 40), patch_size=8, halo=2)
    with pytest.raises(DeviceError, match="fell off"):
        engine.run(make_picture(40, 40), plan_windows(plan, [4] * len(plan)), np.zeros((80, 80, 3), np.uint8))


def test_progress_may_end_a_run_on_several_devices(small_checkpoint: Checkpoint) -> None:
    network = small_checkpoint.network
    plan = plan_patches((40, 40), patch_size=8, halo=2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    engine = MultiCudaEngine(network, [ReferenceEngine(network), ReferenceEngine(network)])
    with pytest.raises(KeyboardInterrupt):
        engine.run(make_picture(40, 40), plan_windows(plan, [4] * len(plan)), np.zeros((80, 80, 3), np.uint8), stop)


def test_without_triton_there_is_a_reason(small_checkpoint: Checkpoint) -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from gdq_cli.engines.cuda.engine import CudaEngine\n"
        "from gdq_cli.errors import DeviceError\n"
        "from gdq_cli.upscaling.pool import load_checkpoint\n"
        "try:\n    CudaEngine(load_checkpoint('edsr', 2).network, 'cpu')\n"
        "except DeviceError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
    assert b"need Triton" in done.stdout


@pytest.mark.skipif(not has_triton, reason="needs Triton")
def test_a_gpu_too_old_is_a_reason(small_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    from gdq_cli.engines.cuda.engine import CudaEngine

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(DeviceError, match=r"compute capability 8\.0; cuda:0 has 7\.5"):
        CudaEngine(small_checkpoint.network, "cuda:0")


def test_reduced_precision_never_reaches_the_reference(small_checkpoint: Checkpoint) -> None:
    """Whatever a program has allowed its own float32 products, ours carry integers."""
    engine = ReferenceEngine(small_checkpoint.network)
    engine.device = "cuda:0"
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has only the older switch")
    matmul.allow_tf32 = True
    try:
        with engine._exact_convolutions():
            assert matmul.fp32_precision == "ieee"
            assert not torch.backends.cudnn.enabled
        assert matmul.fp32_precision == "tf32"
        assert matmul.allow_tf32
        assert torch.backends.cudnn.enabled
    finally:
        matmul.allow_tf32 = False
        matmul.fp32_precision = "none"


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_on_a_gpu(small_checkpoint: Checkpoint, device: str) -> None:
    network = small_checkpoint.network
    engine = choose_engine(network, choose_device(device), "cuda").engine
    assert self_test(engine, network)
    there = Upscaler(small_checkpoint, choose_engine(network).engine)
    for size in ((700, 700), (97, 311), (1, 5), (700, 700)):  # a shape again: it runs as a graph
        image = make_picture(*size)
        for bits in ("auto", "4", "5", "6", "8"):
            ours, theirs = Upscaler(small_checkpoint, engine).upscale(image, bits=bits), there.upscale(image, bits=bits)
            assert np.array_equal(ours.bit_map, theirs.bit_map)
            assert np.array_equal(ours.image, theirs.image)
    assert engine.take_notes() == ()


@pytest.mark.gpu
@on_gpu
def test_little_memory_on_a_gpu(small_checkpoint: Checkpoint) -> None:
    """A picture larger than the memory we may take: batches shrink, also within a capture, and the pixels stay."""
    from gdq_cli.engines.cuda.engine import CudaEngine

    engine = CudaEngine(small_checkpoint.network, "cuda:0")
    engine._fitting = lambda window: 64  # type: ignore[method-assign]  # as if all were free
    engine.batch_size = 64
    image = make_picture(1500, 1500)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (256 << 20)) / total)
    try:
        ours = Upscaler(small_checkpoint, engine).upscale(image)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.batch_size < 64
    assert engine.take_notes() == ("out of memory on cuda:0: went on with smaller batches",)
    theirs = Upscaler(small_checkpoint, choose_engine(small_checkpoint.network).engine).upscale(image)
    assert np.array_equal(ours.image, theirs.image)


@pytest.mark.gpu
@on_gpu
def test_float_network_on_a_gpu(small_checkpoint: Checkpoint) -> None:
    engine = choose_engine(small_checkpoint.network, choose_device("cuda"), "cuda").engine
    windows = windows_of(make_picture(40, 50), make_picture(40, 50, seed=1))
    difference = engine(windows, 32).int() - ReferenceEngine(small_checkpoint.network)(windows, 32).int()
    assert int(difference.abs().max()) <= 1


@pytest.mark.gpu
@on_gpu
def test_reference_on_a_gpu(checkpoint: Checkpoint) -> None:
    """What runs where Triton is missing."""
    assert choose_engine(checkpoint.network, "cuda:0", "reference").engine.device == "cuda:0"


def test_no_gpu_is_a_clear_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")
