"""What a run writes into its outputs about their making, and what it makes of files that are there: which of them are
outputs of which inputs, and whether the run would make the same. No torch here."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, Literal

from gdq_cli.errors import ImageError, WeightsError, system_errors
from gdq_cli.files import path_key
from gdq_cli.images import DEFAULT_QUALITY, FORMATS
from gdq_cli.images.mark import Mark, digest, fingerprint, read_mark
from gdq_cli.models.store import resolve
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.inputs import Found
from gdq_cli.runs.names import OutputNames

if TYPE_CHECKING:
    from gdq_cli.runs.plan import Planned

Difference = Literal["input", "options", "unknown"]
"""How an output differs from the one that a run would make: another picture or another state of it went into it, it was
made with other options or another model, or it bears no mark."""


def make_mark(job: Planned, options: UpscaleOptions) -> Mark:
    """The mark of an output. Equal for outputs with equal pixels and metadata of equally named inputs.

    Args:
        job: whose output it is.
        options: of the run.

    Raises:
        ImageError: if the input cannot be read.
    """
    encoding, format = job.encoding, job.format
    lossy = format in DEFAULT_QUALITY and not encoding.lossless
    facts = (
        _model_digest(job.model, job.native_scale),
        job.native_scale,
        job.out_size,
        options.bits,
        options.budget if options.prefer == "bits" else options.prefer,
        format,
        (encoding.quality or ("as the input" if format == "webp" else DEFAULT_QUALITY[format])) if lossy else None,
        encoding.lossless,
        encoding.strip_metadata,
        (options.alpha, None if FORMATS[format].alpha else encoding.background) if job.header.has_alpha else None,
    )
    with system_errors(ImageError, f"{job.name}: cannot be read"):
        source = fingerprint(job.source)
    return Mark(name_digest(job.name), source, digest(repr(facts).encode()))


def _model_digest(model: str, scale: int) -> str:
    """Of a checkpoint's content, whatever it is called; of one that is not here, of its name."""
    with suppress(WeightsError, OSError):
        path = resolve(model, scale, offline=True)
        return _file_digest(path, path.stat().st_mtime_ns)
    return digest(model.encode(errors="surrogateescape"))


@cache
def _file_digest(path: Path, changed: int) -> str:
    return fingerprint(path)


def tell_difference(target: Path, mark: Mark) -> Difference | None:
    """How the file that is there differs from the one that would bear ``mark``; None where it is the same."""
    found = read_mark(target)
    if found is None:
        return "unknown"
    if (found.name, found.source) != (mark.name, mark.source):
        return "input"
    return None if found == mark else "options"


def name_digest(name: str) -> str:
    """Of a file's name, without its folders, as marks hold it."""
    return digest(os.fsencode(PurePath(name).name))


def without_outputs(files: tuple[Found, ...], names: OutputNames) -> tuple[list[Found], int]:
    """Leave out what a run has made of others of these files: it must not be upscaled again.

    Marks tell; a file without one (another program may have packed it tighter) is an output if this run would give its
    name to one. Only files that were found in a folder or by a glob; what was named itself is meant.

    Returns:
        What is left, and how many were left out.
    """
    by_name: dict[str, list[Found]] = defaultdict(list)
    targets: dict[str, Found] = {}
    for found in files:
        by_name[name_digest(found.name)].append(found)
        with suppress(ImageError):  # a picture that cannot be read has no output
            if names.destination.file is None:
                targets[path_key(names.target(found), follow=False)] = found

    def is_output(found: Found) -> bool:
        mark = read_mark(found.path)
        if mark is None:
            return targets.get(path_key(found.path, follow=False), found) is not found
        sources = [other for other in by_name[mark.name] if other is not found]
        beside = any(other.path.parent == found.path.parent for other in sources)
        return beside or any(_is_source(other, mark) for other in sources)

    kept = [found for found in files if found.base is None or not is_output(found)]
    return kept, len(files) - len(kept)


def _is_source(found: Found, mark: Mark) -> bool:
    """Whether a file bears the mark of having been made of this one."""
    with suppress(OSError):
        return mark.name == name_digest(found.name) and mark.source == fingerprint(found.source)
    return False


class Targets:
    """Which input gets which output.

    An output belongs to the input that it was made of; one made of another file, here or not, is nobody else's.

    Args:
        files: all inputs of the run.
        names: by which outputs are called.
    """

    def __init__(self, files: Iterable[Found], names: OutputNames) -> None:
        self._names = names
        self._taken: dict[str, Path] = {}
        self._own: dict[Path, Path] = {}
        if names.destination.file is not None:
            return
        for found in files:
            with suppress(ImageError):  # a picture that cannot be read has no output
                target = self._made_of(found)
                if target is not None:
                    self._own[found.path] = target
                    self._taken[path_key(target)] = found.path

    def _candidates(self, found: Found) -> Iterator[Path]:
        """Names for the output, in order: its own, the one with the input's suffix kept, numbered ones."""
        yield self._names.target(found)
        for number in itertools.count(1):
            yield self._names.target(found, keep_suffix=True, number=number)

    def _made_of(self, found: Found) -> Path | None:
        """The first output that was made of this input, among those with its names."""
        for target in itertools.takewhile(os.path.exists, self._candidates(found)):
            mark = None if path_key(target) in self._taken else read_mark(target)
            if mark is not None and _is_source(found, mark):
                return target
        return None

    def choose(self, found: Found) -> tuple[Path | BinaryIO, tuple[str, ...]]:
        """The output of an input, and what to say about its name.

        Raises:
            ImageError: if the name depends on the picture, which cannot be read.
            OptionsError: as ``NameTemplate.render``.
        """
        if self._names.destination.file is not None:
            return self._names.destination.file, ()  # one input only, as choose_destination sees to
        first = self._names.target(found)
        free = (candidate for candidate in self._candidates(found) if self._is_free(candidate, found))
        target = self._own.get(found.path) or next(free)
        other = self._taken.get(path_key(first), "another picture")
        self._taken[path_key(target)] = found.path
        if target == first:
            return target, ()
        return target, (f"written as {target.name}, because {first.name} is the output of {other}",)

    def _is_free(self, target: Path, found: Found) -> bool:
        if path_key(target) in self._taken:
            return False
        mark = read_mark(target)
        return mark is None or mark.name == name_digest(found.name)
