"""What a network's folder tells about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.program.layers import IntegerHead, Tensors, lower_head
from gdq_cli.program.operations import Program

if TYPE_CHECKING:
    from gdq_cli.bits.controller_release import ReleaseHead
    from gdq_cli.networks.blocks import Network


MAX_FEATURES, MAX_BLOCKS = 256, 64
"""Limits of what this program is willing to allocate; EDSR's largest has 256 features and 32 blocks."""


class NetworkConfig:
    """What fixes the tensor shapes of a network: a frozen dataclass.

    Its fields are ``scale``, ``features``, a depth, tuples of bit-widths, and words with a default.

    Attributes:
        name: of the network, in checkpoints and in its module's path.
        depth: which field counts its layers.
        scale: upscaling factor.
        features: channels at LR size.
        bit_widths: of the dynamic layers; empty for a float32 network.
    """

    name: ClassVar[str]
    depth: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]
    scale: int
    features: int
    bit_widths: tuple[int, ...]

    @property
    def static_bits(self) -> tuple[int, ...]:
        """Widths of the layers that have one for all patches."""
        return ()

    @property
    def sizes(self) -> str:
        """For people: how deep and how wide it is."""
        return f"{getattr(self, self.depth)} {self.depth} of {self.features} features"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint's metadata."""
        return asdict(self)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors in a checkpoint."""
        raise NotImplementedError

    def tensor_dtype(self, name: str) -> str:
        """NumPy's name of a tensor's type."""
        return "float32"


@dataclass(frozen=True)
class NetworkKind:
    """One kind of network, as its folder's ``KIND`` describes it.

    Attributes:
        config: its sizes.
        lower: from a configuration and the tensors of a checkpoint to a program.
        module: name of the torch class in the folder's ``network`` module.
        mean: RGB that the head subtracts, in grey levels.
        trainable: whether it can be calibrated and trained.
        controller_head: what the controller sees of a patch, if not the head in integers.
    """

    config: type[Any]
    lower: Callable[[Any, Tensors], Program]
    module: str
    mean: tuple[int, int, int] = (0, 0, 0)
    trainable: bool = True
    controller_head: Callable[[Tensors], ReleaseHead] | None = None

    @property
    def name(self) -> str:
        """Of the network."""
        name: str = self.config.name
        return name

    @cached_property
    def network(self) -> type[Network]:
        """The torch class."""
        network: type[Network] = getattr(import_module(f"{self.config.__module__[:-7]}.network"), self.module)
        return network

    def head(self, tensors: Tensors) -> IntegerHead | ReleaseHead:
        """The head as the controller sees it."""
        if self.controller_head is not None:
            return self.controller_head(tensors)
        return lower_head(tensors, self.mean)

    def parse(self, values: dict[str, Any]) -> NetworkConfig:
        """A configuration from a checkpoint's metadata.

        Raises:
            KeyError, TypeError, ValueError: if a value is missing, of another type or out of range.
        """
        names = [field.name for field in fields(self.config)]
        lists = [name for name in names if name.endswith("_bits") or name == "bit_widths"]
        numbers: dict[str, Any] = {key: values[key] for key in ("scale", self.config.depth, "features")}
        widths = {key: tuple(values[key]) for key in lists}
        if any(type(value) is not int for value in [*numbers.values(), *sum(widths.values(), ())]):
            raise ValueError("a size is not an integer")
        depth, features = numbers[self.config.depth], numbers["features"]
        if not (1 <= depth <= MAX_BLOCKS and 1 <= features <= MAX_FEATURES):
            raise ValueError(f"{ascii(depth)[:40]} {self.config.depth} of {ascii(features)[:40]} are out of range")
        if widths["bit_widths"] not in ((), BIT_WIDTHS) or not set(widths.get("static_bits", ())) <= set(BIT_WIDTHS):
            raise ValueError(f"bit-widths {ascii(list(widths.values()))[:60]}")
        words = {key: values[key] for key in names if key not in (*numbers, *widths) and key in values}
        config: NetworkConfig = self.config(**numbers, **widths, **words)
        return config
