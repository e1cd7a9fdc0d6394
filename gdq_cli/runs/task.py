"""One picture on its way: read, upscale, write, and what is reported about it.

The three steps run on different threads (``gdq_cli.runs.pipeline``); a step belongs to one thread, and a frame to one
step at a time. An animation or document is a sequence of frames on the same way. Nothing here imports torch until a
frame is upscaled.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import ImageError, memory_errors
from gdq_cli.files import check_target
from gdq_cli.images import Frame, Picture, bleed_colour, read_frames, write_frames, write_image
from gdq_cli.images.mark import Mark
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.marks import Difference, make_mark, tell_difference
from gdq_cli.runs.memory import CURE, ArrayStore
from gdq_cli.runs.plan import Planned, check_disk
from gdq_cli.upscaling.progress import in_turn
from gdq_cli.upscaling.record import PictureRecord
from gdq_cli.upscaling.resample import deepen_into, resize_into

if TYPE_CHECKING:
    from gdq_cli.upscaling.pool import UpscalerPool
    from gdq_cli.upscaling.progress import Progress
    from gdq_cli.upscaling.upscaler import Upscaler, UpscaleResult

U8 = NDArray[np.uint8]
FRAMES_IN_FLIGHT = 6
"""Frames of one animation that may be in memory at a time: being read, waiting, upscaled, waiting, written."""

_LR_BYTES = 16  # per LR pixel: decoded, as Pillow has it, and the network's input
_LR_BYTES_ALPHA = 64  # colour is bled under transparent pixels in float32


class Task:
    """One job while it runs.

    Args:
        job: one picture.
        options: of the run.
        budget: bytes of memory for all pictures in flight; a picture that would need more keeps its output in a file.
    """

    _upscaler: Upscaler  # once it is loaded

    def __init__(self, job: Planned, options: UpscaleOptions, budget: int) -> None:
        self.job, self.options, self.header = job, options, job.header
        self._seconds = dict.fromkeys(("read", "load", "waited"), 0.0)
        self._record: PictureRecord | None = None  # of the frames so far
        self._mark: Mark | None = None  # of what is read
        frames = min(self.header.frames, FRAMES_IN_FLIGHT)
        pixels = self.header.width * self.header.height
        self._lr_bytes = pixels * (_LR_BYTES_ALPHA if self.header.has_alpha else _LR_BYTES) * frames
        self._sr_bytes = self._count_sr_bytes() * frames
        folder = job.target.parent if isinstance(job.target, Path) else None
        self.store = ArrayStore(folder, mapped=self._lr_bytes + self._sr_bytes > budget)

    def _count_sr_bytes(self) -> int:
        """Bytes of the large arrays of one upscaled frame."""
        height, width = self.header.height * self.job.native_scale, self.header.width * self.job.native_scale
        pixels = self.job.out_size[0] * self.job.out_size[1]
        count = height * width * 3
        if (height, width) != self.job.out_size:
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
            FileError: if the target cannot be written.
            ImageError: if the source cannot be read or changes meanwhile, or its output will not fit on the disk.
        """
        job = self.job
        if isinstance(job.target, Path):
            check_target(job.target, overwrite=self.options.overwrite)
            check_disk(job, self._sr_bytes if self.store.mapped else 0)
        self._mark = make_mark(job, self.options)
        frames = read_frames(job.source, max_pixels=self.options.max_pixels, name=job.name, header=job.header)
        yield from self._timed("read", iter(frames))
        if make_mark(job, self.options) != self._mark:
            raise ImageError(f"{job.name}: has changed while it was read; try again")

    def _timed(self, step: str, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Take frames, and count the time that they take to come."""
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            self._seconds[step] += time.perf_counter() - start
            if frame is None:
                return
            yield frame
            del frame

    def tell_difference(self) -> Difference | None:
        """How an output that appeared meanwhile differs from this one."""
        assert isinstance(self.job.target, Path)
        try:
            return tell_difference(self.job.target, self._mark or make_mark(self.job, self.options))
        except ImageError:  # the input has gone
            return "input"

    def load(self, pool: UpscalerPool) -> None:
        """Have the model ready.

        Raises:
            WeightsError: if there is no checkpoint for this scale.
            DeviceError: if no engine runs it.
        """
        start = time.perf_counter()
        self._upscaler = pool.get(self.job.native_scale, self.job.model)
        self._seconds["load"] += time.perf_counter() - start

    def upscale(self, frame: Frame, progress: Progress) -> Frame:
        """Upscale one frame, once the model is loaded.

        Raises:
            DeviceError: if memory runs out, or the network gives values that are no numbers.
            OptionsError: if the options do not suit this picture.
            WeightsError: if the checkpoint has no such bit-width.
        """
        picture = frame.picture
        _, out_size = self.options.size.resolve(picture.size)  # the pages of a document may differ
        notes: list[str] = []
        twice = picture.alpha is not None and self.options.alpha == "network"
        progress, progress_alpha = in_turn(progress, 1, 1) if twice else (progress, None)
        with memory_errors(cure_here=CURE):
            rgb = picture.rgb if picture.alpha is None else bleed_colour(picture.rgb, picture.alpha)
            result = self._run_network(rgb, self.options.budget, progress)
            start = time.perf_counter()
            sr = self._finish(picture, result.image, out_size, notes, progress_alpha)
        record = replace(
            result.record,
            out_size=out_size,
            seconds={**result.record.seconds, "finish": time.perf_counter() - start},
            warnings=(*notes, *picture.warnings, *self._upscaler.engine.take_notes()),
        )
        self._record = record if self._record is None else self._record.with_frame(record)
        return Frame(sr, frame.duration_ms)

    def _run_network(self, rgb: U8, budget: float | None, progress: Progress | None) -> UpscaleResult:
        scale, options = self._upscaler.scale, self.options
        target = self.store.empty((rgb.shape[0] * scale, rgb.shape[1] * scale, 3))
        return self._upscaler.upscale(
            rgb, bits=options.bits, budget=budget, prefer=options.prefer, progress=progress, target=target
        )

    def _finish(
        self, picture: Picture, image: U8, out_size: tuple[int, int], notes: list[str], progress: Progress | None
    ) -> Picture:
        """Resize the native result to the size asked for, and give it its alpha and its deep samples."""
        if image.shape[:2] != out_size:
            size = f"{out_size[1]}x{out_size[0]}"
            notes.append(f"upscaled x{self._upscaler.scale} by the network, then resized to {size} with Lanczos")
            resized = self.store.empty((*out_size, 3))
            resize_into(image, resized)
            image = resized
        alpha = None
        if picture.has_alpha and self.options.alpha == "drop":
            notes.append("alpha dropped (`alpha=drop`)")
            picture = replace(picture, alpha=None, alpha_value=255)
        elif picture.alpha is not None:
            alpha = self._upscale_alpha(picture.alpha, out_size, progress)
        deep = None
        if picture.samples16 is not None:
            deep = self.store.empty((*out_size, *picture.samples16.shape[2:]), np.uint16)
            deepen_into(picture.samples16, image, deep)
        return picture.with_pixels(image, alpha=alpha, samples16=deep)

    def _upscale_alpha(self, alpha: U8, out_size: tuple[int, int], progress: Progress | None) -> U8:
        if self.options.alpha == "network":
            grey = np.ascontiguousarray(np.repeat(alpha[:, :, None], 3, axis=2))
            alpha = self._run_network(grey, None, progress).image[:, :, 1]
            if alpha.shape == out_size:
                return alpha
        resized: U8 = self.store.empty(out_size)
        resize_into(alpha, resized)
        return resized

    def write(self, frames: Iterator[Frame]) -> PictureRecord:
        """Encode the upscaled frames into the target, which appears when it is complete; the last step.

        Returns:
            What happened.

        Raises:
            GdqError: whatever ``frames`` raises, FileError if the output cannot be written, ImageError if its format
                cannot hold the picture.
        """
        job, options, start = self.job, self.options, time.perf_counter()
        timed = self._timed("waited", frames)
        feed = itertools.chain((next(timed),), timed)
        assert self._mark is not None  # since the first frame has come
        encoding = replace(job.encoding, mark=self._mark.line)
        how: dict[str, Any] = {"overwrite": options.overwrite, "threads": options.threads}
        if self.header.frames == 1:
            (frame,) = feed  # to its end, where faults of reading are told: nothing is published before
            notes = write_image(job.target, frame.picture, encoding, **how)
        else:
            notes = write_frames(job.target, feed, self.header, encoding, **how)
        spent = self._seconds
        seconds = time.perf_counter() - start - spent["waited"]
        assert self._record is not None
        return replace(
            self._record,
            name=job.name,
            target_name=job.target_name,
            model_reason=job.model_reason,
            frames=self.header.frames,
            seconds={"read": spent["read"], "load": spent["load"], **self._record.seconds, "write": seconds},
            warnings=tuple(dict.fromkeys((*job.notes, *self._record.warnings, *notes))),
        )
