"""JPEG encoder: bands of rows encoded by Pillow and joined at restart markers.

Pillow wants the whole picture in memory at four bytes a pixel; this needs a band. Each band is a JPEG of its own with
the same tables; its coded data, which starts from zeroed predictors as it would after a restart marker, becomes one
restart interval of the whole. The decoded pixels are those of a file encoded in one piece.

Huffman tables are the standard ones. Optimal ones would save 5 % but need the whole picture at once, and Pillow's way
to them fails on noisy pictures at high quality ("Suspension not allowed here").
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import BinaryIO

from gdq_cli.images.exif import PREFIX
from gdq_cli.images.mark import JPEG_SEGMENT
from gdq_cli.images.metadata import pack_irb
from gdq_cli.images.picture import Metadata
from gdq_cli.images.reading.ends import walk_jpeg
from gdq_cli.images.writing.raster import Raster, map_bands, spans

_BAND_PIXELS = 1 << 19
_MAX_INTERVAL = 65535  # coded units (MCUs) between restart markers
_FULL_COLOUR_QUALITY = 90  # from here on chroma keeps its full resolution


def encode_jpeg(stream: BinaryIO, raster: Raster, metadata: Metadata, quality: int, threads: int) -> None:
    """Write one picture as a baseline JPEG file, 4:4:4 from quality 90 on and 4:2:0 below.

    Args:
        stream: of the output.
        raster: 8 bits, one or three channels, sides up to 65500.
        metadata: blocks that fit (see ``metadata.fit_metadata``).
        quality: libjpeg's, 1 to 100.
        threads: for encoding.
    """
    full = quality >= _FULL_COLOUR_QUALITY or raster.grey
    unit = 8 if full else 16
    across = -(-raster.width // unit)
    down = max(1, min(_MAX_INTERVAL // across, _BAND_PIXELS // (unit * unit * across)))
    bands = spans(raster.height, down * unit)

    def encode(band: tuple[int, int]) -> bytes:
        buffer = io.BytesIO()
        first = band[0] == 0
        options: dict[str, object] = {"quality": quality, "subsampling": 0 if full else 2}
        if first and metadata.dpi:
            options["dpi"] = metadata.dpi
        if first:
            named = {"icc_profile": metadata.icc, "xmp": metadata.xmp}
            options |= {name: value for name, value in named.items() if value}
            options |= {"exif": PREFIX + metadata.exif} if metadata.exif else {}
        raster.image(*band).save(buffer, "JPEG", **options)
        return buffer.getvalue()

    for index, data in enumerate(map_bands(encode, bands, threads)):
        segments = walk_jpeg(data)  # no further than to the coded data
        frame = next(segment.start for segment in segments if segment.kind in (0xC0, 0xC1))
        scan = next(segment for segment in segments if segment.kind == 0xDA)
        if index == 0:
            head = bytearray(data[: scan.start])
            struct.pack_into(">H", head, frame + 5, raster.height)
            if metadata.aspect and head[6:11] == b"JFIF\0":
                struct.pack_into(">BHH", head, 13, 0, *_whole_aspect(*metadata.aspect))
            stream.write(head[:frame])
            for marker, payload in (
                (JPEG_SEGMENT, metadata.mark),
                (b"\xff\xed", metadata.iptc and pack_irb(metadata.iptc)),
                *((b"\xff\xfe", comment) for comment in metadata.comments),
            ):
                if payload:
                    stream.write(marker + struct.pack(">H", 2 + len(payload)) + payload)
            stream.write(head[frame:])
            if len(bands) > 1:
                stream.write(b"\xff\xdd" + struct.pack(">HH", 4, across * down))
            stream.write(data[scan.start : scan.stop])
        else:
            stream.write(bytes((0xFF, 0xD0 + (index - 1) % 8)))
        stream.write(memoryview(data)[scan.stop : -2])
    stream.write(b"\xff\xd9")


def _whole_aspect(x: float, y: float) -> tuple[int, int]:
    """Two densities as the whole numbers of at most 16 bits that have nearly their ratio."""
    ratio = Fraction(x / y).limit_denominator(255)
    return (ratio.numerator, ratio.denominator) if 0 < ratio.numerator <= 65535 else (1, 1)
