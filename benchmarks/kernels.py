"""Speed of the compiled kernels: single layers against oneDNN int8, the residual body, whole windows.

    python benchmarks/kernels.py [--seconds 20] [--side 96] [--isa avx512-vnni]

All candidates run interleaved, the median counts; ratios are within one run. GMAC/s count the multiplications of the
direct convolution, whatever a kernel really does, so Winograd kernels may exceed the processor's peak.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from gdq_cli.engines import kernels
from gdq_cli.program.layers import IntegerConv, IntegerHead
from gdq_cli.program.operations import Codes, Conv, Epilogue, Head, Operation, Pixels, Program

CHANNELS = 64
SIGNED = (-128, 127)
REPEAT = 6
"""Convolutions per measurement."""


RANDOM = np.random.default_rng(0)

BITS = {"direct": 8, "winograd_f4": 8, "winograd_gauss": 4}
"""Of an algorithm's codes; the others' have 6."""


def draw_weight(outputs: int, inputs: int, kind: str) -> NDArray[np.int8]:
    """Bell-shaped weights on the wide grid, or on one that every algorithm takes."""
    spread, peak = (30, 127) if kind == "direct" else (4, 14)
    return np.clip(np.rint(RANDOM.normal(0, spread, (outputs, inputs, 3, 3))), -peak, peak).astype(np.int8)


def make_conv(
    outputs: int, inputs: int, kind: str, gain: float, shift: float = 0.0, codes: tuple[int, int] = (-128, 127)
) -> IntegerConv:
    """A convolution whose outputs have a spread of about ``gain``."""
    weight = draw_weight(outputs, inputs, kind)
    multiplier = np.full(outputs, gain / (float(weight.std()) * np.sqrt(9 * inputs)), np.float32)
    return IntegerConv(weight, multiplier, np.full(outputs, shift, np.float32), codes)


def make_program(blocks: int, algorithms: dict[int, str]) -> Program:
    """An EDSR baseline x4 with random weights whose blocks use the given algorithm at each bit-width."""
    first = make_conv(CHANNELS, 3, "direct", 0.02)
    head = IntegerHead(first.weight.astype(np.int16), first.multiplier, first.offset, (114, 111, 103))
    step, end = np.float32(30), 2 * blocks + 2
    body = Conv(
        end - 1, make_conv(CHANNELS, CHANNELS, "direct", 0.02), Epilogue(add=-1, codes=Codes(end, SIGNED, step))
    )
    behind = [
        Conv(
            end + i,
            make_conv(4 * CHANNELS, CHANNELS, "direct", 0.5, 128),
            Epilogue(codes=Codes(end + i + 1, SIGNED, zero=128)),
            2,
        )
        for i in range(2)
    ]
    pixels = Pixels(end + 2, make_conv(3, CHANNELS, "direct", 1, 110))
    operations = {}
    for bits, kind in algorithms.items():
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        into = [Codes(2 * i + 1, (low, high), np.float32(2**bits / 9)) for i in range(blocks)]
        into.append(Codes(end - 1, SIGNED, step))
        steps: list[Operation] = [Head(head, Epilogue(keep=-1, codes=into[0]))]
        for i in range(blocks):
            conv1 = make_conv(CHANNELS, CHANNELS, kind, 0.3, 2**bits / 6, (low, high))
            conv2 = make_conv(CHANNELS, CHANNELS, kind, 0.5 / 2**bits, 0, (0, high - low))
            steps.append(Conv(2 * i + 1, conv1, Epilogue(codes=Codes(2 * i + 2, (0, high - low)))))
            steps.append(Conv(2 * i + 2, conv2, Epilogue(add=-i - 1, keep=-i - 2, codes=into[i + 1])))
        operations[bits] = (*steps, body, *behind, pixels)
    return Program(4, operations)


def algorithms_of(isa: str | None) -> tuple[str, ...]:
    """Algorithms of the kernels that are timed."""
    chosen = kernels.choose_isa(isa)
    return next(one.algorithms for one in kernels.report().isas if one.name == chosen)


def onednn_layer(side: int, count: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """oneDNN int8 through torch, a batch of ``count``: codes with ReLU, and float32 with the residual added."""
    weight = torch.from_numpy(draw_weight(CHANNELS, CHANNELS, "direct"))
    codes = torch.randint(0, 256, (count, CHANNELS, side, side), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    x = torch.zeros(count, CHANNELS, side, side).contiguous(memory_format=torch.channels_last)
    ones, m, c = [1, 1], torch.full((CHANNELS,), 1e-4), torch.zeros(CHANNELS)
    packed = torch.ops.onednn.qconv_prepack(weight, m, 1.0, 128, ones, ones, ones, 1, list(codes.shape))
    common = (codes, 1.0, 128, packed, m, torch.zeros(CHANNELS, dtype=torch.int32))

    def plain() -> object:
        return torch.ops.onednn.qconv2d_pointwise(*common, c, ones, ones, ones, 1, 1.0, 0, torch.uint8, "relu", [], "")

    def summed() -> object:
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *common, x, c, ones, ones, ones, 1, 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], ""
        )

    return plain, summed


def layer_candidates(side: int, threads: int, isa: str | None) -> dict[str, Callable[[], float]]:
    """Name -> seconds of one convolution per thread, without Python's share."""
    candidates: dict[str, Callable[[], float]] = {}
    rng = np.random.default_rng(0)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def seconds() -> float:
            start = time.perf_counter()
            for _ in range(REPEAT):
                work()
            return (time.perf_counter() - start) / REPEAT

        return seconds

    for name, work in zip(("onednn int8, codes", "onednn int8, residual"), onednn_layer(side, threads), strict=True):
        candidates[name] = timed(work)
    m, c = np.full(CHANNELS, 1e-3, np.float32), np.zeros(CHANNELS, np.float32)
    x = np.zeros((side, side, CHANNELS), np.float32)

    def add(name: str, store: str) -> None:
        bits = BITS.get(name, 6)
        bounds = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        weight = draw_weight(CHANNELS, CHANNELS, name)
        layers = [kernels.Layer(weight, bounds, isa=isa, algorithm=name) for _ in range(threads)]
        codes = (rng.integers(*bounds, (side, side, CHANNELS), endpoint=True) + kernels.ZERO).astype(np.uint8)

        def one(layer: kernels.Layer) -> None:
            if store == "codes":
                layer.codes(codes, m, c, (0, 63), repeat=REPEAT)
            else:
                layer.stream(codes, m, c, x, m, (-32, 31), repeat=REPEAT)

        def seconds() -> float:
            others = [threading.Thread(target=one, args=(layer,)) for layer in layers[1:]]
            for thread in others:
                thread.start()
            one(layers[0])
            for thread in others:
                thread.join()
            return max(layer.seconds for layer in layers)

        candidates[f"{name}, {store}"] = seconds

    for name in algorithms_of(isa):
        for store in ("codes", "residual"):
            add(name, store)
    return candidates


def interleave(candidates: dict[str, Callable[[], float]], seconds: float) -> dict[str, float]:
    """Median of each candidate's results, all run in turns for some seconds."""
    results: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, results.values())) < 3:
        for name, run in candidates.items():
            results[name].append(run())
    return {name: statistics.median(values) for name, values in results.items()}


def window_candidates(side: int, threads: int, isa: str | None) -> tuple[dict[str, Callable[[], float]], int]:
    """Seconds per window of networks that differ in their number of blocks, so that the body's share can be told."""
    count, halo, scale = 2 * threads, 4, 4
    window = side + 2 * halo
    kinds = [name for name in algorithms_of(isa) if name != "winograd_f4"]
    if "direct" not in kinds:
        kinds = ["direct", *kinds]  # its weights, which the network's own choice of algorithm takes
    image = np.random.default_rng(0).integers(0, 256, (count * window, window, 3), dtype=np.uint8)
    seen = np.array([(i * window, 0, window, window) for i in range(count)], np.int32)
    cores = np.array([(i * window + halo, halo, side, side) for i in range(count)], np.int32)
    out = np.zeros((count * window * scale, window * scale, 3), np.uint8)
    ones = np.ones(count, np.int32)

    def seconds(network: kernels.Network, widths: NDArray[np.uint8]) -> float:
        start = time.perf_counter()
        network.run(image, seen, cores, widths, ones, out, threads=threads)
        return (time.perf_counter() - start) / count

    candidates: dict[str, Callable[[], float]] = {}
    for blocks in (1, 17):
        for kind in kinds:
            bits = BITS.get(kind, 6)
            network = kernels.Network(make_program(blocks, {bits: kind}), isa)
            widths = np.full(count, bits, np.uint8)
            candidates[f"{blocks} blocks, {network.algorithms(bits)[0]}"] = partial(seconds, network, widths)
    return candidates, window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="per table")
    parser.add_argument("--side", type=int, default=96, help="LR pixels of a patch without its halo")
    parser.add_argument("--isa", default=None)
    options = parser.parse_args()
    print(f"kernels: {kernels.choose_isa(options.isa)}; torch {torch.__version__}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        gmacs = options.side**2 * CHANNELS**2 * 9e-9 * threads
        print(f"\none {CHANNELS} -> {CHANNELS} layer, {options.side} x {options.side}, {threads} thread(s)")
        medians = interleave(layer_candidates(options.side, threads, options.isa), options.seconds)
        base = {"codes": medians["onednn int8, codes"], "residual": medians["onednn int8, residual"]}
        for name, taken in medians.items():
            ratio = base[name.rsplit(", ", 1)[1]] / taken
            print(f"  {name:28} {gmacs / taken:7.0f} GMAC/s {ratio:6.2f} x onednn")
    for threads in (1, 2):
        candidates, window = window_candidates(options.side, threads, options.isa)
        medians = interleave(candidates, options.seconds)
        gmacs = window**2 * CHANNELS**2 * 9e-9 * 32
        print(f"\nwindows of {window} x {window}, {threads} thread(s): 16 residual blocks, and the rest (x4)")
        for name in [name for name in medians if name.startswith("17")]:
            algorithm = name.split(", ")[1]
            body = medians[name] - medians[f"1 blocks, {algorithm}"]
            rest = medians[name] - body * 17 / 16
            share = f"{body * 1e3:6.1f} ms a window; the rest {rest * 1e3:6.1f} ms"
            print(f"  {algorithm:16} body {gmacs / body:7.0f} GMAC/s, {share}")


if __name__ == "__main__":
    main()
