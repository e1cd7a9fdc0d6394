"""Writing one `Picture` to a file or stream, and what all writing shares."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from PIL import Image, ImageColor

from gdq_cli.errors import GdqError, ImageError, OptionsError
from gdq_cli.files import atomic_file
from gdq_cli.images.exif import PREFIX
from gdq_cli.images.formats import (
    WRITABLE,
    Format,
    check_format_limits,
    default_format,
    find_format,
    format_of_suffix,
    register,
)
from gdq_cli.images.mark import append_mark
from gdq_cli.images.metadata import fit_metadata, looks_of, profile_space
from gdq_cli.images.picture import Metadata, Picture
from gdq_cli.images.reading.sources import name_of
from gdq_cli.images.writing.jpeg import encode_jpeg
from gdq_cli.images.writing.png import encode_png
from gdq_cli.images.writing.raster import Raster, default_threads, lay_out, spans
from gdq_cli.images.writing.tiff import TiffWriter
from gdq_cli.options import DEFAULT_ENCODING, Encoding

Target = str | os.PathLike[str] | BinaryIO

DEFAULT_QUALITY = {"jpg": 95, "webp": 90, "avif": 85}
_LOSSLESS = frozenset({"png", "tiff", "bmp", "ppm", "webp"})
_LOOKS = {"icc": "colour profile"} | dict.fromkeys(("cicp", "png_chunks", "exif"), "colour tag")  # fields of `Metadata`
_LOOKS |= dict.fromkeys(("aspect", "dpi"), "resolution")
_MEMORY_BYTES = 1 << 26  # an output that goes to a stream is held in memory up to here, then in a temporary file


def write_image(
    target: Target,
    picture: Picture,
    encoding: Encoding = DEFAULT_ENCODING,
    *,
    overwrite: bool = False,
    threads: int | None = None,
) -> tuple[str, ...]:
    """Write one picture. A file appears complete or not at all (see `atomic_file`); a stream gets all bytes or none.

    Args:
        target: a file in an existing folder, or a binary stream.
        picture: pixels and the metadata to keep; sizes in the metadata are updated, the orientation is reset.
        encoding: format, quality and the like.
        overwrite: replace an existing file.
        threads: for encoding; by default up to 4. The bytes do not depend on it.

    Returns:
        What the format could not hold and how it was dealt with, one line each, without the file's name.

    Raises:
        OptionsError: unknown format, lossless where there is no such thing.
        OutputExistsError: the file is there and `overwrite` is False.
        FileError: the file cannot be written.
        ImageError: the format cannot hold the picture, or the stream not be written.
    """
    chosen = choose_format(target, encoding, default_format(picture.format))
    notes: list[str] = []
    height, width = picture.size
    check_format_limits(chosen.name, width, height)
    options = pillow_options(chosen, encoding, picture)
    raster, metadata = prepare(picture, chosen, encoding, notes)
    threads = default_threads() if threads is None else threads

    def encode(stream: BinaryIO) -> None:
        if chosen.name == "png":
            encode_png(stream, raster, metadata, threads)
        elif chosen.name == "jpg":
            encode_jpeg(stream, raster, metadata, options["quality"], threads)
        elif chosen.name == "tiff":
            TiffWriter(stream, raster.row_bytes * raster.height, threads).add_page(raster, metadata)
        elif chosen.name == "ppm":
            _encode_ppm(stream, raster, metadata.mark)
        elif chosen.name == "avif":
            named = pillow_metadata(metadata)
            encode_avif(stream, raster.image(), metadata.cicp, **options, **named, max_threads=threads)
        else:
            save_by_pillow(raster.image(), stream, chosen.pillow, **options, **pillow_metadata(metadata))
        append_mark(stream, chosen.name, metadata.mark)

    deliver(target, encode, overwrite)
    return tuple(dict.fromkeys(notes))


def parse_colour(text: str) -> tuple[int, int, int]:
    """R, G, B of a colour as CSS writes it: `white`, `#fff`, `#1e90ff`, `rgb(10, 20, 30)`.

    Raises:
        OptionsError: no such colour.
    """
    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except ValueError as e:
        raise OptionsError(f"{text!r} is not a colour; use a name such as white, or #rrggbb") from e
    if max(red, green, blue) > 255 or any(value != 255 for value in alpha):
        raise OptionsError(f"{text!r} is not an opaque colour of 0 to 255; use a name such as white, or #rrggbb")
    return (red, green, blue)


def choose_format(target: Target, encoding: Encoding, default: str) -> Format:
    """The format asked for, else that of a path's suffix, and the default for a stream.

    Raises:
        OptionsError: gdq does not write that format.
    """
    if encoding.format is not None or not isinstance(target, (str, os.PathLike)):
        return find_format(encoding.format or default)
    found = format_of_suffix(Path(target))
    if found is None or not found.writable:
        suffixes = ", ".join("." + name for name in WRITABLE)
        raise OptionsError(f"{os.fspath(target)}: which format? Its name should end in one of {suffixes}")
    return found


def pillow_options(format: Format, encoding: Encoding, picture: Picture) -> dict[str, Any]:
    """What Pillow must know to write a lossy format."""
    quality, lossless = encoding.quality, encoding.lossless
    if lossless and format.name not in _LOSSLESS:
        raise OptionsError(f"{format.name} is never lossless here; use webp, png or tiff")
    if format.name == "webp" and (lossless or (picture.lossless and quality is None)):
        # Effort 1 of 6: more takes four times as long for half a per cent.
        return {"lossless": True, "quality": 0, "method": 1}
    if format.name == "webp":
        # Method 2 of 6: half the time of Pillow's default, files 2 % larger.
        return {"quality": quality or DEFAULT_QUALITY["webp"], "method": 2}
    if format.name == "avif":
        return {"quality": quality or DEFAULT_QUALITY["avif"], "speed": 9, "subsampling": "4:4:4"}
    return {"quality": quality or DEFAULT_QUALITY["jpg"]} if format.name == "jpg" else {}


def prepare(picture: Picture, format: Format, encoding: Encoding, notes: list[str]) -> tuple[Raster, Metadata]:
    """Layout and metadata of one picture in its output format; what gets lost is noted."""
    metadata = keep_metadata(picture, format, encoding, notes)
    keep_rgb = format.name == "webp" or profile_space(metadata.icc) == "RGB"
    raster = lay_out(picture, format, encoding.background, keep_rgb=keep_rgb)
    if picture.has_alpha and not format.alpha:
        colour = "#{:02x}{:02x}{:02x}".format(*encoding.background)
        notes.append(f"{format.name} holds no transparency; flattened on {colour}")
    if picture.bit_depth > 8 and not raster.deep:
        cure = "" if format.depth16 else "; png and tiff keep 16"
        notes.append(f"16 bits per sample written as 8{cure}")
    return raster, metadata


def keep_metadata(picture: Picture, format: Format, encoding: Encoding, notes: list[str]) -> Metadata:
    """What of the metadata goes along; what the format cannot hold is noted, and what is kept though it is to be left
    out. Has Pillow know the format."""
    register(format)
    if not encoding.strip_metadata:
        return replace(fit_metadata(picture, format, notes), mark=encoding.mark)
    kept = fit_metadata(replace(picture, metadata=looks_of(picture.metadata)), format, notes)
    names = dict.fromkeys(name for field, name in _LOOKS.items() if getattr(kept, field))
    if names:
        notes.append(f"kept, as the picture would look different without: {', '.join(names)}")
    return replace(kept, mark=encoding.mark)


def pillow_metadata(metadata: Metadata) -> dict[str, Any]:
    """The metadata as options of Pillow's `save`."""
    unknown = (0, 0)  # for BMP, where Pillow would invent 96 dpi
    named: dict[str, Any] = {"icc_profile": metadata.icc, "xmp": metadata.xmp, "dpi": metadata.dpi or unknown}
    if metadata.exif:
        named["exif"] = PREFIX + metadata.exif
    return {name: value for name, value in named.items() if value}


def save_by_pillow(image: Image.Image, stream: BinaryIO, format: str, **options: Any) -> None:
    """Encode with Pillow; what its codecs raise becomes an OSError without a number, as Pillow's own refusals are."""
    try:
        image.save(stream, format, **options)
    except (RuntimeError, SystemError, ValueError) as e:
        raise OSError(" ".join(str(e).split()) or format) from e


def encode_avif(stream: BinaryIO, image: Image.Image, cicp: bytes | None, **options: Any) -> None:
    """Write an AVIF file. Pillow tags all of them as sRGB; of other colours, the encoder and the container are told."""
    if cicp is None:
        return save_by_pillow(image, stream, "AVIF", **options)
    file = io.BytesIO()
    primaries, transfer = cicp[:2]
    codec = {"color-primaries": str(primaries), "transfer-characteristics": str(transfer)}
    save_by_pillow(image, file, "AVIF", **options, advanced=codec)
    head, box, rest = file.getvalue().partition(b"colrnclx")
    stream.write(head + box + struct.pack(">HH", primaries, transfer) + rest[4:])


def _encode_ppm(stream: BinaryIO, raster: Raster, mark: bytes) -> None:
    """Portable grey or pixel map; 16-bit samples big end first."""
    comment = b"# %b\n" % mark if mark else b""
    kind, top = b"P5" if raster.grey else b"P6", 65535 if raster.deep else 255
    stream.write(b"%b\n%b%d %d\n%d\n" % (kind, comment, raster.width, raster.height, top))
    for start, stop in spans(raster.height, max(1, (1 << 20) // raster.row_bytes)):
        rows = raster.rows(start, stop)
        stream.write(rows.astype(">u2").tobytes() if raster.deep else rows.tobytes())


def deliver(target: Target, encode: Callable[[BinaryIO], None], overwrite: bool) -> None:
    """Run an encoder into a file that appears when it is complete, or into a stream once it has finished."""
    name = name_of(target)
    if isinstance(target, (str, os.PathLike)):
        with atomic_file(Path(target), overwrite=overwrite) as stream:
            _run(encode, stream, name)
        return
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as spool:
        _run(encode, cast(BinaryIO, spool), name)
        spool.seek(0)
        try:
            shutil.copyfileobj(spool, target)
            target.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise ImageError(f"cannot write the output stream ({e.strerror or e})") from e


def _run(encode: Callable[[BinaryIO], None], stream: BinaryIO, name: str) -> None:
    try:
        encode(stream)
    except (GdqError, MemoryError):
        raise
    except OSError as e:
        if e.errno is not None:
            raise  # the disk's fault, which `atomic_file` reports
        raise ImageError(f"{name}: the encoder failed ({e})") from e
