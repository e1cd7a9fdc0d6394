"""Write weights/manifest.json and the model card of every checkpoint in weights/, with figures measured now; print the
rows of README's table of quality.

    python benchmarks/release_weights.py ../shared/data [--only edsr_x4]

The validation row is measured on the held-out images of data/train, the others on data/bench (reporting only).
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from gdq_cli.checkpoint import Checkpoint, file_sha256, read_checkpoint
from gdq_cli.engines import choose_engine
from gdq_cli.images import read_image
from gdq_cli.metrics import psnr_y
from gdq_cli.training.data import ImagePair, list_images, load_pairs, split_validation
from gdq_cli.upscaler import Upscaler

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
WIDTHS = ("fp32", "8", "6", "5", "4", "auto")

CARD = """# {stem}

EDSR-baseline ({blocks} residual blocks, {features} features) x{scale} with Granular-DQ, all in integers: residual
blocks at 4, 5, 6 or 8 bits per patch, {static}. The
controller's descriptor is `{descriptor}`; entropy thresholds {low:.4f} and {high:.4f} nats.

- File: `{stem}.safetensors`, {size} bytes, SHA-256 `{sha256}`
- Licence: Apache-2.0
- Training data: `{data}`
- Started from: {source}
{training}{refined}- Calibration: {calibration}
- Figures below: {date}, `benchmarks/release_weights.py`. Y of BT.601, shave {scale} pixels, patches of 96 pixels with
  halo 4, the integer network as shipped; FP32 is the float network of the same weights.

| set | {header} |
| --- | {rule} |
{rows}

PSNR in dB, and for auto the average bit-width (FAB). Trained on clean bicubic downscaling for PSNR: it sharpens what is
there, it does not remove noise or JPEG artefacts and invents no texture.
"""


def load_bench(folder: Path, scale: int) -> list[ImagePair]:
    """LR and HR images of one test set."""
    pairs = []
    for lr in sorted((folder / f"x{scale}" / "LR").glob("*.png")):
        same = lr.parents[1] / "HR" / lr.name
        hr = same if same.exists() else next(same.parent.glob(lr.stem.rpartition("x")[0] + ".*"))
        pairs.append(ImagePair(lr.stem, read_image(hr).rgb, read_image(lr).rgb))
    return pairs


def measure(upscaler: Upscaler, pairs: list[ImagePair]) -> dict[str, tuple[float, float]]:
    """Mean PSNR and mean FAB of every width."""
    figures = {}
    for bits in WIDTHS:
        results = [upscaler.upscale(pair.lr, bits=bits) for pair in pairs]
        psnr = [psnr_y(r.image, pair.hr, upscaler.scale) for r, pair in zip(results, pairs, strict=True)]
        figures[bits] = float(np.mean(psnr)), float(np.mean([r.fab for r in results]))
    return figures


def _static_text(bits: tuple[int, ...]) -> str:
    """What the card says about the layers behind the blocks."""
    if set(bits) == {8}:
        return "everything after them at 8 bits"
    ups = ", ".join(map(str, bits[1:-1]))
    return f"after them body convolution, upsampler and tail at {bits[0]}; {ups}; {bits[-1]} bits"


def _run_text(run: dict[str, Any]) -> str:
    """One line of the card per training run."""
    varied = (", varied" if run.get("varied") else "") + (", contrast raised" if run.get("contrast_raised") else "")
    size = f"batch {run['batch']} x {run['patch']} px LR{varied}, rate {run['rate']:g}"
    averaged = f"; averaged with the network before it, share {run['averaged']:.0%}" if "averaged" in run else ""
    return (
        f"- Trained, {run['stage']} stage: {run['steps']} steps from {run['from']}, {size}, {run['device']}{averaged}\n"
    )


def _refined_text(factors: dict[str, float]) -> str:
    """What ``benchmarks/refine_steps.py`` changed, if it ran."""
    if not factors:
        return ""
    changes = ", ".join(f"{name} x {factor:g}" for name, factor in factors.items())
    return f"- Steps refined on the held-out pictures after training: {changes}\n"


def write_card(path: Path, checkpoint: Checkpoint, sets: dict[str, list[ImagePair]]) -> None:
    """Measure a checkpoint and write its card beside it."""
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.network).engine)
    rows = []
    for name, pairs in sets.items():
        figures = measure(upscaler, pairs)
        cells = [f"{psnr:.3f}" + (f" ({fab:.2f})" if bits == "auto" else "") for bits, (psnr, fab) in figures.items()]
        rows.append(f"| {name} ({len(pairs)}) | {' | '.join(cells)} |")
        base = figures.pop("fp32")[0]
        differences = " | ".join(f"{psnr - base:+.3f}" for psnr, _ in figures.values())
        print(f"| x{checkpoint.scale} | {name} | {base:.2f} | {differences} | {figures['auto'][1]:.2f} |", flush=True)
    facts, controller = checkpoint.facts, checkpoint.controller
    assert controller is not None
    card = CARD.format(
        stem=path.stem,
        blocks=checkpoint.network.config.blocks,
        features=checkpoint.network.config.features,
        scale=checkpoint.scale,
        descriptor=controller.descriptor,
        low=controller.thresholds[0],
        high=controller.thresholds[1],
        size=path.stat().st_size,
        sha256=checkpoint.sha256,
        data=facts.get("data", "photographs of public packages, Sun-Hays 80, BSDS500 train, ImageNet samples"),
        static=_static_text(checkpoint.network.config.static_bits),
        training="".join(_run_text(run) for run in facts.get("training", [])),
        refined=_refined_text(facts.get("steps_refined", {})),
        source=facts.get("source", "float training by this project"),
        calibration=json.dumps(facts.get("calibration", {})),
        date=datetime.date.today(),
        header=" | ".join(WIDTHS),
        rule=" | ".join("---" for _ in WIDTHS),
        rows="\n".join(rows),
    )
    path.with_suffix(".md").write_text(card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="holds train/ and bench/")
    parser.add_argument("--only", help="stem of one checkpoint; the others keep their cards")
    arguments = parser.parse_args()
    manifest = {}
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        manifest[path.name] = {"sha256": file_sha256(path), "size": path.stat().st_size}
        if arguments.only not in (None, path.stem):
            continue
        checkpoint = read_checkpoint(path)
        _, held_out = split_validation(list_images(arguments.data / "train"))
        sets = {"validation": load_pairs(held_out, checkpoint.scale)}
        sets |= {name: load_bench(arguments.data / "bench" / name, checkpoint.scale) for name in ("Set5", "Set14")}
        write_card(path, checkpoint, sets)
    (WEIGHTS / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
