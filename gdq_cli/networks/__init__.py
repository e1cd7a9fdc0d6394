"""Super-resolution networks, written once in float with quantizers that training learns and engines lower."""

from __future__ import annotations

from typing import TypeVar

from gdq_cli.networks.compact.network import Compact, CompactConfig
from gdq_cli.networks.edsr.network import Edsr, EdsrConfig
from gdq_cli.networks.srresnet.network import Srresnet, SrresnetConfig

Network = Edsr | Srresnet | Compact
"""A network that a checkpoint can hold and an engine can run."""

FloatNetwork = Edsr | Compact
"""A network that calibration turns from float32 into a quantized one."""

FloatNetworkT = TypeVar("FloatNetworkT", bound=Edsr | Compact)

NetworkConfig = EdsrConfig | SrresnetConfig | CompactConfig
"""What fixes the tensor shapes of a :data:`Network`."""


def build_network(config: NetworkConfig) -> Network:
    """The network of these sizes, with random weights."""
    if isinstance(config, EdsrConfig):
        return Edsr(config)
    return Compact(config) if isinstance(config, CompactConfig) else Srresnet(config)


__all__ = [
    "Compact",
    "CompactConfig",
    "Edsr",
    "EdsrConfig",
    "FloatNetwork",
    "FloatNetworkT",
    "Network",
    "NetworkConfig",
    "Srresnet",
    "SrresnetConfig",
    "build_network",
]
