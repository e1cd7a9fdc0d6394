"""What a run will do, decided before it starts: which picture goes where, what is skipped, what cannot work.

Everything a header tells is checked here, so that limits and clashes are known before the first pixel is computed.
No torch here.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from gdq_cli.errors import FileError, GdqError, ImageError, OptionsError, mebibytes
from gdq_cli.files import check_link, check_target, is_endless, path_key
from gdq_cli.images import (
    DEFAULT_QUALITY,
    FORMATS,
    ImageHeader,
    check_format_limits,
    default_format,
    probe_image,
)
from gdq_cli.models.choice import choose_model, describe_lack
from gdq_cli.models.store import must_download, native_scale, resolve
from gdq_cli.options import Encoding, UpscaleOptions
from gdq_cli.runs.inputs import Inputs
from gdq_cli.runs.marks import Difference, Targets, make_mark, tell_difference, without_outputs
from gdq_cli.runs.names import Destination, OutputNames, choose_format

_DISK_SHARE = {"png": 0.35, "jpg": 0.15, "webp": 0.1, "avif": 0.08, "tiff": 0.4}
"""Bytes of a typical upscaled photograph by bytes of its samples; formats without compression have 1."""

_LOSSY = ("jpg", "avif")


@dataclass(frozen=True)
class Job:
    """One picture of a run: where it comes from and where it goes.

    Attributes:
        source: file, or a stream of the whole standard input.
        name: what messages call the picture.
        target: file or stream.
        notes: for the user, about the choice of the name and of the scale.
        shown: what messages call the output, where ``target`` is not its last place.
    """

    source: Path | BinaryIO
    name: str
    target: Path | BinaryIO
    notes: tuple[str, ...] = ()
    shown: str = ""
    status: ClassVar[str]

    @property
    def target_name(self) -> str:
        """What messages call the output."""
        if self.shown:
            return self.shown
        name = self.target if isinstance(self.target, Path) else getattr(self.target, "name", None)
        return str(name) if isinstance(name, Path | str) and name != "<stdout>" else "standard output"

    @property
    def facts(self) -> tuple[Path | BinaryIO, str, Path | BinaryIO, tuple[str, ...], str]:
        """What every kind of job has."""
        return self.source, self.name, self.target, self.notes, self.shown

    def skipped(self, differs: Difference | None = None) -> Skipped:
        """The job if its output is there already."""
        return Skipped(*self.facts, differs=differs)

    def failed(self, error: GdqError) -> Failed:
        """The job if it cannot work."""
        return Failed(*self.facts, error=error)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys as in docs/cli.md."""
        return {"input": self.name, "output": self.target_name, "status": self.status, "error": None}


@dataclass(frozen=True, kw_only=True)
class Skipped(Job):
    """A picture whose output is there already.

    Attributes:
        differs: in what way the output is not the one that this run would make; None where it is.
    """

    status: ClassVar = "skipped"
    differs: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"differs": self.differs}


@dataclass(frozen=True, kw_only=True)
class Failed(Job):
    """A picture of which nothing comes.

    Attributes:
        error: why.
    """

    status: ClassVar = "failed"
    error: GdqError

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"output": None, "error": str(self.error)}


@dataclass(frozen=True, kw_only=True)
class Planned(Job):
    """A picture that will be upscaled.

    Attributes:
        header: what the source's header says.
        out_size: (H, W) of the output.
        model: that upscales it, and ``native_scale`` the scale at which it does.
        model_reason: what about the file chose the model; None where the user did.
        encoding: that of the options, its format settled.
    """

    status: ClassVar = "planned"
    header: ImageHeader
    out_size: tuple[int, int]
    model: str
    model_reason: str | None
    native_scale: int
    encoding: Encoding

    @property
    def format(self) -> str:
        """Of the output."""
        return self.encoding.format or ""

    @property
    def work(self) -> int:
        """LR pixels of all frames, for progress."""
        return self.header.width * self.header.height * self.header.frames

    @property
    def disk_bytes(self) -> int:
        """Estimated size of the output."""
        samples = self.out_size[0] * self.out_size[1] * (4 if self.header.has_alpha else 3) * self.header.frames
        deep = self.header.bit_depth > 8 and self.format in ("png", "tiff", "ppm")
        return int(samples * (2 if deep else 1) * _DISK_SHARE.get(self.format, 1.0))

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "in_size": [self.header.height, self.header.width],
            "out_size": list(self.out_size),
            "model": self.model,
            "model_reason": self.model_reason,
            "frames": self.header.frames,
            "output_bytes_estimate": self.disk_bytes,
        }


@dataclass(frozen=True)
class Plan:
    """All of a run.

    Attributes:
        jobs: in the order in which they run.
        ignored: hidden files and files that are no pictures, in the folders given.
        earlier: pictures in these folders that are outputs of this or an earlier run.
    """

    jobs: tuple[Planned | Skipped | Failed, ...]
    ignored: int = 0
    earlier: int = 0

    @property
    def planned(self) -> list[Planned]:
        """What there is to do."""
        return [job for job in self.jobs if isinstance(job, Planned)]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that outputs go to."""
        targets = [job.target for job in self.jobs if not isinstance(job, Failed)]
        return tuple(dict.fromkeys(target.parent for target in targets if isinstance(target, Path)))


def plan_batch(inputs: Inputs, options: UpscaleOptions, destination: Destination) -> Plan:
    """Decide names, find clashes, and check every header.

    Args:
        inputs: found by ``collect_inputs`` or ``read_stdin``.
        options: of the run.
        destination: of the outputs.

    Raises:
        OptionsError: if options are wrong for any picture (a template, a format).
        WeightsError: if the list of bundled models is damaged.
    """
    names = OutputNames(options, destination)
    files, earlier = without_outputs(inputs.files, names)
    sources = {path_key(found.source) for found in files if isinstance(found.source, Path)}
    jobs: list[Planned | Skipped | Failed] = []
    jobs += [Failed(Path(name), name, Path(name), error=error) for name, error in inputs.problems]
    targets = Targets(files, names)
    for found in files:
        job = Job(found.source, found.name, found.path)
        try:
            target, notes = targets.choose(found)
            job = replace(job, target=target, notes=notes)
            if isinstance(target, Path):
                _refuse_input(target, found.source, sources, options.overwrite)
                _check_place(target, options, destination)
        except (FileError, ImageError) as error:
            jobs.append(job.failed(error))
        else:
            jobs.append(plan_job(job, options, names.headers.get(found.path)))
    return Plan(tuple(jobs), inputs.ignored, earlier)


def _refuse_input(target: Path, source: Path | BinaryIO, sources: set[str], overwrite: bool) -> None:
    """An output never replaces its input, and with ``overwrite`` no other input of the run either."""
    own = False
    with suppress(OSError):
        own = isinstance(source, Path) and os.path.samefile(source, target)
    if own or (overwrite and path_key(target) in sources):
        what = "the input" if own else "another input"
        raise ImageError(f"{target}: the output would replace {what}; choose another `output` or `name`")


def _check_place(target: Path, options: UpscaleOptions, destination: Destination) -> None:
    """Refuse a place that no output can be written to. Raises FileError."""
    if destination.file is None:  # a name that nobody has typed
        check_link(target, destination.folder or target.parent)
    is_to_be_made = destination.folder is not None and not os.path.isdir(target.parent)
    if not (is_to_be_made or _is_done(target, options)):
        check_target(target, overwrite=options.overwrite)


def _is_done(target: Path, options: UpscaleOptions) -> bool:
    """Whether an output is there and stays."""
    return not options.overwrite and os.path.isfile(target)


def plan_again(job: Planned, options: UpscaleOptions) -> Planned | Skipped | Failed:
    """The job as it is now: minutes may lie between the plan and its turn, in which its picture may have changed."""
    try:
        if isinstance(job.source, Path) and is_endless(job.source):
            raise ImageError(f"{job.name}: has become a pipe or device")
        header = probe_image(job.source, max_pixels=options.max_pixels, name=job.name)
    except ImageError as error:
        return job.failed(error)
    return job if header == job.header else plan_job(Job(*job.facts), options, header)


def plan_job(job: Job, options: UpscaleOptions, header: ImageHeader | None = None) -> Planned | Skipped | Failed:
    """What is to be done for a picture whose output has its name, by its header, read here if need be.

    Raises:
        OptionsError, WeightsError: as of ``plan_batch``.
    """
    try:
        header = header or probe_image(job.source, max_pixels=options.max_pixels, name=job.name)
        planned = _plan_header(job, options, header)
        if isinstance(planned, Planned) and isinstance(job.target, Path) and _is_done(job.target, options):
            if not must_download(planned.model, planned.native_scale):
                resolve(planned.model, planned.native_scale)  # a wrong name is told although nothing runs
            return planned.skipped(tell_difference(job.target, make_mark(planned, options)))
    except ImageError as error:
        return job.failed(error)
    return planned


def _plan_header(job: Job, options: UpscaleOptions, header: ImageHeader) -> Planned | Failed:
    """The job of a picture whose output is still to be made."""
    in_stream = default_format(header.format, animated=header.animated)
    suffix = job.target.suffix if isinstance(job.target, Path) else in_stream
    format = choose_format(options.encoding.format, suffix, job.target)
    try:
        wanted, out_size = options.size.resolve((header.height, header.width))
        check_format_limits(format, out_size[1], out_size[0], frames=header.frames)
        _check_frames(format, header)
        if options.encoding.lossless and format in _LOSSY:
            raise OptionsError(f"{format} is never lossless here; use `format=webp`, png or tiff")
    except (ImageError, OptionsError) as error:  # of this picture; others may do
        return job.failed(type(error)(f"{job.name}: {error}"))
    model, reason = choose_model(options.model, header.compression)
    native = native_scale(model, wanted)
    if native != wanted:
        job = replace(job, notes=(*job.notes, describe_lack(model, wanted, native)))
    named_alike = options.encoding.format is None and Path(job.name).suffix == suffix
    if named_alike and header.compression.lossless and header.format != format in DEFAULT_QUALITY:
        told = f"is a {header.compression}, whatever its name says; {format} loses details that {in_stream} would keep"
        job = replace(job, notes=(*job.notes, told))
    return Planned(
        *job.facts,
        header=header,
        out_size=out_size,
        model=model,
        model_reason=reason,
        native_scale=native,
        encoding=replace(options.encoding, format=format),
    )


def _check_frames(format: str, header: ImageHeader) -> None:
    """Refuse an animation in a format for documents, and the other way round."""
    if header.frames > 1 and header.animated != FORMATS[format].animation:
        kind = "animations" if header.animated else "documents of several pages"
        raise ImageError(f"{format} holds no {kind}; use {'webp or png' if header.animated else 'tiff'}")


def check_disk(job: Planned, extra: int = 0) -> None:
    """Refuse a picture whose output will hardly fit on the disk.

    Args:
        job: to run.
        extra: bytes of temporary files in the same folder.

    Raises:
        ImageError: if the estimate exceeds the free space.
    """
    if not isinstance(job.target, Path):
        return
    folder = job.target.parent
    free = shutil.disk_usage(folder).free
    need = job.disk_bytes + extra
    if need > free:
        raise ImageError(
            f"{job.target}: the output takes about {mebibytes(need)} MiB, but {folder} has only {free >> 20} MiB free"
        )
