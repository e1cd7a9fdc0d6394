"""Accuracy on a folder of HR pictures: every model and bit-width against the truth, by picture and on average."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import read_image
from gdq_cli.measure.degradation import EVAL_DEGRADATIONS, EvalDegradation, degrade
from gdq_cli.measure.metrics import WINDOW_SIZE, psnr_y, ssim_y
from gdq_cli.measure.pairs import ImagePair, list_images
from gdq_cli.measure.paper_protocol import upscale_paper
from gdq_cli.upscaling.upscaler import Upscaler

Protocol = Literal["gdq", "paper"]
"""Whose patches: ours (halo, even division) or those of the paper's test script."""

BICUBIC = "bicubic"
"""The row that no network computes: Pillow's bicubic enlargement of the LR picture."""

DEGRADED = "degraded"
"""Where LR pictures came from that a degradation made."""

QUANTIZED_ROWS = ("fp32", "8", "6", "5", "4", "auto")
"""Bit-widths of a quantized checkpoint's rows, in this order, where the caller names none."""

FIGURES = ("psnr_y", "ssim_y", "fab", "bitops_g", "seconds", "colour_shift")
CSV_COLUMNS = ("model", "scale", "protocol", "bits", "name", *FIGURES, "model_sha256", "degradation")

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class PictureScore:
    """One picture at one setting; FAB and BitOPs are None where no network ran.

    ``colour_shift`` is how far the mean of SR is from that of LR, in grey levels of the channel where it is farthest.
    """

    name: str
    psnr_y: float
    ssim_y: float
    fab: float | None
    bitops_g: float | None
    seconds: float
    colour_shift: float


@dataclass(frozen=True)
class EvaluationRow:
    """A setting over all pictures; every figure is the mean of the pictures' own."""

    bits: str
    images: tuple[PictureScore, ...]

    def mean(self, figure: str) -> float | None:
        """Mean of a figure of ``PictureScore``; None where the pictures have none."""
        values = [getattr(image, figure) for image in self.images]
        return None if None in values else sum(values) / len(values)


@dataclass(frozen=True)
class Evaluation:
    """All rows of one model and one kind of LR pictures.

    Attributes:
        model: name; sha256: of its checkpoint.
        scale: upscaling factor.
        protocol: whose patches.
        lr_source: where the LR pictures came from: the folder's name, ``bicubic`` or ``degraded``.
        engine: name of the engine.
        rows: bicubic first, then FP32, then the others as asked for.
        degradation: that made the LR pictures, if one did; seed: of its draws.
    """

    model: str
    sha256: str
    scale: int
    protocol: Protocol
    lr_source: str
    engine: str
    rows: tuple[EvaluationRow, ...]
    degradation: EvalDegradation | None = None
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The object of ``gdq eval --json``."""
        return {
            "model": self.model,
            "model_sha256": self.sha256,
            "scale": self.scale,
            "protocol": self.protocol,
            "lr": self.lr_source,
            "degradation": self.degradation,
            "seed": self.seed,
            "engine": self.engine,
            "rows": [
                {
                    "bits": row.bits,
                    **{key: row.mean(key) for key in FIGURES},
                    "images": [vars(image) for image in row.images],
                }
                for row in self.rows
            ],
        }


def row_order(bits: Sequence[str], quantized: bool, *, bicubic: bool = True) -> tuple[str, ...]:
    """The rows to compute: without repetition, bicubic first, then FP32, then as given.

    Args:
        bits: as asked for; empty for all that the checkpoint has.
        quantized: whether the checkpoint is.
        bicubic: whether that is a row, too.

    Raises:
        OptionsError: if one is unknown.
    """
    known = (*((BICUBIC,) if bicubic else ()), *QUANTIZED_ROWS)
    for name in bits:
        if name not in known:
            raise OptionsError(f"`bits` must be one of {', '.join(known)}, not {name or 'empty'}")
    chosen = dict.fromkeys(bits or (QUANTIZED_ROWS if quantized else ("fp32",)))
    return tuple(sorted(chosen, key=lambda name: {BICUBIC: 0, "fp32": 1}.get(name, 2)))


def parse_degradations(text: str) -> tuple[EvalDegradation, ...]:
    """Names of degradations, separated by commas, without repetition.

    Raises:
        OptionsError: if one is unknown.
    """
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in EVAL_DEGRADATIONS:
            raise OptionsError(f"`degrade` must be of {', '.join(EVAL_DEGRADATIONS)}, not {name or 'empty'}")
    return cast(tuple[EvalDegradation, ...], tuple(names))


def find_pairs(hr_folder: Path, lr_folder: Path | None, scale: int) -> list[tuple[Path, Path | None]]:
    """Pair the HR pictures of a folder with their LR pictures.

    An LR picture has the name of its HR picture, or that name with ``xN`` or ``_xN`` behind the stem, and any suffix.

    Args:
        hr_folder: all pictures in it and below count.
        lr_folder: None if the LR pictures shall be made.
        scale: N.

    Raises:
        ImageError: if a folder is missing or empty, or a picture has no partner.
    """
    if os.path.isdir(hr_folder / "HR") and os.path.isdir(hr_folder / "LR"):
        raise ImageError(f"{hr_folder}: holds LR pictures, too; give {hr_folder / 'HR'} and `lr={hr_folder / 'LR'}`")
    files = list_images(hr_folder)
    if lr_folder is None:
        return [(file, None) for file in files]
    if not os.path.isdir(lr_folder):
        raise ImageError(f"{lr_folder}: no such folder of LR pictures")
    by_stem = {str(p.relative_to(lr_folder).with_suffix("")): p for p in list_images(lr_folder)}
    pairs: list[tuple[Path, Path | None]] = []
    for file in files:
        stem = str(file.relative_to(hr_folder).with_suffix(""))
        found = next((by_stem[s] for s in (stem, f"{stem}x{scale}", f"{stem}_x{scale}") if s in by_stem), None)
        if found is None:
            raise ImageError(
                f"{lr_folder}: no LR picture for {file.name}; expected {stem}, {stem}x{scale} or {stem}_x{scale}"
            )
        pairs.append((file, found))
    return pairs


def read_pair(
    hr_file: Path,
    lr_file: Path | None,
    scale: int,
    degradation: EvalDegradation = "clean",
    seed: tuple[int, int] = (0, 0),
) -> ImagePair:
    """Read a pair of pictures; HR is cut to whole multiples of LR.

    Args:
        hr_file: to read.
        lr_file: to read; None if LR shall be made.
        scale: between them.
        degradation: how it is made.
        seed: of what is drawn for it.

    Raises:
        ImageError: if a picture is not readable, too small to be judged, or the two do not fit.
    """
    hr = read_image(hr_file).rgb
    if lr_file is None:
        height, width = (side // scale * scale for side in hr.shape[:2])
    else:
        lr = read_image(lr_file).rgb
        height, width = (side * scale for side in lr.shape[:2])
        if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
            raise ImageError(
                f"{lr_file}: {lr.shape[1]}x{lr.shape[0]} pixels are not 1/{scale} of the {hr.shape[1]}x{hr.shape[0]} "
                f"of {hr_file}"
            )
    least, shortest = WINDOW_SIZE + 2 * scale, min(height, width)
    if shortest < least:
        raise ImageError(f"{hr_file}: SSIM at x{scale} needs at least {least} pixels on each side, not {shortest}")
    hr = np.ascontiguousarray(hr[:height, :width])
    if lr_file is None:
        lr = degrade(hr, scale, degradation, np.random.default_rng(seed))
    return ImagePair(hr_file.name, hr, np.ascontiguousarray(lr))


def score(pair: ImagePair, bits: str, upscaler: Upscaler, protocol: Protocol) -> PictureScore:
    """Upscale one LR picture at one setting and compare it with HR; ``scale`` pixels are shaved on each side.

    Args:
        pair: of pictures.
        bits: ``BICUBIC``, ``fp32``, a width, or ``auto``.
        upscaler: of the pair's scale.
        protocol: whose patches.
    """
    fab: float | None = None
    bitops: float | None = None
    start = time.perf_counter()
    if bits == BICUBIC:
        size = pair.hr.shape[1], pair.hr.shape[0]
        sr: U8 = np.asarray(Image.fromarray(pair.lr).resize(size, Image.Resampling.BICUBIC))
    elif protocol == "paper":
        paper = upscale_paper(upscaler, pair.lr, bits=bits)
        sr, fab, bitops = paper.image, paper.fab, paper.bitops_g
    else:
        result = upscaler.upscale(pair.lr, bits=bits)
        sr, fab, bitops = result.image, result.fab, result.bitops_g
    seconds = time.perf_counter() - start
    shave = upscaler.scale
    psnr, ssim = psnr_y(sr, pair.hr, shave), ssim_y(sr, pair.hr, shave)
    return PictureScore(pair.name, psnr, ssim, fab, bitops, seconds, _colour_shift(sr, pair.lr))


def _colour_shift(sr: U8, lr: U8) -> float:
    return float(np.abs(sr.mean(axis=(0, 1)) - lr.mean(axis=(0, 1))).max())


def evaluate(
    upscaler: Upscaler,
    pairs: Sequence[tuple[Path, Path | None]],
    *,
    bits: Sequence[str] = (),
    protocol: Protocol = "gdq",
    lr_source: str = BICUBIC,
    degradation: EvalDegradation | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a model on pictures. One picture is in memory at a time.

    Args:
        upscaler: checkpoint and engine.
        pairs: from ``find_pairs``.
        bits: rows to compute; empty for all that the checkpoint has.
        protocol: whose patches.
        lr_source: for the report.
        degradation: makes LR where the pairs have none; the antialiased bicubic alone if None.
        seed: of its draws, with a picture's place in ``pairs``.
        progress: called with finished and all upscaled pictures.

    Raises:
        ImageError: if a picture is not readable or too small.
        OptionsError: if ``bits`` are unknown.
        WeightsError: if the checkpoint has no such width.
    """
    rows = row_order(bits, upscaler.checkpoint.is_quantized)
    scores: dict[str, list[PictureScore]] = {name: [] for name in rows}
    for index, (hr_file, lr_file) in enumerate(pairs):
        pair = read_pair(hr_file, lr_file, upscaler.scale, degradation or "clean", (seed, index))
        for place, name in enumerate(rows):
            scores[name].append(score(pair, name, upscaler, protocol))
            progress(index * len(rows) + place + 1, len(pairs) * len(rows))
    return Evaluation(
        upscaler.checkpoint.name,
        upscaler.checkpoint.sha256,
        upscaler.scale,
        protocol,
        lr_source if degradation is None else DEGRADED,
        upscaler.engine.name,
        tuple(EvaluationRow(name, tuple(images)) for name, images in scores.items()),
        degradation,
        None if degradation is None else seed,
    )


def evaluations_csv(evaluations: Sequence[Evaluation]) -> str:
    """One line per degradation, model, setting and picture below a line of names, and a ``mean`` per setting."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_csv_lines(evaluations))
    return text.getvalue()


def _csv_lines(evaluations: Sequence[Evaluation]) -> Iterator[list[Any]]:
    for evaluation in evaluations:
        for row in evaluation.rows:
            head = [evaluation.model, evaluation.scale, evaluation.protocol, row.bits]
            tail = [evaluation.sha256, evaluation.degradation]
            for image in row.images:
                yield [*head, image.name, *(getattr(image, figure) for figure in FIGURES), *tail]
            yield [*head, "mean", *(row.mean(figure) for figure in FIGURES), *tail]
