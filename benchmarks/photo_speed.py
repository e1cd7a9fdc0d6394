"""How long a photograph takes: the bundled photo and edsr networks beside one of Real-ESRGAN's class.

That class is RRDBNet x4 (Wang et al., ESRGAN, ECCVW 2018; 23 blocks, 16.7 million weights), here with random weights,
which take as long as trained ones, in torch float32. Network only, medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.engines.threads import set_thread_count
from gdq_cli.measure.benchmark import interleave, natural_picture
from gdq_cli.measure.machine import cpu_name
from gdq_cli.upscaling.pool import UpscalerPool

FEATURES, GROWTH, BLOCKS = 64, 32, 23


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        widths = [GROWTH] * 4 + [FEATURES]
        self.convs = nn.ModuleList(nn.Conv2d(FEATURES + i * GROWTH, w, 3, padding=1) for i, w in enumerate(widths))

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in self.convs[:-1]:
            seen = torch.cat([seen, F.leaky_relu(conv(seen), 0.2)], dim=1)
        return x + 0.2 * self.convs[-1](seen)


class Rrdb(nn.Module):
    """Three dense blocks in a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock() for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.blocks(x)


class RrdbNet(nn.Module):
    """RRDBNet x4."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, FEATURES, 3, padding=1)
        self.body = nn.Sequential(*(Rrdb() for _ in range(BLOCKS)), nn.Conv2d(FEATURES, FEATURES, 3, padding=1))
        self.up = nn.ModuleList(nn.Conv2d(FEATURES, FEATURES, 3, padding=1) for _ in range(3))
        self.tail = nn.Conv2d(FEATURES, 3, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.head(pixels)
        x = x + self.body(x)
        for conv in self.up[:2]:
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.tail(F.leaky_relu(self.up[2](x), 0.2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    set_thread_count(arguments.threads)
    picture = natural_picture(arguments.side, arguments.side)
    peer = RrdbNet().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def run_peer() -> object:
        with torch.inference_mode():
            return peer(pixels)

    rows: dict[str, Callable[[], object]] = {"Real-ESRGAN's class (RRDBNet x4), torch FP32": run_peer}
    pool = UpscalerPool("photo", "cpu", arguments.threads)
    for model in ("edsr", "photo"):
        for bits in ("auto", "8"):
            upscaler = pool.get(4, model)
            rows[f"gdq {model} x4, {bits}"] = lambda u=upscaler, b=bits: u.upscale(picture, bits=b)  # type: ignore[misc]
    measured = interleave(rows, repeats=arguments.repeats)
    photo = measured["gdq photo x4, auto"].median
    print(f"{cpu_name()}, {arguments.threads} threads, {datetime.date.today()}, torch {torch.__version__}; ", end="")
    print(f"{arguments.side}x{arguments.side} pixels, medians of {arguments.repeats} interleaved runs\n")
    print("| | seconds | times gdq photo x4, auto |\n| --- | --- | --- |")
    for name, result in measured.items():
        print(f"| {name} | {result.median:.3f} | {result.median / photo:.2f} |")


if __name__ == "__main__":
    main()
