"""What fixes an SRResNet: its sizes. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gdq_cli.bits.widths import BIT_WIDTHS


@dataclass(frozen=True)
class SrresnetConfig:
    """Everything that fixes the tensor shapes of an SRResNet.

    Raises:
        ValueError: if a value is out of range.
    """

    name: ClassVar = "srresnet"
    scale: int
    blocks: int = 16
    features: int = 64
    bit_widths: tuple[int, ...] = BIT_WIDTHS
    """Widths of the blocks' convolutions; empty for a float32 network."""

    def __post_init__(self) -> None:
        if self.scale not in (2, 4):
            raise ValueError(f"scale must be 2 or 4, not {self.scale}")

    @property
    def stages(self) -> tuple[int, ...]:
        """Pixel-shuffle factor of each upsampler conv."""
        return (2, 2) if self.scale == 4 else (2,)

    @property
    def static_bits(self) -> tuple[int, ...]:
        """Widths of the layers after the blocks: none of them is quantized."""
        return ()

    @property
    def sizes(self) -> str:
        """For people: how deep and how wide it is."""
        return f"{self.blocks} blocks of {self.features} features"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint's metadata."""
        return asdict(self)
