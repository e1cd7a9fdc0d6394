"""The CUDA engine on a GPU: is it exact there, and how fast is it beside the plain network in torch?

    python benchmarks/gpu.py [--device cuda] [--repeats 7] [--no-compile] [--no-tiles]

First bit maps, accumulators and pixels are compared with the CPU engines; one difference ends the program with
status 1. Then the table: a picture of 256x256, one of 1024x1024 and 64 of 256x256, from memory of the host back to it,
all rows interleaved, medians. The plain network gets what it can have: whole pictures, channels_last, cuDNN's own
search for the fastest algorithm, pinned memory both ways. Last, other block sizes and batches for our kernels, by time
on the device. ``--device cpu`` tries the program itself, in Triton's interpreter (TRITON_INTERPRET=1).

(It cannot be named cuda.py: a script's folder comes first when torch imports NVIDIA's package of that name.)
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gdq_cli.engines import Engine, choose_device, choose_engine
from gdq_cli.engines.reference import ReferenceEngine
from gdq_cli.errors import GdqError
from gdq_cli.measure.benchmark import interleave, natural_picture
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import lower_network
from gdq_cli.networks.edsr.config import MEAN
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.program import cost
from gdq_cli.training.start import float_copy
from gdq_cli.upscaling.pool import load_checkpoint
from gdq_cli.upscaling.upscaler import Upscaler

U8 = NDArray[np.uint8]

PEAKS = {  # dense tensor-core operations per second: int8, FP16, TF32
    "NVIDIA H100 80GB HBM3": (
        1979e12,
        989e12,
        495e12,
    ),  # NVIDIA's H100 datasheet (SXM), half of its figures "with sparsity"
    "NVIDIA H100 PCIe": (1513e12, 756e12, 378e12),  # the same
    "NVIDIA H200": (1979e12, 989e12, 495e12),  # NVIDIA's H200 datasheet (SXM), likewise
    "NVIDIA A100-SXM4-80GB": (624e12, 312e12, 156e12),  # NVIDIA's A100 datasheet
}
INT8, FP16, TF32 = range(3)

GROUP_PIXELS = 1 << 20
"""LR pixels that the plain network gets at a time: at x4 in float32 a feature map of them takes 4 GiB."""


@dataclass(frozen=True)
class Row:
    """A line of the table: what runs all pictures once, and which tensor cores it uses (None for none)."""

    name: str
    run: Callable[[], object]
    unit: int | None


class Plain(nn.Module):
    """The float network from uint8 pixels to uint8 pixels, all in one type."""

    def __init__(self, network: Edsr) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32).reshape(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, h, w, 3) -> (N, h * scale, w * scale, 3)."""
        network, mean = self.network, self.mean
        skip = network.head((pixels.permute(0, 3, 1, 2).to(mean.dtype) - mean) / 255)
        x = skip
        for block in network.blocks:
            x = block(x)
        x = skip + network.body_conv(x)
        for layer in network.upsampler:
            x = layer(x)
        values: Tensor = network.tail(x) * 255 + mean
        return values.round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--no-tiles", action="store_true", help="leave out the last table")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    dry = device == "cpu"
    describe(device)
    for scale in (2, 3, 4):
        checkpoint = load_checkpoint("edsr", scale)
        check(checkpoint, make_engine(checkpoint, device), dry)
    checkpoint = load_checkpoint("edsr", 4)
    shapes = [(1, 4, 3), (2, 2, 3)] if dry else [(1, 256, 256), (1, 1024, 1024), (64, 256, 256)]
    for shape in shapes:
        measure(checkpoint, device, *shape, repeats=arguments.repeats, compiled=not (arguments.no_compile or dry))
    if not (arguments.no_tiles or dry):
        compare_tiles(checkpoint, "cuda:0" if device == "cuda" else device)


def make_engine(checkpoint: Checkpoint, device: str) -> Engine:
    """The engine, self-tested; on the CPU the interpreted one."""
    if device == "cpu":
        from gdq_cli.engines.cuda.engine import CudaEngine

        return CudaEngine(checkpoint.network, device)
    return choose_engine(checkpoint.network, device, "cuda").engine


def describe(device: str) -> None:
    import triton

    names = ["no GPU: a dry run, its times mean nothing"]
    if device != "cpu":
        indices = range(torch.cuda.device_count()) if device == "cuda" else [int(device.partition(":")[2])]
        names = [torch.cuda.get_device_name(index) for index in indices]
    versions = f"torch {torch.__version__} (CUDA {torch.version.cuda}), Triton {triton.__version__}"
    print(f"{len(names)} x {names[0]}, {versions}, {datetime.date.today()}\n", flush=True)


def check(checkpoint: Checkpoint, engine: Engine, dry: bool) -> None:
    """Compare with the CPU: accumulators of every layer, then bit maps and pixels of pictures of many sizes.

    Small pictures run on the reference engine, larger ones on the fastest CPU engine, which is tested against it.
    """
    network, compared = checkpoint.network, 0
    reference, fast = ReferenceEngine(network), choose_engine(network).engine
    generator = torch.Generator().manual_seed(0)
    convs = lower_network(network).convs
    for conv in convs[:: len(convs) // 2] if dry else convs:
        low, high = conv.input_range
        shape = (2, conv.weight.shape[1], 5, 9)
        for codes in (
            torch.randint(low, high + 1, shape, generator=generator),
            torch.where(torch.rand(shape, generator=generator) < 0.5, low, high),
        ):
            codes = codes.to(torch.int16)
            agree(torch.equal(engine.accumulators(codes, conv), reference.accumulators(codes, conv)), "accumulators")
            compared += 1
    sizes = [(1, 1), (7, 3)] if dry else [(1, 1), (7, 3), (97, 311), (143, 144), (256, 256), (256, 256), (1500, 1100)]
    for height, width in sizes:
        there = Upscaler(checkpoint, reference if height * width < 2**15 else fast)
        batches = (
            [engine.batch_size] if height < 1000 else [engine.batch_size, 3]
        )  # small ones, as when memory is short
        for bits in ("auto", "8") if dry else ("auto", "4", "5", "6", "8"):
            expected = there.upscale(natural_picture(height, width), bits=bits)
            for batch in batches:
                usual, engine.batch_size = engine.batch_size, batch
                ours = Upscaler(checkpoint, engine).upscale(natural_picture(height, width), bits=bits)
                engine.batch_size = usual
                what = f"{width}x{height}, {bits} bits, batches of {batch}"
                agree(np.array_equal(ours.bit_map, expected.bit_map), f"bit map: {what}")
                agree(np.array_equal(ours.image, expected.image), f"pixels: {what}")
                compared += 2
    for note in engine.take_notes():
        print(f"note: {note}")
    print(f"{checkpoint.name} x{checkpoint.scale}: exact ({compared} comparisons with the CPU)", flush=True)


def agree(same: bool, what: str) -> None:
    if not same:
        sys.exit(f"NOT EXACT: {what}")


def measure(
    checkpoint: Checkpoint, device: str, count: int, height: int, width: int, *, repeats: int, compiled: bool
) -> None:
    """Print the table for ``count`` pictures of one size."""
    pictures = [np.roll(natural_picture(height, width), 7 * index, axis=0) for index in range(count)]
    first = "cuda:0" if device == "cuda" else device
    rows, peaks = [], {}
    for row in (*plain_rows(checkpoint, pictures, first, compiled), *our_rows(checkpoint, pictures, device)):
        try:
            peaks[row.name] = peak_memory(row, first)
        except torch.OutOfMemoryError:
            print(f"{row.name}: out of memory")
            continue
        rows.append(row)
    measured = interleave({row.name: row.run for row in rows}, repeats=repeats)
    pixels = count * height * width
    operations = 2 * pixels * cost.macs(checkpoint.parameters.outline)
    peak = PEAKS.get(torch.cuda.get_device_name(first)) if first != "cpu" else None
    devices = torch.cuda.device_count() if device == "cuda" else 1  # all of them for ours, one for the plain network
    eager = measured["torch FP32"].median
    print(f"\n{count} picture(s) of {width}x{height}, EDSR x{checkpoint.scale}; medians of {repeats}, interleaved\n")
    print("| | ms | spread | output MP/s | times FP32 | peak MiB | share of tensor-core peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        result = measured[row.name]
        share = "-" if row.unit is None else "unknown"
        if row.unit is not None and peak is not None:
            ceiling = peak[row.unit] * (devices if row.unit == INT8 else 1)
            share = f"{operations / result.median / ceiling:.1%}"
        speed = pixels * checkpoint.scale**2 / 1e6 / result.median
        print(
            f"| {row.name} | {result.median * 1e3:.2f} | {result.spread:.0%} | {speed:.0f} | "
            f"{eager / result.median:.2f} | {peaks[row.name]:.0f} | {share} |",
            flush=True,
        )


def peak_memory(row: Row, device: str) -> float:
    """MiB of the device that a row takes beyond what is held before it; also its warm-up, captures included."""
    if device == "cpu":
        row.run()
        return 0
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(3):
        row.run()
    return (torch.cuda.max_memory_reserved(device) - before) / 2**20


def plain_rows(checkpoint: Checkpoint, pictures: Sequence[U8], device: str, compiled: bool) -> Iterator[Row]:
    """The float network in torch: FP32, TF32, FP16, and FP16 compiled, with CUDA graphs as torch makes them."""
    pinned = device != "cpu"
    source = torch.from_numpy(np.stack(pictures))
    source = source.pin_memory() if pinned else source
    scale, (count, height, width, _) = checkpoint.scale, source.shape
    target = torch.empty((count, height * scale, width * scale, 3), dtype=torch.uint8, pin_memory=pinned)
    group = max(1, GROUP_PIXELS // (height * width))
    half = torch.float16 if pinned else torch.bfloat16

    def row(name: str, dtype: torch.dtype, unit: int | None, tf32: bool = False, compiled: bool = False) -> Row:
        plain = Plain(float_copy(checkpoint.network)).to(device, dtype, memory_format=torch.channels_last)
        forward = torch.compile(plain, mode="reduce-overhead", dynamic=False) if compiled else plain

        def run() -> None:
            with (
                torch.inference_mode(),
                torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32),
            ):
                for start in range(0, count, group):
                    pixels = forward(source[start : start + group].to(device, non_blocking=True))
                    target[start : start + group].copy_(pixels, non_blocking=True)
            if pinned:
                torch.cuda.synchronize(device)

        return Row(name, run, unit)

    yield row("torch FP32", torch.float32, None)
    yield row("torch TF32", torch.float32, TF32, tf32=True)
    yield row("torch FP16", half, FP16)
    if compiled:
        yield row("torch FP16, torch.compile", half, FP16, compiled=True)


def our_rows(checkpoint: Checkpoint, pictures: Sequence[U8], device: str) -> Iterator[Row]:
    """Our engine at 4, 6 and 8 bits and with the controller's choice, which is made beforehand for all rows."""
    height, width, _ = pictures[0].shape
    targets = [np.empty((height * checkpoint.scale, width * checkpoint.scale, 3), np.uint8) for _ in pictures]

    def row(bits: str) -> Row:
        engine = make_engine(checkpoint, device)  # one per row, so that each row's memory is its own
        plans = [Upscaler(checkpoint, engine).plan_bits(picture, bits=bits) for picture in pictures]
        fab = sum(plan.fab for plan in plans) / len(plans)

        def run() -> None:
            for picture, plan, target in zip(pictures, plans, targets, strict=True):
                engine.run(picture, plan.windows, target)

        return Row(f"gdq, auto ({fab:.2f} bits)" if bits == "auto" else f"gdq, {bits} bits", run, INT8)

    for bits in ("4", "6", "8", "auto"):
        yield row(bits)


def compare_tiles(checkpoint: Checkpoint, device: str) -> None:
    """Print the device time of a captured batch for other block sizes, warps, stages and batches than ours."""
    from gdq_cli.engines.cuda import triton_kernels
    from gdq_cli.engines.cuda.engine import BATCH
    from gdq_cli.engines.cuda.network import CudaNetwork

    side = 104
    peak = PEAKS.get(torch.cuda.get_device_name(device))
    macs = cost.macs(checkpoint.parameters.outline)
    ours = (triton_kernels.BLOCK_PIXELS, triton_kernels.OPTIONS["num_warps"], triton_kernels.OPTIONS["num_stages"])
    settings = [(*ours, batch) for batch in (4, 8, BATCH, 32, 64)]
    settings += [(*tile, BATCH) for tile in ((64, 4, 3), (64, 4, 4), (128, 4, 4), (128, 8, 3), (256, 8, 3))]
    print(f"\nDevice time of one captured batch of {side}x{side} windows; ours is {ours} at {BATCH}\n")
    print("| block pixels | warps | stages | batch | ms | output MP/s | share of int8 peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    usual = dict(triton_kernels.OPTIONS)
    with torch.cuda.device(device), torch.inference_mode():
        network = CudaNetwork(checkpoint.parameters.program, device)
        for pixels, warps, stages, batch in settings:
            triton_kernels.BLOCK_PIXELS = pixels
            triton_kernels.OPTIONS.update(num_warps=warps, num_stages=stages)
            try:
                seconds = replay_seconds(network, batch, side)
            except Exception as error:  # a block too large for this device, say: the others still count
                print(f"| {pixels} | {warps} | {stages} | {batch} | {type(error).__name__} | | |", flush=True)
                continue
            share = "unknown" if peak is None else f"{2 * macs * batch * side**2 / seconds / peak[INT8]:.1%}"
            speed = batch * (side * checkpoint.scale) ** 2 / 1e6 / seconds
            print(
                f"| {pixels} | {warps} | {stages} | {batch} | {seconds * 1e3:.3f} | {speed:.0f} | {share} |", flush=True
            )
    triton_kernels.BLOCK_PIXELS = ours[0]
    triton_kernels.OPTIONS.update(usual)


def replay_seconds(network: Callable[[Tensor, Tensor], Tensor], batch: int, side: int) -> float:
    """Median of 20 replays, by events; on noise, because constant pixels can run faster than pictures."""
    windows = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device="cuda")
    choice = torch.arange(batch, dtype=torch.int32, device="cuda") % 4
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        network(windows, choice)
        with torch.cuda.graph(graph, stream=stream):
            network(windows, choice)
        times = []
        for _ in range(23):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
    return float(np.median(times[3:]))


if __name__ == "__main__":
    try:
        main()
    except GdqError as error:  # no GPU, as a rule
        sys.exit(f"error: {error}")
