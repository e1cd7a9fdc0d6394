"""Write weights/manifest.json and the model card of every checkpoint in weights/, with figures measured now; print the
rows of README's tables of quality.

    python benchmarks/release_weights.py DATA [--only edsr_x4] [--limit 2 --output /tmp/cards]

DATA holds pictures of your own in train/, and the sets in bench/Set5/x4/HR, .../LR and so on. The validation row is
measured on the held-out images of train, the others on bench (reporting only). What LR photo models are measured on
is degraded as ``gdq eval --degrade`` does it, seed 0.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gdq_cli.engines import choose_engine
from gdq_cli.images import read_image
from gdq_cli.measure.degradation import EvalDegradation
from gdq_cli.measure.evaluation import BICUBIC, EvaluationRow, score
from gdq_cli.measure.pairs import ImagePair, list_images, load_pairs, split_validation
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint
from gdq_cli.models.digests import file_sha256
from gdq_cli.networks.edsr.config import EdsrConfig
from gdq_cli.upscaling.upscaler import Upscaler

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "weights"
CROPS = ROOT / "docs" / "photo_x4.png"
WIDTHS = ("fp32", "8", "6", "5", "4", "auto")
PHOTO_LR: tuple[EvalDegradation, ...] = (
    "clean",
    "jpeg90",
    "jpeg75",
    "jpeg45",
    "noise5",
    "noise10",
    "light",
    "strong",
)
EDSR = "edsr fp32"

Figures = dict[str, EvaluationRow]
"""Scores by column of a table."""

CARD = """# {stem}

EDSR-baseline ({blocks} residual blocks, {features} features{upsampler}) x{scale} with Granular-DQ, all in integers:
residual blocks at 4, 5, 6 or 8 bits per patch, {static}. The
controller's descriptor is `{descriptor}`; entropy thresholds {low:.4f} and {high:.4f} nats.

- File: `{stem}.safetensors`, {size} bytes, SHA-256 `{sha256}`
- Licence: Apache-2.0
- Training data: `{data}`
- Started from: {source}
{training}{refined}- Calibration: {calibration}
- Figures below: {date}, `benchmarks/release_weights.py`. Y of BT.601, shave {scale} pixels, patches of 96 pixels with
  halo {halo}, the integer network as shipped; FP32 is the float network of the same weights.

{figures}
"""

CLEAN_FIGURES = """{psnr}

PSNR in dB, and for auto the average bit-width (FAB). Trained on clean bicubic downscaling for PSNR: it sharpens what is
there, it does not remove noise or JPEG artefacts and invents no texture."""

PHOTO_FIGURES = """Trained on degraded photographs ([docs/training.md](../docs/training.md#degradation)): it removes
compression artefacts and noise and sharpens edges. It invents no detail: what noise or compression has destroyed stays
smooth, and fine texture that looks like noise goes with it. On clean LR of the held-out pictures it has {clean:+.2f} dB
next to edsr_x{scale}.

![Bicubic, edsr and photo at x4](../docs/photo_x4.png)

PSNR in dB, and for auto the average bit-width (FAB). LR is made as `gdq eval --degrade` makes it, seed 0; edsr is
edsr_x{scale}.

{psnr}

SSIM of JPEG pictures:

{ssim}

Integers next to the float network of the same weights, dB:

{differences}"""

README_CLEAN = ("scale", "set", "FP32", "8 bits", "6 bits", "5 bits", "4 bits", "auto", "FAB of auto")
README_PHOTO = ("scale", "set", "LR", "bicubic", "edsr FP32", "photo FP32", "photo auto", "auto to FP32", "FAB")


def load_bench(folder: Path, scale: int) -> list[ImagePair]:
    """LR and HR images of one test set."""
    pairs = []
    for lr in sorted((folder / f"x{scale}" / "LR").glob("*.png")):
        same = lr.parents[1] / "HR" / lr.name
        hr = same if same.exists() else next(same.parent.glob(lr.stem.rpartition("x")[0] + ".*"))
        pairs.append(ImagePair(lr.stem, read_image(hr).rgb, read_image(lr).rgb))
    return pairs


def measure(pairs: Sequence[ImagePair], columns: dict[str, tuple[Upscaler, str]]) -> Figures:
    """Scores of pictures in every column: an upscaler at a bit-width, or bicubic."""
    return {
        name: EvaluationRow(bits, tuple(score(pair, bits, upscaler, "gdq") for pair in pairs))
        for name, (upscaler, bits) in columns.items()
    }


def _mean(row: EvaluationRow, figure: str = "psnr_y") -> float:
    value = row.mean(figure)
    assert value is not None
    return value


def _table(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    header = list(header)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines))


def _psnr_cells(figures: Figures) -> list[str]:
    return [
        f"{_mean(row):.3f}" + (f" ({_mean(row, 'fab'):.2f})" if name == "auto" else "") for name, row in figures.items()
    ]


def _difference_cells(figures: Figures, digits: int = 3) -> list[str]:
    """Of the integers to the float network."""
    return [f"{_mean(figures[bits]) - _mean(figures['fp32']):+.{digits}f}" for bits in WIDTHS[1:]]


def _upsampler_text(config: EdsrConfig) -> str:
    """What the card says where the upsampler is not EDSR's own."""
    return "" if config.upsampler == "pixelshuffle" else ", its tail shuffled straight into pixels"


def _static_text(config: EdsrConfig) -> str:
    """What the card says about the layers behind the blocks."""
    bits = config.static_bits
    if set(bits) == {8}:
        return "everything after them at 8 bits"
    if not config.stages:
        return f"after them body convolution and tail at {bits[0]}; {bits[-1]} bits"
    ups = ", ".join(map(str, bits[1:-1]))
    return f"after them body convolution, upsampler and tail at {bits[0]}; {ups}; {bits[-1]} bits"


def _run_text(run: dict[str, Any]) -> str:
    """One line of the card per training run."""
    varied = (", varied" if run.get("varied") else "") + (", contrast raised" if run.get("contrast_raised") else "")
    degraded = f", LR degraded ({run['degradation']})" if run.get("degradation", "none") != "none" else ""
    drawn = f", {run['graphics']:.0%} drawn graphics" if run.get("graphics") else ""
    size = f"batch {run['batch']} x {run['patch']} px LR{varied}{degraded}{drawn}, rate {run['rate']:g}"
    averaged = f"; averaged with the network before it, share {run['averaged']:.0%}" if "averaged" in run else ""
    return (
        f"- Trained, {run['stage']} stage: {run['steps']} steps from {run['from']}, {size}, {run['device']}{averaged}\n"
    )


def _refined_text(factors: dict[str, float]) -> str:
    """What ``gdq refine --steps`` changed, if it ran."""
    if not factors:
        return ""
    changes = ", ".join(f"{name} x {factor:g}" for name, factor in factors.items())
    return f"- Steps refined on the held-out pictures after training: {changes}\n"


def clean_figures(checkpoint: Checkpoint, data: Path, limit: int | None) -> tuple[str, list[list[str]]]:
    """The card's tables of a model for clean pictures, and lines for README."""
    scale, upscaler = checkpoint.scale, _upscaler(checkpoint)
    sets = {"validation": load_pairs(held_out(data)[:limit], scale)}
    sets |= {name: load_bench(data / "bench" / name, scale)[:limit] for name in ("Set5", "Set14")}
    lines, readme = [], []
    for name, pairs in sets.items():
        figures = measure(pairs, {bits: (upscaler, bits) for bits in WIDTHS})
        lines.append([f"{name} ({len(pairs)})", *_psnr_cells(figures)])
        fp32, fab = _mean(figures["fp32"]), _mean(figures["auto"], "fab")
        readme.append([f"x{scale}", name, f"{fp32:.2f}", *_difference_cells(figures), f"{fab:.2f}"])
    return CLEAN_FIGURES.format(psnr=_table(["set", *WIDTHS], lines)), readme


def photo_figures(checkpoint: Checkpoint, data: Path, limit: int | None) -> tuple[str, list[list[str]]]:
    """The card's tables of a model for degraded pictures, and lines for README."""
    scale, upscaler = checkpoint.scale, _upscaler(checkpoint)
    edsr = _upscaler(read_checkpoint(WEIGHTS / f"edsr_x{scale}.safetensors"))
    columns = {BICUBIC: (upscaler, BICUBIC), EDSR: (edsr, "fp32")} | {bits: (upscaler, bits) for bits in WIDTHS}
    sets = {"validation": held_out(data)}
    sets |= {name: list_images(data / "bench" / name / f"x{scale}" / "HR") for name in ("Set5", "Set14")}
    psnr, ssim, differences, readme = [], [], [], []
    clean = 0.0
    for name, files in sets.items():
        for kind in PHOTO_LR:
            pairs = load_pairs(files[:limit], scale, kind)
            figures = measure(pairs, columns)
            head = [f"{name} ({len(pairs)})", kind]
            psnr.append([*head, *_psnr_cells(figures)])
            differences.append([*head, *_difference_cells(figures)])
            if kind.startswith("jpeg"):
                ssim.append([*head, *(f"{_mean(row, 'ssim_y'):.4f}" for row in figures.values())])
            if (name, kind) == ("validation", "clean"):
                clean = _mean(figures["fp32"]) - _mean(figures[EDSR])
            shown = [f"{_mean(figures[column]):.2f}" for column in (BICUBIC, EDSR, "fp32", "auto")]
            fab = f"{_mean(figures['auto'], 'fab'):.2f}"
            readme.append([f"x{scale}", name, kind, *shown, _difference_cells(figures)[-1], fab])
            print(f"photo_x{scale} {name} {kind}", file=sys.stderr)
    text = PHOTO_FIGURES.format(
        scale=scale,
        clean=clean,
        psnr=_table(["set", "LR", *columns], psnr),
        ssim=_table(["set", "LR", *columns], ssim),
        differences=_table(["set", "LR", *WIDTHS[1:]], differences),
    )
    if not CROPS.exists():
        print(f"{CROPS}: the card shows this picture; make it with benchmarks/crops.py", file=sys.stderr)
    return text, readme


def _upscaler(checkpoint: Checkpoint) -> Upscaler:
    return Upscaler(checkpoint, choose_engine(checkpoint.network).engine)


def held_out(data: Path) -> list[Path]:
    """The pictures that no network has learned from."""
    return split_validation(list_images(data / "train"))[1]


def card(path: Path, checkpoint: Checkpoint, figures: str) -> str:
    """The text of a model card."""
    facts, controller, config = checkpoint.facts, checkpoint.controller, checkpoint.network.config
    assert controller is not None
    assert isinstance(config, EdsrConfig)
    return CARD.format(
        stem=path.stem,
        blocks=config.blocks,
        features=config.features,
        upsampler=_upsampler_text(config),
        scale=checkpoint.scale,
        descriptor=controller.descriptor,
        low=controller.thresholds[0],
        high=controller.thresholds[1],
        size=path.stat().st_size,
        sha256=checkpoint.sha256,
        data=facts.get("data", "photographs of public packages, Sun-Hays 80, BSDS500 train, ImageNet samples"),
        static=_static_text(config),
        training="".join(_run_text(run) for run in facts.get("training", [])),
        refined=_refined_text(facts.get("steps_refined", {})),
        source=facts.get("source", "float training by this project"),
        calibration=json.dumps(facts.get("calibration", {})),
        halo=checkpoint.halo,
        date=datetime.date.today(),
        figures=figures,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="holds train/ and bench/")
    parser.add_argument("--only", help="stem of one checkpoint; the others keep their cards")
    parser.add_argument("--limit", type=int, help="pictures per set, to try the script")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder of the cards and manifest.json")
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.output.resolve() == WEIGHTS:
        parser.error("--limit is for tries: give another --output")
    arguments.output.mkdir(parents=True, exist_ok=True)
    manifest = {}
    clean: list[list[str]] = []
    photo: list[list[str]] = []
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        manifest[path.name] = {"sha256": file_sha256(path), "size": path.stat().st_size}
        if arguments.only not in (None, path.stem):
            continue
        checkpoint = read_checkpoint(path)
        degraded = path.stem.startswith("photo_")
        figures, lines = (photo_figures if degraded else clean_figures)(checkpoint, arguments.data, arguments.limit)
        (photo if degraded else clean).extend(lines)
        (arguments.output / f"{path.stem}.md").write_text(card(path, checkpoint, figures))
    (arguments.output / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for header, lines in ((README_CLEAN, clean), (README_PHOTO, photo)):
        if lines:
            print(f"\n{_table(header, lines)}")


if __name__ == "__main__":
    main()
