"""Super-resolution networks: sizes and tensors without torch, modules that train with it, programs that engines run.

Importing this package loads no torch; the classes of the modules do when they are first asked for.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.networks import compact, edsr, srresnet
from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.networks.edsr.config import EdsrConfig
from gdq_cli.networks.kind import NetworkConfig, NetworkKind
from gdq_cli.networks.parameters import Parameters, parameters_of
from gdq_cli.networks.srresnet.config import SrresnetConfig
from gdq_cli.program.layers import IntegerHead
from gdq_cli.program.operations import Program

if TYPE_CHECKING:
    from gdq_cli.bits.controller_release import ReleaseHead
    from gdq_cli.networks.blocks import Network
    from gdq_cli.networks.compact.network import Compact
    from gdq_cli.networks.edsr.network import Edsr
    from gdq_cli.networks.srresnet.network import Srresnet

NetworkT = TypeVar("NetworkT", bound="Network")

KINDS: dict[str, NetworkKind] = {kind.name: kind for kind in (edsr.KIND, compact.KIND, srresnet.KIND)}
"""Every network that a checkpoint can hold, by name."""


def __getattr__(name: str) -> Any:
    """The torch classes, imported when first used."""
    if name == "Network":
        return import_module("gdq_cli.networks.blocks").Network
    for kind in KINDS.values():
        if name == kind.module:
            return kind.network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build_network(config: NetworkConfig) -> Network:
    """The network of these sizes in torch, with random weights."""
    return KINDS[config.name].network(config)


def lower_network(network: Network | Parameters) -> Program:
    """A quantized network in integers.

    Raises:
        WeightsError: if it is a float32 network or its integers leave the exact range.
    """
    parameters = parameters_of(network)
    return KINDS[parameters.config.name].lower(parameters.config, parameters.tensors)


@lru_cache(maxsize=8)
def outline(config: Any) -> Program:
    """The program of a network without its numbers: what there is to count, also in a float32 network."""
    if not config.bit_widths:
        config = replace(config, bit_widths=BIT_WIDTHS)
    tensors = {
        key: np.broadcast_to(np.float32(not key.endswith("weight")), shape)
        for key, shape in config.tensor_shapes().items()
    }
    return KINDS[config.name].lower(config, tensors)


def controller_head(network: Network | Parameters) -> IntegerHead | ReleaseHead:
    """The head of a network as its controller sees it."""
    parameters = parameters_of(network)
    return KINDS[parameters.config.name].head(parameters.tensors)


__all__ = [
    "KINDS",
    "Compact",
    "CompactConfig",
    "Edsr",
    "EdsrConfig",
    "Network",
    "NetworkConfig",
    "NetworkKind",
    "NetworkT",
    "Parameters",
    "Srresnet",
    "SrresnetConfig",
    "build_network",
    "controller_head",
    "lower_network",
    "outline",
    "parameters_of",
]
