"""An opened picture file: what its header says, and its frames or pages one by one."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ExifTags import Base as Tag

from gdq_cli.errors import ImageError
from gdq_cli.images.formats import FORMATS, READABLE, name_foreign, register, sniff_format
from gdq_cli.images.metadata import profile_space, read_metadata
from gdq_cli.images.picture import Frame, Metadata, Picture
from gdq_cli.images.reading.compression import Compression, read_compression
from gdq_cli.images.reading.ends import check_jpeg, complete_jpeg, walk_jpeg
from gdq_cli.images.reading.gif import GifCanvas
from gdq_cli.images.reading.guard import lifted_pixel_limit
from gdq_cli.images.reading.headers import (
    Scan,
    scan_avif,
    scan_bmp,
    scan_gif,
    scan_jpeg,
    scan_png,
    scan_webp,
)
from gdq_cli.images.reading.pixels import (
    decode_pixels,
    decode_pixels16,
    decode_ppm16,
    decode_signed8,
    low_bytes_decodable,
    mend_tiff,
    turn_upright,
)
from gdq_cli.images.reading.rows import check_rows
from gdq_cli.images.reading.sources import Source, name_of, open_source, reported
from gdq_cli.images.turn import SWAPPED

# Importing a plugin registers it; doing so here spares `Image.init`, which would import all forty of them.
_PLUGINS = (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

_SCANS: dict[str, Callable[[BinaryIO], Scan]] = {
    "png": scan_png,
    "jpg": scan_jpeg,
    "webp": scan_webp,
    "gif": scan_gif,
    "avif": scan_avif,
    "bmp": scan_bmp,
}
_LIMIT_BYTES = 8  # of memory for each pixel of the limit, in a small file
_MAX_EXPANSION = 256  # bytes of memory for each byte of a file, in a large one
_MAX_PAGES = 10_000  # of a document; Pillow's search for them takes time that grows with the square
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "camera raw"}
_VIDEO = re.compile(rb"\0\0\0.ftyp", re.DOTALL)  # how one begins behind a picture
_SAMPLE_KINDS = {1: "integer", 2: "signed integer", 3: "floating-point"}


@dataclass(frozen=True)
class ImageHeader:
    """What a file's header tells without decoding. Sizes are of the upright picture (orientation applied)."""

    format: str
    width: int
    height: int
    compression: Compression
    """Whether the file holds its pixels exactly; of a document the first page tells."""
    frames: int = 1
    """Frames of an animation or pages of a document."""
    animated: bool = False
    plays: int = 1
    """How often an animation is shown, 0 for endlessly."""
    has_alpha: bool = False
    """True when some frame may have transparent pixels."""
    bit_depth: int = 8


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """Says which layout of pixels it is that Pillow does not know."""

    def _setup(self) -> None:
        try:
            super()._setup()  # type: ignore[no-untyped-call, unused-ignore]
        except SyntaxError as e:
            tags = self.tag_v2
            bits, kinds = (tuple(tags.get(tag, (1,))) for tag in (Tag.BitsPerSample, Tag.SampleFormat))
            colours = _COLOURS.get(tags.get(Tag.PhotometricInterpretation, 0), "unknown colours")
            samples = f"{bits[0]}-bit {_SAMPLE_KINDS.get(kinds[0], 'unknown')} samples"
            number = tags.get(Tag.SamplesPerPixel, 1)
            raise ValueError(f"unsupported pixel layout: {colours}, {number} x {samples}") from e


class ImageContainer:
    """An opened picture file: the stream, what the raw header says, and what Pillow says."""

    def __init__(self, stream: BinaryIO, name: str, format: str, max_pixels: int | None) -> None:
        self.stream, self.name, self.format, self.max_pixels = stream, name, format, max_pixels
        self.notes: list[str] = []
        self._rows_counted = False
        with reported(name, self.notes):
            self.scan = _SCANS[format](stream) if format in _SCANS else Scan()
            self.notes += self.scan.notes
            if self.scan.largest is not None:
                self._check_size(self.scan.width, self.scan.height, self.scan.largest)
            self._cut()
            self.im = self._open()
            self._check_size(self.im.width, self.im.height, self.im.width * self.im.height)
            self.pages = self._find_pages()
            self.metadata, self.orientation = read_metadata(self.im, self.scan, self.notes)
            if format == "jxl" and not self.im.jpeg:  # applied already; what EXIF says is to be ignored
                self.orientation = 1
            self.header = self._read_header()
            self._gif = GifCanvas(self.stream, self.scan) if self.scan.frames else None
        self._check_expansion()

    def _check_size(self, width: int, height: int, pixels: int) -> None:
        if width < 1 or height < 1:
            raise ImageError(f"{self.name}: not a readable image (a side of 0 pixels)")
        if self.max_pixels is not None and pixels > self.max_pixels:
            size = f"{width} x {height}" if pixels == width * height else f"frames that hold {pixels}"
            raise ImageError(
                f"{self.name}: {size} pixels are more than the limit of {self.max_pixels}; "
                "raise `max_pixels` to read it"
            )

    def _check_expansion(self) -> None:
        """Refuse a small file that takes a large machine. Pixels of a kind that takes more room than others count more
        where a file has few bytes for them."""
        if self.max_pixels is None:
            return
        held = self.im.width * self.im.height * self._held_bytes()
        if held > max(_LIMIT_BYTES * self.max_pixels, _MAX_EXPANSION * self.stream.seek(0, 2)):
            raise ImageError(
                f"{self.name}: {self.im.width} x {self.im.height} pixels in so small a file, which take "
                f"{held >> 20} MiB to decode; raise `max_pixels` to read it"
            )

    def _held_bytes(self) -> int:
        """Bytes of memory that decoding takes for each pixel, at most; measured."""
        mode = self.im.mode
        if self.header.bit_depth > 8:
            return 12 if mode.startswith("I;16") else 33 if mode in ("I", "F") else 55
        if self.format in ("webp", "avif", "heic", "jxl"):
            return 20
        if self.header.has_alpha or mode not in ("1", "L", "RGB"):
            return 16
        return 10 if mode == "RGB" else 7

    def _cut(self) -> None:
        """Replace the stream by a copy without what Pillow is not shown."""
        if not self.scan.cuts:
            return
        parts, at = [], 0
        for start, stop in (*self.scan.cuts, (None, None)):
            self.stream.seek(at)
            parts.append(self.stream.read() if start is None else self.stream.read(start - at))
            at = stop or at
        self.stream = io.BytesIO(b"".join(parts))

    def _open(self) -> Any:
        """A fresh Pillow image. The plugin is called directly: ``Image.open`` would apply Pillow's own pixel limit."""
        self.stream.seek(0)
        format = FORMATS[self.format]
        register(format)
        factory = _TiffFile if self.format == "tiff" else Image.OPEN[format.pillow][0]
        with lifted_pixel_limit(self.scan.largest or 0):
            im = factory(self.stream, "")
        im.info.update(self.scan.info)
        if self.format == "png" and self.scan.bit_depth in (2, 4) and im.mode == "L":
            top = 2**self.scan.bit_depth - 1  # Pillow scales the samples of grey to 8 bits, and not the transparent one
            if "transparency" in im.info:
                im.info["transparency"] = (im.info["transparency"] & top) * 255 // top
        return im

    def _find_pages(self) -> Sequence[int]:
        """Pillow's numbers of the frames or pages that are pictures of their own."""
        if self.format == "tiff":
            self._refuse_raw()
            return self._find_tiff_pages()
        if self.scan.frames:
            return range(len(self.scan.frames))
        count = int(getattr(self.im, "n_frames", 1))
        if self.format == "png" and getattr(self.im, "default_image", False):
            return range(min(1, count - 1), count)  # the still for viewers that do not know animated PNG
        info = self.im.info  # of a HEIC: pictures that Pillow does not count
        beside = len(info.get("depth_images", ())) + sum(map(len, info.get("aux", {}).values()))
        count += beside
        if self.format in ("jpg", "heic") and count > 1:
            others = " (depth or gain maps, previews)" if self.format == "jpg" or beside else ""
            self.notes.append(f"holds {count} pictures{others}; only the main one is read")
            return (self.im.tell(),)
        return range(count)

    def _find_tiff_pages(self) -> Sequence[int]:
        pages: list[int] = []
        for index in itertools.count():
            if len(pages) == _MAX_PAGES:
                raise ValueError(f"more than {_MAX_PAGES} pages")
            try:
                self.im.seek(index)
                if int(self.im.tag_v2.get(Tag.NewSubfileType, 0) or 0) & 5:  # a reduced copy or a mask of another page
                    continue
            except EOFError:
                break
            except Exception:  # as in `reported`; counted, so that reading this page reports what is wrong with it
                pages.append(index)
                break
            pages.append(index)
        self.im = self._open()
        return pages or [0]

    def _refuse_raw(self) -> None:
        """Camera raw files are TIFFs whose first page is a preview; upscaling that would not be what was asked for."""
        self.stream.seek(8)
        tags = self.im.tag_v2
        preview = int(tags.get(Tag.NewSubfileType, 0) or 0) & 1 and Tag.SubIFDs in tags
        if preview or Tag.DNGVersion in tags or self.stream.read(2) == b"CR":
            raise ImageError(f"{self.name}: a camera raw file; develop it to TIFF or PNG first")

    def _bit_depth(self) -> int:
        return 16 if self._bits() > 8 else 8

    def _bits(self) -> int:
        """Bits of a sample in the file; more than 8 of those that Pillow widens."""
        if self.format == "tiff":
            bits = self.im.tag_v2.get(Tag.BitsPerSample, 1)
            return max(bits) if isinstance(bits, tuple) else int(bits)
        if self.im.mode in ("I", "F") or self.im.mode.startswith("I;16"):
            return 16
        if self.format == "ppm" and isinstance(args := self.im.tile[0].args, tuple):
            return int(args[-1]).bit_length()  # of white
        return max(self.scan.bit_depth, int(self.im.info.get("bit_depth", 8)))

    def _read_header(self) -> ImageHeader:
        im, animated = self.im, self.format in ("gif", "webp", "png", "avif") and len(self.pages) > 1
        width, height = im.size if self.scan.largest is None else (self.scan.width, self.scan.height)
        if self.orientation in SWAPPED:
            width, height = height, width
        plays = int(im.info.get("loop", self.scan.plays)) if animated else 1
        if self.format == "gif" and animated and im.info.get("loop"):
            plays += 1  # GIF counts the repeats after the first showing
        compression = read_compression(im, lossless=self.scan.lossless)
        assert compression is not None
        return ImageHeader(
            self.format,
            width,
            height,
            compression,
            len(self.pages),
            animated,
            plays,
            self.scan.has_alpha or im.has_transparency_data,
            self._bit_depth(),
        )

    def read_frame(self, index: int) -> Frame:
        """Decode one frame or page, by its place in ``pages``."""
        number, notes, paged = self.pages[index], list(self.notes), len(self.pages) > 1
        with reported(self.name, notes, f"frame {index + 1} of {len(self.pages)}, " if paged else ""):
            if self._gif is None:
                if number < self.im.tell():
                    self.im = self._open()
                self.im.seek(number)
            metadata, orientation, depth = self.metadata, self.orientation, self.header.bit_depth
            if self.format == "tiff" and paged:
                metadata, orientation = read_metadata(self.im, self.scan, notes)
                depth = self._bit_depth()
            self._check_size(self.im.width, self.im.height, self.im.width * self.im.height)
            mode = self.im.mode
            with lifted_pixel_limit(self.im.width * self.im.height):
                picture = self._decode(number, depth, notes)
            duration = float(self.im.info.get("duration") or 0.0)
            if self.scan.frames:
                duration = self.scan.frames[number].duration_ms
            picture = turn_upright(picture, orientation)
            if self.format == "bmp" and picture.alpha is None and picture.alpha_value == 0:
                picture = replace(picture, alpha_value=255)  # alpha that the writer announced and did not fill in
            metadata = _drop_unfit_profile(metadata, mode, notes)
            if depth > 8 and picture.samples16 is None:
                notes.append("more than 8 bits per sample in the file, read as 8 bits")
            picture = replace(
                picture,
                bit_depth=8 if picture.samples16 is None else 16,
                lossless=self.format == "webp" and self.header.compression.lossless,
                format=self.format,
                metadata=metadata,
                warnings=tuple(dict.fromkeys(notes)),
            )
        return Frame(picture, duration if self.header.animated else 0.0)

    def _decode(self, number: int, depth: int, notes: list[str]) -> Picture:
        if self._gif is not None:
            return decode_pixels(self._gif.show(number), notes)
        if self.format == "jpg":
            self._mend_jpeg(notes)
        if self.format == "png" and not self._rows_counted:
            check_rows(self.stream)
            self._rows_counted = True
        tags = getattr(self.im, "tag_v2", {})
        unpacked, planar = tags.get(Tag.Compression, 1) == 1, tags.get(Tag.PlanarConfiguration) == 2
        colours, subsampling = tags.get(Tag.PhotometricInterpretation), tags.get(Tag.YCbCrSubSampling, (1, 1))
        if tags:
            if unpacked and colours == 6 and subsampling != (1, 1):
                raise ImageError(f"{self.name}: not a readable image (uncompressed YCbCr samples with subsampling)")
            mend_tiff(self.im)
            if (more := tags.get(Tag.SamplesPerPixel, 1) - len(self.im.getbands())) > 0:
                notes.append(f"extra channels that are not transparency are left out: {more}")
        if planar and (self.im.mode in ("LA", "La") or (depth > 8 and unpacked and not self.im.mode.startswith("I"))):
            # Pillow would decode these to noise.
            kind = "grey and alpha" if self.im.mode in ("LA", "La") else "uncompressed 16-bit"
            raise ImageError(f"{self.name}: not a readable image ({kind} samples in separate planes)")
        if depth > 8 and not planar and not self.header.animated and low_bytes_decodable(self.im):
            low = self._open()
            low.seek(number)
            return decode_pixels16(self.im, low, notes)
        if depth > 8 and self.format == "ppm" and self.im.mode == "RGB" and self.im.tile[0].codec_name == "ppm":
            return decode_ppm16(self.im, self.stream)
        if depth == 8 and 2 in tags.get(Tag.SampleFormat, ()) and self._bits() == 8:
            return decode_signed8(self.im, notes)
        return decode_pixels(self.im, notes, inverted16=depth > 8 and colours == 0, depth=self._bits() if tags else 8)

    def _mend_jpeg(self, notes: list[str]) -> None:
        """Have a JPEG decoded that holds every pixel and lacks no more than the marker of its end."""
        at = self.stream.tell()
        self.stream.seek(0)
        data = self.stream.read()
        self.stream.seek(at)
        segments = list(walk_jpeg(data))
        if segments and segments[-1].kind == 0xD9:
            notes += check_jpeg(self.im, data, segments)
            if _VIDEO.search(data, segments[-1].stop):
                notes.append("an embedded video in the file is left out")  # as of one that XMP tells of
        elif (whole := complete_jpeg(data)) is not None:
            self.im = whole
            notes.append("the marker of its end is missing; all pixels are there")
        else:
            raise EOFError


def _drop_unfit_profile(metadata: Metadata, mode: str, notes: list[str]) -> Metadata:
    space = profile_space(metadata.icc)
    if space is None or (space in ("RGB", "GRAY") and mode not in ("CMYK", "LAB")):
        return metadata
    if space != "CMYK" or mode != "CMYK":
        notes.append(f"the {space} colour profile does not describe the picture read; it is left out")
    return replace(metadata, icc=None)


@contextmanager
def open_container(source: Source, name: str | None, max_pixels: int | None) -> Iterator[ImageContainer]:
    """Open a path or stream, recognise its format, and read its header."""
    name = name if name is not None else name_of(source)
    with open_source(source, name) as stream:
        head = stream.read(32)
        format = sniff_format(head)
        if format is None:
            kind = name_foreign(head)
            what = kind or ("unknown format" if head else "empty file")
            raise ImageError(f"{name}: not a readable image ({what}); gdq reads {READABLE}")
        yield ImageContainer(stream, name, format, max_pixels)
