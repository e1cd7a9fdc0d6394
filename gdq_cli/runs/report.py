"""What is reported about one picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class JobReport:
    """What happened to one picture; ``to_dict`` is the --json contract of the command line.

    Attributes:
        model_reason: what about the file chose the model; None where --model did.
        native_scale: of the network; what ``scale`` adds to it is resampling.
        frames: in the file.
        bit_map: (rows, cols) of the first frame.
        bits: patches by bit-width, over all frames.
        seconds: by step; ``total`` is their sum, without the time spent waiting for other pictures.
    """

    source: str
    target: str
    model: str
    model_reason: str | None
    model_sha256: str
    scale: float
    native_scale: int
    engine: str
    device: str
    threads: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    frames: int
    bit_map: NDArray[np.int64]
    bits: dict[int, int]
    bitops_g: float
    bitops_8bit_g: float
    bitops_fp32_g: float
    seconds: dict[str, float]
    warnings: tuple[str, ...] = field(default=())

    @property
    def fab(self) -> float:
        """Feature average bit-width over all patches of all frames."""
        return sum(width * count for width, count in self.bits.items()) / sum(self.bits.values())

    @property
    def output_mp_per_s(self) -> float:
        """Megapixels of the delivered picture per second of the whole job."""
        return self.frames * self.out_size[0] * self.out_size[1] / 1e6 / max(self.seconds["total"], 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys as in docs/cli.md."""
        quantized = max(self.bits) <= 8
        return {
            "input": self.source,
            "output": self.target,
            "status": "ok",
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
            "bits": ({"4": 0, "5": 0, "6": 0, "8": 0} if quantized else {})
            | {str(width): count for width, count in sorted(self.bits.items())},
            "fab": self.fab,
            "bitops_g": self.bitops_g,
            "bitops_8bit_g": self.bitops_8bit_g,
            "bitops_fp32_g": self.bitops_fp32_g,
            "seconds": self.seconds,
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
