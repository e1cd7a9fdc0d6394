"""Super-resolution networks, written once in float with quantizers that training learns and engines lower."""

from __future__ import annotations

from gdq_cli.networks.edsr import Edsr, EdsrConfig
from gdq_cli.networks.srresnet import Srresnet, SrresnetConfig

Network = Edsr | Srresnet
"""A network that a checkpoint can hold and an engine can run."""

NetworkConfig = EdsrConfig | SrresnetConfig
"""What fixes the tensor shapes of a :data:`Network`."""

__all__ = ["Edsr", "EdsrConfig", "Network", "NetworkConfig", "Srresnet", "SrresnetConfig"]
