"""Where the outputs of a run go and what they are called: templates, their fields, and names by them. No torch here."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from gdq_cli.errors import FileError, ImageError, OptionsError, system_errors
from gdq_cli.files import announced, is_stream, user_path, why_missing
from gdq_cli.images import (
    ImageHeader,
    default_format,
    find_format,
    format_of_suffix,
    is_image_name,
    probe_image,
    suffix_of_format,
)
from gdq_cli.models.choice import choose_model
from gdq_cli.options import AUTO_MODEL, TargetSize, UpscaleOptions
from gdq_cli.places import Place, parse_place
from gdq_cli.runs.inputs import Found, Inputs

FIELDS = ("stem", "name", "ext", "scale", "width", "height", "model", "bits")
"""Fields of a template: the input's name without and with its suffix, the output's suffix without the dot, the factor,
the output's sides in pixels, the model's name, and ``bits`` or ``budget``."""

_FORMAT = re.compile(r"(?:0?[1-9])?d?")  # no width that takes a machine's memory
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f]")

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
        FileError: if a pipe or device cannot be opened, or a folder is given as an address of this machine.
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
        waiting = announced(say, f"{output} is a pipe; waiting for its reader")
        with system_errors(FileError, f"{output}: cannot be written"), waiting:
            return Destination(file=path.open("wb"))
    if is_folder(parse_place(output), output, count, one_file=inputs.one_file):
        missing = "no such folder"
        if not os.path.exists(path) and (why := why_missing(output, missing)) != missing:
            raise FileError(f"{output}: {why}")
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


class NameTemplate:
    """A checked template for output names.

    Args:
        text: with fields of ``FIELDS`` in braces, such as ``{stem}_{width}x{height}``. Unless it ends with the suffix
            or with ``.{ext}``, that is appended.

    Raises:
        OptionsError: unknown field, unbalanced brace, a path separator or control character.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise OptionsError(f"`name` {text!r}: {error}; a literal brace is written twice") from error
        fields = [field for _, field, _, _ in parsed if field is not None]
        unknown = [field for field in fields if field not in FIELDS]
        if unknown:
            known = ", ".join("{" + field + "}" for field in FIELDS)
            raise OptionsError(f"`name` {text!r}: there is no field {{{unknown[0]}}}; known are {known}")
        if any(conversion or not _FORMAT.fullmatch(spec or "") for _, _, spec, conversion in parsed):
            raise OptionsError(f"`name` {text!r}: the one format is a number of digits, up to 9, such as {{width:05d}}")
        if not text or _FORBIDDEN.search("".join(literal for literal, _, _, _ in parsed)):
            raise OptionsError(f"`name` {text!r}: a file name, without / or \\; folders are chosen by `output`")
        self.fields = frozenset(fields)
        self._full = text if text.endswith(".{ext}") else text + ".{ext}"

    def render(self, values: Mapping[str, str | int | float]) -> str:
        """The file name for one picture.

        Args:
            values: one for each field that the template uses, and ``ext``.

        Raises:
            OptionsError: if a format does not suit its value, or hides the file, which was not hidden.
        """
        try:
            name = self._full.format_map(values)
        except (ValueError, TypeError) as error:
            raise OptionsError(f"`name` {self.text!r}: {error}") from error
        suffix = f".{values['ext']}"
        if self.text.lower().endswith(suffix.lower()):
            name = name.removesuffix(suffix)
        if name.startswith(".") and not str(values["stem"]).startswith("."):
            raise OptionsError(f"`name` {self.text!r} gives {name!r}, which is hidden")
        return name


def choose_template(name: str | None, suffix: str | None, size: TargetSize) -> NameTemplate:
    """The template that ``name`` or ``suffix`` ask for, or the default: ``{stem}_x4``, ``{stem}_w1920`` and so on.

    Raises:
        OptionsError: if both are given or one is not fit for a file name.
    """
    if name is not None and suffix is not None:
        raise OptionsError("`name` and `suffix` contradict each other; give one of them")
    if name is not None:
        return NameTemplate(name)
    if suffix is None:
        lengths = (("w", size.width), ("h", size.height), ("l", size.longest))
        suffix = next((f"_{side}{length}" for side, length in lengths if length is not None), f"_x{size.factor:g}")
    return NameTemplate("{stem}" + suffix.replace("{", "{{").replace("}", "}}"))


class OutputNames:
    """Names of the outputs of one run, and the headers that were read to find them.

    Raises:
        OptionsError: as ``choose_template``; also if gdq does not write the format, or options contradict the one file
            that is the output.
    """

    def __init__(self, options: UpscaleOptions, destination: Destination) -> None:
        self.options, self.destination = options, destination
        self.template = choose_template(options.name, options.suffix, options.size)
        self.headers: dict[Path, ImageHeader] = {}
        file, format = destination.file, options.encoding.format
        if file is not None and (options.name is not None or options.suffix is not None):
            given = "name" if options.name is not None else "suffix"
            raise OptionsError(f"`output` names the one output itself, so it contradicts `{given}`")
        chosen = None if format is None else find_format(format)
        if chosen is not None and isinstance(file, Path) and format_of_suffix(file) not in (None, chosen):
            raise OptionsError(f"`output` {file} and `format={format}` contradict each other; give one of them")

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
