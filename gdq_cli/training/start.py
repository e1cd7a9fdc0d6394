"""Where calibration and training start: a float32 network from our own checkpoint or from another project's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import is_checkpoint, read_checkpoint
from gdq_cli.models.convert import convert_file
from gdq_cli.networks import KINDS, Edsr, EdsrConfig, Network, NetworkT, build_network
from gdq_cli.networks.edsr.config import Upsampler


def read_start(path: Path, scale: int | None = None) -> tuple[Network, dict[str, Any]]:
    """Read a float32 network to start from.

    Args:
        path: a gdq checkpoint (quantizers are dropped), or any file of float32 weights that
            ``gdq_cli.models.convert.convert_file`` knows.
        scale: that it must have; None if it may have any.

    Returns:
        The network, and the facts that its file tells about itself.

    Raises:
        WeightsError: if it is neither, or of another scale.
    """
    checkpoint = read_checkpoint(path) if is_checkpoint(path) else convert_file(path, path.stem)
    if not KINDS[checkpoint.config.name].trainable:
        raise WeightsError(f"{path}: {checkpoint.config.name} networks can be run but not calibrated or trained")
    if scale not in (None, checkpoint.scale):
        raise WeightsError(f"{path}: a network of scale x{checkpoint.scale}, not x{scale}")
    return float_copy(checkpoint.network), checkpoint.facts


def random_start(scale: int, seed: int = 0, upsampler: Upsampler = "pixelshuffle") -> Edsr:
    """A float32 network with random weights; second convolutions of blocks start at a tenth, close to the identity."""
    torch.manual_seed(seed)
    network = Edsr(EdsrConfig(scale, bit_widths=(), upsampler=upsampler))
    with torch.no_grad():
        for block in network.blocks:
            block.conv2.weight.mul_(0.1)
    return network


def reshaped(network: Edsr, scale: int | None = None, upsampler: Upsampler | None = None, seed: int = 0) -> Edsr:
    """The same body with an upsampler for another scale or of another kind.

    Layers that fit are taken over, others start at random, by the seed; ``pixelshuffledirect`` in place of
    ``pixelshuffle`` at the same scale starts as near to the old upsampler as its one convolution can be.
    """
    config = network.config
    wanted = replace(config, scale=scale or config.scale, upsampler=upsampler or config.upsampler)
    if wanted == config:
        return network
    torch.manual_seed(seed)
    other = Edsr(wanted).eval()
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    fitting = {name: value for name, value in network.state_dict().items() if shapes.get(name) == value.shape}
    other.load_state_dict(fitting, strict=False)
    if wanted.upsampler == "pixelshuffledirect" and wanted.scale == config.scale and config.stages:
        weight, bias = collapse_upsampler(network)
        other.tail.weight.data.copy_(weight)
        other.tail.bias.data.copy_(bias)
    return other


@torch.no_grad()
def collapse_upsampler(network: Edsr) -> tuple[Tensor, Tensor]:
    """One 3x3 convolution at LR size for EDSR's whole upsampler and tail, which are linear.

    Together they are a 5x5 convolution; the taps of its outer ring are added to their inner neighbours, so that what is
    smooth stays as it is.

    Returns:
        Weight (3 * scale^2, C, 3, 3) and bias (3 * scale^2,) in front of a pixel shuffle.
    """
    channels, scale, centre = network.config.features, network.config.scale, 4
    impulses = torch.zeros(channels + 1, channels, 2 * centre + 1, 2 * centre + 1)  # the last one is no impulse
    impulses[range(channels), range(channels), centre, centre] = 1
    x = impulses
    for layer in (*network.upsampler, network.tail):
        x = layer(x)
    response = F.pixel_unshuffle(x, scale)
    bias = response[-1, :, centre, centre]
    # What an output pixel takes from its neighbour below stands in the response above the impulse.
    taps = (response[:-1] - response[-1:])[:, :, centre - 2 : centre + 3, centre - 2 : centre + 3].flip(2, 3)
    for axis in (2, 3):
        outer_low, *inner, outer_high = taps.unbind(axis)
        taps = torch.stack([inner[0] + outer_low, inner[1], inner[2] + outer_high], axis)
    return taps.transpose(0, 1).contiguous(), bias


def float_copy(network: NetworkT) -> NetworkT:
    """The float32 network below a quantized one: the same weights without quantizers."""
    copy = cast(NetworkT, build_network(replace(network.config, bit_widths=(), static_bits=())))
    kept = copy.state_dict().keys()
    copy.load_state_dict({key: value for key, value in network.state_dict().items() if key in kept})
    copy.eval()
    return copy
