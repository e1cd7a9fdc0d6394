"""From a float32 network to a quantized checkpoint by statistics alone, without gradients through the network.

Steps: per layer and bit-width the activation step that minimises the squared error of the layer's output, with the
weights already on their grid and each patch weighted by what an error there costs in dB (8-bit static layers instead
reach the largest value seen: a clipped highlight is visible); entropy thresholds by quantile; a controller fitted to
what a low width costs a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli import quantizers
from gdq_cli.checkpoint import Checkpoint
from gdq_cli.controller import Descriptor
from gdq_cli.engines import choose_engine
from gdq_cli.engines.lowering import controller_head
from gdq_cli.networks import FloatNetwork, FloatNetworkT, build_network
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.options import DEFAULT_FAB
from gdq_cli.training.data import ImagePair, PatchSampler
from gdq_cli.training.fit_controller import (
    choose_thresholds,
    count_patches,
    entropy_table,
    fit_controller,
    measure_patches,
)
from gdq_cli.training.gumbel import train_gumbel

SEARCH_PATCHES = 256
CONTROLLER_PATCHES = 2000
Gate = Literal["ridge", "gumbel"]
"""How a controller learns: ridge regression of what 4 bits cost a patch, or Gumbel-softmax as in the paper."""
ERROR_FLOOR = 3.0  # squared grey levels (43 dB): patches that are better than this count alike
UNCLIPPED_BITS = 8  # from this width on a static layer has codes enough to reach the largest value
MIN_STEP = 1e-6  # for a layer whose input is zero everywhere
SEARCH_POSITIONS = 40  # output pixels a patch contributes to the search of steps


def quantized_copy(network: FloatNetworkT, static_bits: tuple[int, ...] = ()) -> FloatNetworkT:
    """A quantized network with the weights of a float32 one; its steps are not calibrated yet."""
    config = replace(network.config, bit_widths=quantizers.BIT_WIDTHS, static_bits=static_bits)
    copy = cast(FloatNetworkT, build_network(config))
    missing, unexpected = copy.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert all(key.endswith(("_step", "equalization")) for key in missing)
    copy.eval()
    return copy


@torch.inference_mode()
def calibrate_steps(
    network: FloatNetwork,
    sampler: PatchSampler,
    *,
    patches: int = SEARCH_PATCHES,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Set every step of a quantized network, in place.

    Args:
        network: from :func:`quantized_copy` (or a trained one whose steps shall be searched again).
        sampler: source of LR patches.
        patches: how many to draw.
        progress: called with the name of each finished layer.
    """
    pixels, hr = (side.contiguous(memory_format=torch.channels_last) for side in sampler.draw(patches))
    importance = _importance(network, pixels, hr)
    names = {module: name for name, module in network.named_modules()}

    def calibrate(conv: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(conv, QuantConv2d)
        _calibrate_layer(conv, inputs[0], importance)
        if progress is not None:
            progress(names[conv])

    convs = [module for module in network.modules() if isinstance(module, QuantConv2d)]
    hooks = [conv.register_forward_pre_hook(calibrate) for conv in convs]
    try:
        network(pixels)  # in float32, so each layer is calibrated on its undisturbed input, in the order of the walk
    finally:
        for hook in hooks:
            hook.remove()


def _importance(network: FloatNetwork, pixels: Tensor, hr: Tensor) -> Tensor:
    """What an error in each patch costs in dB: the reciprocal of the float network's squared error there, (N,).

    Without it the search favours textured patches, where the network errs most, and coarse steps; PSNR, the mean of
    logarithms, and the eye care for smooth ones.
    """
    batches = zip(torch.split(pixels, 16), torch.split(hr, 16), strict=True)
    error = torch.cat([(network(lr) - aim).square().mean(dim=(1, 2, 3)) for lr, aim in batches])
    importance = 1 / (error + ERROR_FLOOR)
    return importance / importance.mean()


def _calibrate_layer(conv: QuantConv2d, x: Tensor, importance: Tensor) -> None:
    """Choose equalization, weight steps and activation steps of one layer from its float input."""
    columns = _columns(x)  # (positions, I * 9)
    importance = importance.repeat_interleave(len(columns) // len(x))
    if "equalization" in conv._buffers:
        peak = x.abs().amax(dim=(0, 2, 3)).clamp_min(1e-6)
        conv.equalization.copy_(peak / peak.log().mean().exp())
    weight = conv.equalized_weight()
    if hasattr(conv, "wide_step"):
        conv.wide_step.copy_(quantizers.choose_wide_step(weight))
    if hasattr(conv, "narrow_step"):
        conv.narrow_step.copy_(quantizers.choose_narrow_step(weight))
    if "equalization" in conv._buffers:
        columns = columns / conv.equalization.repeat_interleave(9)
    target = columns @ weight.flatten(1).T
    guess: float | None = None
    for index, bit_width in enumerate(conv.bit_widths):
        step = conv.weight_step(bit_width)
        codes = quantizers.weight_codes(weight, step)
        grid_weight = (codes * step.reshape(-1, 1, 1, 1)).flatten(1).T
        qmin, qmax = conv.input_range(bit_width)
        if conv.is_static and "equalization" in conv._buffers and bit_width >= UNCLIPPED_BITS:
            conv.activation_step[index] = (peak / conv.equalization).max() / qmax  # highlights are rare, and seen
            continue
        guess = _search_step(columns, grid_weight, target, importance, (qmin, qmax), guess)
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


def calibrate_checkpoint(
    network: FloatNetwork,
    pairs: list[ImagePair],
    *,
    name: str,
    target_fab: float = DEFAULT_FAB,
    descriptor: Descriptor = "band_energy",
    gate: Gate = "ridge",
    static_bits: tuple[int, ...] = (),
    facts: dict[str, Any] | None = None,
    patches: int = SEARCH_PATCHES,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Checkpoint:
    """Everything from a float32 network to a runnable quantized checkpoint.

    Args:
        network: float32.
        pairs: training images; validation images must not be among them.
        name: of the model.
        target_fab: average bit-width of the training patches that the controller aims at.
        descriptor: kind of controller descriptor.
        gate: how the controller learns, see :data:`Gate`.
        static_bits: widths of body conv, each upsampler conv, and tail; 8 everywhere if empty.
        facts: for the model card; calibration adds its own.
        patches: LR patches that the search of steps draws.
        seed: of every random draw.
        progress: called with what is being done.
    """
    quantized = quantized_copy(network, static_bits)
    sampler = PatchSampler(pairs, _patch_size(pairs), seed, by_texture=False)
    calibrate_steps(quantized, sampler, patches=patches, progress=progress)
    return attach_controller(
        quantized,
        pairs,
        name=name,
        target_fab=target_fab,
        descriptor=descriptor,
        gate=gate,
        facts=facts,
        seed=seed,
        progress=progress,
    )


def attach_controller(
    network: FloatNetwork,
    pairs: list[ImagePair],
    *,
    name: str,
    target_fab: float = DEFAULT_FAB,
    descriptor: Descriptor = "band_energy",
    gate: Gate = "ridge",
    facts: dict[str, Any] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Checkpoint:
    """Entropy thresholds and controller for a quantized network whose steps are set; arguments as above."""
    say = progress or (lambda _: None)
    head = controller_head(network)
    say("measuring every bit-width on the training patches")
    table = measure_patches(_draw_images(pairs, seed), choose_engine(network).engine, head, descriptor)
    quantiles = entropy_table(table.entropies)
    say("fitting the controller")
    learn = fit_controller if gate == "ridge" else train_gumbel
    controller = learn(table, descriptor=descriptor, thresholds=choose_thresholds(quantiles), target_fab=target_fab)
    calibration = {
        "images": len(pairs),
        "patches": len(table.entropies),
        "target_fab": target_fab,
        "gate": gate,
        "seed": seed,
    }
    return Checkpoint(
        network, controller, {**(facts or {}), "calibration": calibration, "entropy_quantiles": quantiles}, name
    )


def _draw_images(pairs: list[ImagePair], seed: int) -> list[ImagePair]:
    """Random images with ``CONTROLLER_PATCHES`` patches between them, or all there are."""
    drawn, patches = [], 0
    for index in np.random.default_rng(seed).permutation(len(pairs)):
        drawn.append(pairs[index])
        patches += count_patches(pairs[index])
        if patches >= CONTROLLER_PATCHES:
            break
    return drawn


def _patch_size(pairs: list[ImagePair]) -> int:
    """Side of the patches for the search of steps: 48, or what the images allow."""
    return int(min(48, max(min(pair.lr.shape[:2]) for pair in pairs)))
