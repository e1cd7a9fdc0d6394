"""All CPU engines on one network and one picture, ours and others', interleaved in one run.

    python benchmarks/engines.py [network] [command] [scaling] [bits] [--threads 1,2] [--repeats 7] [--models DIR]

network: medians of torch, ONNX Runtime, OpenVINO, ncnn and ours, one Markdown table per number of threads. Foreign
    packages are optional (peers.py). A row whose picture is not that of the float network is refused.
command: where a whole `gdq upscale` spends its time, a 1-megapixel JPEG to a 16-megapixel PNG.
scaling: time per megapixel from 0.25 to 12 megapixels, and what a second thread gives.
bits: the share of choosing bit-widths in a run on 12 megapixels, `photo` and `edsr`. The network runs on a part of 25
    patches, which counts as often as it fits; processor time is counted, so that other programs do not slow it.

GMAC/s count the multiplications of the direct convolutions of the picture, once, whatever an engine really does; the
peak is that of the VNNI instruction, measured in the same run (peak.cpp). `--models` keeps the peers' quantized models
for the next run; `prepare` only makes them.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peers import Peers, find_peers, versions
from PIL import Image

from gdq_cli.bits.patches import plan_patches
from gdq_cli.bits.windows import Window
from gdq_cli.engines import Engine, choose_engine, kernels
from gdq_cli.errors import DeviceError
from gdq_cli.measure.benchmark import interleave
from gdq_cli.measure.machine import cpu_name
from gdq_cli.program import cost
from gdq_cli.training.start import float_copy
from gdq_cli.upscaling.pool import load_checkpoint
from gdq_cli.upscaling.upscaler import Upscaler

ROOT = Path(__file__).resolve().parents[1]
LEAST_PSNR = 35.0
"""dB against the float network; a row below it is of a broken network, not of a fast one."""
PAUSE = 0.05
BASE = "torch FP32, channels_last"

U8 = NDArray[np.uint8]


def photo(height: int, width: int) -> U8:
    """A photograph of any size: the examples' coffee cup, mirrored as often as it takes."""
    with Image.open(ROOT / "examples" / "coffee.jpg") as image:
        tile = np.asarray(image.convert("RGB"))
    across = np.concatenate([tile, tile[:, ::-1]], axis=1)
    both = np.concatenate([across, across[::-1]])
    repeats = -(-height // both.shape[0]), -(-width // both.shape[1])
    return np.ascontiguousarray(np.tile(both, (*repeats, 1))[:height, :width])


def load_peak(folder: Path) -> Callable[[int], float] | None:
    """threads -> 1e9 VNNI multiply-adds a second; None without a compiler or the instruction."""
    library = folder / "peak.so"
    command = ["c++", "-O2", "-std=c++17", "-shared", "-fPIC", "-pthread"]
    try:
        subprocess.run([*command, str(ROOT / "benchmarks" / "peak.cpp"), "-o", str(library)], check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    function = ctypes.CDLL(str(library)).vnni_peak
    function.restype, function.argtypes = ctypes.c_double, (ctypes.c_int, ctypes.c_long)
    return None if function(1, 1000) == 0 else lambda threads: function(threads, 20_000_000)


class NetworkTable:
    """One table: every engine on one picture.

    Args:
        scale: of the bundled checkpoint.
        side: of the LR picture.
        folder: for the peers' models.
    """

    def __init__(self, scale: int, side: int, folder: Path) -> None:
        self.checkpoint = load_checkpoint("edsr", scale)
        self.image = photo(side, side)
        self.network = float_copy(self.checkpoint.network)
        self.folder = folder
        picture = photo(2 * side, 2 * side)
        samples = [picture[y : y + side, x : x + side] for y, x in ((0, side), (side, 0), (side // 2, side // 2))]
        self.peers = Peers(self.network, self.image, samples, folder)
        self.whole = torch.from_numpy(self.image[None]).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            self.expected = self.network(self.whole)[0].numpy().clip(0, 255)
        self.gmacs = cost.macs(self.checkpoint.parameters.outline) * side**2 / 1e9

    def _torch(self, layout: torch.memory_format, bfloat16: bool) -> Callable[[], NDArray[np.float32]]:
        network, x = (
            float_copy(self.checkpoint.network).to(memory_format=layout),
            self.whole.contiguous(memory_format=layout),
        )

        def run() -> NDArray[np.float32]:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                pixels: NDArray[np.float32] = network(x)[0].float().numpy()
                return pixels

        return run

    def _ours(self, notes: dict[str, str]) -> dict[str, Callable[[], NDArray[np.uint8]]]:
        runs: dict[str, Callable[[], NDArray[np.uint8]]] = {}
        scale = self.checkpoint.scale
        target = np.empty((self.image.shape[0] * scale, self.image.shape[1] * scale, 3), np.uint8)
        for name in ("onednn", "native"):
            try:
                engine = choose_engine(self.checkpoint.network, "cpu", name).engine
            except DeviceError as error:
                notes[f"gdq {name}"] = f"not run: {error}"
                continue
            upscaler = Upscaler(self.checkpoint, engine)
            for bits in ("8", "6", "5", "4", "auto") if name == "native" else ("8",):
                plan = upscaler.plan_bits(self.image, bits=bits)

                def run(engine: Engine = engine, windows: tuple[Window, ...] = plan.windows) -> NDArray[np.uint8]:
                    engine.run(self.image, windows, target)
                    return target.transpose(2, 0, 1)

                label = f"auto, {plan.fab:.2f} bits" if bits == "auto" else f"{bits} bits"
                runs[f"gdq {name}, {label}"] = run
        return runs

    def find(self, threads: int) -> tuple[dict[str, Callable[[], NDArray[np.generic]]], dict[str, str]]:
        """Rows that can be timed, and notes on those that cannot."""
        torch.set_num_threads(threads)
        runs: dict[str, Callable[[], NDArray[np.generic]]] = {
            BASE: self._torch(torch.channels_last, False),
            "torch FP32, default layout": self._torch(torch.contiguous_format, False),
            "torch bfloat16, channels_last": self._torch(torch.channels_last, True),
        }
        foreign, notes = find_peers(self.peers, threads)
        runs |= foreign
        runs |= self._ours(notes)
        for name, run in list(runs.items()):
            error = float(np.square(run().astype(np.float64).clip(0, 255) - self.expected).mean())
            psnr = 10 * math.log10(255**2 / max(error, 1e-12))
            if psnr < LEAST_PSNR:
                notes[name] = f"refused: {psnr:.1f} dB from the float network"
                del runs[name]
        return runs, notes

    def print(self, threads: int, repeats: int) -> None:
        """Time and print."""
        runs, notes = self.find(threads)
        peaks: list[float] = []
        peak = load_peak(self.folder)
        timed: dict[str, Callable[[], object]] = dict(runs)
        if peak is not None:
            timed["peak"] = lambda: peaks.append(peak(threads))
        measured = interleave(timed, repeats=repeats, pause=PAUSE)
        measured.pop("peak", None)
        height, width = self.expected.shape[1:]
        top = statistics.median(peaks) if peaks else math.nan
        peak_words = f"VNNI peak {top:.0f} GMAC/s" if peaks else "no VNNI"
        print(f"\n{threads} threads; {peak_words}; medians of {repeats}\n")
        print(f"| | seconds | spread | output MP/s | times {BASE} | GMAC/s | share of the peak |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, result in measured.items():
            seconds = result.median
            rate, speed = height * width / 1e6 / seconds, self.gmacs / seconds
            ratio = measured[BASE].median / seconds
            print(
                f"| {name} | {seconds:.3f} | {result.spread:.0%} | {rate:.2f} | {ratio:.2f} "
                f"| {speed:.0f} | {f'{speed / top:.0%}' if peaks else '-'} |"
            )
        for name, note in notes.items():
            print(f"| {name} | {note} | | | | | |")


def print_command(repeats: int, folder: Path) -> None:
    """The split of a whole command, start to end."""
    source, target = folder / "in.jpg", folder / "out.png"
    Image.fromarray(photo(816, 1224)).save(source, quality=92)
    stages = ("start", "read", "bits", "network", "write", "whole")
    seconds: dict[str, list[float]] = {stage: [] for stage in stages}
    command = [sys.executable, "-m", "gdq_cli", "upscale", str(source), "-x", "4", "-o", str(target)]
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        done = subprocess.run([*command, "--overwrite", "--json"], check=True, capture_output=True, text=True, cwd=ROOT)
        whole = time.perf_counter() - start
        found = json.loads(done.stdout.splitlines()[0])["seconds"]
        if repeat:
            for stage in ("read", "bits", "network", "write"):
                seconds[stage].append(found[stage])
            seconds["whole"].append(whole)
            seconds["start"].append(whole - sum(found[stage] for stage in ("read", "bits", "network", "write")))
    size = target.stat().st_size / 1e6
    print(f"\nwhole command, 1224x816 JPEG -> 4896x3264 PNG of {size:.1f} MB, auto, {repeats} runs\n")
    print("| " + " | ".join(stages) + " |\n" + "| --- " * len(stages) + "|")
    print("| " + " | ".join(f"{statistics.median(seconds[stage]):.2f}" for stage in stages) + " |")


def print_scaling(repeats: int, threads: list[int]) -> None:
    """Time per megapixel of growing pictures, bits chosen automatically, and the use of threads."""
    checkpoint = load_checkpoint("edsr", 4)
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.network, "cpu", "native").engine)
    sizes = {"0.25": (480, 520), "1": (960, 1042), "4": (1920, 2083), "12": (2880, 4167)}
    pictures = {name: photo(*size) for name, size in sizes.items()}

    def run(name: str, count: int) -> None:
        torch.set_num_threads(count)
        upscaler.upscale(pictures[name])

    print("\n| megapixels | threads | seconds | seconds per megapixel |\n| --- | --- | --- | --- |")
    small = {(name, count): partial(run, name, count) for name in ("0.25", "1") for count in threads}
    large: dict[tuple[str, int], Callable[[], None]] = {
        (name, max(threads)): partial(run, name, max(threads)) for name in ("4", "12")
    }
    measured = {key: result.median for key, result in interleave(small, repeats=repeats).items()}
    for key, work in large.items():  # too long to repeat: a sum over many patches is steady
        start = time.perf_counter()
        work()
        measured[key] = time.perf_counter() - start
    for (name, count), seconds in measured.items():
        megapixels = sizes[name][0] * sizes[name][1] / 1e6
        print(f"| {name} | {count} | {seconds:.2f} | {seconds / megapixels:.2f} |")


def print_bits(repeats: int, threads: int) -> None:
    """What choosing bits costs where the network takes longest, and where a command does nothing else."""
    torch.set_num_threads(threads)
    size, part = (3000, 4000), (485, 524)
    print(f"\nbits of {size[1]}x{size[0]} pixels, {threads} threads, network on {part[1]}x{part[0]} and scaled up\n")
    print("| model | patches | bits, CPU-seconds | network, CPU-seconds | bits, % of both |")
    print("| --- | --- | --- | --- | --- |")
    for model in ("photo", "edsr"):
        checkpoint = load_checkpoint(model, 4)
        upscaler = Upscaler(checkpoint, choose_engine(checkpoint.network, "cpu", "native").engine)
        whole, some = photo(*size), photo(*part)
        chosen = upscaler.plan_bits(some)
        share = len(plan_patches(size)) / len(chosen.patches)
        target = np.empty((part[0] * 4, part[1] * 4, 3), np.uint8)
        bits, network = [], []
        for _ in range(repeats):
            start = time.process_time()
            upscaler.plan_bits(whole)
            middle = time.process_time()
            upscaler.engine.run(some, chosen.windows, target)
            bits.append(middle - start)
            network.append((time.process_time() - middle) * share)
        found = statistics.median(bits), statistics.median(network)
        percent = 100 * found[0] / sum(found)
        print(f"| {model} | {len(plan_patches(size))} | {found[0]:.2f} | {found[1]:.1f} | {percent:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="network|command|scaling|bits|prepare")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--side", type=int, default=256, help="of the LR picture")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--models", type=Path, help="folder that keeps the peers' models")
    options = parser.parse_args()
    threads = [int(count) for count in options.threads.split(",")]
    parts = options.parts or ["network", "command", "scaling", "bits"]
    if options.models:
        options.models.mkdir(parents=True, exist_ok=True)
    with nullcontext(options.models) if options.models else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"EDSR x{options.scale}, {options.side}x{options.side}; {cpu_name()}, kernels {kernels.choose_isa()};")
        print(f"{versions()}; {datetime.date.today()}")
        if "network" in parts or "prepare" in parts:
            table = NetworkTable(options.scale, options.side, folder)
            for count in threads:
                table.find(count) if "network" not in parts else table.print(count, options.repeats)
        if "command" in parts:
            print_command(options.repeats, folder)
        if "scaling" in parts:
            print_scaling(options.repeats, threads)
        if "bits" in parts:
            print_bits(options.repeats, max(threads))


if __name__ == "__main__":
    main()
