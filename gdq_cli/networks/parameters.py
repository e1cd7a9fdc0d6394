"""A network as data: its configuration and its tensors in NumPy; the torch module is made when something needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gdq_cli.program.layers import Tensors

if TYPE_CHECKING:
    from gdq_cli.networks import Network, NetworkConfig
    from gdq_cli.program.operations import Program

_BUFFERS = ("equalization", "activation_signed", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Parameters:
    """Everything a checkpoint says of its network.

    Attributes:
        config: sizes.
        tensors: by the names of the module's state dict.
    """

    config: NetworkConfig
    tensors: Tensors

    @property
    def count(self) -> int:
        """Numbers that training learned: weights, biases, steps."""
        return sum(value.size for key, value in self.tensors.items() if not key.endswith(_BUFFERS))

    @cached_property
    def program(self) -> Program:
        """The network in integers, as engines run it.

        Raises:
            WeightsError: if it is a float32 network or its integers leave the exact range.
        """
        from gdq_cli.networks import lower_network

        return lower_network(self)

    @property
    def outline(self) -> Program:
        """Something to count MACs in: the program, or for a float32 network what its program would be."""
        from gdq_cli.networks import outline

        return self.program if self.config.bit_widths else outline(self.config)

    @cached_property
    def module(self) -> Network:
        """The network in torch, in eval mode, on the CPU."""
        import torch

        from gdq_cli.networks import build_network

        with torch.device("meta"):
            network = build_network(self.config)
        network.load_state_dict({key: torch.from_numpy(value) for key, value in self.tensors.items()}, assign=True)
        return network.eval()


def parameters_of(network: Network | Parameters) -> Parameters:
    """The parameters of a module, sharing its memory; parameters are returned as they are."""
    if isinstance(network, Parameters):
        return network
    tensors = {key: value.detach().cpu().contiguous().numpy() for key, value in network.state_dict().items()}
    parameters = Parameters(network.config, tensors)
    parameters.__dict__["module"] = network
    return parameters
