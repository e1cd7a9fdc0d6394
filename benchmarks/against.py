"""The native engine of this checkout beside that of another (built in place), in turns, on one picture and checkpoint.

    python benchmarks/against.py DIR [--models edsr_x4,edsr_x2] [--bits 4,6,8] [--threads 1,2] [--repeats 9]

Each checkout runs in a process of its own, through the Python API, and must give the same pixels. Printed are the
medians of wall seconds, and the median and spread of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from gdq_cli.measure.machine import cpu_name

HERE = Path(__file__).resolve().parents[1]
PROGRAM = """
import hashlib, json, sys, time
import numpy as np
import gdq_cli
models = {}
for line in sys.stdin:
    path, scale, bits, threads, side = json.loads(line)
    model = models.setdefault(path, gdq_cli.load(path, scale, device="cpu", threads=threads))
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    start = time.perf_counter()
    result = model.upscale(picture, bits=bits)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, hashlib.sha256(np.asarray(result.pil).tobytes()).hexdigest()]), flush=True)
"""


class Checkout:
    """A process that upscales with the package of a folder."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *job: Any) -> tuple[float, str]:
        """Seconds, and the digest of the pixels."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        seconds, digest = json.loads(self._process.stdout.readline())
        return seconds, digest

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def compare(old: Path, job: tuple[Any, ...], repeats: int) -> tuple[float, float, list[float]]:
    """Median seconds of this checkout and of ``old``, and the ratios of neighbouring runs."""
    checkouts = [Checkout(HERE), Checkout(old)]
    try:
        if len({checkout.run(*job)[1] for checkout in checkouts}) > 1:
            raise SystemExit(f"{Path(job[0]).name} at {job[2]} bits: the pixels differ")
        seconds: list[list[float]] = [[], []]
        for repeat in range(repeats):
            for index in (0, 1) if repeat % 2 else (1, 0):
                seconds[index].append(checkouts[index].run(*job)[0])
    finally:
        for checkout in checkouts:
            checkout.close()
    ratios = [ours / theirs for ours, theirs in zip(*seconds, strict=True)]
    return statistics.median(seconds[0]), statistics.median(seconds[1]), ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="another checkout, built in place")
    parser.add_argument("--models", default="edsr_x4,edsr_x2", help="bundled checkpoints that both can read")
    parser.add_argument("--bits", default="4,6,8")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--side", type=int, default=192, help="of the picture")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    print(f"{cpu_name()}; {options.side} px; {datetime.date.today()}\n")
    print("| checkpoint | bits | threads | seconds here | seconds there | here / there | quartiles |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model in options.models.split(","):
        path, scale = HERE / "weights" / f"{model}.safetensors", int(model.rpartition("_x")[2])
        for threads in options.threads.split(","):
            for bits in options.bits.split(","):
                job = (str(path), scale, bits, int(threads), options.side)
                ours, theirs, ratios = compare(options.checkout.resolve(), job, options.repeats)
                low, middle, high = statistics.quantiles(ratios, n=4)
                figures = f"{ours:.3f} | {theirs:.3f} | {middle:.3f} | {low:.3f}-{high:.3f}"
                print(f"| {model} | {bits} | {threads} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
