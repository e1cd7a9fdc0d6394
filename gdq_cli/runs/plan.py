"""What a run will do, decided before it starts: which picture goes where, what is skipped, what cannot work.

Everything a header tells is checked here, so that limits and clashes are known before the first pixel is computed.
No torch here.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, ClassVar

from gdq_cli.errors import GdqError, ImageError, OptionsError, WeightsError, mebibytes
from gdq_cli.files import check_link, check_target, is_stream, path_key
from gdq_cli.images import (
    FORMATS,
    ImageHeader,
    check_format_limits,
    default_format,
    find_format,
    probe_image,
)
from gdq_cli.models.choice import choose_model, describe_lack
from gdq_cli.models.store import must_download, native_scale, resolve
from gdq_cli.options import Encoding, UpscaleOptions
from gdq_cli.runs.inputs import Inputs
from gdq_cli.runs.marks import Difference, make_mark, tell_difference
from gdq_cli.runs.names import Destination, OutputNames, Targets, without_outputs

_DISK_SHARE = {"png": 0.35, "jpg": 0.15, "webp": 0.1, "avif": 0.08, "tiff": 0.4}
"""Bytes of a typical upscaled photograph by bytes of its samples; formats without compression have 1."""

_LOSSY = ("jpg", "avif")

STDIN = "standard input"


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

    def skipped(self, differs: Difference | None = None) -> Skipped:
        """The job if its output is there already."""
        return Skipped(self.source, self.name, self.target, self.notes, self.shown, differs=differs)

    def failed(self, error: GdqError) -> Failed:
        """The job if it cannot work."""
        return Failed(self.source, self.name, self.target, self.notes, self.shown, error=error)

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
    def work(self) -> int:
        """LR pixels of all frames, for progress."""
        return self.header.width * self.header.height * self.header.frames

    @property
    def disk_bytes(self) -> int:
        """Estimated size of the output."""
        samples = self.out_size[0] * self.out_size[1] * (4 if self.header.has_alpha else 3) * self.header.frames
        format = self.encoding.format or ""
        deep = self.header.bit_depth > 8 and format in ("png", "tiff", "ppm")
        return int(samples * (2 if deep else 1) * _DISK_SHARE.get(format, 1.0))

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
        inputs: found by ``collect_inputs``.
        options: of the run.
        destination: of the outputs.

    Raises:
        OptionsError: if options are wrong for any picture (a template, a format).
        WeightsError: if the list of bundled models is damaged.
    """
    names = OutputNames.of_run(options, destination)
    if options.encoding.format is not None:
        find_format(options.encoding.format)
    files, earlier = without_outputs(inputs.files, names)
    sources = {path_key(found.path) for found in files}
    jobs: list[Planned | Skipped | Failed] = []
    jobs += [Failed(Path(name), name, Path(name), error=error) for name, error in inputs.problems]
    targets = Targets(files, names)
    for found in files:
        job = Job(found.source, str(found.path), found.path)
        try:
            target, notes = targets.choose(found)
            job = replace(job, target=target, notes=notes)
            if isinstance(target, Path):
                _refuse_input(target, found.path, sources, options.overwrite)
                if destination.file is None:  # a name that nobody has typed
                    check_link(target, destination.folder or target.parent)
            jobs.append(_check_job(job, options, destination, names.headers.get(found.path)))
        except (OptionsError, WeightsError):
            raise
        except GdqError as error:
            jobs.append(job.failed(error))
    return Plan(tuple(jobs), inputs.ignored, earlier)


def plan_stream(source: bytes, options: UpscaleOptions, destination: Destination) -> Plan:
    """Plan the one picture of standard input. Errors as of ``plan_batch``."""
    stream = io.BytesIO(source)
    names = OutputNames.of_run(options, destination)
    job = Job(stream, STDIN, destination.file if destination.file is not None else Path("stdin"))
    try:
        header = probe_image(stream, max_pixels=options.max_pixels, name=STDIN)
        if destination.folder is not None:
            suffix = names.suffix(PurePath("stdin"), lambda: header)
            target = destination.folder / names.render("stdin", "stdin", suffix, lambda: header)
            check_link(target, destination.folder)
            job = replace(job, target=target)
        return Plan((_check_job(job, options, destination, header),))
    except (OptionsError, WeightsError):
        raise
    except GdqError as error:
        return Plan((job.failed(error),))


def plan_staged(jobs: Iterable[Job], options: UpscaleOptions) -> Plan:
    """Plan pictures whose outputs have their names already. Errors as of ``plan_batch``."""
    checked: list[Planned | Skipped | Failed] = []
    for job in jobs:
        try:
            checked.append(_check_job(job, options, Destination(), None))
        except (OptionsError, WeightsError):
            raise
        except GdqError as error:
            checked.append(job.failed(error))
    return Plan(tuple(checked))


def plan_again(job: Planned, options: UpscaleOptions) -> Planned | Skipped | Failed:
    """The job as it is now: minutes may lie between the plan and its turn, in which its picture may have changed."""
    try:
        if isinstance(job.source, Path) and is_stream(job.source):  # reading one might never end
            raise ImageError(f"{job.name}: has become a pipe or device")
        header = probe_image(job.source, max_pixels=options.max_pixels, name=job.name)
        if header == job.header:
            return job
        now = Job(job.source, job.name, job.target, job.notes, job.shown)
        return _check_job(now, options, Destination(), header)
    except GdqError as error:
        return job.failed(error)


def _refuse_input(target: Path, source: Path, sources: set[str], overwrite: bool) -> None:
    """An output never replaces its input, and with ``overwrite`` no other input of the run either."""
    own = path_key(target) == path_key(source)
    if own or (overwrite and path_key(target) in sources):
        what = "the input" if own else "another input"
        raise ImageError(f"{target}: the output would replace {what}; choose another `output` or `name`")


def _check_job(
    job: Job, options: UpscaleOptions, destination: Destination, header: ImageHeader | None
) -> Planned | Skipped | Failed:
    """What the header and the file system tell about a job. Raises GdqError if it cannot work."""
    target = job.target
    exists = isinstance(target, Path) and not options.overwrite and os.path.isfile(target)
    if isinstance(target, Path):
        if isinstance(job.source, Path) and _same_file(job.source, target):
            raise ImageError(f"{target}: the output would replace the input; choose another `output`")
        if not exists and (destination.folder is None or os.path.isdir(target.parent)):  # others are made by the run
            check_target(target, overwrite=options.overwrite)
    header = header or probe_image(job.source, max_pixels=options.max_pixels, name=job.name)
    format = output_format(target, options, header)
    try:
        wanted, out_size = options.size.resolve((header.height, header.width))
        check_format_limits(format, out_size[1], out_size[0], frames=header.frames)
        _check_frames(format, header)
        if options.encoding.lossless and format in _LOSSY:
            raise OptionsError(f"{format} is never lossless here; use `format=webp`, png or tiff")
    except OptionsError as error:  # of this picture; other sizes may do
        return job.failed(OptionsError(f"{job.name}: {error}"))
    except ImageError as error:
        raise ImageError(f"{job.name}: {error}") from error
    model, reason = choose_model(options.model, header.compression)
    native = native_scale(model, wanted)
    notes = job.notes if native == wanted else (*job.notes, describe_lack(model, wanted, native))
    planned = Planned(
        job.source,
        job.name,
        target,
        notes,
        job.shown,
        header=header,
        out_size=out_size,
        model=model,
        model_reason=reason,
        native_scale=native,
        encoding=replace(options.encoding, format=format),
    )
    if exists and isinstance(target, Path):
        if not must_download(model, native):
            resolve(model, native)  # a wrong name is told although nothing runs
        return planned.skipped(tell_difference(target, make_mark(planned, options)))
    return planned


def _check_frames(format: str, header: ImageHeader) -> None:
    """Refuse an animation in a format for documents, and the other way round."""
    if header.frames > 1 and header.animated != FORMATS[format].animation:
        kind = "animations" if header.animated else "documents of several pages"
        raise ImageError(f"{format} holds no {kind}; use {'webp or png' if header.animated else 'tiff'}")


def output_format(target: Path | BinaryIO, options: UpscaleOptions, header: ImageHeader) -> str:
    """The format by the options, else by the target's suffix, else (a stream) that of the input."""
    if options.encoding.format is not None:
        return find_format(options.encoding.format).name
    if isinstance(target, Path):
        if not target.suffix:
            raise OptionsError(
                f"`output` {target}: no such folder (end it with / to have it made), and no image suffix"
            )
        return find_format(target.suffix).name
    return default_format(header.format, animated=header.animated)


def _same_file(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:
        return False


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
