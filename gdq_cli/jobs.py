"""One picture from file to file: read, upscale, write, and what is reported about it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.images import (
    Picture,
    bleed_colour,
    check_format_limits,
    check_target,
    default_format,
    find_format,
    format_of_suffix,
    parse_colour,
    read_image,
    resize_alpha,
    suffix_of_format,
    upscale_samples16,
    write_image,
)
from gdq_cli.models import UpscalerPool
from gdq_cli.options import UpscaleOptions
from gdq_cli.upscaler import Progress, UpscaleResult

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class JobReport:
    """What happened to one picture; ``to_dict`` is the --json contract of the command line."""

    source: str
    target: str
    model: str
    model_sha256: str
    scale: float
    engine: str
    device: str
    threads: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    result: UpscaleResult
    seconds: dict[str, float]
    warnings: tuple[str, ...] = field(default=())

    @property
    def output_mp_per_s(self) -> float:
        """Megapixels of the delivered picture per second of the whole job."""
        return self.out_size[0] * self.out_size[1] / 1e6 / max(self.seconds["total"], 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys as in docs/cli.md."""
        widths, counts = np.unique(self.result.bit_map, return_counts=True)
        bits = {"4": 0, "5": 0, "6": 0, "8": 0} if widths[-1] <= 8 else {}
        return {
            "input": self.source,
            "output": self.target,
            "status": "ok",
            "error": None,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "scale": self.scale,
            "engine": self.engine,
            "device": self.device,
            "threads": self.threads,
            "in_size": list(self.in_size),
            "out_size": list(self.out_size),
            "patches": int(counts.sum()),
            "bits": bits | {str(width): int(count) for width, count in zip(widths, counts, strict=True)},
            "fab": self.result.fab,
            "bitops_g": self.result.bitops_g,
            "bitops_8bit_g": self.result.bitops_8bit_g,
            "bitops_fp32_g": self.result.bitops_fp32_g,
            "seconds": self.seconds,
            "output_mp_per_s": self.output_mp_per_s,
            "peak_rss_mib": peak_rss_mib(),
            "warnings": list(self.warnings),
        }


def peak_rss_mib() -> float | None:
    """Largest resident memory of this process so far, in MiB; None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def choose_target(source: Path, options: UpscaleOptions, output: Path | None) -> Path:
    """Where the upscaled picture goes: beside the input as ``{stem}_x{scale}.{ext}``, into a folder, or to a file.

    Raises:
        OptionsError: if the output's suffix is not one that gdq writes.
    """
    if output is not None and not output.is_dir():
        if options.format == "auto":
            find_format(output.suffix or "none")
        return output
    if options.format != "auto":
        suffix = suffix_of_format(options.format)
    else:
        found = format_of_suffix(source)
        suffix = source.suffix if found and found.writable else ".png"
    folder = source.parent if output is None else output
    return folder / f"{source.stem}_{_size_tag(options)}{suffix}"


def _size_tag(options: UpscaleOptions) -> str:
    size = options.size
    for letter, value in (("w", size.width), ("h", size.height), ("l", size.longest)):
        if value is not None:
            return f"{letter}{value}"
    return f"x{size.scale or 4:g}"


def upscale_file(
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    pool: UpscalerPool,
    options: UpscaleOptions,
    progress: Progress | None = None,
) -> JobReport:
    """Upscale one picture.

    Args:
        source: file or stream to read.
        target: file or stream to write; never the source itself. A stream gets all bytes or none.
        pool: of models.
        options: of the run.
        progress: called with finished and all patches.

    Raises:
        ImageError: if the input cannot be read or the output not be written.
        OptionsError: if the options do not suit this picture.
        WeightsError: if there is no checkpoint for it.
    """
    start = time.perf_counter()
    source_name = str(source) if isinstance(source, Path) else "standard input"
    target_name = str(target) if isinstance(target, Path) else "standard output"
    if isinstance(target, Path):
        if isinstance(source, Path) and target.exists() and source.exists() and os.path.samefile(source, target):
            raise ImageError(f"{target}: the output would replace the input; choose another --output")
        check_target(target, overwrite=options.overwrite)
    picture = read_image(source, max_pixels=options.max_pixels, name=source_name)
    format = options.format if options.format != "auto" else _format_of(target, picture)
    native, out_size = options.size.resolve(picture.size)
    check_format_limits(format, out_size[1], out_size[0])
    background = parse_colour(options.background)
    read = time.perf_counter()

    upscaler = pool.get(native)
    ready = time.perf_counter()
    rgb = picture.rgb if picture.alpha is None else bleed_colour(picture.rgb, picture.alpha)
    result = upscaler.upscale(rgb, bits=options.bits, budget=options.budget, progress=progress)
    before_finish = time.perf_counter()
    sr, notes = _finish(picture, result.image, out_size, pool, options, native)
    upscaled = time.perf_counter()
    notes += write_image(
        target,
        sr,
        format=format,
        quality=options.quality,
        lossless=options.lossless or None,
        background=background,
        strip_metadata=options.strip_metadata,
        overwrite=options.overwrite,
    )
    end = time.perf_counter()
    seconds = {
        "read": read - start,
        "load": ready - read,
        "bits": result.seconds_bits,
        "network": result.seconds_network,
        "finish": upscaled - before_finish,
        "write": end - upscaled,
        "total": end - start,
    }
    return JobReport(
        source=source_name,
        target=target_name,
        model=upscaler.checkpoint.name,
        model_sha256=upscaler.checkpoint.sha256,
        scale=out_size[0] / picture.size[0],
        engine=upscaler.engine.name,
        device=upscaler.engine.device,
        threads=torch.get_num_threads(),
        in_size=picture.size,
        out_size=out_size,
        result=result,
        seconds=seconds,
        warnings=picture.warnings + notes,
    )


def _format_of(target: Path | BinaryIO, picture: Picture) -> str:
    """Format by the target's suffix; a stream gets the format of the input."""
    found = format_of_suffix(target) if isinstance(target, Path) else None
    return found.name if found and found.writable else default_format(picture.format)


def _finish(
    picture: Picture,
    image: U8,
    out_size: tuple[int, int],
    pool: UpscalerPool,
    options: UpscaleOptions,
    native: int,
) -> tuple[Picture, tuple[str, ...]]:
    """Resize the native result to the size asked for, and give it its alpha and its deep samples."""
    notes: tuple[str, ...] = ()
    if image.shape[:2] != out_size:
        notes += (f"upscaled x{native} by the network, then resized to {out_size[1]}x{out_size[0]} with Lanczos",)
        image = np.asarray(Image.fromarray(image).resize(out_size[::-1], Image.Resampling.LANCZOS))
    alpha = None
    if picture.alpha is not None and options.alpha != "drop":
        source = picture.alpha
        if options.alpha == "network":
            grey = np.ascontiguousarray(np.repeat(source[:, :, None], 3, axis=2))
            source = np.ascontiguousarray(pool.get(native).upscale(grey, bits=options.bits).image[:, :, 1])
        alpha = source if source.shape == out_size else resize_alpha(source, out_size)
    elif picture.alpha is not None:
        notes += ("alpha dropped (--alpha drop)",)
    deep = None if picture.samples16 is None else upscale_samples16(picture.samples16, image)
    return picture.with_pixels(image, alpha=alpha, samples16=deep), notes
