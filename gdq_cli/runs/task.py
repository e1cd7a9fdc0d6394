"""One picture on its way: read, upscale, write, and what is reported about it.

The three steps run on different threads (``gdq_cli.runs.batch``); a step belongs to one thread, and a frame to one
step at a time. An animation or document is a sequence of frames on the same way. Nothing here imports torch until a
frame is upscaled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.engines.threads import thread_count
from gdq_cli.errors import GdqError, memory_errors
from gdq_cli.images import (
    Frame,
    Picture,
    bleed_colour,
    check_target,
    parse_colour,
    read_frames,
    write_frames,
    write_image,
)
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.memory import ArrayStore
from gdq_cli.runs.plan import Job, check_disk
from gdq_cli.runs.report import JobReport
from gdq_cli.upscaling.resample import deepen_into, resize_into

if TYPE_CHECKING:
    from gdq_cli.models.pool import UpscalerPool
    from gdq_cli.upscaling.upscaler import Progress, Upscaler, UpscaleResult

U8 = NDArray[np.uint8]
FRAMES_IN_FLIGHT = 6
"""Frames of one animation that may be in memory at a time: being read, waiting, upscaled, waiting, written."""

_LR_BYTES = 16  # per LR pixel: decoded, as Pillow has it, and the network's input
_LR_BYTES_ALPHA = 64  # colour is bled under transparent pixels in float32


class Task:
    """One job while it runs.

    Args:
        job: with a header and nothing known to be wrong.
        options: of the run.
        budget: bytes of memory for all pictures in flight; a picture that would need more keeps its output in a file.
    """

    def __init__(self, job: Job, options: UpscaleOptions, budget: int) -> None:
        assert job.header is not None
        assert job.out_size is not None
        self.job, self.options = job, options
        self.header, self.out_size = job.header, job.out_size
        self.native = job.native
        self.error: GdqError | None = None
        self.seconds = dict.fromkeys(("read", "load", "bits", "network", "finish", "write"), 0.0)
        self._warnings: dict[str, None] = dict.fromkeys(job.notes)
        self._bits: Counter[int] = Counter()
        self._bitops = np.zeros(3)
        self._first: dict[str, Any] = {}
        frames = min(self.header.frames, FRAMES_IN_FLIGHT)
        pixels = self.header.width * self.header.height
        self._lr_bytes = pixels * (_LR_BYTES_ALPHA if self.header.has_alpha else _LR_BYTES) * frames
        self._sr_bytes = self._count_sr_bytes() * frames
        folder = job.target.parent if isinstance(job.target, Path) else None
        self.store = ArrayStore(folder, mapped=self._lr_bytes + self._sr_bytes > budget)

    def _count_sr_bytes(self) -> int:
        """Bytes of the large arrays of one upscaled frame."""
        height, width = self.header.height * self.native, self.header.width * self.native
        pixels = self.out_size[0] * self.out_size[1]
        count = height * width * 3
        if (height, width) != self.out_size:
            count += pixels * 3
        if self.header.has_alpha and self.options.alpha != "drop":
            count += pixels + (height * width * 3 if self.options.alpha == "network" else 0)
        return count + (pixels * 6 if self.header.bit_depth > 8 else 0)

    @property
    def memory(self) -> int:
        """Bytes it needs in memory."""
        return self._lr_bytes + (0 if self.store.mapped else self._sr_bytes)

    def read(self) -> Iterator[Frame]:
        """Decode the frames, one at a time, after the last checks.

        Raises:
            ImageError: if the target cannot be written or the source not be read.
        """
        job = self.job
        if isinstance(job.target, Path):
            check_target(job.target, overwrite=self.options.overwrite)
            check_disk(job, self._sr_bytes if self.store.mapped else 0)
        frames = iter(read_frames(job.source, max_pixels=self.options.max_pixels, name=job.name))
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            self.seconds["read"] += time.perf_counter() - start
            if frame is None:
                return
            yield frame

    def load(self, pool: UpscalerPool) -> None:
        """Have the model ready.

        Raises:
            WeightsError: if there is no checkpoint for this scale.
            DeviceError: if no engine runs it.
        """
        start = time.perf_counter()
        self._upscaler(pool)
        self.seconds["load"] += time.perf_counter() - start

    def _upscaler(self, pool: UpscalerPool) -> Upscaler:
        return pool.get(self.native, self.job.model)

    def upscale(self, frame: Frame, pool: UpscalerPool, progress: Progress | None = None) -> Frame:
        """Upscale one frame.

        Raises:
            DeviceError: if memory runs out, or the network gives values that are no numbers.
            OptionsError: if the options do not suit this picture.
            WeightsError: if the checkpoint has no such bit-width.
        """
        upscaler = self._upscaler(pool)
        picture = frame.picture
        _, out_size = self.options.size.resolve(picture.size)  # the pages of a document may differ
        with memory_errors():
            rgb = picture.rgb if picture.alpha is None else bleed_colour(picture.rgb, picture.alpha)
            native = self.store.empty((picture.size[0] * self.native, picture.size[1] * self.native, 3))
            result = upscaler.upscale(
                rgb, bits=self.options.bits, budget=self.options.budget, progress=progress, target=native
            )
            finish = time.perf_counter()
            sr = self._finish(picture, result.image, out_size, pool)
        self.seconds["finish"] += time.perf_counter() - finish
        self._warnings |= dict.fromkeys((*picture.warnings, *upscaler.engine.take_notes()))
        self._count(result, pool, picture.size, out_size)
        return Frame(sr, frame.duration_ms)

    def _count(
        self, result: UpscaleResult, pool: UpscalerPool, in_size: tuple[int, int], out_size: tuple[int, int]
    ) -> None:
        self.seconds["bits"] += result.seconds_bits
        self.seconds["network"] += result.seconds_network
        self._bits.update(int(width) for width in result.bit_map.ravel())
        self._bitops += (result.bitops_g, result.bitops_8bit_g, result.bitops_fp32_g)
        if self._first:
            return
        upscaler = self._upscaler(pool)
        self._first = {
            "model": upscaler.checkpoint.name,
            "model_sha256": upscaler.checkpoint.sha256,
            "engine": upscaler.engine.name,
            "device": upscaler.engine.device,
            "threads": thread_count(),
            "scale": out_size[0] / in_size[0],
            "in_size": in_size,
            "out_size": out_size,
            "bit_map": result.bit_map,
        }

    def _finish(self, picture: Picture, image: U8, out_size: tuple[int, int], pool: UpscalerPool) -> Picture:
        """Resize the native result to the size asked for, and give it its alpha and its deep samples."""
        if image.shape[:2] != out_size:
            size = f"{out_size[1]}x{out_size[0]}"
            self._warnings[f"upscaled x{self.native} by the network, then resized to {size} with Lanczos"] = None
            resized = self.store.empty((*out_size, 3))
            resize_into(image, resized)
            image = resized
        alpha = None
        if picture.alpha is not None and self.options.alpha == "drop":
            self._warnings["alpha dropped (--alpha drop)"] = None
        elif picture.alpha is not None:
            alpha = self._upscale_alpha(picture.alpha, out_size, pool)
        deep = None
        if picture.samples16 is not None:
            deep = self.store.empty((*out_size, *picture.samples16.shape[2:]), np.uint16)
            deepen_into(picture.samples16, image, deep)
        return picture.with_pixels(image, alpha=alpha, samples16=deep)

    def _upscale_alpha(self, alpha: U8, out_size: tuple[int, int], pool: UpscalerPool) -> U8:
        if self.options.alpha == "network":
            grey = np.ascontiguousarray(np.repeat(alpha[:, :, None], 3, axis=2))
            wide = self.store.empty((alpha.shape[0] * self.native, alpha.shape[1] * self.native, 3))
            alpha = self._upscaler(pool).upscale(grey, bits=self.options.bits, target=wide).image[:, :, 1]
            if alpha.shape == out_size:
                return alpha
        resized: U8 = self.store.empty(out_size)
        resize_into(alpha, resized)
        return resized

    def write(self, frames: Iterator[Frame]) -> None:
        """Encode the upscaled frames into the target, which appears when it is complete.

        Raises:
            GdqError: whatever ``frames`` raises, or ImageError if the output cannot be written.
        """
        options, start, waited = self.options, time.perf_counter(), 0.0

        def timed() -> Iterator[Frame]:
            nonlocal waited
            while True:
                asked = time.perf_counter()
                frame = next(frames, None)
                waited += time.perf_counter() - asked
                if frame is None:
                    return
                yield frame

        encoding: dict[str, Any] = {
            "format": self.job.format,
            "quality": options.quality,
            "lossless": options.lossless,
            "background": parse_colour(options.background),
            "strip_metadata": options.strip_metadata,
            "overwrite": options.overwrite,
            "threads": options.threads,
        }
        if self.header.frames == 1:
            notes = write_image(self.job.target, next(timed()).picture, **encoding)
        else:
            notes = write_frames(self.job.target, timed(), self.header, **encoding)
        self._warnings |= dict.fromkeys(notes)
        self.seconds["write"] += time.perf_counter() - start - waited

    def report(self) -> JobReport:
        """What happened, after the last step."""
        total = sum(self.seconds.values())
        bitops_g, bitops_8bit_g, bitops_fp32_g = map(float, self._bitops)
        return JobReport(
            source=self.job.name,
            target=self.job.target_name,
            model_reason=self.job.model_reason,
            native_scale=self.native,
            frames=self.header.frames,
            bits=dict(self._bits),
            seconds=self.seconds | {"total": total},
            warnings=tuple(self._warnings),
            bitops_g=bitops_g,
            bitops_8bit_g=bitops_8bit_g,
            bitops_fp32_g=bitops_fp32_g,
            **self._first,
        )
