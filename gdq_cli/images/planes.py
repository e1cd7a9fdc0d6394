"""The planes that go around the network: alpha, and the low bits of 16-bit pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from gdq_cli.images.picture import U8, U16

F32 = npt.NDArray[np.float32]
_BAND_PIXELS = 1 << 20  # work in bands of about a megapixel, so that temporaries stay small for any picture


def bands(height: int, width: int, pixels: int = _BAND_PIXELS) -> list[slice]:
    """Row slices that cover a picture, each of about ``pixels`` pixels and at least one row."""
    rows = max(1, pixels // max(1, width))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


_LEAST = np.float32(1e-9)  # keeps the quotient of nothing by nothing 0
_TRUSTED = np.float32(16)
"""Alpha, of 255 where the picture is most opaque, from which a pixel's own colour counts in full. Below it counts in
proportion, so that what replaces it is worth 4 levels at most of what is seen."""


def bleed_colour(rgb: U8, alpha: U8) -> U8:
    """Replace the colour of invisible and hardly visible pixels by that of the visible ones near them.

    What lies under transparent pixels is arbitrary (often black or white); a network or a filter would drag it into the
    visible edge as a halo. Push-pull on a pyramid of 2 x 2 averages: going down, colours are averaged, weighted by
    alpha; going up, a pixel takes as much of its colour from the coarse cells around it as its alpha falls short of
    `_TRUSTED`. O(pixels).

    Args:
        rgb: uint8 (H, W, 3).
        alpha: uint8 (H, W), 0 = transparent.

    Returns:
        uint8 (H, W, 3). Pixels with alpha >= 16 are unchanged; ``rgb`` itself when there is nothing to fill (no such
        pixel) or nothing to fill from (no visible one).
    """
    top = int(alpha.max())
    weight = alpha * np.float32(255 / max(top, 1))
    faint = weight < _TRUSTED
    if top == 0 or not faint.any():
        return rgb
    weighted = np.empty((4, *alpha.shape), np.float32)
    weighted[:3] = np.moveaxis(rgb, 2, 0)
    weighted[3] = 1
    weighted *= weight
    out = rgb.copy()
    out[faint] = np.clip(np.rint(_fill(weighted, faint)), 0, 255).astype(np.uint8).T
    return out


def _fill(weighted: F32, faint: npt.NDArray[np.bool_]) -> F32:
    """Colours (3, n) for the ``faint`` pixels of planes (4, h, w): colours multiplied by a weight, and the weight."""
    own = weighted[:, faint]
    h, w = weighted.shape[1:]
    if h == w == 1:
        lone: F32 = own[:3] / own[3]
        return lone
    padded = np.pad(weighted, ((0, 0), (0, h % 2), (0, w % 2))) if h % 2 or w % 2 else weighted
    coarse = padded[:, 0::2, 0::2] + padded[:, 0::2, 1::2]
    coarse += padded[:, 1::2, 0::2]
    coarse += padded[:, 1::2, 1::2]
    coarse *= np.float32(0.25)
    # From far to near: the pixel's own cell, itself filled from further up; the cells around the pixel by their
    # distance; the pixel itself.
    near = _interpolate(_interpolate(coarse, 1), 2)[:, :h, :w][:, faint]
    far = coarse[:3] / np.maximum(coarse[3], _LEAST)
    hollow = coarse[3] < _TRUSTED
    if hollow.any():
        far[:, hollow] = _fill(coarse, hollow)
    rows, columns = np.nonzero(faint)
    colours: F32 = far[:, rows // 2, columns // 2]
    for seen in (near, own):
        colours += (seen[:3] / np.maximum(seen[3], _LEAST) - colours) * np.minimum(seen[3] / _TRUSTED, np.float32(1))
    return colours


def _interpolate(coarse: F32, axis: int) -> F32:
    """Twice the samples along an axis, linear between the centres of the cells; zero outside."""
    cells = np.moveaxis(coarse, axis, 0)
    shape = list(coarse.shape)
    shape[axis] *= 2
    result = np.empty(shape, np.float32)
    out = np.moveaxis(result, axis, 0)
    out[0::2] = np.float32(0.75) * cells
    out[1::2] = out[0::2]
    out[2::2] += np.float32(0.25) * cells[:-1]
    out[1:-1:2] += np.float32(0.25) * cells[1:]
    return result


def flatten(rgb: U8, alpha: U8, background: tuple[int, int, int]) -> U8:
    """Composite a picture over one colour: round((rgb * alpha + background * (255 - alpha)) / 255).

    Args:
        rgb: uint8 (H, W, 3), not premultiplied.
        alpha: uint8 (H, W).
        background: R, G, B in [0, 255].

    Returns:
        uint8 (H, W, 3).
    """
    out = np.empty_like(rgb)
    for rows in bands(*alpha.shape):
        opacity = alpha[rows, :, None].astype(np.uint32)
        mixed = rgb[rows] * opacity + np.asarray(background, np.uint32) * (255 - opacity)
        out[rows] = (mixed + 127) // 255
    return out


def luma(rgb: U8) -> U8:
    """BT.601 luma of uint8 (H, W, 3) as uint8 (H, W); exactly R where R == G == B."""
    red, green, blue = 19595, 38470, 7471  # 0.299, 0.587, 0.114 of 65536, their sum
    out = np.empty(rgb.shape[:2], np.uint8)
    for rows in bands(*rgb.shape[:2]):
        band = rgb[rows].astype(np.uint32)
        out[rows] = (band[..., 0] * red + band[..., 1] * green + band[..., 2] * blue + 32768) >> 16
    return out


def is_grey(rgb: U8) -> bool:
    """True when R == G == B in every pixel of uint8 (H, W, 3). Stops at the first band that has colour."""
    return all(
        bool((rgb[rows, :, 0] == rgb[rows, :, 1]).all() and (rgb[rows, :, 1] == rgb[rows, :, 2]).all())
        for rows in bands(rgb.shape[0], rgb.shape[1], 1 << 16)
    )


def to_8bit(samples16: U16) -> U8:
    """uint16 of any shape to uint8: round(v / 257), so that 65535 is 255 and v * 257 goes back exactly."""
    return ((samples16.astype(np.uint32) + 128) // 257).astype(np.uint8)


def upscale_samples16(samples16: U16, sr8: U8) -> U16:
    """Give the network's 8-bit super-resolution the low bits of a 16-bit source.

    The network sees ``to_8bit(samples16)``. Its result splits into the Lanczos upsampling of what it saw plus the
    detail it added; the 16-bit result is the Lanczos upsampling of the 16-bit samples plus that same detail:

        sr16 = lanczos(samples16) + (257 * sr8 - lanczos(257 * to_8bit(samples16)))

    Lanczos is linear, so this is ``257 * sr8 + lanczos(samples16 - 257 * to_8bit(samples16))``: the network's picture
    plus the upsampled rounding error of its input. Smooth gradients get their 16-bit steps back; edges are the
    network's.

    Args:
        samples16: uint16 (H, W) for grey or (H, W, 3), range [0, 65535].
        sr8: uint8 (sH, sW, 3), the network's output; for grey samples its luma is taken ((sH, sW) is accepted too).

    Returns:
        uint16 (sH, sW) or (sH, sW, 3), clamped to [0, 65535].
    """
    if samples16.ndim == 2:
        return _upscale_plane16(samples16, sr8 if sr8.ndim == 2 else luma(sr8))
    out = np.empty(sr8.shape, np.uint16)
    for channel in range(3):
        out[..., channel] = _upscale_plane16(samples16[..., channel], sr8[..., channel])
    return out


def _upscale_plane16(samples16: U16, sr8: U8) -> U16:
    error = samples16.astype(np.float32) - np.float32(257) * to_8bit(samples16)
    upsampled = Image.fromarray(error).resize((sr8.shape[1], sr8.shape[0]), Image.Resampling.LANCZOS)
    result = np.array(upsampled)
    result += np.float32(257) * sr8
    np.rint(result, out=result)
    clipped: U16 = np.clip(result, 0, 65535).astype(np.uint16)
    return clipped
