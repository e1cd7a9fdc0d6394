"""Reports as lines of text for people. Formats only, never prints."""

from __future__ import annotations

from gdq_cli.jobs import JobReport
from gdq_cli.upscaler import BitPlan


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _operations(giga: float) -> str:
    """BitOPs with a prefix that leaves one to three digits before the point."""
    for unit in ("G", "T", "P"):
        if giga < 1000:
            return f"{giga:.3g} {unit}"
        giga /= 1000
    return f"{giga:.3g} E"


def summary_lines(report: JobReport) -> str:
    """What happened to one picture: sizes, model and engine, what the bits cost, and the time."""
    result, seconds = report.result, report.seconds
    engine = f"{report.engine} on {report.device}"
    if report.device == "cpu":
        engine += f", {report.threads} thread{'s' if report.threads != 1 else ''}"
    if result.fab == 32:
        bits = "FP32"
    else:
        bits = (
            f"FAB {result.fab:.2f} bits, {_operations(result.bitops_g)}BitOPs "
            f"(FP32 {_operations(result.bitops_fp32_g)}, 8 bit {_operations(result.bitops_8bit_g)})"
        )
    native = result.image.shape[0] // report.in_size[0]
    return (
        f"{report.source} {_size(report.in_size)} -> {report.target} {_size(report.out_size)}\n"
        f"{report.model} x{native} ({engine}) | {bits} | "
        f"{seconds['total']:.2f} s, network {seconds['network']:.2f} s, {report.output_mp_per_s:.2f} MP/s"
    )


def plan_line(source: str, plan: BitPlan, model: str, scale: int) -> str:
    """What ``gdq bitmap`` says below the map."""
    by_entropy = sum(choice.reason == "entropy" for choice in plan.choices)
    rows, cols = plan.patches.grid
    return (
        f"{source} {_size(plan.patches.size)}, {rows}x{cols} patches | {model} x{scale} | FAB {plan.fab:.2f} bits | "
        f"decided by the controller: {len(plan.choices) - by_entropy}, by entropy: {by_entropy} | {plan.seconds:.2f} s"
    )
