"""Metadata between files: taken from a picture as Pillow opened it, made true of the output, fitted to its format."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from gdq_cli.images import exif
from gdq_cli.images.formats import Format
from gdq_cli.images.picture import Metadata, Picture
from gdq_cli.images.reading.headers import Scan

_JPEG_SEGMENT = 65533  # bytes that fit one JPEG marker segment
_JPEG_XMP_HEAD = 29  # of which XMP's own name takes these
_JPEG_ICC_MAX = 255 * (_JPEG_SEGMENT - 14)
_SRGB_GAMMA = range(45000, 45920)  # gAMA values (1/2.2 is 45455) that say nothing beyond sRGB

_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:\s*=\s*["\']|>)\s*)([0-9]+)')
_XMP_WIDTH = re.compile(rb'((?:tiff:ImageWidth|exif:PixelXDimension)(?:\s*=\s*["\']|>)\s*)[0-9]+')
_XMP_HEIGHT = re.compile(rb'((?:tiff:ImageLength|exif:PixelYDimension)(?:\s*=\s*["\']|>)\s*)[0-9]+')


def read_metadata(im: Image.Image, scan: Scan | None, notes: list[str]) -> tuple[Metadata, int]:
    """Metadata of an opened file (before its pixels are loaded) and the orientation still to be applied to the pixels.

    Args:
        im: as opened by Pillow.
        scan: what ``headers`` found, for PNG.
        notes: doubts are added here.

    Returns:
        The blocks as they are in the file, and 1 to 8. For TIFF the orientation is 1: Pillow applies it while loading.
    """
    info: Mapping[Any, Any] = im.info
    block = _exif_block(im, scan, notes)
    xmp = _xmp_packet(scan.xmp if scan is not None and scan.xmp else info.get("xmp"), notes)
    orientation = None
    if block is not None:
        try:
            orientation = exif.read_orientation(block)
        except ValueError:
            notes.append("the EXIF block is damaged; it is left out")
            block = None
    if orientation is None and xmp is not None and (found := _XMP_ORIENTATION.search(xmp)):
        orientation = int(found[2][:2])
    if orientation is None or not 1 <= orientation <= 8:
        orientation = 1
    icc = info.get("icc_profile")
    comment = info.get("comment") if im.format in ("JPEG", "MPO") else None
    metadata = Metadata(
        exif=block,
        icc=icc if isinstance(icc, bytes) and len(icc) >= 128 else None,
        xmp=xmp,
        dpi=_sound_dpi(info.get("dpi")),
        comment=comment if isinstance(comment, bytes) else None,
        png_chunks=scan.chunks if scan is not None else (),
    )
    return metadata, 1 if im.format == "TIFF" else orientation


def _exif_block(im: Image.Image, scan: Scan | None, notes: list[str]) -> bytes | None:
    if hasattr(im, "tag_v2"):
        return _exif_of_tiff(im, notes)
    block = scan.exif if scan is not None and scan.exif else im.info.get("exif")
    packed = im.info.get("Raw profile type exif")  # ImageMagick's way of before PNG had a chunk for it
    if block is None and isinstance(packed, str):
        try:
            block = bytes.fromhex("".join(packed.split("\n")[3:]))
        except ValueError:
            notes.append("the EXIF block is damaged; it is left out")
    return exif.strip_prefix(block) or None if isinstance(block, bytes) else None


def _exif_of_tiff(im: Any, notes: list[str]) -> bytes | None:
    """An EXIF block made of the descriptive tags of a TIFF page, whose own directory is laid out around its pixels."""
    prefix, stream, offset = im.tag_v2.prefix, im.fp, im.tag_v2.offset
    order = "<" if prefix == b"II" else ">"

    def fetch(at: int, size: int) -> bytes:
        stream.seek(at)
        return bytes(stream.read(size))

    try:
        stream.seek(0)
        big = 43 in stream.read(4)
        return exif.build(exif.descriptive_entries(fetch, offset, order, big=big), order)
    except (ValueError, OverflowError):
        notes.append("the EXIF tags are damaged; they are left out")
        return None


def _xmp_packet(packet: object, notes: list[str]) -> bytes | None:
    if not isinstance(packet, bytes) or not packet.strip(b"\0 \t\r\n"):
        return None
    try:
        packet.decode("utf-8")
    except UnicodeDecodeError:
        notes.append("the XMP packet is not UTF-8; it is left out")
        return None
    return packet


def _sound_dpi(dpi: object) -> tuple[float, float] | None:
    """A resolution that every format can store; None for the nonsense that files contain (zero, NaN, millions)."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    try:
        x, y = float(dpi[0]), float(dpi[1])
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if all(math.isfinite(value) and 1 <= value <= 65535 for value in (x, y)) else None


def profile_space(icc: bytes | None) -> str | None:
    """Colour space of an ICC profile's data: ``RGB``, ``GRAY``, ``CMYK``, ``Lab``, ...; None without a profile."""
    return icc[16:20].decode("ascii", "replace").strip() if icc else None


def refresh_xmp(xmp: bytes, height: int, width: int) -> bytes:
    """The packet with orientation 1, the new size where it states one, and without embedded thumbnails."""
    xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    xmp = _XMP_WIDTH.sub(rb"\g<1>%d" % width, xmp)
    xmp = _XMP_HEIGHT.sub(rb"\g<1>%d" % height, xmp)
    for name in (b"xmp:Thumbnails", b"xap:Thumbnails"):
        while (start := xmp.find(b"<" + name)) >= 0 and (end := xmp.find(b"</" + name + b">", start)) >= 0:
            xmp = xmp[:start] + xmp[end + len(name) + 3 :]
    return xmp


def fit_metadata(picture: Picture, format: Format, notes: list[str]) -> Metadata:
    """What of a picture's metadata goes into a file of ``format``, true of the picture's size and orientation.

    Args:
        picture: as it is about to be written.
        format: of the output.
        notes: a line is added for what the format cannot hold and whose loss is seen or missed.
    """
    height, width = picture.size
    source = picture.metadata
    kept: dict[str, Any] = {name: getattr(source, name) for name in format.carries}
    if kept.get("exif"):
        try:
            kept["exif"] = exif.rewrite(kept["exif"], height, width)
        except ValueError:
            notes.append("the EXIF block is damaged; it is left out")
            del kept["exif"]
    if kept.get("xmp"):
        kept["xmp"] = refresh_xmp(kept["xmp"], height, width)
    if kept.get("icc") and not _profile_fits(picture, format):
        notes.append(f"the {profile_space(source.icc)} colour profile does not fit the output; it is left out")
        del kept["icc"]
    lost = [name.upper() for name in ("exif", "icc", "xmp") if getattr(source, name) and name not in format.carries]
    if lost:
        notes.append(f"{format.name} holds no {', '.join(lost)}; left out")
    if "png_chunks" not in format.carries and _tells_colour(source):
        notes.append(f"{format.name} holds no gAMA or cICP colour tag; left out, the picture may look different")
    if format.name == "jpg":
        _fit_jpeg(kept, notes)
    return replace(Metadata(), **{name: value for name, value in kept.items() if value})


def _profile_fits(picture: Picture, format: Format) -> bool:
    space = profile_space(picture.metadata.icc)
    return space == "RGB" or (space == "GRAY" and picture.grey and format.name not in ("webp", "avif"))


def _tells_colour(metadata: Metadata) -> bool:
    """True when a PNG says by chunks alone, without a profile, that its values are not sRGB's."""
    chunks = dict(metadata.png_chunks)
    if metadata.icc or b"sRGB" in chunks:
        return False
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")[:4], "big")
    cicp = chunks.get(b"cICP", b"")
    return bool(cicp and cicp[:2] != b"\x01\x0d") or bool(gamma and gamma not in _SRGB_GAMMA)


def _fit_jpeg(kept: dict[str, Any], notes: list[str]) -> None:
    limits: dict[str, tuple[int, Callable[[bytes], int]]] = {
        "exif": (_JPEG_SEGMENT, lambda block: len(exif.PREFIX) + len(block)),
        "xmp": (_JPEG_SEGMENT - _JPEG_XMP_HEAD, len),
        "icc": (_JPEG_ICC_MAX, len),
        "comment": (_JPEG_SEGMENT, len),
    }
    for name, (limit, size) in limits.items():
        if kept.get(name) and size(kept[name]) > limit:
            notes.append(f"the {name.upper()} block is larger than jpg can hold; it is left out")
            del kept[name]
