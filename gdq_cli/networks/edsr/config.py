"""What fixes an EDSR: its sizes and the tensors of its checkpoint. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.networks.kind import NetworkConfig
from gdq_cli.program.grids import Grid, check_four_bit_grid
from gdq_cli.program.layers import ConvConfig, conv_shapes

MEAN = (114, 111, 103)
"""Mean RGB of DIV2K in grey levels, rounded: centred pixels stay integers, so the head's input is exact."""

Upsampler = Literal["pixelshuffle", "pixelshuffledirect"]
"""EDSR's convolutions with a pixel shuffle each, or the tail alone at LR size, shuffled into pixels: 37 % fewer MACs of
the whole at x4. The field's name for it is that of SwinIR (Liang et al., ICCVW 2021)."""


@dataclass(frozen=True)
class EdsrConfig(NetworkConfig):
    """Everything that fixes the tensor shapes of an EDSR.

    Raises:
        ValueError: if a value is out of range.
    """

    name: ClassVar = "edsr"
    depth: ClassVar = "blocks"
    scale: int
    blocks: int = 16
    features: int = 64
    bit_widths: tuple[int, ...] = BIT_WIDTHS
    """Widths of the dynamic layers; empty for a float32 network."""
    static_bits: tuple[int, ...] = field(default=())
    """Width of the body conv, of each upsampler conv, and of the tail; 8 everywhere if not given."""
    upsampler: Upsampler = "pixelshuffle"
    four_bit_grid: Grid = "narrow"
    """Grid of the blocks' weights in patches of 4 bits: narrow in checkpoints before there was another."""

    def __post_init__(self) -> None:
        if self.scale not in (2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, not {self.scale}")
        check_four_bit_grid(self.four_bit_grid)
        if self.upsampler not in get_args(Upsampler):
            raise ValueError(f"upsampler must be {' or '.join(get_args(Upsampler))}, not {self.upsampler!r}")
        static = 2 + len(self.stages) if self.bit_widths else 0
        if not self.static_bits:
            object.__setattr__(self, "static_bits", (8,) * static)
        if len(self.static_bits) != static:
            raise ValueError(f"static_bits needs {static} entries at scale {self.scale}, none in a float32 network")

    @property
    def stages(self) -> tuple[int, ...]:
        """Pixel-shuffle factor of each upsampler conv: (2,), (3,) or (2, 2); none if the tail does it all."""
        if self.upsampler == "pixelshuffledirect":
            return ()
        return (2, 2) if self.scale == 4 else (self.scale,)

    @property
    def tail_factor(self) -> int:
        """Pixel-shuffle factor of the tail: 1 behind an upsampler."""
        return self.scale if self.upsampler == "pixelshuffledirect" else 1

    @property
    def quant_convs(self) -> dict[str, ConvConfig]:
        """The quantized convolutions by name, in order."""
        features, quantized = self.features, bool(self.bit_widths)
        convs = {
            f"body.{block}.{name}": ConvConfig(
                features, features, self.bit_widths, signed=name == "conv1", four_bits=self.four_bit_grid
            )
            for block in range(self.blocks)
            for name in ("conv1", "conv2")
        }
        outputs = {"body_conv": features}
        outputs |= {f"upsampler.{2 * index}": features * stage**2 for index, stage in enumerate(self.stages)}
        outputs["tail"] = 3 * self.tail_factor**2
        for index, (name, channels) in enumerate(outputs.items()):
            convs[name] = ConvConfig(features, channels, self.static_bits[index : index + 1], equalized=quantized)
        return convs

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors in a checkpoint, all float32."""
        return conv_shapes({"head": ConvConfig(3, self.features, ()), **self.quant_convs})
