"""The search of quantizer steps by statistics, without gradients.

Per layer and bit-width the activation step that minimises the squared error of the layer's output, with the weights
already on their grid and each patch weighted by what an error there costs in dB. 8-bit static layers instead reach the
largest value seen: a clipped highlight is visible.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gdq_cli.measure.pairs import ImagePair
from gdq_cli.networks import Network, quantizers
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.program.grids import weight_grid
from gdq_cli.training.data import PatchSampler

SEARCH_PATCHES = 256
ERROR_FLOOR = 3.0  # squared grey levels (43 dB): patches that are better than this count alike
UNCLIPPED_BITS = 8  # from this width on a static layer has codes enough to reach the largest value
MIN_STEP = 1e-6  # for a layer whose input is zero everywhere
SEARCH_POSITIONS = 40  # output pixels a patch contributes to the search of steps
FLAT_LEVELS = (0, 64, 128, 191, 255)  # of each channel of the flat colours that static layers are made to reach


@torch.inference_mode()
def calibrate_steps(
    network: Network,
    sampler: PatchSampler,
    *,
    patches: int = SEARCH_PATCHES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Set every step of a quantized network, in place.

    Args:
        network: from ``gdq_cli.training.calibration.calibrate.quantized_copy``.
        sampler: source of LR patches.
        patches: how many to draw.
        progress: called with finished and all layers.
    """
    pixels, hr = (side.contiguous(memory_format=torch.channels_last) for side in sampler.draw(patches))
    importance = _importance(network, pixels, hr)

    def calibrate(conv: QuantConv2d, x: Tensor) -> None:
        _fit_weight_steps(conv, x)
        _fit_activation_steps(conv, x, importance)
        progress(next(finished), len(convs))

    convs = [module for module in network.modules() if isinstance(module, QuantConv2d)]
    finished = count(1)
    _visit(network, pixels, convs, calibrate)


@torch.inference_mode()
def reach_flat_colours(network: Network) -> None:
    """Widen steps of static 8-bit layers, in place, to what flat pictures of 125 colours hold.

    Photographs hold few saturated areas; a layer that reaches no further than they do shifts the colour of a logo.
    Coarser steps cost some accuracy, which training gains back.
    """
    colours = torch.tensor(list(product(FLAT_LEVELS, repeat=3)), dtype=torch.float32)

    def widen(conv: QuantConv2d, x: Tensor) -> None:
        conv.activation_step[0] = max(float(conv.activation_step[0]), _reaching_step(conv, x))

    convs = [conv for conv in network.modules() if isinstance(conv, QuantConv2d) and _is_unclipped(conv)]
    flat = colours[:, :, None, None].expand(-1, -1, 8, 8)
    _visit(network, flat.contiguous(memory_format=torch.channels_last), convs, widen)


def _visit(
    network: Network, pixels: Tensor, convs: list[QuantConv2d], visit: Callable[[QuantConv2d, Tensor], None]
) -> None:
    """Call ``visit`` with each layer and its undisturbed float32 input, in the order of the walk."""
    hooks = [conv.register_forward_pre_hook(lambda conv, inputs: visit(conv, inputs[0])) for conv in convs]
    try:
        network(pixels)
    finally:
        for hook in hooks:
            hook.remove()


def _is_unclipped(conv: QuantConv2d) -> bool:
    return conv.config.is_static and conv.config.equalized and conv.config.bit_widths[0] >= UNCLIPPED_BITS


def _reaching_step(conv: QuantConv2d, x: Tensor) -> float:
    """Step with which a static layer reaches the largest of its float inputs."""
    largest = (x.abs().amax(dim=(0, 2, 3)) / conv.equalization).max()
    return max(float(largest) / conv.config.input_range(conv.config.bit_widths[0])[1], MIN_STEP)


def _importance(network: Network, pixels: Tensor, hr: Tensor) -> Tensor:
    """What an error in each patch costs in dB: the reciprocal of the float network's squared error there, (N,).

    Without it the search favours textured patches, where the network errs most, and coarse steps; PSNR, the mean of
    logarithms, and the eye care for smooth ones.
    """
    batches = zip(torch.split(pixels, 16), torch.split(hr, 16), strict=True)
    return weigh_patches(
        torch.cat([(network(lr) - aim).square().mean(dim=(1, 2, 3)) for lr, aim in batches]), ERROR_FLOOR
    )


def weigh_patches(error: Tensor, floor: float) -> Tensor:
    """Weights of mean 1, the reciprocals of (N,) errors; errors far below ``floor`` count alike."""
    weight = 1 / (error + floor)
    return weight / weight.mean()


def _fit_weight_steps(conv: QuantConv2d, x: Tensor) -> None:
    """Choose equalization and weight steps of one layer from its float input."""
    if conv.config.equalized:
        peak = x.abs().amax(dim=(0, 2, 3)).clamp_min(1e-6)
        conv.equalization.copy_(peak / peak.log().mean().exp())
    weight = conv.equalized_weight()
    if "wide" in conv.config.grids:
        conv.grid_step("wide").copy_(quantizers.choose_wide_step(weight))
    conv.fit_bound_steps()


def _fit_activation_steps(conv: QuantConv2d, x: Tensor, importance: Tensor) -> None:
    """Choose the steps of one layer's float input, from narrow to wide.

    Those of 4 bits with the narrow grid's weights, too: the other widths' steps, which start from them, are the same
    whichever grid 4-bit patches use.
    """
    if _is_unclipped(conv):  # highlights are rare, and seen
        conv.activation_step[0] = _reaching_step(conv, x)
        return
    weight = conv.equalized_weight()
    columns = _columns(x)  # (positions, I * 9)
    importance = importance.repeat_interleave(len(columns) // len(x))
    if conv.config.equalized:
        columns = columns / conv.equalization.repeat_interleave(9)
    target = columns @ weight.flatten(1).T
    guess: float | None = None
    for index, bit_width in enumerate(conv.config.bit_widths):
        step = conv.grid_step(weight_grid(bit_width))
        grid_weight = (quantizers.weight_codes(weight, step) * step.reshape(-1, 1, 1, 1)).flatten(1).T
        guess = _search_step(columns, grid_weight, target, importance, conv.config.input_range(bit_width), guess)
        conv.activation_step[index] = guess


def _columns(x: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of random output pixels, (N, I, H, W) -> (N * SEARCH_POSITIONS, I * 9)."""
    n, channels, height, width = x.shape
    generator = torch.Generator().manual_seed(0)
    count = min(SEARCH_POSITIONS, height * width)
    place = torch.stack([torch.randperm(height * width, generator=generator)[:count] for _ in range(n)])
    padded = F.pad(x, (1, 1, 1, 1)).flatten(2)
    origin = place // width * (width + 2) + place % width
    offsets = (torch.arange(3)[:, None] * (width + 2) + torch.arange(3)).flatten()
    index = (origin[:, :, None] + offsets).flatten(1)  # (N, count * 9)
    taken = padded.gather(2, index[:, None, :].expand(n, channels, -1))
    return taken.reshape(n, channels, count, 9).permute(0, 2, 1, 3).reshape(n * count, channels * 9)


def _search_step(
    columns: Tensor,
    weight: Tensor,
    target: Tensor,
    importance: Tensor,
    bounds: tuple[int, int],
    narrower: float | None,
) -> float:
    """Coarse-to-fine search of the step with the least squared output error.

    ``narrower`` is the best step of a narrower width, from which the search can start: more codes never need a
    coarser step.
    """
    errors: dict[float, float] = {}

    def error(step: float) -> float:
        if step not in errors:
            codes = (columns / step).round_().clamp_(*bounds)
            errors[step] = float((codes @ weight).mul_(step).sub_(target).square_().mean(1) @ importance)
        return errors[step]

    if narrower is None:
        peak = float(columns.abs().max()) / max(-bounds[0], bounds[1])
        best = min((peak * shrink for shrink in np.geomspace(0.06, 1.0, 10)), key=error)
    else:
        best = min((narrower * shrink for shrink in np.geomspace(0.2, 1.0, 6)), key=error)
    for width in (1.15, 1.06, 1.02):
        best = min((best / width, best, best * width), key=error)
    return max(float(best), MIN_STEP)


def draw_evenly(pairs: list[ImagePair], seed: int) -> PatchSampler:
    """The sampler of the search: patches of 48, or what the images allow, from every place alike."""
    side = int(min(48, max(min(pair.lr.shape[:2]) for pair in pairs)))
    return PatchSampler(pairs, side, seed, by_texture=False)
