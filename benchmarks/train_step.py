"""Seconds of one training step: float32 network, 4 bits, 8 bits, and the sandwich step of the quantized stage.

    python benchmarks/train_step.py [--scale 4] [--batch 16] [--patch 32] [--repeats 5]
        [--give-back]

All four are interleaved in one run; medians, and ratios to the float step. With --give-back the C library handles
memory as it does by default, for comparison with what gdq train asks of it.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import statistics
import time
from collections.abc import Callable

import torch

from gdq_cli.measure.machine import cpu_name
from gdq_cli.runs.memory import keep_freed_memory
from gdq_cli.training.stages import FloatStage, QuantizedStage
from gdq_cli.training.start import float_copy
from gdq_cli.upscaling.pool import load_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--give-back", action="store_true")
    arguments = parser.parse_args()
    kept = not arguments.give_back and keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    quantized = load_checkpoint("edsr", arguments.scale).network.to(memory_format=torch.channels_last).train()
    floating = float_copy(quantized).to(memory_format=torch.channels_last).train()
    side = arguments.patch
    lr = torch.randint(0, 256, (arguments.batch, 3, side, side)).float().contiguous(memory_format=torch.channels_last)
    large = side * arguments.scale
    hr = torch.randint(0, 256, (arguments.batch, 3, large, large)).float()

    def one_width(bit_width: int) -> Callable[[], object]:
        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                output = quantized(lr, bit_width)
            (output.float() - hr).abs().mean().backward()

        return run

    float_stage, quantized_stage = FloatStage(floating), QuantizedStage(quantized)
    step = itertools.count()
    runs: dict[str, Callable[[], object]] = {
        "float32 network": lambda: float_stage.backward(lr, hr, 0),
        "4 bits": one_width(4),
        "8 bits": one_width(8),
        "sandwich: two widths, teacher": lambda: quantized_stage.backward(lr, hr, next(step)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["float32 network"])
    print(
        f"EDSR x{arguments.scale}, batch {arguments.batch} x {side} px, bfloat16 autocast, {arguments.threads} threads,"
    )
    memory = "kept" if kept else "given back"
    print(
        f"torch {torch.__version__}, {cpu_name()}, {datetime.date.today()}; freed memory {memory}; "
        f"medians of {arguments.repeats}\n"
    )
    print("| step | seconds | times float32 |")
    print("| --- | --- | --- |")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
