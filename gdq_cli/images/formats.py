"""The file formats: names, suffixes, how to recognise one by its first bytes, what each can hold."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePath

from PIL import features

from gdq_cli.errors import ImageError, OptionsError


@dataclass(frozen=True)
class Format:
    """What one file format is called and can hold."""

    name: str
    pillow: str
    suffixes: tuple[str, ...]
    """The first one is the usual one."""
    max_side: int
    """Longest side in pixels."""
    max_bytes: int | None = None
    """Largest uncompressed picture in bytes, for formats with 32-bit sizes."""
    writable: bool = True
    alpha: bool = False
    depth16: bool = False
    animation: bool = False
    pages: bool = False
    carries: frozenset[str] = frozenset()
    """Fields of ``Metadata`` that it carries."""


_OPTIONAL = {
    "avif": (
        "`pip install pillow>=11.3`",
        "PIL.AvifImagePlugin",
        "avif" in features.modules and features.check_module("avif"),
    ),
    "heic": ("`pip install pillow-heif`", "pillow_heif.HeifImagePlugin", find_spec("pillow_heif") is not None),
    "jxl": ("`pip install pillow-jxl-plugin`", "pillow_jxl", find_spec("pillow_jxl") is not None),
}
"""Formats that not every installation reads: what they need, the module that Pillow learns them from, is it here."""

_TAGS = frozenset({"exif", "icc", "xmp"})
_ALL = (
    Format(
        "png",
        "PNG",
        (".png", ".apng"),
        2**31 - 1,
        alpha=True,
        depth16=True,
        animation=True,
        carries=_TAGS | {"dpi", "aspect", "iptc", "png_chunks", "cicp"},
    ),
    # libjpeg's own limit; the format's 16-bit fields would allow 65535.
    Format(
        "jpg",
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        65500,
        carries=_TAGS | {"dpi", "aspect", "iptc", "comments"},
    ),
    Format("webp", "WEBP", (".webp",), 16383, alpha=True, animation=True, carries=_TAGS),
    Format(
        "tiff",
        "TIFF",
        (".tif", ".tiff"),
        2**31 - 1,
        alpha=True,
        depth16=True,
        pages=True,
        carries=_TAGS | {"dpi", "aspect", "iptc"},
    ),
    Format("bmp", "BMP", (".bmp", ".dib"), 2**31 - 1, max_bytes=2**32 - 2**16, carries=frozenset({"dpi"})),
    Format("gif", "GIF", (".gif",), 65535, writable=False, alpha=True, animation=True),
    Format("ppm", "PPM", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), 2**31 - 1, depth16=True),
    Format("avif", "AVIF", (".avif",), 65535, alpha=True, carries=_TAGS | {"cicp"}),
    Format("heic", "HEIF", (".heic", ".heif", ".hif"), 65535, writable=False, alpha=True),
    Format("jxl", "JXL", (".jxl",), 2**30 - 1, writable=False, alpha=True),
)
FORMATS: dict[str, Format] = {f.name: f for f in _ALL if f.name not in _OPTIONAL or _OPTIONAL[f.name][2]}
"""The formats that this installation reads, by name."""

IMAGE_SUFFIXES: frozenset[str] = frozenset(suffix for format in FORMATS.values() for suffix in format.suffixes)
"""Lower-case suffixes, with the dot, of files that gdq takes for pictures when it looks through a folder."""


def register(format: Format) -> None:
    """Have Pillow know an optional format. Raises ImportError where the package for it is broken."""
    if format.name in _OPTIONAL:
        importlib.import_module(_OPTIONAL[format.name][1])


def title_of_format(name: str) -> str:
    """What messages call a format."""
    return {"jpg": "JPEG", "webp": "WebP", "jxl": "JPEG XL"}.get(name, name.upper())


READABLE = ", ".join(title_of_format(name) for name in FORMATS)
WRITABLE = tuple(name for name, format in FORMATS.items() if format.writable)

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpg"),
    (8, b"WEBP", "webp"),
    (0, b"II\x2a\x00", "tiff"),
    (0, b"MM\x00\x2a", "tiff"),
    (0, b"II\x2b\x00", "tiff"),
    (0, b"MM\x00\x2b", "tiff"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypavis", "avif"),
    *((4, b"ftyp" + brand, "heic") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\x00\x00\x00\x0cJXL ", "jxl"),
    (0, b"BM", "bmp"),
    *((0, b"P" + kind, "ppm") for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"f")),
)
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypcrx", "camera raw"),
    (4, b"ftyp", "video"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"PF\n", "colour PFM"),
    (0, b"PF ", "colour PFM"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"PK\x03\x04", "archive"),
    (0, b"\x1f\x8b", "archive"),
)


def sniff_format(head: bytes) -> str | None:
    """Name of the format of a file whose first bytes (32 suffice) are ``head``; None when it is none that gdq reads."""
    name = _recognise(head)
    return name if name in FORMATS else None


def _recognise(head: bytes) -> str | None:
    name = next((name for at, magic, name in _MAGIC if head[at : at + len(magic)] == magic), None)
    if name == "webp" and not head.startswith(b"RIFF"):
        return None
    if head[4:12] in (b"ftypmif1", b"ftypmsf1") and b"avi" in head[16:]:
        name = "avif"  # the general brand first, what it really is among the compatible ones
    return name


def name_foreign(head: bytes) -> str | None:
    """Why a file that ``sniff_format`` does not know is not read, for the error message; None for unknown ones."""
    if name := _recognise(head):
        return f"{title_of_format(name)} is read after {_OPTIONAL[name][0]}"
    foreign = next((name for at, magic, name in _FOREIGN if head[at : at + len(magic)] == magic), None)
    return f"{foreign} is not supported" if foreign else None


def find_format(name: str) -> Format:
    """The writable format of a name (``png``, ``jpg``, ``jpeg``, ``tif``, ``.webp``, ...), in any case.

    Raises:
        OptionsError: the name is unknown, or gdq does not write that format.
    """
    key = name.lower().lstrip(".")
    found = FORMATS.get(key) or format_of_suffix("." + key)
    if found is None or not found.writable:
        raise OptionsError(f"gdq does not write {name!r}; choose one of {', '.join(WRITABLE)}")
    return found


def format_of_suffix(name: str | PurePath) -> Format | None:
    """The format that a file name's suffix (or a bare suffix such as ``.jpg``) stands for; None for any other."""
    path = PurePath(name)
    suffix = path.suffix or path.name
    return next((format for format in FORMATS.values() if suffix.lower() in format.suffixes), None)


def suffix_of_format(name: str) -> str:
    """The usual suffix, with the dot, of a format that gdq writes. Raises OptionsError as ``find_format`` does."""
    return find_format(name).suffixes[0]


def is_image_name(name: str | PurePath) -> bool:
    """Whether a file's name ends like a picture's and is not hidden (so neither ``._x.jpg`` nor a ``.part`` file)."""
    path = PurePath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def default_format(source: str, *, animated: bool = False) -> str:
    """The format to write for a source format, both names: the same, but GIF becomes PNG (WebP when animated).

    GIF's 256 colours would undo the upscaling, and animated PNG is several times the size of animated WebP. An
    animation of a format that gdq writes only still pictures of becomes WebP too.
    """
    format = FORMATS[source]
    if animated and not (format.animation and format.writable):
        return "webp"
    return source if format.writable else "png"


def check_format_limits(name: str, width: int, height: int, *, frames: int = 1) -> None:
    """Refuse an output that its format cannot hold, before any work goes into it.

    Args:
        name: of the output format, as ``find_format`` takes it.
        width: of the output, pixels.
        height: of the output, pixels.
        frames: pictures in one file.

    Raises:
        ImageError: a side is too long, the file would be too large, or the format holds one picture only.
        OptionsError: the format is unknown.
    """
    format = find_format(name)
    if max(width, height) > format.max_side:
        others = [other.name for other in FORMATS.values() if other.writable and other.max_side >= max(width, height)]
        raise ImageError(
            f"{format.name} holds at most {format.max_side} pixels a side, the output would be {width} x {height}; "
            f"use {' or '.join(name for name in ('png', 'tiff') if name in others) or 'a smaller scale'}"
        )
    if format.max_bytes is not None and width * height * 3 > format.max_bytes:
        raise ImageError(f"{format.name} holds at most 4 GiB, the output would be {width} x {height}; use png or tiff")
    if frames > 1 and not (format.animation or format.pages):
        raise ImageError(
            f"{format.name} holds one picture, this output has {frames}; use tiff for pages, webp or png for frames"
        )
