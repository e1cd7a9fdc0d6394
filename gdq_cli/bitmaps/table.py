"""The bit map patch by patch, as a CSV table and as the object of ``gdq bitmap --json``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.controller import BitChoice, find_reasons

if TYPE_CHECKING:
    from gdq_cli.bits.patches import PatchPlan

CSV_COLUMNS = (
    *("row", "col", "y", "x", "height", "width", "bit_width", "reason", "entropy"),
    *("logit_4", "logit_6", "logit_8"),
)

DecidedBy = Literal["budget", "forced"]
"""Who decided over the heads of controller and entropy: ``budget``, or ``bits`` with a width."""


def _reasons(
    bit_map: NDArray[np.integer], plan: PatchPlan, choices: Sequence[BitChoice], decided_by: DecidedBy | None
) -> list[str]:
    """Why each patch got its width, after checking that the three describe the same patches."""
    if bit_map.shape != plan.grid or len(choices) not in (0, len(plan)):
        raise ValueError(f"plan of {plan.grid} patches, but bit map of {bit_map.shape} and {len(choices)} choices")
    if not choices or decided_by:
        return [decided_by or "forced"] * len(plan)
    return find_reasons(choices, bit_map.ravel().tolist())


def bit_map_dict(
    bit_map: NDArray[np.integer],
    plan: PatchPlan,
    choices: Sequence[BitChoice],
    *,
    input_name: str,
    scale: float,
    patch_size: int,
    decided_by: DecidedBy | None = None,
) -> dict[str, Any]:
    """The contract of ``gdq bitmap --json``; every value is plain and ready for ``json.dumps``.

    Args:
        bit_map: (rows, cols) bit-widths as run.
        plan: of the same grid.
        choices: verdict of controller and entropy per patch, in the order of the plan; empty if nobody asked them.
        input_name: the picture, as the user gave it.
        scale: upscaling factor.
        patch_size: target side of a patch in LR pixels.
        decided_by: set where a budget or a forced width overrode the choices.

    Returns:
        ``input``, ``scale``, ``grid`` [rows, cols], ``patch_size``, ``bit_map``, ``entropy``, ``logits`` (of 4, 6 and
        8 bits), ``reason`` (all by row and column), ``fab``. Entropy and logits are null without choices.

    Raises:
        ValueError: if bit map, plan and choices are not of the same grid.
    """
    rows, cols = plan.grid
    reasons = _reasons(bit_map, plan, choices, decided_by)

    def by_row(values: Sequence[Any]) -> list[list[Any]]:
        return [list(values[row * cols : (row + 1) * cols]) for row in range(rows)]

    return {
        "input": input_name,
        "scale": scale,
        "grid": [rows, cols],
        "patch_size": patch_size,
        "bit_map": bit_map.tolist(),
        "entropy": by_row([choice.entropy for choice in choices]) if choices else None,
        "logits": by_row([list(choice.logits) for choice in choices]) if choices else None,
        "reason": by_row(reasons),
        "fab": float(bit_map.mean()),
    }


def bit_map_csv(
    bit_map: NDArray[np.integer],
    plan: PatchPlan,
    choices: Sequence[BitChoice],
    *,
    decided_by: DecidedBy | None = None,
) -> str:
    """One line per patch under a line of names (``CSV_COLUMNS``).

    ``y``, ``x``, ``height`` and ``width`` are the core in LR pixels; numbers have all their digits, entropy (nats)
    and logits are empty without choices. For the arguments see ``bit_map_dict``.

    Returns:
        Text with newlines, the last line's included.

    Raises:
        ValueError: if bit map, plan and choices are not of the same grid.
    """
    reasons = _reasons(bit_map, plan, choices, decided_by)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for patch in plan:
        row, col = divmod(patch.index, plan.grid[1])
        verdict = [choices[patch.index].entropy, *choices[patch.index].logits] if choices else [""] * 4
        writer.writerow([row, col, *patch.core, int(bit_map[row, col]), reasons[patch.index], *verdict])
    return text.getvalue()
