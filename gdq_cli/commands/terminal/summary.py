"""Reports as lines of text for people. Formats only, never prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gdq_cli.bits.controller import find_reasons
from gdq_cli.commands.terminal.wording import as_options, printable
from gdq_cli.runs.plan import Failed, Planned, Skipped
from gdq_cli.upscaling.record import PictureRecord, peak_rss_mib

if TYPE_CHECKING:
    from gdq_cli.runs.marks import Difference
    from gdq_cli.runs.report import RunSummary
    from gdq_cli.upscaling.upscaler import BitPlan


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _operations(giga: float) -> str:
    """BitOPs with a prefix that leaves one to three digits before the point."""
    for unit in ("G", "T", "P"):
        if giga < 1000:
            return f"{giga:.3g} {unit}"
        giga /= 1000
    return f"{giga:.3g} E"


def summary_lines(record: PictureRecord) -> str:
    """What happened to one picture: sizes, model and engine, what the bits cost, and the time."""
    engine = f"{record.engine} on {record.device}"
    if record.device == "cpu":
        engine += f", {record.threads} thread{'s' if record.threads != 1 else ''}"
    bits = _bits(record)
    if record.fab != 32:
        bits += (
            f", {_operations(record.bitops_g)}BitOPs "
            f"(FP32 {_operations(record.bitops_fp32_g)}, 8 bit {_operations(record.bitops_8bit_g)})"
        )
    return (
        f"{_sizes(record)}\n"
        f"{describe_model(f'{record.model} x{record.native_scale}', record.model_reason)} ({engine}) | {bits} | "
        f"{record.total_seconds:.2f} s, network {record.seconds['network']:.2f} s, {record.output_mp_per_s:.2f} MP/s"
    )


def picture_line(record: PictureRecord) -> str:
    """The same in one line, for a picture of many."""
    model = "" if record.model_reason is None else f" | {describe_model(record.model, record.model_reason)}"
    return f"{_sizes(record)}{model} | {_bits(record)} | {record.total_seconds:.2f} s"


def caption(record: PictureRecord) -> str:
    """The same below a picture that is seen, in words."""
    frames = f", {record.frames} frames" if record.frames > 1 else ""
    sizes = f"{_size(record.in_size)} to {_size(record.out_size)}{frames}"
    bits = "floating point" if record.fab == 32 else f"{record.fab:.2f} bits"
    return f"{sizes}, {describe_model(record.model, record.model_reason)}, {bits}, {record.total_seconds:.1f} s"


def describe_model(model: str, reason: str | None) -> str:
    """A model, and what about the picture's file chose it, if anything did."""
    return model if reason is None else f"{model} for {reason}"


def step_line(record: PictureRecord) -> str:
    """Where the time of one picture went, and the memory so far."""
    steps = ", ".join(f"{step} {seconds:.3f}" for step, seconds in record.seconds.items())
    peak = peak_rss_mib()
    return f"  seconds: {steps}" + (f" | peak memory {peak:.0f} MiB" if peak is not None else "")


def _sizes(record: PictureRecord) -> str:
    frames = f", {record.frames} frames" if record.frames > 1 else ""
    names = printable(record.name), printable(record.target_name)
    return f"{names[0]} {_size(record.in_size)} -> {names[1]} {_size(record.out_size)}{frames}"


def _bits(record: PictureRecord) -> str:
    return "FP32" if record.fab == 32 else f"FAB {record.fab:.2f} bits"


def planned_line(job: Planned | Skipped | Failed) -> str:
    """What a run would do with a picture."""
    name = printable(job.name)
    if isinstance(job, Failed):
        return f"{name}: would fail: {printable(as_options(str(job.error)))}"
    if isinstance(job, Skipped):
        return f"{name} -> {skip_line(job)}; would be skipped"
    size, frames = f"{job.header.width}x{job.header.height}", job.header.frames
    more = f", {frames} frames" if frames > 1 else ""
    model = describe_model(f"{Path(job.model).name} x{job.native_scale}", job.model_reason)
    target = f"{printable(job.target_name)} {_size(job.out_size)}{more}, about {_bytes(job.disk_bytes)}"
    return f"{name} {size} -> {target} | {model}"


_DIFFERENCES: dict[Difference, str] = {
    "input": "made of another picture, or of an earlier state of it",
    "options": "made with other options",
    "unknown": "not marked as made by gdq",
}


def skip_line(job: Skipped) -> str:
    """Why a picture is skipped."""
    more = "" if job.differs is None else f", {_DIFFERENCES[job.differs]}"
    return f"{printable(job.target_name)}: exists already{more}"


def _bytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{max(1, count >> 10)} KiB"


def run_lines(summary: RunSummary) -> str:
    """Totals of a run, then one line for each failure."""
    totals = f"{summary.ok} upscaled, {summary.skipped} skipped, {summary.failed} failed"
    totals += f" in {summary.seconds:.1f} s"
    if summary.ok:
        totals += f", network busy {100 * summary.network_share:.0f} % of it"
    totals += "".join(
        f"; {text}"
        for count, text in (
            (summary.ignored, f"{summary.ignored} other files ignored"),
            (summary.earlier, f"{summary.earlier} outputs of earlier runs left alone"),
            (summary.stale, f"{summary.stale} unfinished files of killed runs removed"),
        )
        if count
    )
    differing = (
        f"  skipped: {count} exist, {_DIFFERENCES[kind]}; --overwrite replaces them"
        for kind, count in sorted(summary.differing.items())
    )
    reasons = Counter(" ".join(as_options(str(outcome.error)).split()) for outcome in summary.failures)
    failed = (
        f"  failed: {printable(reason)}" + (f" ({count} pictures)" if count > 1 else "")
        for reason, count in reasons.items()
    )
    return "\n".join([totals, *differing, *failed])


def plan_line(source: str, plan: BitPlan, model: str) -> str:
    """What ``gdq bitmap`` says below the map."""
    decided = Counter(find_reasons(plan.choices, plan.bit_widths) if plan.choices else ())
    rows, cols = plan.patches.grid
    return (
        f"{printable(source)} {_size(plan.patches.size)}, {rows}x{cols} patches | {model} | FAB {plan.fab:.2f} bits | "
        f"decided by the controller: {decided['controller']}, by entropy: {decided['entropy']}, "
        f"by their window: {decided['window']} | {plan.seconds:.2f} s"
    )
