"""What fixes a Compact: its sizes and the tensors of its checkpoint. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.networks.kind import NetworkConfig
from gdq_cli.program.grids import Grid, check_four_bit_grid
from gdq_cli.program.layers import ConvConfig, conv_shapes


@dataclass(frozen=True)
class CompactConfig(NetworkConfig):
    """Everything that fixes the tensor shapes of a Compact.

    Raises:
        ValueError: if a value is out of range.
    """

    name: ClassVar = "compact"
    depth: ClassVar = "convs"
    scale: int
    convs: int = 32
    """Convolutions between the first and the last."""
    features: int = 64
    bit_widths: tuple[int, ...] = BIT_WIDTHS
    """Widths of the dynamic layers; empty for a float32 network."""
    static_bits: tuple[int, ...] = field(default=())
    """Width of the last convolution; 8 if not given."""
    four_bit_grid: Grid = "narrow"
    """Grid of the dynamic layers' weights in patches of 4 bits: narrow in checkpoints before there was another."""

    def __post_init__(self) -> None:
        if self.scale not in (2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, not {self.scale}")
        check_four_bit_grid(self.four_bit_grid)
        if self.bit_widths and not self.static_bits:
            object.__setattr__(self, "static_bits", (8,))
        if len(self.static_bits) != bool(self.bit_widths):
            raise ValueError("static_bits needs one entry, or none in a float32 network")

    @property
    def sizes(self) -> str:
        return f"{self.convs} convolutions of {self.features} features"

    @property
    def quant_convs(self) -> dict[str, ConvConfig]:
        """The quantized convolutions by name, in order."""
        features, equalized = self.features, bool(self.bit_widths)
        layer = ConvConfig(features, features, self.bit_widths, equalized=equalized, four_bits=self.four_bit_grid)
        tail = ConvConfig(features, 3 * self.scale**2, self.static_bits, equalized=equalized)
        return {**{f"body.{index}.conv": layer for index in range(self.convs)}, "tail": tail}

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors in a checkpoint, all float32."""
        slopes = ["head_act", *(f"body.{index}.act" for index in range(self.convs))]
        shapes = conv_shapes({"head": ConvConfig(3, self.features, ()), **self.quant_convs})
        return shapes | {f"{name}.weight": (self.features,) for name in slopes}
