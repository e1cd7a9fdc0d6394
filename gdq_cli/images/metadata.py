"""Metadata between files: taken from a picture as Pillow opened it, made true of the output, fitted to its format."""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from PIL import Image, ImageChops, ImageCms
from PIL.ExifTags import Base as Tag

from gdq_cli.images import exif
from gdq_cli.images.formats import Format
from gdq_cli.images.picture import Metadata, Picture
from gdq_cli.images.reading.headers import Scan, pack_cicp
from gdq_cli.images.tags import Directory, TagSource
from gdq_cli.images.turn import SWAPPED, Turn
from gdq_cli.images.xmp import read_orientation as read_xmp_orientation
from gdq_cli.images.xmp import refresh as refresh_xmp

_JPEG_SEGMENT = 65533  # bytes that fit one JPEG marker segment
_JPEG_XMP_HEAD = 29  # of which XMP's own name takes these
_JPEG_ICC_MAX = 255 * (_JPEG_SEGMENT - 14)
_TITLES = {"exif": "EXIF", "icc": "ICC", "xmp": "XMP", "iptc": "IPTC (captions, keywords)"}
_HDR_CHUNKS = {b"mDCV", b"cLLI"}
_SRGB_CICP = b"\x01\x0d"
_PRIMARIES = {1: "BT.709", 9: "BT.2020", 11: "DCI P3", 12: "Display P3"}
_TRANSFERS = {1: "BT.709", 8: "linear", 13: "sRGB", 14: "BT.2020", 15: "BT.2020", 16: "PQ", 18: "HLG"}
_SRGB_GAMMA = range(45000, 45920)  # gAMA values (1/2.2 is 45455) that say nothing beyond sRGB
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # of cHRM: white, red, green, blue
_SAME_CHROMATICITY = 1000  # steps of cHRM, as libpng has it
_SAME_LEVELS = 3  # of 255: small profiles of sRGB approximate its curve
SAME_SHAPE = 0.01  # relative difference of two densities that nobody sees

_IRB_HEAD, _IPTC_RESOURCE = b"Photoshop 3.0\0", 0x0404
_IPTC_CODING, _IPTC_PREVIEW = (3, 7, 8, 9), ((2, 200), (2, 201), (2, 202))  # records, and fields of them
_PARTS = ((b"JP", b"jumdc2pa", "a C2PA manifest (content credentials)"), (b"FLIR\0", b"", "a thermal picture"))
"""What segments of a JPEG begin with and hold, and what they are."""
_PATH_RESOURCES = range(0x07D0, 0x0BB7)
_RESOURCES = {
    0x03F0: "caption",
    0x0408: "guides",
    0x040A: "copyright flag",
    0x040B: "URL",
    0x041A: "slices",
    0x041E: "URLs",
}


def read_metadata(im: Image.Image, scan: Scan, notes: list[str]) -> tuple[Metadata, int]:
    """Metadata of an opened file (before its pixels are loaded) and the orientation still to be applied to the pixels.

    Args:
        im: as opened by Pillow.
        scan: what ``headers`` found in the raw file.
        notes: doubts are added here.

    Returns:
        The blocks as they are in the file, and 1 to 8. For TIFF the orientation is 1: Pillow applies it while loading.
    """
    info: Mapping[Any, Any] = im.info
    block = _exif_block(im, scan, notes)
    xmp = _xmp_packet(scan.xmp or info.get("xmp"), notes)
    orientation = None
    if block is not None:
        try:
            orientation = exif.read_orientation(block)
        except ValueError:
            notes.append("the EXIF block is damaged; it is left out")
            block = None
    turned_by_container = im.format in ("AVIF", "HEIF")  # which Pillow has applied, or tells in EXIF
    if orientation is None and xmp is not None and not turned_by_container:
        orientation = read_xmp_orientation(xmp)
    if im.format == "TIFF":
        orientation = getattr(im, "tag_v2", {}).get(Tag.Orientation)
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    im.info["icc_profile"] = icc = _read_icc(im, notes)  # the decoder of CMYK looks there
    for head, inside, part in _PARTS:
        if any(inside in segment for segment in _jpeg_segments(im, head)):
            notes.append(f"{part} in the file is left out")
    metadata = Metadata(
        exif=block,
        icc=icc,
        xmp=xmp,
        iptc=_read_iptc(im, notes),
        dpi=_sound_density(_read_dpi(im, block)),
        aspect=_read_aspect(im),
        stored=(im.size[::-1], orientation),
        comments=tuple(data for name, data in getattr(im, "applist", ()) if name == "COM"),
        png_chunks=scan.chunks,
        cicp=_read_cicp(im, scan),
    )
    return metadata, 1 if im.format == "TIFF" else orientation


def _read_icc(im: Any, notes: list[str]) -> bytes | None:
    """The ICC profile of an opened file; a damaged one is left out, with a note."""
    icc: bytes | None = im.info.get("icc_profile")
    if icc is None and (segments := _jpeg_segments(im, b"ICC_PROFILE\0")):
        # Of wrong numbers, which Pillow refuses: the one profile of identical segments in the order of their numbers.
        icc = b"".join(segment[2:] for segment in sorted(dict.fromkeys(segments), key=lambda segment: segment[:1]))
        icc = icc[: int.from_bytes(icc[:4], "big")]
    if icc is None or _is_whole_profile(icc):
        return icc
    notes.append("the colour profile is damaged; it is left out")
    return None


def _read_cicp(im: Image.Image, scan: Scan) -> bytes | None:
    """See ``Metadata.cicp``. In an AVIF or HEIC file a colour profile counts more."""
    if im.info["icc_profile"] and im.format != "PNG":
        return None
    tag = im.info.get("nclx_profile") or {}  # of HEIC
    numbers = int(tag.get("color_primaries", 2)), int(tag.get("transfer_characteristics", 2))
    return scan.cicp or pack_cicp(*numbers)


def _is_whole_profile(icc: object) -> bool:
    """Whether all data that the table of an ICC profile's tags tells of is there."""
    if not isinstance(icc, bytes) or len(icc) < 132 or icc[36:40] != b"acsp":
        return False
    size = 12 * int.from_bytes(icc[128:132], "big")
    table = icc[132 : 132 + size]
    return len(table) == size and all(at + length <= len(icc) for _, at, length in struct.iter_unpack(">4sLL", table))


def _jpeg_segments(im: Any, head: bytes) -> list[bytes]:
    """What follows ``head`` in the application segments of a JPEG that begin with it, in their order."""
    segments: list[tuple[str, bytes]] = getattr(im, "applist", [])
    return [data[len(head) :] for name, data in segments if name != "COM" and data.startswith(head)]


def _exif_block(im: Image.Image, scan: Scan, notes: list[str]) -> bytes | None:
    if hasattr(im, "tag_v2"):
        return _exif_of_tiff(im, notes)
    block = scan.exif or im.info.get("exif")
    return exif.strip_prefix(block) or None if isinstance(block, bytes) else None


def _exif_of_tiff(im: Any, notes: list[str]) -> bytes | None:
    """An EXIF block made of the descriptive tags of a TIFF page, whose own directory is laid out around its pixels."""
    try:
        source, directory = _tiff_tags(im)
        entries = exif.descriptive_entries(source, directory)
        if im.mode in ("CMYK", "LAB"):  # of pixels that are converted
            entries = [entry for entry in entries if entry.tag not in (Tag.WhitePoint, Tag.PrimaryChromaticities)]
        if any(entry.tag == Tag.ImageDescription and _states_sizes(entry.value, *im.size) for entry in entries):
            notes.append("the description states sizes that an upscaled picture does not have; it is left out")
            entries = [entry for entry in entries if entry.tag != Tag.ImageDescription]
        if others := exif.titles_of_others(directory):
            notes.append(f"tags that are left out: {', '.join(others)}")
        return exif.build(entries, source.order)
    except (ValueError, OverflowError):
        notes.append("the EXIF tags are damaged; they are left out")
        return None


def _states_sizes(description: bytes, width: int, height: int) -> bool:
    """Whether a description tells sizes or scales: in words of OME-XML or ImageJ, or as two numbers side by side."""
    sizes = rf"(?<!\d)({width}\D{{1,3}}{height}|{height}\D{{1,3}}{width})(?!\d)|\bSizeX\b|^ImageJ=".encode()
    return re.search(sizes, description) is not None


def _tiff_tags(im: Any) -> tuple[TagSource, Directory]:
    """An opened TIFF file and the directory of its page. Raises ValueError or OverflowError where that is damaged."""
    stream = im.fp

    def fetch(at: int, size: int) -> bytes:
        stream.seek(at)
        return bytes(stream.read(size))

    source = TagSource(fetch, "<" if im.tag_v2.prefix == b"II" else ">", 43 in fetch(0, 4))
    return source, source.read(im.tag_v2.offset)


def _xmp_packet(packet: object, notes: list[str]) -> bytes | None:
    if not isinstance(packet, bytes) or not packet.strip(b"\0 \t\r\n"):
        return None
    try:
        packet.decode("utf-8")
    except UnicodeDecodeError:
        notes.append("the XMP packet is not UTF-8; it is left out")
        return None
    return packet


def _read_iptc(im: Any, notes: list[str]) -> bytes | None:
    """Captions and keywords of news agencies and old editors: an IPTC-IIM block. What lies beside it is noted."""
    blocks = _iptc_blocks(im)
    if lost := [title for block in blocks for code, data in _resources(block) if (title := _title_of(code, data))]:
        notes.append(f"Photoshop's resources that are left out: {', '.join(dict.fromkeys(lost))}")
    return next((iptc for block in blocks if (iptc := _iptc_of(block))), None)


def _iptc_blocks(im: Any) -> list[bytes]:
    """What a file has in the places of an IPTC block, see ``_iptc_of``."""
    if hasattr(im, "tag_v2"):
        with suppress(ValueError, OverflowError):
            tags = {entry.tag: entry.value for entry in _tiff_tags(im)[1].entries}
            return [tags[tag] for tag in (Tag.IPTCNAA, Tag.ImageResources) if tag in tags]
        return []
    return [b"".join(_jpeg_segments(im, _IRB_HEAD)), *(im.info[kind] for kind in ("iptc", "8bim") if kind in im.info)]


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of Photoshop's image resources."""
    at = data.find(b"8BIM")
    while at >= 0 and len(data) >= at + 12:
        start = at + 8 + data[at + 6] // 2 * 2  # behind the resource's name
        size = int.from_bytes(data[start : start + 4], "big")
        yield int.from_bytes(data[at + 4 : at + 6], "big"), data[start + 4 : start + 4 + size]
        at = data.find(b"8BIM", start + 4 + size)


def _title_of(code: int, data: bytes) -> str | None:
    """What a resource of Photoshop is called; None for IPTC, and for what tells of the editor, not of the picture."""
    return ("paths" if code in _PATH_RESOURCES else _RESOURCES.get(code)) if any(data) else None


def _iptc_of(data: bytes) -> bytes | None:
    """The block in what a file has in its place: itself, in swapped 32-bit words, or among Photoshop's resources."""
    if data[3:4] == b"\x1c" != data[:1] and len(data) % 4 == 0:
        data = struct.pack(f">{len(data) // 4}L", *struct.unpack(f"<{len(data) // 4}L", data))
    if data[:1] != b"\x1c":
        data = next((content for code, content in _resources(data) if code == _IPTC_RESOURCE), b"")
    return data if data[:1] == b"\x1c" else None


def _refresh_iptc(block: bytes) -> bytes:
    """An IPTC block without the picture's preview, and without what tells how the pixels of its file are coded."""
    parts, at = [], 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, field, size = struct.unpack_from(">BBH", block, at + 1)
        stop = at + 5 + size
        if size & 0x8000:  # of the bytes that hold the size
            start = at + 5 + (size & 0x7FFF)
            stop = start + int.from_bytes(block[at + 5 : start], "big")
        if record not in _IPTC_CODING and (record, field) not in _IPTC_PREVIEW:
            parts.append(block[at:stop])
        at = stop
    return b"".join((*parts, block[at:]))


def _read_dpi(im: Any, block: bytes | None) -> object:
    """The resolution that a file tells, in dots per inch. Pillow invents one for a JPEG or TIFF without."""
    if im.format in ("JPEG", "MPO") and im.info.get("jfif_unit") not in (1, 2):
        return exif.read_density(block) if block is not None else None
    return im.info.get("dpi") if _tells_resolution(im) else None


def _tells_resolution(im: Any) -> bool:
    return not hasattr(im, "tag_v2") or all(tag in im.tag_v2 for tag in (Tag.XResolution, Tag.YResolution))


def _read_aspect(im: Image.Image) -> tuple[float, float] | None:
    """Density of pixels that are not square, where a file tells no unit."""
    info = im.info
    if im.format in ("JPEG", "MPO"):
        density = info.get("jfif_density") if info.get("jfif_unit") == 0 else None
    elif im.format in ("PNG", "AVIF"):
        density = info.get("aspect")
    else:
        density = info.get("resolution") if "dpi" not in info and _tells_resolution(im) else None
    aspect = _sound_density(density)
    return aspect if aspect is not None and aspect[0] != aspect[1] else None


def _sound_density(dpi: object) -> tuple[float, float] | None:
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


def pack_irb(iptc: bytes) -> bytes:
    """An IPTC block as Photoshop wraps it, for a segment of a JPEG file."""
    return _IRB_HEAD + struct.pack(">4sHHL", b"8BIM", _IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def fit_metadata(picture: Picture, format: Format, notes: list[str]) -> Metadata:
    """What of a picture's metadata goes into a file of ``format``, true of the picture's size and orientation.

    Args:
        picture: as it is about to be written.
        format: of the output.
        notes: a line is added for what the format cannot hold and whose loss is seen or missed.
    """
    source = picture.metadata
    kept: dict[str, Any] = {name: getattr(source, name) for name in format.carries}
    stored, orientation = source.stored or (picture.size, 1)
    turn = Turn(stored, orientation, picture.size)
    if kept.get("exif"):
        try:
            kept["exif"] = exif.rewrite(kept["exif"], turn)
        except ValueError:
            notes.append("the EXIF block is damaged; it is left out")
            del kept["exif"]
    if kept.get("xmp"):
        try:
            kept["xmp"] = refresh_xmp(kept["xmp"], turn, Image.MIME[format.pillow], notes)
        except (ValueError, RecursionError):
            notes.append("the XMP packet is damaged; it is left out")
            del kept["xmp"]
    if kept.get("exif") and kept.get("png_chunks"):  # in whose texts ImageMagick repeats EXIF, as it was
        kept["png_chunks"] = tuple(chunk for chunk in kept["png_chunks"] if not chunk[1].startswith(b"exif:"))
    if kept.get("iptc"):
        kept["iptc"] = _refresh_iptc(kept["iptc"])
    for name in ("dpi", "aspect"):
        if kept.get(name) and turn.swaps:
            kept[name] = kept[name][::-1]
    if kept.get("icc") and not _profile_fits(picture, format):
        notes.append(f"the {profile_space(source.icc)} colour profile does not fit the output; it is left out")
        del kept["icc"]
    lost = [title for name, title in _TITLES.items() if getattr(source, name) and name not in format.carries]
    if lost:
        notes.append(f"{format.name} holds no {', '.join(lost)}; left out")
    density = source.aspect or source.dpi
    kept_density = {"aspect"} if source.aspect else {"aspect", "dpi"}
    if density and not math.isclose(*density, rel_tol=SAME_SHAPE) and not kept_density & format.carries:
        notes.append(
            f"{format.name} holds no shape of pixels; the picture, whose pixels are not square, looks distorted"
        )
    if (tag := _colour_tag(source)) and tag.field not in format.carries:
        notes.append(f"{format.name} holds no colour tag {tag.name}; left out, the picture may look different")
    if "png_chunks" not in format.carries and not _HDR_CHUNKS.isdisjoint(dict(source.png_chunks)):
        notes.append(f"{format.name} holds no brightness of an HDR picture (mDCV, cLLI); left out")
    if format.name == "jpg":
        _fit_jpeg(kept, notes)
    return replace(Metadata(), **{name: value for name, value in kept.items() if value})


def _profile_fits(picture: Picture, format: Format) -> bool:
    space = profile_space(picture.metadata.icc)
    return space == "RGB" or (space == "GRAY" and picture.grey and format.name not in ("webp", "avif"))


class _ColourTag(NamedTuple):
    name: str
    field: str
    """Of ``Metadata``."""
    value: bytes


def _colour_tag(metadata: Metadata) -> _ColourTag | None:
    """What says, without a profile, that a picture's values are not sRGB's."""
    if metadata.icc:
        return None
    chunks = dict(metadata.png_chunks)
    gamma, chromaticities = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if metadata.cicp and metadata.cicp[:2] != _SRGB_CICP:
        return _ColourTag(name_cicp(metadata.cicp), "cicp", metadata.cicp)
    if b"sRGB" in chunks:
        return None
    told = {}
    if int.from_bytes(gamma[:4], "big") not in (0, *_SRGB_GAMMA):
        told["gAMA"] = gamma
    if len(chromaticities) == 32:
        pairs = zip(struct.unpack(">8L", chromaticities), _SRGB_CHROMATICITIES, strict=True)
        if any(abs(value - usual) > _SAME_CHROMATICITY for value, usual in pairs):
            told["cHRM"] = chromaticities
    return _ColourTag(", ".join(told), "png_chunks", b"".join(told.values())) if told else None


def looks_of(metadata: Metadata) -> Metadata:
    """What decides how a picture looks: colours other than sRGB's, the shape of pixels that are not square."""
    icc = metadata.icc if metadata.icc and not _is_srgb(metadata.icc) else None
    tag = _colour_tag(replace(metadata, icc=None))  # CICP counts more than a profile, PNG's other chunks less
    chunks = metadata.png_chunks if tag is not None and tag.field == "png_chunks" and not metadata.icc else ()
    density = metadata.aspect or metadata.dpi
    square = density is None or math.isclose(*density, rel_tol=SAME_SHAPE)
    return Metadata(
        exif=_adobe_rgb(metadata),
        icc=icc,
        cicp=metadata.cicp if tag is not None and tag.field == "cicp" else None,
        png_chunks=tuple(chunk for chunk in chunks if chunk[0] in (b"gAMA", b"cHRM")),
        aspect=None if square else metadata.aspect,
        dpi=None if square else metadata.dpi,
        stored=metadata.stored,
    )


def _adobe_rgb(metadata: Metadata) -> bytes | None:
    return exif.tell_adobe_rgb(metadata.exif) if metadata.exif and not metadata.icc else None


def _is_srgb(icc: bytes) -> bool:
    """Whether a profile shows all colours as they are shown without one."""
    colours = bytes(itertools.chain.from_iterable(itertools.product(range(0, 256, 51), repeat=3)))
    mode = {"RGB": "RGB", "GRAY": "L"}.get(profile_space(icc) or "")
    if mode is None:
        return False
    given = Image.frombytes("RGB", (6, 36), colours).convert(mode)
    try:
        profiles = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
        shown = ImageCms.profileToProfile(given, *profiles, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    assert shown is not None
    return max(ImageChops.difference(given.convert("RGB"), shown).tobytes()) <= _SAME_LEVELS


def colours_of(metadata: Metadata) -> bytes | tuple[str, str, bytes] | None:
    """What tells how samples look: the profile, or a tag of other colours than sRGB's; None where nothing does."""
    return metadata.icc or _colour_tag(metadata) or _adobe_rgb(metadata)


def shape_of_pixels(metadata: Metadata) -> float:
    """Width of a pixel of the upright picture by its height."""
    across, down = metadata.aspect or metadata.dpi or (1.0, 1.0)
    turned = metadata.stored is not None and metadata.stored[1] in SWAPPED
    return across / down if turned else down / across


def name_cicp(cicp: bytes) -> str:
    """What messages call a colour tag of at least 2 bytes, such as `CICP 12/13 (Display P3)`."""
    primaries, transfer = cicp[:2]
    known = {(1, 13): "sRGB", (12, 13): "Display P3", (9, 16): "BT.2100 PQ", (9, 18): "BT.2100 HLG"}
    parts = (_PRIMARIES.get(primaries), _TRANSFERS.get(transfer))
    title = known.get((primaries, transfer)) or ", ".join(part for part in parts if part)
    return f"CICP {primaries}/{transfer}" + (f" ({title})" if title else "")


def _fit_jpeg(kept: dict[str, Any], notes: list[str]) -> None:
    limits: dict[str, tuple[int, Callable[[bytes], int]]] = {
        "exif": (_JPEG_SEGMENT, lambda block: len(exif.PREFIX) + len(block)),
        "xmp": (_JPEG_SEGMENT - _JPEG_XMP_HEAD, len),
        "icc": (_JPEG_ICC_MAX, len),
        "iptc": (_JPEG_SEGMENT, lambda block: len(pack_irb(block))),
    }
    for name, (limit, size) in limits.items():
        if kept.get(name) and size(kept[name]) > limit:
            notes.append(f"the {name.upper()} block is larger than jpg can hold; it is left out")
            del kept[name]
    if any(len(comment) > _JPEG_SEGMENT for comment in kept["comments"]):
        notes.append("a comment is larger than jpg can hold; it is left out")
        kept["comments"] = tuple(comment for comment in kept["comments"] if len(comment) <= _JPEG_SEGMENT)
