"""Results of gdq eval and gdq bench as tables for people. Formats only, never prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gdq_cli.commands.terminal.wording import printable
from gdq_cli.measure.evaluation import BICUBIC, DEGRADED, Evaluation


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def evaluation_table(evaluations: Sequence[Evaluation], folder: str) -> Table:
    """Means over the pictures: a row per model and bit-width, and a single one for bicubic, which is no model's.

    Args:
        evaluations: of one folder, scale and protocol; at least one. Each degradation gets a section of the table.
        folder: of the HR pictures, for the title.
    """
    first = evaluations[0]
    count = len(first.rows[0].images)
    degraded = first.degradation is not None
    source = {BICUBIC: "made by antialiased bicubic", DEGRADED: f"degraded, seed {first.seed}"}
    shift = " Shift: of the mean colour from LR's, in grey levels." if degraded else ""
    origin = printable(source.get(first.lr_source, first.lr_source))
    table = Table(
        title=f"{printable(folder)}, {count} picture{'s' if count != 1 else ''}, x{first.scale}, "
        f"{first.protocol} protocol",
        caption=f"LR: {origin}. Y of BT.601, {first.scale} pixels shaved.{shift} "
        "BitOPs and seconds per picture; for timings use gdq bench.",
    )
    for name in ["LR"] * degraded + ["model"]:
        table.add_column(name)
    for name in ["bits", "PSNR-Y dB", "to FP32", "SSIM-Y"] + ["shift"] * degraded + ["FAB", "GBitOPs", "seconds"]:
        table.add_column(name, justify="right")
    hashes = {name: {e.sha256 for e in evaluations if e.model == name} for name in (e.model for e in evaluations)}
    section: str | None = None
    for evaluation in evaluations:
        # two checkpoints of one name, such as before and after training, are told apart by their hashes
        name = evaluation.model if len(hashes[evaluation.model]) == 1 else f"{evaluation.model} {evaluation.sha256[:8]}"
        fp32 = next((row.mean("psnr_y") for row in evaluation.rows if row.bits == "fp32"), None)
        begins = evaluation is first or evaluation.degradation != section
        if begins:
            table.add_section()
        section = evaluation.degradation
        for row in evaluation.rows:
            if row.bits == BICUBIC and not begins:
                continue
            psnr = row.mean("psnr_y") or 0.0
            table.add_row(
                *[evaluation.degradation or ""] * degraded,
                "Pillow" if row.bits == BICUBIC else name,
                row.bits,
                f"{psnr:.3f}",
                f"{psnr - fp32:+.3f}" if fp32 is not None and math.isfinite(psnr - fp32) else "",
                _optional(row.mean("ssim_y"), ".4f"),
                *[_optional(row.mean("colour_shift"), ".2f")] * degraded,
                _optional(row.mean("fab"), ".2f"),
                _optional(row.mean("bitops_g"), ",.0f"),
                _optional(row.mean("seconds"), ".2f"),
            )
    return table


def bench_table(facts: Mapping[str, Any]) -> Table:
    """A row per engine, bit-width and number of threads; measured figures left, counted ones right.

    Args:
        facts: the object of ``gdq bench --json``.
    """
    height, width = facts["in_size"]
    table = Table(
        title=f"{facts['network']}, {printable(facts['picture'])} of {width}x{height}, {facts['device']}",
        caption=f"Medians of {facts['repeats']} interleaved runs of bit choice and network. FAB and BitOPs are "
        "counted, not measured; memory is the whole process.",
    )
    table.add_column("engine")
    has_memory, has_energy = (any(row[key] is not None for row in facts["rows"]) for key in ("peak_rss_mib", "joules"))
    measured = ["bits", "threads", "seconds", "spread", "x FP32", "output MP/s"]
    for name in measured + ["peak MiB"] * has_memory + ["joules"] * has_energy:
        table.add_column(name, justify="right")
    for name in ("FAB", "GBitOPs"):
        table.add_column(name, justify="right", style="dim")
    for row in facts["rows"]:
        table.add_row(
            row["engine"],
            row["bits"],
            str(row["threads"]),
            f"{row['seconds_median']:.3f}",
            f"{row['spread']:.0%}",
            _optional(row["ratio_to_fp32"], ".2f"),
            f"{row['output_mp_per_s']:.2f}",
            *[_optional(row["peak_rss_mib"], ",.0f")] * has_memory,
            *[_optional(row["joules"], ".1f")] * has_energy,
            f"{row['fab']:.2f}",
            f"{row['bitops_g']:,.0f}",
        )
    return table


def bench_lines(facts: Mapping[str, Any]) -> list[str]:
    """What stands below the table: the stages of one whole file, what could not be measured, and the machine."""
    stages, machine = facts["stages"], facts["machine"]
    total = sum(stages["seconds"].values())
    shares = ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in stages["seconds"].items())
    lines = [
        f"one file to PNG, {stages['engine']} at {stages['bits']}: {total:.2f} s ({shares}; network includes joining)",
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, Python {machine['python']}, "
        f"{machine['system']}, {machine['date']}",
    ]
    if all(row["peak_rss_mib"] is None for row in facts["rows"]):
        lines.insert(1, "peak memory: not measured (this system does not let a process reset its peak)")
    lines.insert(1, f"energy: {facts['energy']}")
    return lines
