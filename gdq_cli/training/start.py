"""Where training starts: a float32 network from our own checkpoint or from plain EDSR weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from gdq_cli.checkpoint import read_checkpoint
from gdq_cli.errors import WeightsError
from gdq_cli.networks.edsr import Edsr, EdsrConfig

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB that EDSR's own code subtracts, in [0, 1]."""


def read_start(path: Path, scale: int | None = None) -> tuple[Edsr, dict[str, Any]]:
    """Read a float32 network to start from.

    Args:
        path: a gdq checkpoint (quantizers are dropped), or a .safetensors file of plain EDSR weights on RGB / 255 -
            mean with keys head, body.{i}.conv1/2, body_conv, upsampler.{0,2}, tail.
        scale: wanted; by default that of the file. At another scale than the file's the network starts from the file's
            body, and from the layers behind it where their shapes are equal.

    Returns:
        The network, and the facts that its file tells about itself.

    Raises:
        WeightsError: if it is neither.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable .safetensors file ({error})") from error
    if "gdq" in metadata:
        checkpoint = read_checkpoint(path)
        if not isinstance(checkpoint.network, Edsr):
            raise WeightsError(f"{path}: {checkpoint.network.name} networks can be run but not calibrated or trained")
        return _at_scale(float_copy(checkpoint.network), scale), checkpoint.facts
    state = load_file(path)
    try:
        network = import_fp32(state, _guess_scale(state))
    except (KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: not EDSR weights ({str(error).splitlines()[0]})") from error
    return _at_scale(network, scale), {"source": path.name}


def random_start(scale: int, seed: int = 0) -> Edsr:
    """A float32 network with random weights; second convolutions of blocks start at a tenth, close to the identity."""
    torch.manual_seed(seed)
    network = Edsr(EdsrConfig(scale, bit_widths=()))
    with torch.no_grad():
        for block in network.blocks:
            block.conv2.weight.mul_(0.1)
    return network


def _at_scale(network: Edsr, scale: int | None) -> Edsr:
    """The same body with an upsampler for another scale; layers that fit are taken over, others start at random."""
    if scale in (None, network.config.scale):
        return network
    rescaled = Edsr(replace(network.config, scale=scale)).eval()
    wanted = {name: value.shape for name, value in rescaled.state_dict().items()}
    fitting = {name: value for name, value in network.state_dict().items() if wanted.get(name) == value.shape}
    rescaled.load_state_dict(fitting, strict=False)
    return rescaled


def _guess_scale(state: dict[str, Tensor]) -> int:
    """Scale by the shapes of the upsampler: two convolutions are x4, 9 times the features x3, else x2."""
    first, features = state.get("upsampler.0.weight"), state.get("tail.weight")
    if "upsampler.2.weight" in state or first is None or features is None:
        return 4
    return 3 if first.shape[0] == 9 * features.shape[1] else 2


def float_copy(network: Edsr) -> Edsr:
    """The float32 network below a quantized one: the same weights without quantizers."""
    copy = Edsr(replace(network.config, bit_widths=(), static_bits=()))
    kept = copy.state_dict().keys()
    copy.load_state_dict({key: value for key, value in network.state_dict().items() if key in kept})
    return copy.eval()


def import_fp32(state: dict[str, Tensor], scale: int, mean: tuple[float, float, float] = DIV2K_MEAN) -> Edsr:
    """A float32 network from plain EDSR weights on RGB / 255 - mean.

    Args:
        state: head, body.{i}.conv1/2, body_conv, upsampler.{0,2}, tail (weight and bias each).
        scale: upscaling factor.
        mean: that was subtracted from RGB in [0, 1]; the difference to our integer mean goes into the biases.

    Raises:
        KeyError, ValueError, RuntimeError: if keys or shapes are not those of such a network.
    """
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    network = Edsr(EdsrConfig(scale, blocks, state["head.weight"].shape[0], bit_widths=()))
    network.load_state_dict(state)
    delta = (network.mean.flatten() / 255).double() - torch.tensor(mean, dtype=torch.float64)
    with torch.no_grad():
        head = network.head
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        head.bias.add_(torch.einsum("oihw,i->o", head.weight.double(), delta).float())
        network.tail.bias.sub_(delta.float())
    return network.eval()
