"""Super-resolution networks: sizes and tensors without torch, modules that train with it, integers that engines run.

Importing this package loads no torch; the classes of the modules do when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.networks.compact.lowering import IntegerCompact, lower_compact
from gdq_cli.networks.edsr.config import MEAN, EdsrConfig
from gdq_cli.networks.edsr.lowering import IntegerNetwork, lower_edsr
from gdq_cli.networks.parameters import Parameters, parameters_of
from gdq_cli.networks.srresnet.config import SrresnetConfig
from gdq_cli.program.layers import IntegerHead, lower_head

if TYPE_CHECKING:
    from gdq_cli.bits.controller_release import ReleaseHead
    from gdq_cli.networks.compact.network import Compact
    from gdq_cli.networks.edsr.network import Edsr
    from gdq_cli.networks.srresnet.lowering import IntegerSrresnet
    from gdq_cli.networks.srresnet.network import Srresnet

Network: TypeAlias = "Edsr | Srresnet | Compact"
"""A network that a checkpoint can hold and an engine can run."""

FloatNetwork: TypeAlias = "Edsr | Compact"
"""A network that calibration turns from float32 into a quantized one."""

FloatNetworkT = TypeVar("FloatNetworkT", bound="Edsr | Compact")

NetworkConfig = EdsrConfig | SrresnetConfig | CompactConfig
"""What fixes the tensor shapes of a network."""

_MODULES = {EdsrConfig: "Edsr", CompactConfig: "Compact", SrresnetConfig: "Srresnet"}


def __getattr__(name: str) -> Any:
    """The torch classes, imported when first used."""
    if name not in _MODULES.values():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gdq_cli.networks.{name.lower()}.network"), name)


def build_network(config: NetworkConfig) -> Network:
    """The network of these sizes in torch, with random weights."""
    network: Network = __getattr__(_MODULES[type(config)])(config)
    return network


def complete_network(network: Network) -> None:
    """Set what no checkpoint holds, in a network whose tensors were just filled in."""
    if isinstance(network.config, EdsrConfig):
        import torch

        network.mean = torch.tensor(MEAN, dtype=torch.float32).reshape(1, 3, 1, 1)


def lower_network(network: Network | Parameters) -> IntegerNetwork | IntegerCompact | IntegerSrresnet:
    """A quantized network in integers.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    parameters = parameters_of(network)
    config, tensors = parameters.config, parameters.tensors
    if isinstance(config, EdsrConfig):
        return lower_edsr(config, tensors)
    if isinstance(config, CompactConfig):
        return lower_compact(config, tensors)
    from gdq_cli.networks.srresnet.lowering import lower_srresnet

    return lower_srresnet(parameters.module)  # type: ignore[arg-type]


def controller_head(network: Network | Parameters) -> IntegerHead | ReleaseHead:
    """The head of a network as its controller sees it."""
    parameters = parameters_of(network)
    if isinstance(parameters.config, SrresnetConfig):
        from gdq_cli.bits.controller_release import ReleaseHead

        return ReleaseHead(parameters.tensors["head.weight"])
    return lower_head(parameters.tensors, MEAN if isinstance(parameters.config, EdsrConfig) else (0, 0, 0))


__all__ = [
    "Compact",
    "CompactConfig",
    "Edsr",
    "EdsrConfig",
    "FloatNetwork",
    "FloatNetworkT",
    "Network",
    "NetworkConfig",
    "Parameters",
    "Srresnet",
    "SrresnetConfig",
    "build_network",
    "controller_head",
    "lower_network",
    "parameters_of",
]
