"""The Python interface: ``gdq_cli.load(scale=4).upscale(picture)``. Pictures come and go in memory."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gdq_cli.errors import ImageError, OptionsError, memory_errors
from gdq_cli.images import bleed_colour, luma, read_compression
from gdq_cli.models.choice import choose_model
from gdq_cli.models.store import native_scale
from gdq_cli.options import AUTO_MODEL, NATIVE_SCALES, Prefer, UpscaleOptions, check_bits
from gdq_cli.upscaling.pool import UpscalerPool
from gdq_cli.upscaling.resample import resize_into
from gdq_cli.upscaling.upscaler import UpscaleResult

if TYPE_CHECKING:
    from gdq_cli.upscaling.progress import Progress
    from gdq_cli.upscaling.upscaler import Upscaler

__all__ = ["Model", "UpscaleResult", "load_model"]

_GREY_MODES = ("1", "L")
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


class Model:
    """A model on a device, ready to upscale; made by ``gdq_cli.load``. Use one thread at a time."""

    def __init__(self, pool: UpscalerPool, model: str, scale: int) -> None:
        self._pool, self._model, self._scale = pool, model, scale
        self._first = self._get(choose_model(model, None)[0])

    def _get(self, model: str) -> Upscaler:
        return self._pool.get(native_scale(model, self._scale), model)

    @property
    def name(self) -> str:
        """Of the model; ``auto`` where it depends on the picture."""
        return AUTO_MODEL if self._model == AUTO_MODEL else self._first.checkpoint.name

    @property
    def scale(self) -> int:
        """The factor: 2, 3 or 4."""
        return self._scale

    @property
    def engine(self) -> str:
        """Which engine runs it, such as ``native``; of ``auto``, the model that arrays get."""
        return self._first.engine.name

    @property
    def device(self) -> str:
        """Which torch device it runs on."""
        return self._first.engine.device

    @memory_errors()
    def upscale(
        self,
        image: Image.Image | NDArray[np.uint8],
        *,
        bits: str | int = "auto",
        budget: float | None = None,
        prefer: Prefer = "bits",
        progress: Progress | None = None,
    ) -> UpscaleResult:
        """Upscale a picture. The same picture gives the same bytes, whatever the number of threads.

        With the model ``auto``, a Pillow image is judged by the file that it was opened from, as ``format`` and
        ``quantization`` tell; Pillow does not tell a lossless WebP, so any WebP counts as lossy. What was converted or
        changed since has no file and gets ``edsr``, as arrays do.

        Args:
            image: a Pillow image of 8 bits in any mode (its EXIF orientation is applied, a palette expanded), or a
                uint8 array: (H, W, 3) RGB, (H, W, 4) RGBA with straight alpha, or (H, W) grey. Alpha is resampled with
                Lanczos.
            bits: ``auto``, one of 4, 5, 6, 8 to force a width everywhere, or ``fp32``; a number may be a string.
            budget: spend at most this average bit-width (4 to 8) instead of the controller's own choice.
            prefer: ``time`` spends bits where they take no longer on this engine; pixels then depend on it.
            progress: called with the finished and all units of work; may raise to end the run.

        Raises:
            OptionsError: if the image or the options are not of this kind.
            ImageError: if Pillow cannot read the image.
            WeightsError: if the model has no such bit-width, or the one chosen cannot be had.
            DeviceError: if memory does not suffice, or the network gives values that are no numbers.
        """
        check_bits(str(bits), budget, prefer)
        if progress is not None and not callable(progress):
            raise OptionsError(f"`progress` must be a function or None, not {progress!r}")
        compression = read_compression(image) if isinstance(image, Image.Image) else None
        model, reason = choose_model(self._model, compression)
        rgb, alpha, grey = _to_planes(image)
        if alpha is not None:
            rgb = bleed_colour(rgb, alpha)
        upscaler = self._get(model)
        result = upscaler.upscale(rgb, bits=str(bits), budget=budget, prefer=prefer, progress=progress)
        pixels = result.image
        if upscaler.scale != self.scale:
            pixels = np.empty((rgb.shape[0] * self.scale, rgb.shape[1] * self.scale, 3), np.uint8)
            resize_into(result.image, pixels)
        if grey:
            pixels = luma(pixels)
        elif alpha is not None:
            resized = np.empty(pixels.shape[:2], np.uint8)
            resize_into(alpha, resized)
            pixels = np.dstack([pixels, resized])
        record = replace(result.record, model_reason=reason, out_size=pixels.shape[:2])
        return UpscaleResult(pixels, result.plan, record)


def load_model(model: str | os.PathLike[str], scale: int, device: str, threads: int | None) -> Model:
    """See ``gdq_cli.load``."""
    if not isinstance(model, str | os.PathLike) or not isinstance(device, str):
        raise OptionsError(f"`model` and `device` are texts, not {model!r} and {device!r}")
    if type(scale) is not int or scale not in NATIVE_SCALES:
        raise OptionsError(f"`scale` must be 2, 3 or 4, not {scale!r}")
    if threads is not None and type(threads) is not int:
        raise OptionsError(f"`threads` is a whole number or None, not {threads!r}")
    model = os.fspath(model)
    options = UpscaleOptions(model=model, device=device, threads=threads)
    return Model(UpscalerPool(options.model, options.device, options.threads), options.model, scale)


def _to_planes(image: Image.Image | NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, bool]:
    """RGB (H, W, 3), alpha (H, W) or None, and whether the picture is grey."""
    if isinstance(image, Image.Image):
        if image.mode in _DEEP_MODES:
            raise OptionsError(
                f"a Pillow image of mode {image.mode} has no fixed range; convert it to 8 bits first (mode L)"
            )
        try:
            array, grey = _from_pillow(image)
        except MemoryError:
            raise
        except Exception as error:  # a plugin's, or of a palette or transparency that makes no sense
            raise ImageError(f"the Pillow image cannot be read ({error})") from error
    else:
        if isinstance(image, np.ma.MaskedArray):
            raise OptionsError("a masked array is no image, since a pixel has no way to be absent; fill it first")
        try:
            array = np.asarray(image)
        except ValueError as error:
            raise OptionsError(f"an image is a uint8 array or a Pillow image, not a {type(image).__name__}") from error
        grey = array.ndim == 2
        if array.dtype != np.uint8 or 0 in array.shape or not (grey or array.shape[2:] in ((3,), (4,))):
            raise OptionsError(f"an image is uint8 (H, W, 3), (H, W, 4) or (H, W), not {array.shape} {array.dtype}")
        if grey:
            array = np.repeat(array[:, :, None], 3, axis=2)
    alpha = np.ascontiguousarray(array[:, :, 3]) if array.shape[2] == 4 else None
    return np.ascontiguousarray(array[:, :, :3]), alpha, grey


def _from_pillow(image: Image.Image) -> tuple[NDArray[np.uint8], bool]:
    """RGB or RGBA samples, upright, and whether the picture is grey."""
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # Pillow knows one way out of it
        image = image.convert("LA")
    transparent = image.has_transparency_data
    array = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    return array, image.mode in _GREY_MODES and not transparent
