"""Pillow's many modes to the planes of a ``Picture``: 8-bit RGB, alpha, grey, 16-bit samples.

What is decoded is in the order of the file (orientation not applied), and has neither metadata nor warnings yet.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImagePalette, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from gdq_cli.images.metadata import profile_space
from gdq_cli.images.picture import U8, U16, Picture
from gdq_cli.images.planes import bands, is_grey, to_8bit
from gdq_cli.images.turn import MIRRORED_ACROSS, MIRRORED_DOWN, SWAPPED

# Pillow decodes 16-bit colour to its high bytes by unpackers that differ in byte order only: the opposite one gives the
# low bytes, so decoding twice recovers all 16 bits.
_NATIVE, _FOREIGN = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_LOW_BYTES = {
    f"{mode};16{order}": f"{mode.upper()};16{low}"
    for mode in ("RGB", "RGBX", "RGBA", "RGBa")
    for order, low in (("B", "L"), ("L", "B"), ("N", _FOREIGN))
}
_AS_STORED = {name: name.replace("a", "A") for name in _LOW_BYTES}  # Pillow divides the high bytes alone by alpha
# Wide grey samples by sample format and bits, as Pillow's raw modes name them: in little, big and this machine's order.
_WIDE = {
    (1, 16): ("I;16", "I;16B", "I;16N"),
    (2, 16): ("I;16S", "I;16BS", "I;16NS"),
    (1, 32): ("I;32", "I;32B", "I;32N"),
    (2, 32): ("I;32S", "I;32BS", "I;32NS"),
    (3, 32): ("F;32F", "F;32BF", "F;32NF"),
    (3, 64): ("F;64F", "F;64BF", "F;64NF"),
}
_NATIVE_ORDER = {name: names[2] for names in _WIDE.values() for name in names[:2]}
for (_kind, _depth), _names in _WIDE.items():  # of these, Pillow's table of TIFF layouts lacks one here and one there
    for _order, _name in zip((b"II", b"MM"), _names, strict=False):
        for _photometric in (0, 1):
            _mode = _name if _name in ("I;16", "I;16B") else _name[0]
            TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (_kind,), 1, (_depth,), ()), (_mode, _name))


def decode_pixels(im: Image.Image, notes: list[str], *, inverted16: bool = False, depth: int = 8) -> Picture:
    """Decode an opened picture (or frame) of any mode.

    Args:
        im: loaded, or still to be loaded.
        notes: conversions are added here, one line each.
        inverted16: the file says that 0 is white and Pillow does not heed it (16-bit TIFF).
        depth: bits of each sample in the file; 12 for samples that Pillow leaves unscaled.
    """
    im.load()
    if im.mode in ("I", "F") or im.mode.startswith("I;16"):
        return _decode_deep_grey(im, notes, inverted16, depth)
    if im.mode in ("CMYK", "LAB", "YCbCr"):
        im = _convert_to_srgb(im, notes)
    grey, has_alpha = im.mode in ("1", "L", "LA", "La"), im.has_transparency_data
    mode = ("L" if grey else "RGB") + ("A" if has_alpha else "")
    samples = np.atleast_3d(np.asarray(im if im.mode == mode else im.convert(mode)))
    colours = samples[..., :-1] if has_alpha else samples
    rgb = np.repeat(colours, 3, axis=2) if grey else np.ascontiguousarray(colours)
    picture = Picture(rgb, grey=grey or is_grey(rgb))
    return _with_alpha(picture, samples[..., -1]) if has_alpha else picture


def _with_alpha(picture: Picture, alpha: U8) -> Picture:
    """The picture with this alpha, kept as one value when it is constant."""
    low, high = int(alpha.min()), int(alpha.max())
    if low == high:
        return replace(picture, alpha=None, alpha_value=low)
    return replace(picture, alpha=np.ascontiguousarray(alpha), alpha_value=255)


def _convert_to_srgb(im: Image.Image, notes: list[str]) -> Image.Image:
    """CMYK, Lab and YCbCr pictures to RGB; CMYK through its embedded profile where it has one."""
    if im.mode == "YCbCr":
        return im.convert("RGB")
    if im.mode == "LAB":
        notes.append("converted from Lab to sRGB")
        return im.convert("RGB")
    icc = im.info.get("icc_profile")
    if icc and profile_space(icc) == "CMYK":
        try:
            converted = ImageCms.profileToProfile(
                im,
                ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            notes.append("converted from CMYK to sRGB with the embedded profile")
            return converted if converted is not None else im.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("the embedded CMYK profile is damaged")
    notes.append("converted from CMYK to RGB without a profile; colours are approximate")
    return im.convert("RGB")


def _decode_deep_grey(im: Image.Image, notes: list[str], inverted: bool, depth: int) -> Picture:
    if im.mode in ("I", "F"):
        samples: U16 = _to_16bit(np.asarray(im), im, notes)
    else:
        samples = np.asarray(im).astype(np.uint16)
        if depth == 12:
            samples = (samples << 4 | samples >> 8).astype(np.uint16)
    key = im.info.get("transparency")
    if inverted:
        samples = ~samples
    picture = _picture_of_16(samples)
    return _with_alpha(picture, np.where(samples == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else picture


def _to_16bit(values: npt.NDArray[Any], im: Image.Image, notes: list[str]) -> U16:
    """32-bit integer or float grey to 16 bits: floats from 0..1, integers from 0 to the most that their type holds."""
    if im.mode == "I" and im.format in ("PNG", "PPM"):
        return values.clip(0, 65535).astype(np.uint16)  # 16-bit samples as older versions of Pillow hand them over
    if im.mode == "F":
        top, kind = 1, "floating-point"
    else:
        tags = getattr(im, "tag_v2", {})
        signed, bits = tags.get(Tag.SampleFormat, (1,))[0] == 2, tags.get(Tag.BitsPerSample, (32,))[0]
        top, kind = 2 ** (bits - signed) - 1, f"{bits}-bit integer"
        values = values if signed else values.view(np.uint32)
    outside = int(np.count_nonzero((values < 0) | (values > top)))
    notes.append(f"{kind} samples read as 16 bits, taking {top} for white")
    if outside:
        notes.append(f"{outside} samples outside 0 to {top} are clipped")
    wide = values.astype(np.float64)
    if unknown := int(np.count_nonzero(np.isnan(wide))):
        notes.append(f"{unknown} samples are not numbers; they are read as 0")
        wide[np.isnan(wide)] = 0
    return np.rint(wide.clip(0, top) * (65535 / top)).astype(np.uint16)


def decode_signed8(im: Image.Image, notes: list[str]) -> Picture:
    """Decode a TIFF of signed 8-bit samples, which Pillow takes for unsigned. White is 127; less than 0 is clipped.

    Args:
        im: opened, not yet loaded.
        notes: as of ``decode_pixels``.
    """
    picture = decode_pixels(im, notes)
    samples = picture.rgb.view(np.int8)
    notes.append("signed 8-bit samples, taking 127 for white")
    if outside := int(np.count_nonzero(samples[..., :1] < 0 if picture.grey else samples < 0)):
        notes.append(f"{outside} samples outside 0 to 127 are clipped")
    scaled = (samples.clip(0, 127).astype(np.uint16) * 255 // 127).astype(np.uint8)
    return replace(picture, rgb=scaled)


def mend_tiff(im: Image.Image) -> None:
    """Have an opened TIFF page decoded as it is, where Pillow would do it wrong.

    Wide samples come from libtiff in this machine's byte order, not in the file's. A colour map is taken as 8-bit, as
    libtiff's tools do, where no entry asks for more.
    """
    tiles = _tiles(im)
    if tiles and tiles[0].codec_name == "libtiff" and _rawmode(tiles[0].args) in _NATIVE_ORDER:
        _set_rawmode(im, im.mode, _NATIVE_ORDER)
    colours = getattr(im, "tag_v2", {}).get(Tag.ColorMap, ())
    if im.mode == "P" and colours and max(colours) < 256:
        im.palette = ImagePalette.raw("RGB;L", bytes(colours))


def low_bytes_decodable(im: Image.Image) -> bool:
    """True when a second decode of this 16-bit picture can give its low bytes (see ``decode_pixels16``)."""
    known = (*_LOW_BYTES, "LA;16B")
    return bool(_tiles(im)) and all(_rawmode(tile.args) in known for tile in _tiles(im))


def decode_pixels16(high: Image.Image, low: Image.Image, notes: list[str]) -> Picture:
    """Decode a 16-bit colour (or grey and alpha) picture with all its bits.

    Args:
        high: the opened, not yet loaded picture; ``low_bytes_decodable`` is true of it.
        low: the same picture opened a second time.
        notes: as of ``decode_pixels``.
    """
    key = high.info.get("transparency")
    if _rawmode(_tiles(high)[0].args) == "LA;16B":
        # Four bytes a pixel: grey high and low, alpha high and low.
        _set_rawmode(high, "RGBA", {"LA;16B": "RGBA"})
        high.load()
        pairs = np.asarray(high)
        samples, alpha16 = _join(pairs[..., 0], pairs[..., 1]), _join(pairs[..., 2], pairs[..., 3])
        return _with_alpha16(_picture_of_16(samples), alpha16, notes)
    premultiplied = "a" in _rawmode(_tiles(high)[0].args)
    _set_rawmode(low, low.mode, _LOW_BYTES)
    _set_rawmode(high, high.mode, _AS_STORED)
    high.load()
    low.load()
    upper: U8 = np.asarray(high)
    lower: U8 = np.asarray(low)
    deep: U16 = np.empty((high.height, high.width, len(high.getbands())), np.uint16)
    for rows in bands(upper.shape[0], upper.shape[1]):
        deep[rows] = _join(upper[rows], lower[rows])
        if premultiplied:
            deep[rows, ..., :3] = _divided(deep[rows])
    samples = np.ascontiguousarray(deep[..., :3])
    picture = _picture_of_16(samples)
    if deep.shape[2] == 4:
        return _with_alpha16(picture, deep[..., 3], notes)
    if isinstance(key, tuple) and len(key) == 3:
        return _with_alpha(picture, np.where((samples == np.asarray(key, np.uint16)).all(2), 0, 255).astype(np.uint8))
    return picture


def _divided(samples: U16) -> U16:
    """The colours of premultiplied RGBA without their alpha."""
    alpha = np.maximum(samples[..., 3:], 1).astype(np.uint32)
    scaled = samples[..., :3].astype(np.uint32) * np.uint32(65535)  # NumPy 1 keeps 16 bits for a number that fits them
    colours: U16 = np.minimum((scaled + alpha // 2) // alpha, 65535).astype(np.uint16)
    return colours


def _with_alpha16(picture: Picture, alpha16: U16, notes: list[str]) -> Picture:
    alpha = to_8bit(alpha16)
    if (alpha16 != alpha * np.uint16(257)).any():
        notes.append("16-bit alpha is kept with 8 bits")
    return _with_alpha(picture, alpha)


def decode_ppm16(im: Image.Image, stream: BinaryIO) -> Picture:
    """Decode an opened 16-bit binary RGB PPM (P6), whose samples lie in the file as they are, big end first."""
    tile = _tiles(im)[0]
    top = int(tile.args[-1])
    stream.seek(tile.offset)
    size = im.width * im.height * 6
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("truncated file")
    samples = np.frombuffer(data, ">u2").reshape(im.height, im.width, 3).astype(np.uint16)
    if top != 65535:
        samples = ((np.minimum(samples, top).astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    return _picture_of_16(samples)


def _picture_of_16(samples: U16) -> Picture:
    """Of grey samples (H, W), or of RGB ones (H, W, 3), which are found to be grey or not."""
    if samples.ndim == 3 and (samples == samples[..., :1]).all():
        samples = np.ascontiguousarray(samples[..., 0])
    rgb = to_8bit(samples)
    grey = samples.ndim == 2
    return Picture(np.repeat(rgb[..., None], 3, axis=2) if grey else rgb, grey=grey, samples16=samples)


def _join(high: U8, low: U8) -> U16:
    joined: U16 = (high.astype(np.uint16) << 8 | low).astype(np.uint16)
    return joined


def _tiles(im: Image.Image) -> list[Any]:
    return list(getattr(im, "tile", ()))


def _rawmode(args: Any) -> Any:
    return args[0] if isinstance(args, tuple) and args else args


def _set_rawmode(im: Image.Image, mode: str, renamed: dict[str, str]) -> None:
    tiles = []
    for tile in _tiles(im):
        raw = renamed[_rawmode(tile.args)]
        tiles.append(tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw))
    target: Any = im
    target._mode = mode
    target.tile = tiles


def turn_upright(picture: Picture, orientation: int) -> Picture:
    """Undo an EXIF orientation, 1 to 8."""
    down, across = -1 if orientation in MIRRORED_DOWN else 1, -1 if orientation in MIRRORED_ACROSS else 1

    def turned(plane: Any) -> Any:
        if plane is None:
            return None
        if orientation in SWAPPED:
            plane = plane.swapaxes(0, 1)
        return np.ascontiguousarray(plane[::down, ::across])

    return replace(picture, rgb=turned(picture.rgb), alpha=turned(picture.alpha), samples16=turned(picture.samples16))
