"""What a user can ask of an upscale run: the only home of defaults and of rules between options. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Literal, get_args

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.errors import OptionsError

if TYPE_CHECKING:
    from gdq_cli.bits.controller import Descriptor

NATIVE_SCALES = (2, 3, 4)
"""Factors that networks are trained for; others are reached by resampling a native result."""

MAX_SCALE = 64.0
DEFAULT_SCALE = 4.0
AUTO_MODEL = "auto"
"""As ``model``: each picture gets the model that suits its file; see ``gdq_cli.models.choice``."""

DEFAULT_MODEL = "edsr"
"""Of the commands that judge a model and not a picture."""

Prefer = Literal["bits", "time"]
"""What ``auto`` saves: bits, as the paper does; or time, so that no patch has fewer bits where more take no longer."""

Gate = Literal["ridge", "gumbel"]
"""How a controller learns: log-linear ridge regression of what 4 bits cost, or Gumbel-softmax as in the paper."""

BITS_CHOICES = ("auto", *map(str, BIT_WIDTHS), "fp32")


def all_digits(number: float) -> str:
    """A number as messages about a limit say it: rounded it could be the limit itself."""
    return str(number).removesuffix(".0")


def check_bits(bits: str, budget: object, prefer: str) -> None:
    """Raise OptionsError unless each of the three is what it may be, and leaves the others their meaning."""
    if bits not in BITS_CHOICES:
        mixed = "; auto mixes the widths" if "," in bits else ""
        raise OptionsError(f"`bits` must be one of {', '.join(BITS_CHOICES)}, not {bits or 'empty'}{mixed}")
    if budget is not None:
        if bits != "auto":
            raise OptionsError(f"`budget` chooses bit-widths, so it contradicts `bits={bits}`")
        if isinstance(budget, bool) or not isinstance(budget, Real):
            raise OptionsError(f"`budget` must be a number or None, not {budget!r}")
        if not 4 <= float(budget) <= 8:  # also catches NaN
            raise OptionsError(f"`budget` must be between 4 and 8 bits, not {all_digits(float(budget))}")
    if prefer not in get_args(Prefer):
        raise OptionsError(f"`prefer` must be bits or time, not {prefer}")
    if prefer == "time" and (bits != "auto" or budget is not None):
        given = f"bits={bits}" if bits != "auto" else "budget"
        raise OptionsError(f"`prefer=time` chooses bit-widths by time, so it contradicts `{given}`")


@dataclass(frozen=True)
class TargetSize:
    """How large the output shall be: a factor, or one of three lengths in pixels.

    Raises:
        OptionsError: if a value is out of range or two of them are given.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("scale", "width", "height", "longest") if getattr(self, name) is not None]
        if len(given) > 1:
            raise OptionsError(f"`{given[0]}` and `{given[1]}` contradict each other; give one of them")
        if self.scale is not None and not 1 <= self.scale <= MAX_SCALE:  # also catches NaN
            raise OptionsError(f"`scale` must be between 1 and {MAX_SCALE:g}, not {all_digits(self.scale)}")
        for name in ("width", "height", "longest"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionsError(f"`{name}` must be at least 1 pixel, not {value}")

    @property
    def is_factor(self) -> bool:
        """Whether the size is a factor, the same for every picture, and not a length."""
        return self.width is None and self.height is None and self.longest is None

    @property
    def factor(self) -> float:
        """The factor, where ``is_factor``."""
        return DEFAULT_SCALE if self.scale is None else self.scale

    def resolve(self, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """The native scale to run for an LR image, and the size to deliver.

        Args:
            size: (H, W) of the input.

        Returns:
            Native scale (the smallest one that reaches the target, else the largest) and (H, W) of the output.

        Raises:
            OptionsError: if the target is smaller than the input.
        """
        height, width = size
        if self.width is not None:
            factor = self.width / width
        elif self.height is not None:
            factor = self.height / height
        elif self.longest is not None:
            factor = self.longest / max(size)
        else:
            factor = self.factor
        target = max(1, round(height * factor)), max(1, round(width * factor))
        if factor < 1:
            raise OptionsError(f"the target {target[1]}x{target[0]} is smaller than the input {width}x{height}")
        if factor > MAX_SCALE:
            raise OptionsError(f"the target {target[1]}x{target[0]} is more than {MAX_SCALE:g} times the input")
        native = next((scale for scale in NATIVE_SCALES if scale >= factor - 1e-9), NATIVE_SCALES[-1])
        return native, target


@dataclass(frozen=True)
class Encoding:
    """How a picture is written: all that decides a file's bytes, beside the picture.

    Attributes:
        format: its name; None for that of the target's suffix, and for a stream that of the picture's source.
        quality: 1 to 100 for jpg (default 95, 4:4:4; 4:2:0 below 90), webp (90) and avif (85); others ignore it.
        lossless: for webp; refused for jpg and avif. Without it a lossless WebP source stays lossless, unless a
            quality is given.
        background: R, G, B behind transparent pixels in formats without transparency.
        strip_metadata: write no EXIF, XMP, resolution, text, nor a colour profile or tag unless colours would change.
        mark: the line by which a later run knows the file, see ``gdq_cli.images.mark``; written whatever else is.

    Raises:
        OptionsError: if the quality is out of range or contradicts ``lossless``.
    """

    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    strip_metadata: bool = False
    mark: bytes = b""

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise OptionsError(f"`quality` must be between 1 and 100, not {self.quality}")
        if self.quality is not None and self.lossless:
            raise OptionsError("`quality` and `lossless` contradict each other; give one of them")


DEFAULT_ENCODING = Encoding()


@dataclass(frozen=True)
class UpscaleOptions:
    """Options of one run.

    Attributes:
        name, suffix: how outputs are called; see ``gdq_cli.runs.names``.
        memory: budget for pictures in flight, bytes; None for half of what is free.

    Raises:
        OptionsError: if a value is out of range or options contradict each other.
    """

    size: TargetSize = TargetSize()
    encoding: Encoding = DEFAULT_ENCODING
    model: str = AUTO_MODEL
    device: str = "auto"
    threads: int | None = None
    bits: str = "auto"
    budget: float | None = None
    prefer: Prefer = "bits"
    overwrite: bool = False
    alpha: Literal["lanczos", "network", "drop"] = "lanczos"
    max_pixels: int = 200_000_000
    name: str | None = None
    suffix: str | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        check_bits(self.bits, self.budget, self.prefer)
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise OptionsError(f"`threads` must be between 1 and 1024, not {self.threads}")
        if self.max_pixels < 1:
            raise OptionsError(f"`max_pixels` must be at least 1, not {self.max_pixels}")
        if self.alpha not in ("lanczos", "network", "drop"):
            raise OptionsError(f"`alpha` must be lanczos, network or drop, not {self.alpha}")


@dataclass(frozen=True)
class ControllerOptions:
    """How a controller is made.

    Attributes:
        fab: average bit-width of the training patches that it aims at.
        descriptor: kind of its descriptor.
        gate: how it learns.
        seed: of every random draw.

    Raises:
        OptionsError: if no mixture of widths has that average.
    """

    fab: float = 4.7
    descriptor: Descriptor = "band_energy"
    gate: Gate = "ridge"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 4 <= self.fab <= 8:
            raise OptionsError(f"`fab` must be between 4 and 8 bits, not {all_digits(self.fab)}")
