"""Pillow's process-wide switches, held still while a thread of ours reads a picture.

Pillow reports doubts with ``warnings.warn`` and refuses large pictures by one global number. Neither suits a library
whose threads read pictures side by side: a warning belongs to the picture that caused it, and gdq has its own pixel
limit. ``warnings.catch_warnings`` swaps global state and is not safe across threads; the counted swap below is.
libtiff, which Pillow wraps, writes its complaints straight to stderr; it is told not to for as long.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from PIL import Image

# Pillow logs some refusals as errors; without any handler Python would print them on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class _Notes(threading.local):
    current: list[str] | None = None


_notes = _Notes()
_lock = threading.Lock()
_readers = 0
_saved_show: Callable[..., None] = warnings.showwarning
_saved_filters: warnings.catch_warnings[None] | None = None
_restore_libtiff: Callable[[], None] | None = None
_lifters = 0
_saved_limit: int | None = None


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Stands in for ``warnings.showwarning``: a reading thread keeps its warnings, others are treated as usual."""
    if _notes.current is None:
        _saved_show(message, category, filename, lineno, file, line)
    elif (text := " ".join(str(message).split())) not in _notes.current:
        _notes.current.append(text)


def _silence_libtiff() -> Callable[[], None] | None:
    """Take away libtiff's message handlers; what is returned puts them back. None where they are out of reach."""
    try:
        # Looks through the libraries that Pillow's own is linked to as well.
        library = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__)
        setters = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
    except (AttributeError, ImportError, OSError):  # a Pillow without libtiff, or with it linked in (Windows)
        return None
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    before = [setter(None) for setter in setters]

    def restore() -> None:
        for setter, handler in zip(setters, before, strict=True):
            setter(handler)

    return restore


@contextmanager
def collect_warnings(notes: list[str]) -> Iterator[None]:
    """Add the warnings that Pillow raises in this thread to ``notes``, one line each, instead of printing them."""
    global _readers, _saved_show, _saved_filters, _restore_libtiff
    with _lock:
        if _readers == 0:
            _saved_filters = warnings.catch_warnings()
            _saved_filters.__enter__()
            warnings.filterwarnings("always", module=r"PIL\.")
            _saved_show = warnings.showwarning
            warnings.showwarning = _show
            _restore_libtiff = _silence_libtiff()
        _readers += 1
    outer, _notes.current = _notes.current, notes
    try:
        yield
    finally:
        _notes.current = outer
        with _lock:
            _readers -= 1
            if _readers == 0 and _saved_filters is not None:
                warnings.showwarning = _saved_show
                leaving: Any = _saved_filters
                leaving.__exit__(None, None, None)
                _saved_filters = None
                if _restore_libtiff is not None:
                    _restore_libtiff()


@contextmanager
def lifted_pixel_limit(pixels: int) -> Iterator[None]:
    """Let Pillow decode a picture of ``pixels`` pixels that gdq's own limit has allowed.

    Does nothing for a picture that Pillow accepts anyway, so a program that uses gdq as a library keeps Pillow's
    protection except while gdq decodes a picture beyond it.
    """
    global _lifters, _saved_limit
    with _lock:
        lift = _lifters > 0 or (Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS)
        if lift:
            if _lifters == 0:
                _saved_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            _lifters += 1
    try:
        yield
    finally:
        if lift:
            with _lock:
                _lifters -= 1
                if _lifters == 0:
                    Image.MAX_IMAGE_PIXELS = _saved_limit
