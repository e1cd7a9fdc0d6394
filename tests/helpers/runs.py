"""Runs over pictures: their plan, one upscaler for all, and a record of what was told."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any, cast

from PIL import Image

from gdq_cli.errors import GdqError, WeightsError
from gdq_cli.options import Encoding, TargetSize, UpscaleOptions
from gdq_cli.runs.inputs import collect_inputs
from gdq_cli.runs.names import choose_destination
from gdq_cli.runs.pipeline import run_batch
from gdq_cli.runs.plan import Failed, Plan, Planned, plan_batch
from gdq_cli.runs.report import Listener, Outcome
from gdq_cli.upscaling.pool import UpscalerPool
from gdq_cli.upscaling.record import PictureRecord
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.pictures import make_picture

X2 = TargetSize(scale=2)


class Pool:
    """An UpscalerPool of one upscaler that is in memory already."""

    def __init__(self, upscaler: Upscaler) -> None:
        self.upscaler = upscaler

    def get(self, scale: int, model: str | None = None) -> Upscaler:
        if scale != self.upscaler.scale:
            raise WeightsError(f"no x{scale}")
        return self.upscaler


class Recorder(Listener):
    """Keeps what a run told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.shares: list[float] = []
        self.threads: set[int] = set()

    def started(self, job: Planned) -> None:
        self.threads.add(threading.get_ident())

    def progressed(self, job: Planned, done: int, total: int) -> None:
        self.shares.append(done / total)

    def finished(self, outcome: Outcome) -> None:
        self.threads.add(threading.get_ident())
        self.outcomes.append(outcome)

    @property
    def records(self) -> list[PictureRecord]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, PictureRecord)]

    @property
    def errors(self) -> dict[str, GdqError]:
        """Of the failed pictures, by file name."""
        return {Path(outcome.name).name: outcome.error for outcome in self.outcomes if isinstance(outcome, Failed)}


def save(path: Path, height: int = 12, width: int = 16, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_picture(height, width, seed)).save(path)
    return path


def make_options(format: str | None = None, **options: Any) -> UpscaleOptions:
    return UpscaleOptions(**({"size": X2, "encoding": Encoding(format=format)} | options))


def make_plan(*names: Path | str, output: Path | str | None = None, recursive: bool = False, **options: Any) -> Plan:
    chosen = make_options(**options)
    exclude = None if output is None else Path(output)
    inputs = collect_inputs([str(name) for name in names], recursive=recursive, exclude=exclude)
    place = choose_destination(None if output is None else str(output), io.BytesIO(), inputs)
    return plan_batch(inputs, chosen, place)


def run(plan: Plan, upscaler: Upscaler, **options: Any) -> Recorder:
    recorder = Recorder()
    pool = cast(UpscalerPool, Pool(upscaler))
    run_batch(plan, make_options(**options), lambda: pool, recorder)
    return recorder
