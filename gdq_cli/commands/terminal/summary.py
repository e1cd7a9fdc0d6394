"""Reports as lines of text for people, whose names are as they come. Formats only, never prints."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gdq_cli.bits.controller import find_reasons
from gdq_cli.commands.terminal.wording import as_options
from gdq_cli.runs.plan import Failed, Planned, Skipped
from gdq_cli.upscaling.record import PictureRecord, peak_rss_mib

if TYPE_CHECKING:
    from gdq_cli.bitmaps.table import DecidedBy
    from gdq_cli.measure.comparison import FileComparison
    from gdq_cli.runs.marks import Difference
    from gdq_cli.runs.report import RunSummary
    from gdq_cli.upscaling.upscaler import BitPlan


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _frames(count: int) -> str:
    return f", {count} frames" if count > 1 else ""


def _operations(giga: float) -> str:
    """BitOPs with a prefix that leaves one to three digits before the point."""
    for unit in ("G", "T", "P"):
        if giga < 1000:
            return f"{giga:.3g} {unit}"
        giga /= 1000
    return f"{giga:.3g} E"


def summary_lines(record: PictureRecord) -> list[str]:
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
    model = describe_model(f"{record.model} x{record.native_scale}", record.model_reason)
    network = f"network {record.seconds['network']:.2f} s, {record.output_mp_per_s:.2f} MP/s"
    return [_sizes(record), f"{model} ({engine}) | {bits} | {record.total_seconds:.2f} s, {network}"]


def picture_line(record: PictureRecord) -> str:
    """The same in one line, for a picture of many."""
    model = "" if record.model_reason is None else f" | {describe_model(record.model, record.model_reason)}"
    return f"{_sizes(record)}{model} | {_bits(record)} | {record.total_seconds:.2f} s"


def caption(record: PictureRecord) -> str:
    """The same below a picture that is seen, in words."""
    sizes = f"{_size(record.in_size)} to {_size(record.out_size)}{_frames(record.frames)}"
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
    sizes = _size(record.in_size), _size(record.out_size)
    return f"{record.name} {sizes[0]} -> {record.target_name} {sizes[1]}{_frames(record.frames)}"


def _bits(record: PictureRecord) -> str:
    return "FP32" if record.fab == 32 else f"FAB {record.fab:.2f} bits"


def planned_line(job: Planned | Skipped | Failed) -> str:
    """What a run would do with a picture."""
    if isinstance(job, Failed):
        return f"{job.name}: would fail: {as_options(str(job.error))}"
    if isinstance(job, Skipped):
        return f"{job.name} -> {skip_line(job)}; would be skipped"
    size = _size((job.header.height, job.header.width))
    model = describe_model(f"{Path(job.model).name} x{job.native_scale}", job.model_reason)
    target = f"{job.target_name} {_size(job.out_size)}{_frames(job.header.frames)}, about {bytes_text(job.disk_bytes)}"
    return f"{job.name} {size} -> {target} | {model}"


_DIFFERENCES: dict[Difference, str] = {
    "input": "made of another picture, or of an earlier state of it",
    "options": "made with other options",
    "unknown": "not marked as made by gdq",
}


def skip_line(job: Skipped) -> str:
    """Why a picture is skipped."""
    more = "" if job.differs is None else f", {_DIFFERENCES[job.differs]}"
    return f"{job.target_name}: exists already{more}"


def bytes_text(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{max(1, count >> 10)} KiB"


def run_lines(summary: RunSummary) -> list[str]:
    """Totals of a run, then one line for each failure."""
    totals = f"{summary.ok} upscaled, {summary.skipped} skipped, {summary.failed} failed"
    totals += f" in {summary.seconds:.1f} s"
    if summary.ok:
        totals += f", network busy {100 * summary.network_share:.0f} % of it"
    totals += "".join(
        f"; {count} {noun}{'s' if count > 1 else ''} {what}"
        for count, noun, what in (
            (summary.ignored, "other file", "ignored"),
            (summary.earlier, "output", "of earlier runs left alone"),
            (summary.stale, "unfinished file", "of killed runs removed"),
        )
        if count
    )
    differing = (
        f"  skipped: {count} exist{'' if count > 1 else 's'}, {_DIFFERENCES[kind]}; "
        f"--overwrite replaces {'them' if count > 1 else 'it'}"
        for kind, count in sorted(summary.differing.items())
    )
    reasons = Counter(" ".join(as_options(str(outcome.error)).split()) for outcome in summary.failures)
    failed = (
        f"  failed: {reason}" + (f" ({count} pictures)" if count > 1 else "") for reason, count in reasons.items()
    )
    return [totals, *differing, *failed]


def plan_line(source: str, plan: BitPlan, model: str, decided_by: DecidedBy | None) -> str:
    """What ``gdq bitmap`` says below the map."""
    rows, cols = plan.patches.grid
    if decided_by == "budget":
        why = "by the controller's ranking within the budget"
    elif decided_by == "forced":
        why = "forced"
    else:
        decided = Counter(find_reasons(plan.choices, plan.bit_widths) if plan.choices else ())
        why = (
            f"decided by the controller: {decided['controller']}, by entropy: {decided['entropy']}, "
            f"by their window: {decided['window']} | {plan.seconds:.2f} s"
        )
    return f"{source} {_size(plan.patches.size)}, {rows}x{cols} patches | {model} | FAB {plan.fab:.2f} bits | {why}"


def comparison_line(found: FileComparison, differing: list[int], equal: bool) -> str:
    """How far two pictures are apart.

    Args:
        found: of their files.
        differing: numbers of the frames that differ, from 1, rising.
        equal: whether the files are surely equal; without a frame that differs gdq may have read less than they hold.
    """
    count, result = len(found.frames), found.frames[found.worst]
    if not differing:
        what = "the pictures are equal" if equal else "no difference in what gdq reads"
        return f"{what}: {_size(found.pair[0].shape[:2])} pixels" + (f", {count} frames or pages" if count > 1 else "")
    if len(differing) > 1:
        which = f"frames or pages {_ranges(differing)} of {count} differ, most of all {found.worst + 1}: "
    else:
        which = f"frame or page {found.worst + 1} of {count} differs: "
    ssim = "none (smaller than its window)" if result.ssim_y is None else f"{result.ssim_y:.4f}"
    psnr = f"{result.psnr_y:.3f} dB" if math.isfinite(result.psnr_y) else "infinite"
    y, x = result.where
    largest = f"{result.largest} of {result.peak}{' in alpha' if result.in_alpha else ''} at ({x}, {y})"
    return (
        f"{which if count > 1 else ''}PSNR-Y {psnr}, SSIM-Y {ssim}, largest difference {largest}, "
        f"{100 * result.share:.3g} % of the samples differ"
    )


def _ranges(numbers: list[int]) -> str:
    """Rising numbers as ``1, 3-5``."""
    starts = [number for number in numbers if number - 1 not in numbers]
    stops = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, stops, strict=True))
