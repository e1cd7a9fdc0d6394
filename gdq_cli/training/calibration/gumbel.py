"""The paper's way to a controller: Gumbel-softmax with a straight-through gradient, a bit cost that holds the average.

In the released code nothing flows back into the gate; here it does. The network is frozen, so every
patch's error at every width is known beforehand, and the gate-weighted sum of the candidates' errors has the exact
difference between widths as its gradient.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gdq_cli.bits import entropy
from gdq_cli.bits.controller import Controller, Descriptor
from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.training.calibration.fit_controller import PatchTable, patch_harm, spend_on_average

BATCH = 256
RATE = 5e-3
"""Of Adam at its first step, on standardised descriptors."""

DECAY = 3e-3
"""Weight of the squared weights in the loss."""

PRICE_RATE = 0.02
"""Change of the price per bit and step, for each bit that a batch is off the target."""


def gumbel_gate(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one-hot gates, (N, K) logits -> (N, K); the gradient is that of the softmax behind the draw.

    Source: Jang et al., Maddison et al., 2017; paper, equation of section 3.2.
    """
    noise = torch.rand(logits.shape, generator=generator, dtype=logits.dtype).clamp(1e-9, 1 - 1e-9)
    soft = torch.softmax(logits - (-noise.log()).log(), dim=-1)
    hard = F.one_hot(soft.argmax(-1), logits.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())


def train_gumbel(
    table: PatchTable,
    *,
    descriptor: Descriptor,
    thresholds: tuple[float, float],
    target_fab: float,
    steps: int = 3000,
    seed: int = 0,
) -> Controller:
    """Train GBC's linear layer from zero.

    Args:
        table: patches of one checkpoint.
        descriptor: kind of the table's descriptors.
        thresholds: of E2B; the third class costs and gives what E2B makes of the patch.
        target_fab: average bit-width; the price per bit rises while batches spend more, and falls else.
        steps: of Adam, with cosine decay.
        seed: of batches and gates.

    Returns:
        A controller whose biases are then shifted so that its argmax spends the target on the table.
    """
    generator = torch.Generator().manual_seed(seed)
    centre, spread = table.descriptors.mean(0), np.maximum(table.descriptors.std(0), 1e-9)
    normal = torch.from_numpy((table.descriptors - centre) / spread)
    harm, bits = _candidates(table, thresholds)
    weight = torch.zeros(3, normal.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=RATE)
    price = 0.3
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        drawn = torch.randint(len(normal), (BATCH,), generator=generator)
        gate = gumbel_gate(normal[drawn] @ weight.T + bias, generator)
        spent = (gate * bits[drawn]).sum(1).mean()
        price = min(max(price + PRICE_RATE * (float(spent.detach()) - target_fab), 0.0), 10.0)
        loss = (gate * harm[drawn]).sum(1).mean() + price * spent + DECAY * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    slope = weight.detach().numpy() / spread
    level = bias.detach().numpy() - slope @ centre

    def shifted(price: float) -> Controller:
        return Controller(descriptor, slope, level - price * np.array([0.0, 2.0, 1.0]), thresholds)

    return spend_on_average(shifted, table, target_fab)


def _candidates(table: PatchTable, thresholds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Harm, relative to the mean of 4 bits, and bits of the three classes, each (N, 3)."""
    harm = patch_harm(table.errors)
    third = np.array([entropy.entropy_to_bit(float(value), thresholds) for value in table.entropies])
    widths = np.stack([np.full(len(third), 4), np.full(len(third), 6), third], axis=1)
    columns = np.searchsorted(BIT_WIDTHS, widths)
    relative = np.take_along_axis(harm, columns, axis=1) / max(float(harm[:, 0].mean()), 1e-6)
    return torch.from_numpy(relative), torch.from_numpy(widths.astype(np.float64))
