"""`gdq eval` over Set5 and Set14 at several scales: one Markdown table of means.

    python benchmarks/accuracy.py ../shared/data/bench [--scales 2 3 4] [--model edsr] [--protocol gdq]

Never choose anything by its numbers: the sets are for reporting.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gdq_cli.measure.evaluation import evaluate, find_pairs
from gdq_cli.models.pool import UpscalerPool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds Set5/xN/{HR,LR} and Set14/xN/{HR,LR}")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--model", default="edsr")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--protocol", choices=("gdq", "paper"), default="gdq")
    arguments = parser.parse_args()
    pool = UpscalerPool(arguments.model, "cpu", engine=arguments.engine)
    print("| scale | set | bits | PSNR-Y dB | to FP32 | SSIM-Y | FAB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for scale in arguments.scales:
        upscaler = pool.get(scale)
        for name in ("Set5", "Set14"):
            base = arguments.folder / name / f"x{scale}"
            rows = evaluate(upscaler, find_pairs(base / "HR", base / "LR", scale), protocol=arguments.protocol).rows
            reference = rows[0].mean("psnr_y") or 0.0  # FP32 stands first
            for row in rows:
                psnr, ssim, fab = (row.mean(figure) or 0.0 for figure in ("psnr_y", "ssim_y", "fab"))
                figures = f"{psnr:.3f} | {psnr - reference:+.3f} | {ssim:.4f} | {fab:.2f}"
                print(f"| x{scale} | {name} | {row.bits} | {figures} |")


if __name__ == "__main__":
    main()
