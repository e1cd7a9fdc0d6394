"""Where calibration and training start: a float32 network from our own checkpoint or from another project's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from gdq_cli.checkpoint import is_checkpoint, read_checkpoint
from gdq_cli.convert import convert_file
from gdq_cli.errors import WeightsError
from gdq_cli.networks import Edsr, EdsrConfig, FloatNetwork, FloatNetworkT, Srresnet, build_network


def read_start(path: Path, scale: int | None = None) -> tuple[FloatNetwork, dict[str, Any]]:
    """Read a float32 network to start from.

    Args:
        path: a gdq checkpoint (quantizers are dropped), or any file of float32 weights that
            :func:`gdq_cli.convert.convert_file` knows.
        scale: that it must have; None if it may have any.

    Returns:
        The network, and the facts that its file tells about itself.

    Raises:
        WeightsError: if it is neither, or of another scale.
    """
    checkpoint = read_checkpoint(path) if is_checkpoint(path) else convert_file(path, path.stem)
    if isinstance(checkpoint.network, Srresnet):
        raise WeightsError(f"{path}: {checkpoint.network.name} networks can be run but not calibrated or trained")
    if scale not in (None, checkpoint.scale):
        raise WeightsError(f"{path}: a network of scale x{checkpoint.scale}, not x{scale}")
    return float_copy(checkpoint.network), checkpoint.facts


def random_start(scale: int, seed: int = 0) -> Edsr:
    """A float32 network with random weights; second convolutions of blocks start at a tenth, close to the identity."""
    torch.manual_seed(seed)
    network = Edsr(EdsrConfig(scale, bit_widths=()))
    with torch.no_grad():
        for block in network.blocks:
            block.conv2.weight.mul_(0.1)
    return network


def at_scale(network: Edsr, scale: int | None) -> Edsr:
    """The same body with an upsampler for another scale; layers that fit are taken over, others start at random."""
    if scale in (None, network.config.scale):
        return network
    rescaled = Edsr(replace(network.config, scale=scale)).eval()
    wanted = {name: value.shape for name, value in rescaled.state_dict().items()}
    fitting = {name: value for name, value in network.state_dict().items() if wanted.get(name) == value.shape}
    rescaled.load_state_dict(fitting, strict=False)
    return rescaled


def float_copy(network: FloatNetworkT) -> FloatNetworkT:
    """The float32 network below a quantized one: the same weights without quantizers."""
    copy = cast(FloatNetworkT, build_network(replace(network.config, bit_widths=(), static_bits=())))
    kept = copy.state_dict().keys()
    copy.load_state_dict({key: value for key, value in network.state_dict().items() if key in kept})
    copy.eval()
    return copy
