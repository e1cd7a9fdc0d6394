"""What one training step minimises: the float network's error, or that of two bit-widths at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks.blocks import QuantConv2d
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.program.grids import Grid
from gdq_cli.training.calibration.steps import weigh_patches
from gdq_cli.training.start import float_copy

ADAM_RATE = 0.4
"""Learning rate of the parameters that Adam trains, as a share of Muon's."""

ERROR_FLOOR = 1.2  # grey levels: patches on which the teacher is better than this count alike
LOST = 20.0  # grey levels: where it errs more, and far more than on the rest, the teacher has nothing to teach

STEP_RATE = 30.0
"""Learning rate of quantizer steps relative to that of weights, as a share of the step itself (steps are LSQ's)."""


def split_weights(network: Edsr) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights that Muon trains (everything between head and tail), and those that Adam does; steps are in neither."""
    convs = {f"{name}.weight" for name, conv in network.named_modules() if isinstance(conv, QuantConv2d)}
    convs.discard("tail.weight")
    weights = {name: p for name, p in network.named_parameters() if not name.endswith("_step")}
    return [weights[name] for name in weights if name in convs], [
        weights[name] for name in weights if name not in convs
    ]


def fast_dtype(device: str) -> torch.dtype | None:
    """What convolutions compute in where float32 is not needed: bfloat16; None where a processor only emulates it."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.12
    if device != "cpu" or capabilities is None:
        return torch.bfloat16
    found = capabilities()
    return torch.bfloat16 if any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else None


def _computing_in(dtype: torch.dtype | None, device: torch.device) -> torch.autocast:
    """Have convolutions compute in a dtype; None for float32."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


COLOUR_WEIGHT = 0.5
"""Of the shift in mean colour, beside the error of the pixels, in the float stage's loss."""


class Stage(Protocol):
    """A loss with the parameters it trains."""

    network: Edsr

    def parameter_groups(self, rate: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Parameter groups for Muon and for Adam, each with its own learning rate ``lr``."""

    def backward(self, lr: Tensor, hr: Tensor, step: int) -> float:
        """Add the gradients of one batch of grey levels; returns the loss in grey levels.

        Whatever is drawn depends on ``step`` alone, so that a run in pieces equals an unbroken one.
        """

    def after_step(self, step: int) -> None:
        """Restore what the optimizer does not know about."""


@dataclass
class FloatStage:
    """L1 between the float network's output and HR, and between the mean colours of its output and of LR.

    L1 alone drifts towards the median, which moves the colour of a whole picture by up to a level where noise and
    codecs leave the network in doubt.
    """

    network: Edsr
    autocast: torch.dtype | None = torch.bfloat16

    def parameter_groups(self, rate: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        matrices, others = split_weights(self.network)
        return [{"params": matrices, "lr": rate}], [{"params": others, "lr": rate * ADAM_RATE}]

    def backward(self, lr: Tensor, hr: Tensor, step: int) -> float:
        with _computing_in(self.autocast, lr.device):
            output = self.network(lr)
        output = output.float()
        error = (output - hr).abs().mean() / 255
        shift = (output.mean((2, 3)) - lr.float().mean((2, 3))).abs().mean() / 255
        (error + COLOUR_WEIGHT * shift).backward()
        return float(error.detach()) * 255

    def after_step(self, step: int) -> None:
        pass


class QuantizedStage:
    """L1 to HR and to the float teacher at two widths drawn per step, 4 to 6 bits and 8 bits or float (a sandwich).

    Each patch counts by the reciprocal of the teacher's error there, as it does for PSNR: otherwise steps grow to suit
    texture, and smooth patches pay.

    All weight grids are derived from the same float weights, so each step trains them together; without float among
    the widths, the float network drifts away. The narrow and the coarse grid's steps follow the weights by rule (the
    finest that fit the Winograd kernel); all other steps are learned.

    Args:
        network: quantized and calibrated; its float weights are the teacher.
        distillation: weight of the distance to the teacher, against 1 for the distance to HR.
        seed: of the draw of widths, together with the step.
        autocast: dtype of the convolutions; None for float32.
    """

    def __init__(
        self,
        network: Edsr,
        *,
        distillation: float = 1.0,
        seed: int = 0,
        autocast: torch.dtype | None = torch.bfloat16,
    ) -> None:
        self.network = network
        self._teacher = float_copy(network)
        self._distillation = distillation
        self._seed = seed
        self._autocast = autocast
        self._convs = [module for module in network.modules() if isinstance(module, QuantConv2d)]
        for conv in self._convs:
            for grid in conv.config.bound_grids:
                conv.grid_step(grid).requires_grad_(False)

    def parameter_groups(self, rate: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        steps = {name: p for name, p in self.network.named_parameters() if name.endswith("_step") and p.requires_grad}
        matrices, others = split_weights(self.network)
        groups: list[dict[str, Any]] = [{"params": others, "lr": rate * ADAM_RATE}]
        # Adam moves every entry by about lr, whatever its gradient: each tensor gets a rate of its own size.
        groups += [{"params": [p], "lr": rate * STEP_RATE * float(p.detach().mean())} for p in steps.values()]
        return [{"params": matrices, "lr": rate}], groups

    def backward(self, lr: Tensor, hr: Tensor, step: int) -> float:
        with torch.no_grad(), _computing_in(self._autocast, lr.device):
            aim = self._teacher.to(lr.device)(lr).float()
            error = (aim - hr).abs().mean(dim=(1, 2, 3))
            importance = weigh_patches(error, ERROR_FLOOR)
            lost = error > (4 * error.median()).clamp(min=LOST)  # such as checks of one pixel: HR alone is the aim
            aim = torch.where(lost[:, None, None, None], hr, aim)
        total = 0.0
        draw = np.random.default_rng((self._seed, step))
        for bit_width in (int(draw.choice([4, 5, 5, 6])), int(draw.choice([8, FP32_BITS]))):
            with _computing_in(self._autocast, lr.device):
                output = self.network(lr, bit_width)
            to_hr, to_teacher = (
                ((output.float() - target).abs().mean(dim=(1, 2, 3)) * importance).mean() / 255 for target in (hr, aim)
            )
            loss = (to_hr + self._distillation * to_teacher) / 2
            loss.backward()
            total += float(loss.detach()) * 255
        return total

    def after_step(self, step: int) -> None:
        """Keep steps positive, and now and then fit the grids that are bound to a kernel to the weights as they are."""
        with torch.no_grad():
            for conv in self._convs:
                conv.activation_step.clamp_(min=1e-8)
                if "wide" in conv.config.grids:
                    conv.grid_step("wide").clamp_(min=1e-8)
        if step % 25 == 0:
            fit_bound_grids(self.network)


def fit_bound_grids(network: nn.Module, *only: Grid) -> None:
    """Set every step that follows from the weights by rule, or those of some grids, in place."""
    for conv in network.modules():
        if isinstance(conv, QuantConv2d):
            conv.fit_bound_steps(*only)
