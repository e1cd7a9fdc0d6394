"""A picture in memory: what a reader hands to the upscaler and the upscaler hands to a writer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Metadata:
    """Everything in a file that is not pixels and that an output should keep. Raw bytes; None when absent."""

    exif: bytes | None = None
    """EXIF as a TIFF-structured block, without the leading ``Exif\\0\\0``."""
    icc: bytes | None = None
    """ICC profile, byte for byte. Never a CMYK or Lab profile: such pictures are converted to sRGB when read."""
    xmp: bytes | None = None
    """XMP packet (UTF-8 XML)."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution, dots per inch."""
    aspect: tuple[float, float] | None = None
    """Horizontal and vertical density without a unit, of pixels that are not square; counts more than ``dpi``."""
    iptc: bytes | None = None
    """IPTC-IIM block: captions, keywords, credits."""
    comments: tuple[bytes, ...] = ()
    """JPEG comment segments."""
    stored: tuple[tuple[int, int], int] | None = None
    """(H, W) of the file that was read, before its orientation was applied, and that orientation: what the numbers in
    ``exif`` and ``xmp`` refer to. None for those of the picture itself."""
    mark: bytes = b""
    """Of a file to be written, see ``images.mark``; never that of the file read."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG text and colour chunks (tEXt, iTXt, zTXt, gAMA, cHRM, sRGB), as (type, payload), for PNG to PNG."""
    cicp: bytes | None = None
    """Colour as video standards number it (ITU-T H.273), 4 bytes: primaries, transfer function, matrix (0, since the
    samples are RGB), 1 for full range. What a cICP chunk of a PNG or an `nclx` colour box of an AVIF or HEIC tells."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture. Upright (EXIF orientation applied), colours as stored, alpha apart."""

    rgb: U8
    """Shape (H, W, 3), C-contiguous, range [0, 255]: what the network eats, whatever the file held."""
    alpha: U8 | None = None
    """Shape (H, W), 255 = opaque, not premultiplied; None when every pixel has the same alpha (see ``alpha_value``)."""
    alpha_value: int = 255
    """The alpha of every pixel where ``alpha`` is None."""
    grey: bool = False
    """True when R == G == B everywhere: the output is written as grey."""
    samples16: U16 | None = None
    """The 16-bit samples of a 16-bit file: (H, W) for grey, (H, W, 3) for RGB; ``rgb`` is their 8-bit rounding."""
    bit_depth: int = 8
    """Bits per sample of the source file, 8 or 16; a writer that has to drop the low bits says so."""
    lossless: bool = False
    """True for a source file that is a lossless WebP."""
    format: str = "png"
    """Name of the source's format, a key of ``formats.FORMATS``."""
    metadata: Metadata = field(default_factory=Metadata)
    warnings: tuple[str, ...] = ()
    """What was converted, dropped or doubtful while reading, one line each, without the file's name."""

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or 0 in self.rgb.shape:
            raise ValueError(f"rgb must be uint8 (H, W, 3), got {self.rgb.dtype} {self.rgb.shape}")
        if self.alpha is not None and (self.alpha.dtype != np.uint8 or self.alpha.shape != self.size):
            raise ValueError(f"alpha must be uint8 {self.size}, got {self.alpha.dtype} {self.alpha.shape}")
        deep = self.samples16
        if deep is not None and (deep.dtype != np.uint16 or deep.shape not in (self.size, self.rgb.shape)):
            raise ValueError(f"samples16 must be uint16 {self.size} or {self.rgb.shape}, got {deep.dtype} {deep.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return (self.rgb.shape[0], self.rgb.shape[1])

    @property
    def has_alpha(self) -> bool:
        """True when any pixel is less than opaque."""
        return self.alpha is not None or self.alpha_value != 255

    def with_pixels(self, rgb: U8, *, alpha: U8 | None = None, samples16: U16 | None = None) -> Picture:
        """The same picture with other pixels (of any size): how an upscaled picture inherits metadata and kind.

        Args:
            rgb: uint8 (H, W, 3).
            alpha: uint8 (H, W), for a picture that had ``alpha``; leaving it out makes the picture opaque (or of the
                constant ``alpha_value`` that it had).
            samples16: uint16, from ``planes.upscale_samples16``, for a picture that had ``samples16``.
        """
        return replace(self, rgb=rgb, alpha=alpha, samples16=samples16)


@dataclass(frozen=True)
class Frame:
    """One picture of a file that holds several."""

    picture: Picture
    duration_ms: float = 0.0
    """How long an animation shows it, in milliseconds; 0 for the pages of a document."""
