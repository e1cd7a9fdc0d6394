"""The facts of one upscaled picture: made by the core, extended by a run, told by the printer, --json, page and API."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.widths import BIT_WIDTHS, FP32_BITS


@dataclass(frozen=True, eq=False)
class PictureRecord:
    """What became of one picture, and what it took.

    Attributes:
        model, model_sha256: of the checkpoint that ran.
        native_scale: of the network; what ``scale`` adds to it is resampling.
        engine, device, threads: that ran it.
        in_size, out_size: (H, W) in pixels, of the first frame.
        bit_map: (rows, cols) of the first frame.
        bits: patches by bit-width, over all frames.
        bitops_g, bitops_8bit_g, bitops_fp32_g: BitOPs in 1e9 as run, with all patches at 8 bits, and in float32.
        seconds: by step, without the time spent waiting for other pictures.
        name, target_name: what messages call the input and the output.
        model_reason: what about the file chose the model; None where the user did.
        frames: in the file.
        warnings: for the user, one line each.
    """

    status: ClassVar = "ok"

    model: str
    model_sha256: str
    native_scale: int
    engine: str
    device: str
    threads: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    bit_map: NDArray[np.int64]
    bits: Mapping[int, int]
    bitops_g: float
    bitops_8bit_g: float
    bitops_fp32_g: float
    seconds: Mapping[str, float]
    name: str = ""
    target_name: str = ""
    model_reason: str | None = None
    frames: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """The factor of the delivered picture."""
        return self.out_size[0] / self.in_size[0]

    @property
    def fab(self) -> float:
        """Feature average bit-width over all patches of all frames."""
        return sum(width * count for width, count in self.bits.items()) / sum(self.bits.values())

    @property
    def total_seconds(self) -> float:
        """Of all steps."""
        return sum(self.seconds.values())

    @property
    def output_mp_per_s(self) -> float:
        """Megapixels of the delivered picture per second of all steps."""
        return self.frames * self.out_size[0] * self.out_size[1] / 1e6 / max(self.total_seconds, 1e-9)

    def with_frame(self, frame: PictureRecord) -> PictureRecord:
        """The record of a file that holds another frame, too."""
        return replace(
            self,
            bits=Counter(self.bits) + Counter(frame.bits),
            bitops_g=self.bitops_g + frame.bitops_g,
            bitops_8bit_g=self.bitops_8bit_g + frame.bitops_8bit_g,
            bitops_fp32_g=self.bitops_fp32_g + frame.bitops_fp32_g,
            seconds={step: seconds + frame.seconds[step] for step, seconds in self.seconds.items()},
            frames=self.frames + frame.frames,
            warnings=tuple(dict.fromkeys(self.warnings + frame.warnings)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The object of ``gdq upscale --json``: plain values, keys as in docs/cli.md."""
        widths = self.bits if FP32_BITS in self.bits else {*BIT_WIDTHS, *self.bits}
        return {
            "input": self.name,
            "output": self.target_name,
            "status": self.status,
            "error": None,
            "model": self.model,
            "model_reason": self.model_reason,
            "model_sha256": self.model_sha256,
            "scale": self.scale,
            "engine": self.engine,
            "device": self.device,
            "threads": self.threads,
            "in_size": list(self.in_size),
            "out_size": list(self.out_size),
            "frames": self.frames,
            "patches": sum(self.bits.values()),
            "bits": {str(width): self.bits.get(width, 0) for width in sorted(widths)},
            "fab": self.fab,
            "bitops_g": self.bitops_g,
            "bitops_8bit_g": self.bitops_8bit_g,
            "bitops_fp32_g": self.bitops_fp32_g,
            "seconds": {**self.seconds, "total": self.total_seconds},
            "output_mp_per_s": self.output_mp_per_s,
            "peak_rss_mib": peak_rss_mib(),
            "warnings": list(self.warnings),
        }


def peak_rss_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
