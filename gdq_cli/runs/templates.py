"""What outputs are called: the template, its fields, and how it becomes a file name. No torch here."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from gdq_cli.errors import OptionsError
from gdq_cli.options import DEFAULT_SCALE, TargetSize

FIELDS = ("stem", "name", "ext", "scale", "width", "height", "model", "bits")
"""Fields of a template: the input's name without and with its suffix, the output's suffix without the dot, the factor,
the output's sides in pixels, the model's name, and ``bits`` or ``budget``."""

_FORMAT = re.compile(r"(?:0?[1-9])?d?")  # no width that takes a machine's memory
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f]")


def size_tag(size: TargetSize) -> str:
    """What the default name says about the size: ``x4``, ``w1920``, ``h1080`` or ``l2048``."""
    for letter, value in (("w", size.width), ("h", size.height), ("l", size.longest)):
        if value is not None:
            return f"{letter}{value}"
    return f"x{size.scale or DEFAULT_SCALE:g}"


class NameTemplate:
    """A checked template for output names.

    Args:
        text: with fields of ``FIELDS`` in braces, such as ``{stem}_{width}x{height}``. Unless it ends with ``.{ext}``,
            that is appended.

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
        if name.startswith(".") and not str(values["stem"]).startswith("."):
            raise OptionsError(f"`name` {self.text!r} gives {name!r}, which is hidden")
        return name


def escape(text: str) -> str:
    """Text that a template takes literally."""
    return text.replace("{", "{{").replace("}", "}}")


def choose_template(name: str | None, suffix: str | None, size: TargetSize) -> NameTemplate:
    """The template that ``name`` or ``suffix`` ask for, or the default ``{stem}_x4``.

    Raises:
        OptionsError: if both are given or one is not fit for a file name.
    """
    if name is not None and suffix is not None:
        raise OptionsError("`name` and `suffix` contradict each other; give one of them")
    if name is not None:
        return NameTemplate(name)
    return NameTemplate("{stem}" + (escape(suffix) if suffix is not None else f"_{size_tag(size)}"))
