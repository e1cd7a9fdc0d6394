"""PSNR and SSIM of every bit-width on Set5 and Set14, whole integer network and patches, against the float network.

    python benchmarks/accuracy.py ../shared/data/bench [--scales 2 3 4] [--model edsr]

Prints one Markdown table. Never choose anything by its numbers: the sets are for reporting.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from gdq_cli.images import read_image
from gdq_cli.metrics import psnr_y, ssim_y
from gdq_cli.models import UpscalerPool

WIDTHS = ("fp32", "8", "6", "5", "4", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds Set5/xN/{HR,LR} and Set14/xN/{HR,LR}")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--model", default="edsr")
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    pool = UpscalerPool(arguments.model, "cpu", engine=arguments.engine)
    print("| scale | set | bits | PSNR-Y dB | to FP32 | SSIM-Y | FAB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for scale in arguments.scales:
        upscaler = pool.get(scale)
        for name in ("Set5", "Set14"):
            base = arguments.folder / name / f"x{scale}"
            pairs = [
                (read_image(lr).rgb, read_image(find_hr(base / "HR", lr)).rgb) for lr in sorted(base.glob("LR/*.png"))
            ]
            float_psnr = 0.0
            for bits in WIDTHS if upscaler.checkpoint.is_quantized else ("fp32",):
                results = [upscaler.upscale(lr, bits=bits) for lr, _ in pairs]
                psnr = np.mean([psnr_y(r.image, hr, scale) for r, (_, hr) in zip(results, pairs, strict=True)])
                ssim = np.mean([ssim_y(r.image, hr, scale) for r, (_, hr) in zip(results, pairs, strict=True)])
                float_psnr = float(psnr) if bits == "fp32" else float_psnr
                fab = np.mean([r.fab for r in results])
                print(
                    f"| x{scale} | {name} | {bits} | {psnr:.3f} | {psnr - float_psnr:+.3f} | {ssim:.4f} | {fab:.2f} |"
                )


def find_hr(folder: Path, lr: Path) -> Path:
    """HR image of the same name, or of the name without a scale suffix."""
    same = folder / lr.name
    return same if same.exists() else next(folder.glob(lr.stem.rpartition("x")[0] + ".*"))


if __name__ == "__main__":
    main()
