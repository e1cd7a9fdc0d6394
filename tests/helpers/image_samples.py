"""Pictures and files for the tests of `gdq_cli.images`, made with numpy and Pillow, or by hand where those cannot."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from gdq_cli.images import FORMATS

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def photo(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth picture with edges and all three channels different: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8))
    picture = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    picture[height // 3 : height // 2, width // 4 : width // 2] = (250, 10, 40)
    return picture


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """One PNG chunk with length and checksum."""
    return struct.pack(">L", len(payload)) + kind + payload + struct.pack(">L", zlib.crc32(kind + payload))


def png16(samples: npt.NDArray[np.uint16], extra: bytes = b"") -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour: (H, W) grey, or (H, W, 2), (H, W, 3), (H, W, 4)."""
    height, width = samples.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if samples.ndim == 2 else samples.shape[2]]
    rows = samples.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = png_chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 16, colour, 0, 0, 0))
    return PNG_MAGIC + head + extra + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")


def tiff_file(fields: Mapping[int, tuple[int, tuple[int, ...]]], pixels: bytes, order: str = "<") -> bytes:
    """An uncompressed one-strip TIFF of hand-made tags: {tag: (type 3 or 4, values)}."""
    fields = {**fields, 273: (4, (8,)), 279: (4, (len(pixels),))}
    at = 8 + len(pixels) + len(pixels) % 2
    table, heap = b"", b""
    heap_at = at + 2 + 12 * len(fields) + 4
    for tag, (kind, values) in sorted(fields.items()):
        data = struct.pack(f"{order}{len(values)}{'HL'[kind - 3]}", *values)
        if len(data) > 4:
            inline = struct.pack(order + "L", heap_at + len(heap))
            heap += data
        else:
            inline = data.ljust(4, b"\0")
        table += struct.pack(order + "HHL", tag, kind, len(values)) + inline
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(order + "H", len(fields)) + table + bytes(4) + heap
    return mark + struct.pack(order + "L", at) + pixels.ljust(at - 8, b"\0") + body


def tiff16_rgb(samples: npt.NDArray[np.uint16], order: str = "<", planar: bool = False) -> bytes:
    """An uncompressed 16-bit RGB TIFF."""
    height, width = samples.shape[:2]
    data = samples.transpose(2, 0, 1) if planar else samples
    fields = {256: (3, (width,)), 257: (3, (height,)), 258: (3, (16, 16, 16)), 259: (3, (1,)), 262: (3, (2,))}
    fields |= {277: (3, (3,)), 278: (3, (height,)), 284: (3, (2 if planar else 1,))}
    return tiff_file(fields, data.astype(order + "u2").tobytes(), order)


def exif_block(orientation: int | None = 6, *, order: str = "<", size: tuple[int, int] = (40, 30)) -> bytes:
    """An EXIF block as cameras write it: make, orientation, sub-directory with sizes and a maker note, thumbnail."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    make, note, thumb = (
        b"Camera Makers\0",
        b"MakerNote with offsets inside",
        b"\xff\xd8THUMBNAIL-OF-THE-ORIGINAL\xff\xd9",
    )

    def short(tag: int, value: int) -> bytes:
        return struct.pack(order + "HHLHH", tag, 3, 1, value, 0)

    def long(tag: int, value: int) -> bytes:
        return struct.pack(order + "HHLL", tag, 4, 1, value)

    count = 2 if orientation is None else 3
    exif_at = 8 + 2 + 12 * count + 4
    values_at = exif_at + 2 + 12 * 3 + 4
    second_at = values_at + len(make) + len(note) + len(note) % 2
    thumb_at = second_at + 2 + 12 * 3 + 4
    first = struct.pack(order + "HHLL", 0x010F, 2, len(make), values_at)
    if orientation is not None:
        first += short(0x0112, orientation)
    first += long(0x8769, exif_at)
    sub = struct.pack(order + "HHLL", 0x927C, 7, len(note), values_at + len(make))
    sub += short(0xA002, size[1]) + short(0xA003, size[0])
    second = short(0x0103, 6) + long(0x0201, thumb_at) + long(0x0202, len(thumb))
    return (
        mark
        + struct.pack(order + "LH", 8, count)
        + first
        + struct.pack(order + "LH", second_at, 3)
        + sub
        + bytes(4)
        + make
        + note.ljust(len(note) + len(note) % 2, b"\0")
        + struct.pack(order + "H", 3)
        + second
        + bytes(4)
        + thumb
    )


def xmp_packet(orientation: int = 6) -> bytes:
    """An XMP packet that repeats what EXIF says, with an embedded thumbnail."""
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        b'<rdf:Description tiff:Orientation="%d" exif:PixelXDimension="30" dc:title="Titel \xc3\xa4"/>'
        b"<exif:PixelYDimension>40</exif:PixelYDimension>"
        b"<xmp:Thumbnails><rdf:Alt><rdf:li>BASE64PIXELS</rdf:li></rdf:Alt></xmp:Thumbnails>"
        b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>' % orientation
    )


@functools.cache
def rgb_profile() -> bytes:
    """An RGB ICC profile (cached: it holds the time of its making)."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def odd_profile() -> bytes:
    """An RGB ICC profile of other colours than sRGB's: red and green have changed places."""
    return rgb_profile().replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def fake_profile(space: bytes) -> bytes:
    """The header of an ICC profile for data of this colour space (`GRAY`, `CMYK`, ...), without tags."""
    return struct.pack(">L", 132) + bytes(8) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(88) + bytes(4)


def cmyk_profile() -> bytes:
    """A working CMYK ICC profile: one table with two grid points a channel, ink darkening linearly to Lab."""
    clut = bytearray()
    for ink in range(16):
        c, m, y, k = (ink >> 3 & 1, ink >> 2 & 1, ink >> 1 & 1, ink & 1)
        light = 0 if k else 255 - 60 * (c + m) - 15 * y
        clut += bytes((max(0, light), 128 + (0 if k else 60 * (m - c)), 128 + (0 if k else 60 * (y - c))))
    ramp = bytes(range(256))
    one, zero = struct.pack(">l", 65536), bytes(4)
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + (one + zero * 3) * 2 + one + ramp * 4 + bytes(clut) + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">lll", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"none\0"
    desc = b"desc" + bytes(4) + struct.pack(">L", 5) + b"CMYK\0" + bytes(78)
    tags = {b"desc": desc, b"cprt": text, b"wtpt": white, b"A2B0": lut}
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">LL", at + len(body), len(data))
        body += data
    head = struct.pack(">L", at + len(body)) + b"\0\0\0\0" + struct.pack(">L", 0x02400000) + b"prtrCMYKLab "
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">lll", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body


def small_files() -> dict[str, bytes]:
    """One small valid file of every kind that gdq reads, with metadata where it fits, for damage tests."""
    image = Image.fromarray(photo(24, 33))
    tags: dict[str, Any] = {"exif": b"Exif\0\0" + exif_block(), "icc_profile": rgb_profile(), "xmp": xmp_packet()}
    frames = [Image.fromarray(photo(20, 25, seed)) for seed in range(3)]
    more = {"save_all": True, "append_images": frames[1:], "duration": [40, 80, 120]}
    rgba = image.copy()
    rgba.putalpha(Image.fromarray(photo(24, 33, 5)[..., 0]))
    rng = np.random.default_rng(3)
    files = {
        "png": saved(image, "PNG", exif=tags["exif"], icc_profile=tags["icc_profile"]),
        "png-palette": saved(image.quantize(16), "PNG", transparency=3),
        "png-16": png16(rng.integers(0, 65536, (12, 15, 3), np.uint16)),
        "apng": saved(frames[0], "PNG", **more),
        "jpg": saved(image, "JPEG", **tags),
        "jpg-progressive": saved(image, "JPEG", progressive=True),
        "jpg-cmyk": saved(image.convert("CMYK"), "JPEG", icc_profile=cmyk_profile()),
        "webp": saved(image, "WEBP", **tags),
        "webp-lossless": saved(rgba, "WEBP", lossless=True),
        "webp-animated": saved(frames[0], "WEBP", **more),
        "tiff": saved(image, "TIFF", icc_profile=tags["icc_profile"]),
        "tiff-deflate": saved(rgba, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff-pages": saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_lzw"),
        "tiff-16": tiff16_rgb(rng.integers(0, 65536, (9, 11, 3), np.uint16)),
        "bmp": saved(image, "BMP"),
        "bmp-palette": saved(image.quantize(7), "BMP"),
        "gif": saved(image.quantize(32), "GIF"),
        "gif-animated": saved(frames[0], "GIF", loop=2, **more),
        "ppm": saved(image, "PPM"),
        "pgm-16": b"P5\n9 7\n65535\n" + rng.integers(0, 256, 126, np.uint8).tobytes(),
        "pbm-text": b"P1\n# text\n5 3\n" + b"10101 01010 11100",
    }
    if "avif" in FORMATS:
        files["avif"] = saved(image, "AVIF", **tags)
    return files
