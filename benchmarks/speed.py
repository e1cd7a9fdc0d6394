"""Network time of our CPU engines against torch in several layouts and types, interleaved; `gdq bench` times the rest.

    python benchmarks/speed.py [--scale 4] [--size 256x256] [--threads 2] [--repeats 7]

Prints medians and the ratio to torch FP32 in channels_last. Nothing but the network is timed: no reading, no writing.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable

import numpy as np
import torch

from gdq_cli.benchmark import interleave, natural_picture
from gdq_cli.engines import choose_engine
from gdq_cli.errors import DeviceError
from gdq_cli.machine import cpu_name
from gdq_cli.models import load_checkpoint
from gdq_cli.patches import plan_patches
from gdq_cli.training.start import float_copy
from gdq_cli.upscaler import Upscaler


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
    whole = torch.from_numpy(image[None]).permute(0, 3, 1, 2).float()

    def whole_image(layout: torch.memory_format, dtype: torch.dtype | None = None) -> Callable[[], object]:
        network, x = float_copy(checkpoint.network).to(memory_format=layout), whole.contiguous(memory_format=layout)

        def run() -> object:
            with torch.inference_mode(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
                return network(x)

        return run

    runs: dict[str, Callable[[], object]] = {}
    runs["torch FP32, channels_last"] = whole_image(torch.channels_last)
    runs["torch FP32, default layout"] = whole_image(torch.contiguous_format)
    runs["torch bfloat16, channels_last"] = whole_image(torch.channels_last, torch.bfloat16)
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

    measured = interleave(runs, repeats=arguments.repeats)
    base = measured["torch FP32, channels_last"].median
    plain = measured["torch FP32, default layout"].median
    print(f"EDSR x{arguments.scale}, {width}x{height}, {arguments.threads} threads, {cpu_name()},")
    print(f"torch {torch.__version__}, {datetime.date.today()}; medians of {arguments.repeats}\n")
    print("| | seconds | spread | times FP32 channels_last | times FP32 default |")
    print("| --- | --- | --- | --- | --- |")
    for name, result in measured.items():
        median = result.median
        print(f"| {name} | {median:.3f} | {result.spread:.0%} | {base / median:.2f} | {plain / median:.2f} |")


if __name__ == "__main__":
    main()
