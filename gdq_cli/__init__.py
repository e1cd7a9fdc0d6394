"""gdq: fast image upscaling with real Granular-DQ.

    import gdq_cli
    from PIL import Image

    model = gdq_cli.load(scale=4)
    result = model.upscale(Image.open("in.jpg"))
    result.pil.save("out.png")
    print(result.fab, result.bit_map)

Importing this package is cheap; torch comes with what needs it, which the native engine does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdq_cli._version import __version__
from gdq_cli.errors import DeviceError, GdqError, ImageError, OptionsError, WeightsError

if TYPE_CHECKING:
    import os

    from gdq_cli.api import Model, UpscaleResult

__all__ = [
    "DeviceError",
    "GdqError",
    "ImageError",
    "Model",
    "OptionsError",
    "UpscaleResult",
    "WeightsError",
    "__version__",
    "load",
]


def load(
    model: str | os.PathLike[str] = "auto", scale: int = 4, *, device: str = "auto", threads: int | None = None
) -> Model:
    """Load a model once, to upscale any number of pictures with it.

    Args:
        model: ``auto`` chooses for each picture: ``photo`` for a Pillow image just opened from a lossy file such as a
            JPEG, ``edsr`` for any other and for arrays, which have no file. Or a name (``gdq models list``),
            ``hf:owner/repo[@revision]``, or the path of a .safetensors checkpoint.
        scale: 2, 3 or 4. Where a model known by name has no such checkpoint but a larger one, that runs and its result
            is reduced with Lanczos.
        device: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        threads: CPU threads of this process, torch's included; None for the cores it may use.

    Raises:
        OptionsError: if an argument is out of range.
        WeightsError: if there is no such model, or it is damaged.
        DeviceError: if there is no such device.
    """
    from gdq_cli.api import load_model

    return load_model(model, scale, device, threads)


def __getattr__(name: str) -> Any:
    if name in ("Model", "UpscaleResult"):
        from gdq_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
