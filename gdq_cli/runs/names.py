"""Where the outputs of a run go and what they are called; which files are outputs of which inputs. No torch here."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO

from gdq_cli.errors import FileError, ImageError, OptionsError
from gdq_cli.files import announced, is_stream, path_key, user_path
from gdq_cli.images import (
    ImageHeader,
    default_format,
    find_format,
    format_of_suffix,
    is_image_name,
    probe_image,
    suffix_of_format,
)
from gdq_cli.images.mark import Mark, digest, fingerprint, read_mark
from gdq_cli.models.choice import choose_model
from gdq_cli.options import AUTO_MODEL, UpscaleOptions
from gdq_cli.places import Place, parse_place
from gdq_cli.runs.inputs import Found, Inputs
from gdq_cli.runs.templates import NameTemplate, choose_template

_STILL_SUFFIXES = {".mpo": ".jpg", ".pbm": ".ppm", ".pfm": ".ppm"}
"""Suffixes that promise what gdq does not write; the format itself is written."""


@dataclass(frozen=True)
class Destination:
    """Where outputs go: beside the inputs (neither is set), into a folder, or to one file or stream."""

    folder: Path | None = None
    file: Path | BinaryIO | None = None


def choose_destination(
    output: str | None, stdout: BinaryIO, inputs: Inputs, say: Callable[[str], None] = lambda text: None
) -> Destination:
    """What ``output`` means for these inputs. A pipe or device is opened.

    Args:
        output: as given; ``-`` is ``stdout``.
        stdout: the stream.
        inputs: of the run.
        say: told what is being waited for.

    Raises:
        FileError: if a pipe or device cannot be opened.
        OptionsError: if one file is to hold several pictures, or its suffix is of no format that gdq writes.
    """
    if output is None:
        return Destination()
    count = len(inputs.files) + len(inputs.problems)
    if output == "-":
        if count != 1:
            raise OptionsError("`output` - is one picture; give exactly one input")
        return Destination(file=stdout)
    path = user_path(output)
    if is_stream(path):
        if count != 1:
            raise OptionsError(f"`output` {output} is no folder, and there are {count} inputs; give exactly one")
        try:
            with announced(say, f"{output} is a pipe; waiting for its reader"):
                return Destination(file=path.open("wb"))
        except OSError as error:
            raise FileError(f"{output}: cannot be written ({error.strerror or error})") from error
    if is_folder(parse_place(output), output, count, one_file=inputs.one_file):
        return Destination(folder=path)
    return Destination(file=path)


def is_folder(place: Place, output: str, count: int, *, one_file: bool) -> bool:
    """Whether outputs go into ``output``, there or to be made, or it is the one output itself.

    Args:
        place: that it names.
        output: as given.
        count: of inputs, whatever comes of them.
        one_file: a single file was named, nothing else.

    Raises:
        OptionsError: if one file is to hold several pictures.
    """
    kind, is_picture = place.kind(), is_image_name(place.name)
    if kind == "folder" or output.endswith(("/", os.sep)):
        return True
    if one_file or (count == 1 and is_picture):
        return False
    if kind == "file" or is_picture:
        raise OptionsError(f"`output` {place} is one file, but there are {count} inputs; give a folder")
    return True


def choose_format(format: str | None, suffix: str, output: object) -> str:
    """The name of the format that is asked for, or of the output's suffix.

    Raises:
        OptionsError: if gdq does not write it, or there is neither.
    """
    if format is None and not suffix:
        raise OptionsError(f"`output` {output}: no such folder (end it with / to have it made), and no image suffix")
    return find_format(suffix if format is None else format).name


@dataclass
class OutputNames:
    """Names of the outputs of one run, and the headers that were read to find them."""

    options: UpscaleOptions
    destination: Destination
    template: NameTemplate
    headers: dict[Path, ImageHeader] = field(default_factory=dict)

    @classmethod
    def of_run(cls, options: UpscaleOptions, destination: Destination) -> OutputNames:
        """By the options or the default.

        Raises:
            OptionsError: as ``choose_template``; also if gdq does not write the format, or options contradict the one
                file that is the output.
        """
        template = choose_template(options.name, options.suffix, options.size)
        file, format = destination.file, options.encoding.format
        if file is not None and (options.name is not None or options.suffix is not None):
            given = "name" if options.name is not None else "suffix"
            raise OptionsError(f"`output` names the one output itself, so it contradicts `{given}`")
        chosen = None if format is None else find_format(format)
        if chosen is not None and isinstance(file, Path) and format_of_suffix(file) not in (None, chosen):
            raise OptionsError(f"`output` {file} and `format={format}` contradict each other; give one of them")
        return cls(options, destination, template)

    def probe(self, found: Found) -> ImageHeader:
        if found.path not in self.headers:
            limit = self.options.max_pixels
            self.headers[found.path] = probe_image(found.source, max_pixels=limit, name=found.name)
        return self.headers[found.path]

    def _suffix(self, source: PurePath, header: Callable[[], ImageHeader]) -> str:
        """The suffix of an output, with the dot; ``header`` is called where the input's name does not tell."""
        if self.options.encoding.format is not None:
            return suffix_of_format(self.options.encoding.format)
        found = format_of_suffix(source) if source.suffix else None
        if found is not None and found.name not in ("gif", "avif"):
            return _STILL_SUFFIXES.get(source.suffix.lower(), source.suffix)
        # GIF and AVIF may be animated, which decides the format; a file of unknown suffix may be anything.
        name = default_format(header().format, animated=header().animated)
        if found is not None and found.name == name:
            return source.suffix
        return suffix_of_format(name)

    def target(self, found: Found, *, keep_suffix: bool = False, number: int = 1) -> Path:
        """The output's path. Arguments as of ``name``."""
        path = found.path
        if found.stream is not None and self.destination.folder is None:
            raise ImageError(f"{path}: is a pipe, and beside it is no place for a file; give `output`")
        folder = path.parent if self.destination.folder is None else self.destination.folder / found.below
        return folder / self.name(path, lambda: self.probe(found), keep_suffix=keep_suffix, number=number)

    def name(
        self, source: PurePath, header: Callable[[], ImageHeader], *, keep_suffix: bool = False, number: int = 1
    ) -> str:
        """The output's name.

        Args:
            source: the input.
            header: called where the input's name does not tell enough; see ``needs_header``.
            keep_suffix: put the input's whole name where the template has its stem.
            number: of outputs that would have this name, from 1.
        """
        suffix = self._suffix(source, header)
        options, size = self.options, self.options.size
        values: dict[str, str | int | float] = {
            "stem": source.name if keep_suffix else source.stem,
            "name": source.name,
            "ext": suffix[1:],
            "model": Path(options.model).stem,
            "bits": options.bits if options.budget is None else f"{options.budget:g}",
        }
        if self._needs_model:
            values["model"] = choose_model(options.model, header().compression)[0]
        if self._needs_size:
            found = header()
            try:
                _, (height, width) = size.resolve((found.height, found.width))
            except OptionsError as error:
                raise ImageError(f"{source.name}: {error}") from error
            values |= {"scale": f"{width / found.width:.4g}", "width": width, "height": height}
        if size.is_factor:
            values["scale"] = f"{size.factor:g}"
        name = self.template.render(values)
        return name if number == 1 else f"{name.removesuffix(suffix)}-{number}{suffix}"

    @property
    def needs_header(self) -> bool:
        """Whether the template's values depend on what is in each file."""
        return self._needs_model or self._needs_size

    @property
    def _needs_model(self) -> bool:
        return self.options.model == AUTO_MODEL and "model" in self.template.fields

    @property
    def _needs_size(self) -> bool:
        by_size = {"width", "height"} if self.options.size.is_factor else {"scale", "width", "height"}
        return not by_size.isdisjoint(self.template.fields)


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

    def made_of(mark: Mark, found: Found) -> bool:
        sources = [other for other in by_name[mark.name] if other is not found]
        beside = any(other.path.parent == found.path.parent for other in sources)
        return beside or any(_is_source(other, mark) for other in sources)

    kept = []
    for found in files:
        mark = read_mark(found.path) if found.listed else None
        is_target = found.listed and targets.get(path_key(found.path, follow=False), found) is not found
        if not (is_target if mark is None else made_of(mark, found)):
            kept.append(found)
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
                target = next(filter(None, self._made_of(found)), None)
                if target is not None:
                    self._own[found.path] = target
                    self._taken[path_key(target)] = found.path

    def _candidates(self, found: Found) -> Iterator[Path]:
        """Names for the output, in order: its own, the one with the input's suffix kept, numbered ones."""
        yield self._names.target(found)
        for number in itertools.count(1):
            yield self._names.target(found, keep_suffix=True, number=number)

    def _made_of(self, found: Found) -> Iterator[Path | None]:
        """Outputs that were made of this input, among those with its names."""
        for target in itertools.takewhile(os.path.exists, self._candidates(found)):
            mark = read_mark(target)
            if mark is not None and path_key(target) not in self._taken:
                yield target if _is_source(found, mark) else None

    def choose(self, found: Found) -> tuple[Path | BinaryIO, tuple[str, ...]]:
        """The output of an input, and what to say about its name.

        Raises:
            ImageError: if the name depends on the picture, which cannot be read.
            OptionsError: as ``OutputNames.render``.
        """
        if self._names.destination.file is not None:
            return self._names.destination.file, ()  # one input only, as choose_destination sees to
        first = self._names.target(found)
        target = self._own.get(found.path) or next(filter(partial(self._is_free, found), self._candidates(found)))
        other = self._taken.get(path_key(first), "another picture")
        self._taken[path_key(target)] = found.path
        if target == first:
            return target, ()
        return target, (f"written as {target.name}, because {first.name} is the output of {other}",)

    def _is_free(self, found: Found, target: Path) -> bool:
        mark = None if path_key(target) in self._taken else read_mark(target)
        return path_key(target) not in self._taken and (mark is None or mark.name == name_digest(found.name))
