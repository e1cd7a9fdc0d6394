"""Where the outputs of a run go and what they are called; which inputs are outputs of an earlier run. No torch here."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO

from gdq_cli.errors import GdqError, ImageError, OptionsError
from gdq_cli.images import ImageHeader, default_format, format_of_suffix, is_image_name, probe_image, suffix_of_format
from gdq_cli.models.choice import choose_model
from gdq_cli.options import AUTO_MODEL, UpscaleOptions
from gdq_cli.runs.inputs import Found, Inputs
from gdq_cli.runs.templates import NameTemplate, choose_template, stem_of_output

_STILL_SUFFIXES = {".mpo": ".jpg", ".pbm": ".ppm", ".pfm": ".ppm"}
"""Suffixes that promise what gdq does not write; the format itself is written."""


@dataclass(frozen=True)
class Destination:
    """Where outputs go: beside the inputs (neither is set), into a folder, or to one file or stream."""

    folder: Path | None = None
    file: Path | BinaryIO | None = None


def choose_destination(output: str | None, stdout: BinaryIO, inputs: Inputs | None) -> Destination:
    """What ``output`` means for these inputs (None: standard input).

    Raises:
        OptionsError: if one file is to hold several pictures, or its suffix is of no format that gdq writes.
    """
    if output is None:
        return Destination()
    one = inputs is None or inputs.one_file
    count = 1 if inputs is None else len(inputs.files) + len(inputs.problems)
    if output == "-":
        if count != 1:
            raise OptionsError("`output` - is one picture; give exactly one input")
        return Destination(file=stdout)
    path = Path(output).expanduser()
    if path.is_dir() or output.endswith(("/", os.sep)):
        return Destination(folder=path)
    if one or (count == 1 and is_image_name(path)):
        return Destination(file=path)
    if path.exists() or is_image_name(path):
        raise OptionsError(f"`output` {output} is one file, but there are {count} inputs; give a folder")
    return Destination(folder=path)


@dataclass
class OutputNames:
    """Names of the outputs of one run, and the headers that were read to find them."""

    options: UpscaleOptions
    destination: Destination
    template: NameTemplate
    headers: dict[Path, ImageHeader] = field(default_factory=dict)

    @classmethod
    def of_run(cls, options: UpscaleOptions, destination: Destination) -> OutputNames:
        """By the options or the default. Raises OptionsError as ``choose_template``."""
        return cls(options, destination, choose_template(options.name, options.suffix, options.size))

    def probe(self, path: Path) -> ImageHeader:
        if path not in self.headers:
            self.headers[path] = probe_image(path, max_pixels=self.options.max_pixels)
        return self.headers[path]

    def suffix(self, source: PurePath, header: ImageHeader | None = None) -> str:
        """The suffix of an output, with the dot."""
        if self.options.encoding.format is not None:
            return suffix_of_format(self.options.encoding.format)
        found = format_of_suffix(source) if source.suffix else None
        if found is not None and found.name not in ("gif", "avif"):
            return _STILL_SUFFIXES.get(source.suffix.lower(), source.suffix)
        # GIF and AVIF may be animated, which decides the format; a file of unknown suffix may be anything.
        header = header or self.probe(Path(source))
        name = default_format(header.format, animated=header.animated)
        if found is not None and found.name == name:
            return source.suffix
        return suffix_of_format(name)

    def target(self, found: Found, *, keep_suffix: bool = False, number: int = 1) -> Path:
        """The output's path.

        Args:
            found: the input.
            keep_suffix: put the input's whole name where the template has its stem.
            number: of outputs that would have this name, from 1.
        """
        path = found.path
        suffix = self.suffix(path)
        name = self.render(path.name if keep_suffix else path.stem, path.name, suffix, lambda: self.probe(path))
        if number > 1:
            name = f"{name.removesuffix(suffix)}-{number}{suffix}"
        folder = path.parent if self.destination.folder is None else self.destination.folder / found.below
        return folder / name

    def render(self, stem: str, name: str, suffix: str, header: Callable[[], ImageHeader]) -> str:
        """The name by the template; ``header`` is called where the template needs it."""
        options = self.options
        values: dict[str, str | int | float] = {
            "stem": stem,
            "name": name,
            "ext": suffix[1:],
            "model": Path(options.model).stem,
            "bits": options.bits if options.budget is None else f"{options.budget:g}",
        }
        if options.model == AUTO_MODEL and "model" in self.template.fields:
            values["model"] = choose_model(options.model, header().compression)[0]
        size = options.size
        by_size = self.template.needs_size or not size.is_factor
        if by_size and self.template.fields & {"scale", "width", "height"}:
            found = header()
            try:
                _, (height, width) = size.resolve((found.height, found.width))
            except OptionsError as error:
                raise ImageError(f"{name}: {error}") from error
            values |= {"scale": f"{width / found.width:.4g}", "width": width, "height": height}
        if size.is_factor:
            values["scale"] = f"{size.factor:g}"
        return self.template.render(values)


def path_key(path: Path) -> str:
    """Equal for paths that are the same file on this system, as far as their names tell."""
    absolute = os.path.abspath(path)
    return absolute.casefold() if sys.platform in ("darwin", "win32") else absolute


def without_outputs(files: tuple[Found, ...], names: OutputNames) -> tuple[list[Found], int]:
    """Leave out what an earlier run has written: the same command, repeated, must not upscale its own outputs.

    Only files that were found in a folder or by a glob; what was named itself is meant.
    """
    if names.destination.file is not None:
        return list(files), 0
    outputs: dict[str, set[str]] = {}
    stems = {(str(found.path.parent), stem) for found in files for stem in (found.path.stem, found.path.name)}
    for found in files:
        for keep_suffix in (False, True):
            with suppress(GdqError):  # a picture that cannot be read has no output
                target = names.target(found, keep_suffix=keep_suffix)
                outputs.setdefault(path_key(target), set()).add(path_key(found.path))
    kept = []
    for found in files:
        by_this_command = bool(outputs.get(path_key(found.path), set()) - {path_key(found.path)})
        stem = stem_of_output(found.path.stem) if names.options.name is None and names.options.suffix is None else None
        by_another_scale = stem is not None and (str(found.path.parent), stem) in stems
        if not (found.listed and (by_this_command or by_another_scale)):
            kept.append(found)
    return kept, len(files) - len(kept)


def free_target(found: Found, names: OutputNames, taken: dict[str, Path]) -> tuple[Path | BinaryIO, tuple[str, ...]]:
    """A target that no picture before this one has: its own, else with the input's suffix kept, else numbered."""
    if names.destination.file is not None:
        return names.destination.file, ()  # one input only, as choose_destination sees to
    first = names.target(found)
    targets: Iterator[Path] = itertools.chain(
        [first], (names.target(found, keep_suffix=True, number=number) for number in itertools.count(1))
    )
    target = next(target for target in targets if path_key(target) not in taken)
    other = taken.get(path_key(first))
    taken[path_key(target)] = found.path
    if other is None:
        return target, ()
    return target, (f"written as {target.name}, because {first.name} is the output of {other}",)
