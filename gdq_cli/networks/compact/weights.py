"""Float32 Compact weights (Real-ESRGAN's SRVGGNetCompact) -> our network.

The package spandrel, an extra, says what a foreign state dict is; only its detection is used, which looks at names.
Building its network would follow the file's own numbers before anything has checked them.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.networks.compact.network import Compact
from gdq_cli.networks.kind import MAX_BLOCKS, MAX_FEATURES

_NAME = re.compile(r"body\.(0|[1-9][0-9]{0,2})\.(weight|bias)")
"""What its tensors are called; the numbers of deeper networks than we run need no reading."""


def recognise_compact(state: dict[str, Tensor]) -> None:
    """Ask spandrel what a state dict is, and go on only with a Compact.

    Raises:
        ValueError: if it is anything else, or spandrel is not here to say.
    """
    unknown = "not a network gdq knows by its names (Granular-DQ's SRResNet, EDSR)"
    try:
        from spandrel import MAIN_REGISTRY
    except Exception as error:  # torchvision, which it needs, raises RuntimeError beside a torch of another build
        if isinstance(error, ModuleNotFoundError) and error.name == "spandrel":
            raise ValueError(f"{unknown}; for Compact networks: pip install spandrel") from error
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{unknown}, and spandrel cannot be imported here ({reason}); it needs the torchvision of torch "
            f"{torch.__version__}"
        ) from error
    for entry in MAIN_REGISTRY.architectures("detection"):
        if entry.detect(state):
            if entry.architecture.id == "Compact":
                return
            raise ValueError(f"a network of the architecture {entry.architecture.name}; gdq runs EDSR and Compact")
    raise ValueError(f"{unknown}, nor one that spandrel knows")


def import_compact(state: dict[str, Tensor]) -> Compact:
    """A float32 network from SRVGGNetCompact's weights, ``body.{n}``: convolutions at even n, PReLUs at odd ones.

    Raises:
        KeyError, ValueError, RuntimeError: if keys, shapes or values are not those of an RGB network of x2, x3 or x4.
    """
    numbers = [int(match[1]) for key in state if (match := _NAME.fullmatch(key))]
    last = max(numbers, default=0)
    convs = last // 2 - 1
    shapes = [tuple(state[f"body.{number}.weight"].shape) for number in (0, last)]
    if any(len(shape) != 4 for shape in shapes) or (shapes[0][1], shapes[0][2:]) != (3, (3, 3)):
        raise ValueError(f"its first and last layers, {shapes[0]} and {shapes[1]}, are not 3x3 convolutions of RGB")
    features, outputs = shapes[0][0], shapes[1][0]
    scale = math.isqrt(outputs // 3)
    if outputs != 3 * scale**2:
        raise ValueError(f"its last layer gives {outputs} channels, which is no RGB picture at any scale")
    if not (1 <= convs <= MAX_BLOCKS and 1 <= features <= MAX_FEATURES):
        raise ValueError(f"{convs} convolutions of {features} features are out of range")
    config = CompactConfig(scale, convs, features, bit_widths=())
    renamed = {_rename(key, last): value.float() for key, value in state.items()}
    for key, value in renamed.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"tensor {key} holds values that are not finite")
    with torch.device("meta"):
        network = Compact(config)
    network.load_state_dict(renamed, assign=True)
    return network.eval()


def _rename(key: str, last: int) -> str:
    """Their name -> ours; names of no layer stay, and are refused when the network takes its weights."""
    match = _NAME.fullmatch(key)
    if match is None:
        raise ValueError(f"tensor {ascii(key)[:60]} belongs to no Compact network")
    number, kind = int(match[1]), match[2]
    if number == last:
        return f"tail.{kind}"
    layer = "act" if number % 2 else "conv"
    if number < 2:
        return f"head_act.{kind}" if number else f"head.{kind}"
    return f"body.{number // 2 - 1}.{layer}.{kind}"
