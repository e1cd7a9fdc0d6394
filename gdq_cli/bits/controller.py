"""Granularity-bit controller (GBC), step 1 of Granular-DQ: head features of a patch -> 4, 6 or 8 bits (section 3.2).

Everything up to the logits is computed from integers (or correctly rounded), so a patch gets the same logits on
every machine, device, batch size and thread count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gdq_cli.bits import entropy
from gdq_cli.bits.controller_release import ReleaseHead

if TYPE_CHECKING:
    from gdq_cli.program.layers import IntegerHead

GBC_BITS = (4, 6, 8)
"""Bit-widths of the controller's three logits."""

_LAST_STEP = math.log(1 / 8)
"""How much less a bit of the step 6 -> 8 is worth than the bit before: noise power is quartered by each of the two."""

_FORBIDDEN = 2.0**20
"""Loss that no price outweighs, in prices of a bit."""

Descriptor = Literal["mean", "band_energy"]


def described_size(size: Sequence[int]) -> tuple[int, int]:
    """(H, W) of a core as the controller sees it: cut down to multiples of 4, at least 4."""
    height, width = (max(4, side // 4 * 4) for side in size)
    return height, width


def head_accumulators(cores: NDArray[np.uint8], head: IntegerHead) -> NDArray[np.int32]:
    """Integer head features of patch cores, each seen alone with its border pixels repeated.

    Args:
        cores: (N, H, W, 3) uint8.
        head: integer head.

    Returns:
        (N, H', W', C) int32 in units of ``head.multiplier``; H' and W' are ``described_size``, where the core is
        smaller by repetition.
    """
    height, width = described_size(cores.shape[1:3])
    channels, colours, side, _ = head.weight.shape
    reach = side // 2
    x = cores[:, :height, :width].astype(np.float32) - np.array(head.mean, np.float32)
    below, right = height - x.shape[1], width - x.shape[2]
    x = np.pad(x, ((0, 0), (reach, reach + below), (reach, reach + right), (0, 0)), "edge")
    taps = sliding_window_view(x, (side, side), axis=(1, 2)).reshape(-1, colours * side * side)
    # float32 carries integers below 2^24 exactly, in any order of summation.
    sums = taps @ head.weight.reshape(channels, -1).T.astype(np.float32)
    return sums.astype(np.int32).reshape(len(cores), height, width, channels)


def band_sums(accumulators: NDArray[np.int32]) -> NDArray[np.int64]:
    """Sums of absolute detail of a patch per granularity and channel: what ``band_energy`` is made of.

    Args:
        accumulators: (N, H, W, C) int32, H and W multiples of 4.

    Returns:
        (N, 3, C): fine in quarters of a unit, medium in sixteenths, coarse in sixteenths / (number of its cells).
    """
    sum2, fine = _detail(accumulators)
    sum4, medium = _detail(sum2)
    cells = sum4.shape[1] * sum4.shape[2]
    total = sum4.sum(axis=(1, 2), dtype=np.int64)
    coarse = np.abs(sum4.astype(np.int64) * cells - total[:, None, None]).sum(axis=(1, 2))
    return np.stack([fine, medium, coarse], axis=1)


def band_energy(
    sums: NDArray[np.int64], sizes: NDArray[np.integer], multiplier: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Texture of patches per granularity and channel (our descriptor; docs/method.md says why).

    Per granularity, the mean absolute detail it adds over the next coarser one: fine - up(medium), medium -
    up(coarse), |coarse - its mean|; medium is 2x2 average-pooled, coarse is pooled twice. The square root tames
    the long tail of textured patches and is correctly rounded everywhere.

    Args:
        sums: (N, 3, C) from ``band_sums``.
        sizes: (N, 2), (H, W) of each patch's accumulators.
        multiplier: (C,) float32, feature value of one accumulator unit.

    Returns:
        (N, 3 * C) float64, fine then medium then coarse.
    """
    pixels = np.prod(sizes, axis=1, dtype=np.int64)
    cells = pixels // 16
    counts = np.stack([4 * pixels, 64 * cells, 16 * cells * cells], axis=1)
    energy: NDArray[np.float64] = np.sqrt(sums / counts[:, :, None] * multiplier.astype(np.float64))
    return energy.reshape(len(sums), -1)


def _detail(x: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Sums of 2x2 cells, and the total of |4 x - sum of its cell|; (N, H, W, C) int32 -> (N, H/2, W/2, C), (N, C)."""
    n, height, width, channels = x.shape
    cells = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    corners = [cells[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]
    sums = corners[0] + corners[1]
    sums += corners[2]
    sums += corners[3]
    total = np.zeros((n, channels), np.int64)
    for corner in corners:
        total += np.abs(corner * 4 - sums).sum(axis=(1, 2), dtype=np.int64)
    return sums, total


def mean_feature(accumulators: NDArray[np.int32], head: IntegerHead) -> NDArray[np.float64]:
    """The descriptor of the released code: three times the mean feature.

    Returns:
        (N, 3 * C) float64.
    """
    pixels = accumulators.shape[1] * accumulators.shape[2]
    mean = accumulators.sum(axis=(1, 2), dtype=np.int64) / pixels
    feature = mean * head.multiplier.astype(np.float64) + head.offset.astype(np.float64)
    return np.concatenate([feature] * 3, axis=1)


@dataclass(frozen=True)
class BitChoice:
    """The bit-width of one patch and why it got it."""

    bit_width: int
    reason: Literal["controller", "entropy"]
    """Which of the two steps decided: GBC, or E2B (for patches that GBC gave 8 bits)."""
    logits: tuple[float, float, float]
    entropy: float


def find_reasons(choices: Sequence[BitChoice], bit_widths: Iterable[int]) -> list[str]:
    """Why patches run at their bit-widths: ``controller``, ``entropy``, or ``window`` where theirs has others."""
    pairs = zip(choices, bit_widths, strict=True)
    return ["window" if bits != choice.bit_width else choice.reason for choice, bits in pairs]


@dataclass(frozen=True)
class Controller:
    """GBC's linear layer and E2B's thresholds.

    Attributes:
        descriptor: ``"band_energy"`` (ours) or ``"mean"`` (the release).
        weight: (3, 3 * C) float64; bias: (3,) float64.
        thresholds: (t_low, t_high) in nats.
        square_entropy: whether only the largest top-left square of a patch counts for its entropy, as in the release.
    """

    descriptor: Descriptor
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    thresholds: tuple[float, float]
    square_entropy: bool = False

    def descriptors(self, cores: NDArray[np.uint8], head: IntegerHead | ReleaseHead) -> NDArray[np.float64]:
        """Descriptors of patch cores.

        Args:
            cores: (N, H, W, 3) uint8.
            head: of the network.

        Returns:
            (N, 3 * C).
        """
        if isinstance(head, ReleaseHead):
            return head.descriptors(cores)
        if self.descriptor == "mean":
            return mean_feature(head_accumulators(cores, head), head)
        sizes = np.array([described_size(cores.shape[1:3])] * len(cores))
        return band_energy(band_sums(head_accumulators(cores, head)), sizes, head.multiplier)

    def logits(self, descriptors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits of the widths 4, 6, 8; (N, 3 * C) -> (N, 3). Summed with one rounding, in any order the same."""
        biases = self.bias.tolist()
        found = [
            [math.fsum([*products, bias]) for products, bias in zip((row * self.weight).tolist(), biases, strict=True)]
            for row in descriptors
        ]
        return np.array(found).reshape(-1, 3)

    def counted_size(self, size: Sequence[int]) -> tuple[int, int]:
        """(H, W) of the top left part of a core that counts for its entropy."""
        return (min(size), min(size)) if self.square_entropy else (size[0], size[1])

    def entropy(self, core: NDArray[np.uint8]) -> float:
        """Entropy of one patch core, (H, W, 3) uint8, as far as it counts."""
        height, width = self.counted_size(core.shape[:2])
        return entropy.patch_entropy(core[:height, :width])

    def choose(self, cores: NDArray[np.uint8], head: IntegerHead | ReleaseHead) -> list[BitChoice]:
        """Choose the bit-width of each patch: argmax of the logits, then entropy for the 8-bit ones.

        Args:
            cores: (N, H, W, 3) uint8.
            head: head of the network the controller was trained with.
        """
        return self.decide(self.descriptors(cores, head), map(self.entropy, cores))

    def decide(self, descriptors: NDArray[np.float64], entropies: Iterable[float]) -> list[BitChoice]:
        """The same from the patches' descriptors, (N, 3 * C), and N entropies."""
        choices = []
        for logits, value in zip(self.logits(descriptors).tolist(), entropies, strict=True):
            bit_width = GBC_BITS[int(np.argmax(logits))]
            reason: Literal["controller", "entropy"] = "controller"
            if bit_width == 8:
                bit_width, reason = entropy.entropy_to_bit(value, self.thresholds), "entropy"
            choices.append(BitChoice(bit_width, reason, tuple(logits), value))
        return choices


def _worth(logits: Sequence[float]) -> tuple[float, float, float]:
    """Logarithms of what the steps 4 -> 5, 5 -> 6 and 6 -> 8 are worth per bit, next to its price.

    The first two are what they add to the logits, the third class being mostly 5 bits; where the second is worth more
    than the first, each counts as the mean of both. The step 6 -> 8, on which the logits are silent, is worth an eighth
    of 5 -> 6, logits being logarithms.
    """
    four, six, third = logits
    both = (six - four) / 2
    first, second = max(third - four, both), min(six - third, both)
    return first, second, second + _LAST_STEP


def bit_losses(choices: Sequence[BitChoice]) -> NDArray[np.float64]:
    """What 4, 5, 6 and 8 bits cost patches, in prices of a bit, so that each by itself is best off as it was chosen.

    Rounded to 1/1024, so that sums are exact: they decide alike on every machine.

    Returns:
        (N, 4), 0 at 8 bits. What entropy made 8 bits stays so, and where it made 4 of them bits are worth nothing.
    """
    found = []
    for choice in choices:
        first, second, last = np.exp(np.clip(_worth(choice.logits), -7, 7)).tolist()
        last = min(last, 1 - 1 / 1024)  # the controller's widest class of its own is 6 bits
        losses = [first + second + 2 * last, second + 2 * last, 2 * last, 0.0]
        if choice.reason == "entropy" and choice.bit_width != 5:
            losses = [0.0] * 4 if choice.bit_width == 4 else [_FORBIDDEN] * 3 + [0.0]
        found.append(losses)
    rounded: NDArray[np.float64] = np.round(np.array(found) * 1024) / 1024
    return rounded


def spend_budget(logits: NDArray[np.float64], budget: float) -> list[int]:
    """Bit-widths that spend at most ``budget`` bits on average, where the controller ranks the need highest.

    Steps are taken by their worth until the budget is spent. So the maps of growing budgets are nested, and the average
    of the controller's own choice leads back to that choice, but for patches that entropy decides or whose need is so
    great that 8 bits pay first.

    Args:
        logits: (N, 3) of the widths 4, 6, 8.
        budget: average bit-width, 4 to 8.

    Returns:
        N bit-widths whose mean is at most ``budget``.

    Raises:
        ValueError: if the budget is outside 4..8.
    """
    if not 4 <= budget <= 8:
        raise ValueError(f"budget must be between 4 and 8 bits, not {budget}")
    steps = []
    for patch, row in enumerate(logits.tolist()):
        steps += [(-worth, patch, bits) for worth, bits in zip(_worth(row), (5, 6, 8), strict=True)]
    steps.sort()  # equal worth: by patch, then narrow to wide
    bit_widths = [4] * len(logits)
    left = math.floor((budget - 4) * len(logits) + 1e-9)
    for _, patch, bit_width in steps:
        left -= bit_width - bit_widths[patch]
        if left < 0:
            break
        bit_widths[patch] = bit_width
    return bit_widths
