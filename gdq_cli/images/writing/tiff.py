"""TIFF encoder: 8 and 16 bits, one or many pages, deflate with the horizontal predictor; streaming and parallel.

Written because Pillow cannot write 16-bit colour and needs a whole picture in memory. Strips follow the header, each
page's directory follows its strips; files that may pass 4 GiB are BigTIFF.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL.ExifTags import Base as Tag

from gdq_cli.images import exif
from gdq_cli.images.picture import Metadata
from gdq_cli.images.tags import BYTE, LONG, LONG8, RATIONAL, SHORT, UNDEFINED, Entry, next_link, numbers, pack_ifd
from gdq_cli.images.writing.png import better_setting
from gdq_cli.images.writing.raster import Raster, Samples, map_bands, spans

_STRIP_BYTES = 1 << 18
_CLASSIC_BYTES = 4_000_000_000  # larger files need 64-bit offsets; the rest up to 2 ** 32 is for metadata
_DEFLATE, _PREDICT_HORIZONTAL = 8, 2


class TiffWriter:
    """Writes the pages of one file, in order."""

    def __init__(self, stream: BinaryIO, expected_bytes: int, threads: int) -> None:
        """Start a file.

        Args:
            stream: writable and seekable, empty.
            expected_bytes: of all pages, uncompressed: decides between classic TIFF and BigTIFF.
            threads: for encoding.
        """
        self._stream, self._threads = stream, threads
        self._big = expected_bytes > _CLASSIC_BYTES
        self._order = ""
        self._link = 8 if self._big else 4  # where the offset of the next directory goes

    def add_page(self, raster: Raster, metadata: Metadata) -> None:
        """Write one page with its metadata."""
        described: list[Entry] = []
        order = self._order or "<"
        if metadata.exif:
            described, found = exif.entries_of(metadata.exif)
            if not self._order:
                order = found  # the first page's EXIF decides, so that its values are copied as they are
            elif found != order:
                described = []  # a document that mixes byte orders; rare, and its values cannot be copied blindly
        if not self._order:
            self._start(order, metadata.mark)
        offsets, counts, strip_rows = self._write_strips(raster)
        entries = [*self._layout(raster, offsets, counts, strip_rows), *_resolution(metadata, order), *described]
        if metadata.icc:
            entries.append(Entry(Tag.InterColorProfile, UNDEFINED, len(metadata.icc), metadata.icc))
        if metadata.iptc:
            entries.append(Entry(Tag.IPTCNAA, UNDEFINED, len(metadata.iptc), metadata.iptc))
        if metadata.xmp:
            entries.append(Entry(Tag.XMLPacket, BYTE, len(metadata.xmp), metadata.xmp))
        self._pad()
        at = self._stream.tell()
        self._stream.write(pack_ifd(entries, order, at, big=self._big))
        self._stream.seek(self._link)
        self._stream.write(struct.pack(order + ("Q" if self._big else "L"), at))
        self._stream.seek(0, 2)
        self._link = at + next_link(len(entries), big=self._big)

    def _start(self, order: str, mark: bytes) -> None:
        self._order = order
        magic = b"II" if order == "<" else b"MM"
        self._stream.write(magic + struct.pack(order + "H", 43 if self._big else 42))
        self._stream.write(struct.pack(order + "HHQ", 8, 0, 0) if self._big else struct.pack(order + "L", 0))
        self._stream.write(mark)  # of no directory: no reader sees it
        self._pad()

    def _pad(self) -> None:
        if self._stream.tell() % 2:
            self._stream.write(b"\0")

    def _write_strips(self, raster: Raster) -> tuple[list[int], list[int], int]:
        rows = max(1, _STRIP_BYTES // raster.row_bytes)

        def encode(span: tuple[int, int]) -> bytes:
            data = _predict(raster.rows(*span), self._order)
            level, strategy = better_setting(data)
            packer = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
            return packer.compress(data) + packer.flush()

        offsets, counts = [], []
        for strip in map_bands(encode, spans(raster.height, rows), self._threads):
            offsets.append(self._stream.tell())
            counts.append(len(strip))
            self._stream.write(strip)
        return offsets, counts, rows

    def _layout(self, raster: Raster, offsets: list[int], counts: list[int], rows: int) -> list[Entry]:
        order, channels, bits = self._order, raster.channels, 16 if raster.deep else 8
        entries = [
            numbers(Tag.ImageWidth, (raster.width,), order),
            numbers(Tag.ImageLength, (raster.height,), order),
            numbers(Tag.BitsPerSample, (bits,) * channels, order, SHORT),
            numbers(Tag.Compression, (_DEFLATE,), order, SHORT),
            numbers(Tag.PhotometricInterpretation, (1 if raster.grey else 2,), order, SHORT),
            numbers(Tag.StripOffsets, offsets, order, LONG8 if self._big else LONG),
            numbers(Tag.SamplesPerPixel, (channels,), order, SHORT),
            numbers(Tag.RowsPerStrip, (min(rows, raster.height),), order),
            numbers(Tag.StripByteCounts, counts, order, LONG),
            numbers(Tag.PlanarConfiguration, (1,), order, SHORT),
            numbers(Tag.Predictor, (_PREDICT_HORIZONTAL,), order, SHORT),
        ]
        if raster.alpha:
            entries.append(numbers(Tag.ExtraSamples, (2,), order, SHORT))  # alpha that is not premultiplied
        return entries


def _resolution(metadata: Metadata, order: str) -> list[Entry]:
    density = metadata.aspect or metadata.dpi
    if density is None:
        return []
    x, y = (struct.pack(order + "LL", round(value * 10000), 10000) for value in density)
    unit = numbers(Tag.ResolutionUnit, (1 if metadata.aspect else 2,), order, SHORT)
    return [Entry(Tag.XResolution, RATIONAL, 1, x), Entry(Tag.YResolution, RATIONAL, 1, y), unit]


def _predict(samples: Samples, order: str) -> bytes:
    """Differences to the sample of the same channel in the pixel to the left, modulo the sample's range."""
    out = samples.copy()
    out[:, 1:] -= samples[:, :-1]
    return (out.astype(order + "u2") if out.dtype == np.uint16 else out).tobytes()
