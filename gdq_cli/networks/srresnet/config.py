"""What fixes an SRResNet: its sizes. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.networks.kind import NetworkConfig

WEIGHT_RANGE = (-128, 127)
"""Codes of the release's 8-bit weights: clamped to all of int8, one step per tensor."""


@dataclass(frozen=True)
class SrresnetConfig(NetworkConfig):
    """Everything that fixes the tensor shapes of an SRResNet.

    Raises:
        ValueError: if a value is out of range.
    """

    name: ClassVar = "srresnet"
    depth: ClassVar = "blocks"
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
    def float_macs(self) -> tuple[int, int]:
        """MACs per LR pixel of the float32 layers before the blocks (9x9) and behind them (3x3, and a 9x9 tail)."""
        head, convs = 81 * 3 * self.features, 9 * self.features**2
        areas = [4**index for index in range(len(self.stages))]
        return head, convs + sum(4 * convs * area for area in areas) + self.scale**2 * head

    @property
    def float_radius(self) -> float:
        """LR pixels of context of the layers behind the blocks."""
        return 1 + sum(2.0**-index for index in range(len(self.stages))) + 4 / self.scale

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        features, widths = self.features, len(self.bit_widths)

        def norm(name: str) -> dict[str, tuple[int, ...]]:
            keys = ("weight", "bias", "running_mean", "running_var")
            return {f"{name}.{key}": (features,) for key in keys} | {f"{name}.num_batches_tracked": ()}

        shapes: dict[str, tuple[int, ...]] = {"head.weight": (features, 3, 9, 9), "head_act.weight": (1,)}
        for block in range(self.blocks):
            for index in (1, 2):
                conv = f"body.{block}.conv{index}"
                shapes[f"{conv}.weight"] = (features, features, 3, 3)
                if widths:
                    shapes |= {f"{conv}.weight_step": (1,), f"{conv}.activation_step": (widths,)}
                    shapes[f"{conv}.activation_signed"] = (widths,)
                shapes |= norm(f"body.{block}.bn{index}")
            shapes |= {f"body.{block}.act.weight": (1,), f"body.{block}.shortcut": (1,)}
        shapes["body_conv.weight"] = (features, features, 3, 3)
        shapes |= norm("body_norm")
        for stage in range(len(self.stages)):
            shapes |= {f"upsampler.{3 * stage}.weight": (4 * features, features, 3, 3)}
            shapes |= {f"upsampler.{3 * stage + 2}.weight": (1,)}
        return shapes | {"tail.weight": (3, features, 9, 9)}

    def tensor_dtype(self, name: str) -> str:
        return {"activation_signed": "uint8", "num_batches_tracked": "int64"}.get(name.rpartition(".")[2], "float32")
