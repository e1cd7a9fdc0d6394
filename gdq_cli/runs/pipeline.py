"""A run over many pictures, from a plan to a summary: decoding ahead, the network, encoding behind it.

Each step has its own thread. The network stays on the caller's, so that Ctrl-C reaches it; listeners are called on that
thread too. Queues are short and a memory gate lets pictures in, so a run of any length needs the memory of a few.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from gdq_cli.errors import DeviceError, GdqError, ImageError, memory_errors, system_errors
from gdq_cli.files import OutputExistsError, remove_stale_parts
from gdq_cli.images import Frame
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.memory import CURE, default_budget
from gdq_cli.runs.plan import Plan, Planned, plan_again
from gdq_cli.runs.report import Listener, Outcome, RunSummary
from gdq_cli.runs.task import Task

if TYPE_CHECKING:
    from gdq_cli.upscaling.pool import UpscalerPool

T = TypeVar("T")
_QUEUE = 2  # what may wait between two steps: pictures, and frames of each
_POLL_SECONDS = 0.05  # how often who waits looks whether the run has ended


def run_batch(
    plan: Plan, options: UpscaleOptions, make_pool: Callable[[], UpscalerPool], listener: Listener | None = None
) -> RunSummary:
    """Upscale what a plan says. One bad picture does not stop the run.

    A run killed at any moment leaves complete files only (see ``files.atomic_file``); the same run again goes on where
    it ended. Ctrl-C (KeyboardInterrupt on the calling thread) passes through after the file being encoded is complete.

    Args:
        plan: from ``plan_batch``.
        options: the same that made the plan.
        make_pool: called when the first picture is being decoded; not at all when there is nothing to upscale.
        listener: told what happens.

    Raises:
        ImageError: if a folder for outputs cannot be made.
    """
    start = time.perf_counter()
    run = _Run(plan, options, listener or Listener())
    run.summary.stale = _prepare_folders(plan)
    for job in plan.jobs:
        if not isinstance(job, Planned):
            run.finish(job)
    if run.unfinished:
        run.run(make_pool)
    run.summary.seconds = time.perf_counter() - start
    return run.summary


def _prepare_folders(plan: Plan) -> int:
    """Make the folders of outputs, and remove what killed runs left there; how many such files."""
    removed = 0
    for folder in plan.folders:
        with system_errors(ImageError, f"{folder}: this folder cannot be made"):
            folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            removed += remove_stale_parts(folder)
    return removed


def as_failure(error: Exception, name: str) -> GdqError:
    """The error to report for a picture. What is not a GdqError is a fault of this program, and must not stop a run."""
    if isinstance(error, GdqError):
        return error if name in str(error) else type(error)(f"{name}: {error}")
    try:
        with memory_errors(cure_here=CURE):
            raise error
    except GdqError as known:
        return as_failure(known, name)
    except Exception:
        text = " ".join(str(error).split())[:200]
        return DeviceError(f"{name}: internal error ({type(error).__name__}: {text}); please report it")


class StoppedError(BaseException):
    """The run has ended on another thread. No Exception, so that no fault of a picture is made of it."""


class MemoryGate:
    """Lets pictures into the pipeline as long as together they stay within a budget; a single one always gets in.

    Args:
        budget: bytes.
        stop: ends the waiting.
    """

    def __init__(self, budget: int, stop: threading.Event) -> None:
        self.budget = budget
        self._stop = stop
        self._used = 0
        self._changed = threading.Condition()

    def enter(self, need: int) -> None:
        """Wait until ``need`` bytes are free. StoppedError if the run ends before."""
        with self._changed:
            while self._used and self._used + need > self.budget:
                self._changed.wait(_POLL_SECONDS)
                if self._stop.is_set():
                    raise StoppedError
            self._used += need

    def leave(self, need: int) -> None:
        """Give ``need`` bytes back."""
        with self._changed:
            self._used -= need
            self._changed.notify()


class _Pipe(Generic[T]):
    """A bounded queue with an end, whose waits end when the run is stopped."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[T | None] = queue.Queue(_QUEUE)
        self._stop = stop

    def put(self, item: T | None, idle: Callable[[], None] = lambda: None) -> None:
        """Add an item, or None for the end; ``idle`` is called while waiting."""
        self._wait(partial(self._queue.put, item, timeout=_POLL_SECONDS), idle)

    def items(self, idle: Callable[[], None] = lambda: None) -> Iterator[T]:
        """Take the items up to the end."""
        while (item := self._wait(partial(self._queue.get, timeout=_POLL_SECONDS), idle)) is not None:
            yield item
            del item  # which may be large, before waiting for the next one

    def _wait(self, attempt: Callable[[], T | None], idle: Callable[[], None]) -> T | None:
        while not self._stop.is_set():
            try:
                return attempt()
            except (queue.Full, queue.Empty):
                idle()
        raise StoppedError


class _RunningTask(Task):
    """A task between the threads: its frames before and behind the network, and the first fault, which spares the
    other steps the frames to come."""

    def __init__(self, job: Planned, options: UpscaleOptions, budget: int, stop: threading.Event) -> None:
        super().__init__(job, options, budget)
        self.decoded, self.upscaled = _Pipe[Frame](stop), _Pipe[Frame](stop)
        self.error: GdqError | None = None

    def fail(self, error: Exception) -> GdqError:
        """Note a fault; the one that counts."""
        self.error = self.error or as_failure(error, self.job.name)
        return self.error

    def fill(self) -> None:
        """Decode all frames."""
        try:
            for frame in self.read():
                if self.error is not None:
                    break
                self.decoded.put(frame)
        except Exception as error:
            self.fail(error)
        self.decoded.put(None)

    def results(self) -> Iterator[Frame]:
        """The upscaled frames; raises the fault where they are incomplete."""
        yield from self.upscaled.items()
        if self.error is not None:
            raise self.error


class _Run:
    """The three steps and what they share."""

    def __init__(self, plan: Plan, options: UpscaleOptions, listener: Listener) -> None:
        self.options, self.listener = options, listener
        self.summary = RunSummary(ignored=plan.ignored, earlier=plan.earlier)
        self.unfinished = {job.name: job for job in plan.planned}
        self._jobs = plan.planned
        self._one_model = len({(job.model, job.native_scale) for job in self._jobs}) == 1
        self._stop = threading.Event()
        self._gate = MemoryGate(options.memory if options.memory is not None else default_budget(), self._stop)
        self._decoded, self._upscaled = _Pipe[_RunningTask](self._stop), _Pipe[_RunningTask](self._stop)
        self._outcomes: deque[Outcome] = deque()  # not yet told
        self._crash: BaseException | None = None

    def run(self, make_pool: Callable[[], UpscalerPool]) -> None:
        """Take all planned pictures through the steps."""
        steps = (self._read, self._write)
        threads = [threading.Thread(target=self._guard, args=(step,), daemon=True) for step in steps]
        for thread in threads:
            thread.start()
        try:
            self._upscale(make_pool)
            for thread in threads:
                while thread.is_alive():
                    thread.join(_POLL_SECONDS)
                    self._drain()
        except StoppedError:
            pass
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._crash is None:
            with suppress(StoppedError):
                self._drain()
        if self._crash is not None:
            raise self._crash
        if self.summary.fatal is not None:
            for job in list(self.unfinished.values()):
                self.finish(job.failed(self.summary.fatal))

    def _guard(self, step: Callable[[], None]) -> None:
        """A step on its own thread: what ends it ends the run."""
        try:
            step()
        except StoppedError:
            pass
        except BaseException as error:
            self._crash = error
            self._stop.set()

    def _read(self) -> None:
        for planned in self._jobs:
            job = plan_again(planned, self.options)
            if not isinstance(job, Planned):
                self._outcomes.append(job)
                continue
            task = _RunningTask(job, self.options, self._gate.budget, self._stop)
            self._gate.enter(task.memory)
            self._decoded.put(task)
            task.fill()
        self._decoded.put(None)

    def _upscale(self, make_pool: Callable[[], UpscalerPool]) -> None:
        try:
            pool = make_pool()
        except GdqError as error:
            self._give_up(error)
        for task in self._decoded.items(self._drain):
            self._tell(self.listener.started, task.job)
            self._upscaled.put(task, self._drain)
            self._upscale_task(task, pool)
        self._upscaled.put(None, self._drain)

    def _upscale_task(self, task: _RunningTask, pool: UpscalerPool) -> None:
        frames = task.header.frames

        def progress(index: int, done: int, total: int) -> None:
            self._tell(self.listener.progressed, task.job, index * total + done, frames * total)
            self._drain()
            if self._stop.is_set():
                raise StoppedError

        for index, frame in enumerate(task.decoded.items(self._drain)):
            if task.error is not None:
                continue
            try:
                task.load(pool)
            except GdqError as error:
                if self._one_model:  # no model, no engine: no other picture would fare better
                    self._give_up(error)
                task.fail(error)
                continue
            try:
                with task.store.trimmed():
                    sr = task.upscale(frame, partial(progress, index))
            except Exception as error:
                task.fail(error)
                continue
            if index == 0:
                self._tell(self.listener.upscaled, task.job, frame.picture, sr.picture)
            task.upscaled.put(sr, self._drain)
            del sr
        task.upscaled.put(None, self._drain)

    def _give_up(self, error: GdqError) -> NoReturn:
        self.summary.fatal = error
        raise StoppedError from error

    def _write(self) -> None:
        for task in self._upscaled.items():
            frames = task.results()
            outcome: Outcome
            try:
                with task.store.trimmed():
                    outcome = task.write(frames)
            except BrokenPipeError:  # the reader of standard output has gone
                raise
            except Exception as fault:
                error = task.fail(fault)
                if isinstance(error, OutputExistsError):  # made by another program meanwhile
                    outcome = task.job.skipped(task.tell_difference())
                else:
                    outcome = task.job.failed(error)
            with suppress(GdqError):  # which the outcome tells
                for _ in frames:
                    pass
            self._gate.leave(task.memory)
            self._outcomes.append(outcome)

    def _drain(self) -> None:
        """Tell the listener what the writer has finished."""
        while self._outcomes:
            self._tell(self.finish, self._outcomes.popleft())

    def finish(self, outcome: Outcome) -> None:
        """Count an outcome, and tell the listener."""
        self.unfinished.pop(outcome.name, None)
        self.summary.add(outcome)
        self.listener.finished(outcome)

    def _tell(self, event: Callable[..., None], *facts: Any) -> None:
        """Tell the listener; its faults (nobody reads standard output any more) end the run and are no picture's."""
        try:
            event(*facts)
        except Exception as error:
            self._crash = error
            raise StoppedError from error
