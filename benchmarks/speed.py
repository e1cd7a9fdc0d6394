"""Network time of every engine on one picture against the same float network in plain torch, interleaved in one run.

    python benchmarks/speed.py [--scale 4] [--size 256x256] [--threads 2] [--repeats 7]

Prints medians and the ratio to torch FP32 in channels_last. Nothing but the network is timed: no reading, no writing.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from gdq_cli.engines import choose_engine
from gdq_cli.errors import DeviceError
from gdq_cli.models import load_checkpoint
from gdq_cli.patches import plan_patches
from gdq_cli.training.start import float_copy
from gdq_cli.upscaler import Upscaler


def natural_picture(height: int, width: int) -> np.ndarray:
    """1/f noise over a gradient: the statistics of a photograph, made on the spot, (height, width, 3) uint8."""
    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    texture = np.fft.irfft2(spectrum, (height, width))
    grey = 128 + 50 * texture / texture.std()
    return np.stack([grey * 1.1, grey, grey * 0.85 + 20], axis=2).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--size", default="256x256", help="WxH of the LR picture")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    width, height = map(int, arguments.size.split("x"))
    image = natural_picture(height, width)
    checkpoint = load_checkpoint("edsr", arguments.scale)
    network = float_copy(checkpoint.network)
    whole = torch.from_numpy(image[None]).permute(0, 3, 1, 2).float()

    def whole_image(x: torch.Tensor, dtype: torch.dtype | None = None) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
                return network(x)

        return run

    runs: dict[str, Callable[[], object]] = {}
    channels_last = whole.contiguous(memory_format=torch.channels_last)
    runs["torch FP32, channels_last"] = whole_image(channels_last)
    runs["torch FP32, default layout"] = whole_image(whole.contiguous())
    runs["torch bfloat16, channels_last"] = whole_image(channels_last, torch.bfloat16)
    plan = plan_patches((height, width))
    target = np.empty((height * arguments.scale, width * arguments.scale, 3), np.uint8)
    for name in ("onednn", "native"):
        try:
            engine = choose_engine(checkpoint.network, "cpu", name).engine
        except DeviceError as error:
            print(f"{name}: {error}")
            continue
        chosen = Upscaler(checkpoint, engine).plan_bits(image)
        widths = {str(bits): (bits,) * len(plan) for bits in (8, 6, 5, 4)} | {
            f"auto {chosen.fab:.2f}": chosen.bit_widths
        }
        for label, bit_widths in widths.items():
            runs[f"{name}, {label} bits"] = lambda e=engine, b=bit_widths: e.run(image, plan, b, target)

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats + 1):
        for name, run in runs.items():
            network.to(memory_format=torch.contiguous_format if "default" in name else torch.channels_last)
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["torch FP32, channels_last"])
    plain = statistics.median(seconds["torch FP32, default layout"])
    print(
        f"EDSR x{arguments.scale}, {width}x{height}, {arguments.threads} threads, {platform.processor() or platform.machine()},"
    )
    print(f"torch {torch.__version__}, {datetime.date.today()}; medians of {arguments.repeats}\n")
    print("| | seconds | spread | times FP32 channels_last | times FP32 default |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median
        print(f"| {name} | {median:.3f} | {spread:.0%} | {base / median:.2f} | {plain / median:.2f} |")


if __name__ == "__main__":
    main()
