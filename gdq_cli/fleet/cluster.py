"""The batches of a run on Ray Data: actors that hold loaded models, on machines that Ray finds and, if need be, starts.

Retries, restarts, memory and backpressure are Ray's. Outcomes come back as rows; no picture travels through Ray.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gdq_cli._version import __version__
from gdq_cli.engines.threads import usable_cores
from gdq_cli.errors import DeviceError, GdqError, OptionsError
from gdq_cli.fleet.batch import Told, work_batch
from gdq_cli.fleet.plan import Pending
from gdq_cli.fleet.run import Outcomes
from gdq_cli.fleet.staging import remove_stale_folders
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.memory import MINIMUM, default_budget
from gdq_cli.upscaling.pool import UpscalerPool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOCAL = "local"
_BATCH = 16
"""Pictures of a batch, at most: what a lost machine costs. Small runs have smaller ones, that all actors get some."""

_BATCHES_PER_ACTOR = 8
_PATIENCE = 10.0  # seconds for a connection
_LOGGERS = ("ray", "ray._private.worker", "ray.data")


@dataclass(frozen=True)
class Work:
    """What an actor is told once.

    Attributes:
        options: of the run, ``threads`` and ``device`` settled.
        engine, offline: as of ``UpscalerPool``.
        dry_run: as of ``work_batch``.
        version: of gdq on the driver, which that on every machine must be.
    """

    options: UpscaleOptions
    engine: str = "auto"
    offline: bool = False
    dry_run: bool = False
    version: str = __version__


class Upscaling:
    """An actor: keeps its models from batch to batch."""

    def __init__(self, work: Work) -> None:
        options = work.options
        share = default_budget() * (options.threads or 1) // usable_cores()  # others of its kind live on this machine
        self._work = work
        self._options = replace(options, memory=options.memory or max(MINIMUM, share))
        remove_stale_folders()

    def __call__(self, rows: dict[str, NDArray[np.object_]]) -> dict[str, list[bytes]]:
        """Rows in, rows out: a pickled ``Pending`` becomes the pickled outcome, and what ended the batch."""
        batch: list[Pending] = [pickle.loads(row) for row in rows["row"]]
        told: list[Told] = []
        fatal: GdqError | None
        if self._work.version != __version__:
            fatal = DeviceError(f"a machine of the cluster has gdq {__version__}, this one {self._work.version}")
            told = [entry.job().failed(fatal) for entry in batch]
        else:
            fatal = work_batch(batch, self._options, lambda: self._pool, told.append, dry_run=self._work.dry_run)
        return {"row": [pickle.dumps((outcome, fatal)) for outcome in told]}

    @cached_property
    def _pool(self) -> UpscalerPool:
        options, work = self._options, self._work
        return UpscalerPool(options.model, options.device, options.threads, work.engine, offline=work.offline)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to Ray for as long as the block runs; one that is there already is used, and stays.

    Args:
        address: ``local`` starts Ray on this machine, ``auto`` finds it, anything else is its address.

    Raises:
        OptionsError: if Ray is not installed.
        DeviceError: if there is no Ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else warnings of its C++ side go to stderr
    try:
        import ray
        import ray.data
    except ImportError as error:
        remedy = "pip install 'gdq-cli[ray]', or from a checkout: pip install '.[ray]'"
        raise OptionsError(f"`ray` needs the package Ray Data: {remedy}") from error
    _silence(ray)
    if ray.is_initialized():
        yield
        return
    start: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    start |= {"include_dashboard": False} if address == LOCAL else {}
    try:
        _knock(address)
        with _without_stderr():  # on which the C++ side says that it will say less
            ray.init(address=address, **start)
    except Exception as error:  # of several kinds
        text = " ".join(str(error).split())[:200]
        raise DeviceError(f"`ray={address}`: there is no Ray that can be used ({text})") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Find out soon whether anybody is at an address; Ray itself asks for minutes. Raises OSError."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found is not None:
        socket.create_connection((found[1].strip("[]"), int(found[2])), _PATIENCE).close()


def _silence(ray: Any) -> None:
    """Leave the terminal to gdq: Ray's log files tell the rest."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What the machines of the cluster report goes to stdout, where --json has its objects; there is no setting for it.
    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = lambda *args, **kwargs: None


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Nothing goes to the descriptor of standard error while the block runs."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def count_actors(options: UpscaleOptions, pictures: int) -> int:
    """Actors that the machines there now have room for; 1 at least."""
    import ray

    free = ray.cluster_resources()
    room = free.get("CPU", 0) // (options.threads or 1)
    if options.device == "cuda":
        room = min(room, free.get("GPU", 0))
    return int(max(1, min(room, pictures)))


def outcomes_on_ray(pending: Sequence[Pending], work: Work, actors: int) -> Outcomes:
    """Upscale on the machines of the cluster that is connected; more actors come where Ray gets more machines.

    Args:
        pending: what there is to do.
        work: for the actors.
        actors: to start with, see ``count_actors``.

    Raises:
        DeviceError: if Ray gives up.
    """
    import ray

    size = max(1, min(_BATCH, len(pending) // (_BATCHES_PER_ACTOR * actors)))
    batches = -(-len(pending) // size)
    rows = [{"row": pickle.dumps(entry)} for entry in pending]
    options = work.options
    sizes = {"min_size": 1, "max_size": batches, "initial_size": min(actors, batches)}
    strategy = ray.data.ActorPoolStrategy(**sizes, max_tasks_in_flight_per_actor=2)
    done = ray.data.from_items(rows, override_num_blocks=batches).map_batches(
        Upscaling,
        fn_constructor_args=(work,),
        batch_size=None,  # a block is a batch
        compute=strategy,
        num_cpus=options.threads or 1,
        num_gpus=1 if options.device == "cuda" else None,
    )
    try:
        for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
            told = [pickle.loads(row) for row in batch["row"]]
            yield [outcome for outcome, _ in told], next((fatal for _, fatal in told if fatal is not None), None)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        raise DeviceError(f"Ray gave up ({lines[-1][:200] if lines else type(error).__name__})") from error


def settle(options: UpscaleOptions) -> UpscaleOptions:
    """Options as actors have them: one thread where none is said, for most pictures a second, and the device that Ray
    gives them.

    Raises:
        OptionsError: if the device is chosen by number.
    """
    if options.device.startswith("cuda:"):
        raise OptionsError(f"`device={options.device}`: Ray chooses which GPU an actor gets; give cuda")
    device = "cpu" if options.device == "auto" else options.device
    return replace(options, threads=options.threads or 1, device=device)
