"""Where pictures come from: paths, streams, pipes; and what to say when they cannot be read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from gdq_cli.errors import GdqError, ImageError
from gdq_cli.files import open_regular, why_missing
from gdq_cli.images.formats import READABLE
from gdq_cli.images.reading.guard import collect_warnings

Source = str | os.PathLike[str] | BinaryIO


def name_of(source: Source) -> str:
    """What messages call a source: its path, or the name of the stream."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


def buffered(stream: BinaryIO, name: str) -> BinaryIO:
    """A seekable stream of the same bytes, from where the stream stands."""
    try:
        if stream.seekable() and stream.tell() == 0:
            return stream
        return io.BytesIO(stream.read())
    except OSError as e:
        raise ImageError(f"{name}: cannot be read ({e.strerror or e})") from e


@contextmanager
def open_source(source: Source, name: str) -> Iterator[BinaryIO]:
    """Open a path or stream as a seekable stream at its start. Raises ImageError when that cannot be."""
    if isinstance(source, (str, os.PathLike)):
        with _open_path(Path(source), name) as stream:
            yield stream
    else:
        yield buffered(source, name)


def _open_path(path: Path, name: str) -> BinaryIO:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise ImageError(f"{name}: is a folder, not an image")
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise ImageError(f"{name}: is a device, not an image")
        if stat.S_ISFIFO(kind):  # whoever names one wants to wait for it
            return io.BytesIO(path.read_bytes())
        return open_regular(path)
    except FileNotFoundError as e:
        stdin = "; standard input is /dev/stdin" if name == "-" and os.path.exists("/dev/stdin") else ""
        raise ImageError(f"{name}: {why_missing(path)}{stdin}") from e
    except PermissionError as e:
        raise ImageError(f"{name}: no permission to read it") from e
    except (OSError, ValueError) as e:  # ValueError: a null character in the path
        raise ImageError(f"{name}: cannot be read ({getattr(e, 'strerror', None) or e})") from e


@contextmanager
def reported(name: str, notes: list[str], where: str = "") -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError, and its warnings into notes.

    The catch is wide on purpose: on damaged input Pillow and its codecs raise nearly every built-in exception, and all
    of them mean the same to the user.
    """
    with collect_warnings(notes):
        try:
            yield
        except GdqError:
            raise
        except Exception as e:
            raise ImageError(f"{name}: not a readable image ({where}{_reason(e)}); gdq reads {READABLE}") from e


_REASONS = (
    (("truncated", "not enough", "reached eof", "unexpected end", "missing dimensions"), "truncated file"),
    (("compression", "codec"), "unsupported compression"),
    (("mode", "layers", "layer images"), "unsupported pixel layout"),
)


def _reason(e: Exception) -> str:
    """A few words for a decoder's exception."""
    text = " ".join(str(e).split()).removesuffix(" when reading image file")
    if text.startswith("unsupported pixel layout"):
        return text
    if isinstance(e, MemoryError):
        return "not enough memory to decode it"
    if isinstance(e, (EOFError, IndexError)):  # a decoder takes a byte from what it read at the end of the file
        return "truncated file"
    if isinstance(e, Image.DecompressionBombError):
        return "a frame is larger than the picture"
    if isinstance(e, OSError) and e.errno is not None and e.strerror:
        return e.strerror.lower()
    for words, reason in _REASONS:
        if any(word in text.lower() for word in words):
            return reason
    return f"damaged data: {text}" if 0 < len(text) < 80 else "damaged data"
