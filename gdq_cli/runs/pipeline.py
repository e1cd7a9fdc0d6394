"""The three steps of a run, each on its own thread: decoding ahead, the network, encoding behind it.

The network stays on the caller's thread, so that Ctrl-C reaches it; listeners are called on that thread too. Queues are
short and a memory gate lets pictures in, so a run of any length needs the memory of a few pictures.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gdq_cli.errors import DeviceError, GdqError, memory_errors
from gdq_cli.images import Frame, OutputExistsError
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.memory import MemoryGate, default_budget
from gdq_cli.runs.outcome import BatchSummary, Listener, Outcome
from gdq_cli.runs.plan import Plan
from gdq_cli.runs.task import Task

if TYPE_CHECKING:
    from gdq_cli.models.pool import UpscalerPool

_QUEUE = 2  # frames that wait between two steps
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class _End:
    """The last item of a task in a queue; with an error if its frames are incomplete."""

    error: GdqError | None = None


class StoppedError(Exception):
    """Another thread has ended the run."""


class FatalError(Exception):
    """No picture can work: ``error`` says why."""

    def __init__(self, error: GdqError) -> None:
        super().__init__(error)
        self.error = error


class _Pipe:
    """A bounded queue whose waits end when the run is stopped."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[tuple[Task, Frame | _End] | None] = queue.Queue(_QUEUE)
        self._stop = stop

    def put(self, item: tuple[Task, Frame | _End] | None, while_waiting: Callable[[], None] = lambda: None) -> None:
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                return self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                while_waiting()

    def get(self, while_waiting: Callable[[], None] = lambda: None) -> tuple[Task, Frame | _End] | None:
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                return self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                while_waiting()


def as_failure(error: Exception, name: str) -> GdqError:
    """The error to report for a picture. What is not a GdqError is a fault of this program, and must not stop a run."""
    if isinstance(error, GdqError):
        return error if name in str(error) else type(error)(f"{name}: {error}")
    try:
        with memory_errors():
            raise error
    except GdqError as known:
        return as_failure(known, name)
    except Exception:
        text = " ".join(str(error).split())[:200]
        return DeviceError(f"{name}: internal error ({type(error).__name__}: {text}); please report it")


class _TaskFrames:
    """The upscaled frames of one task, taken from a pipe up to the task's end."""

    def __init__(self, pipe: _Pipe, first: Frame | _End) -> None:
        self._pipe = pipe
        self._first: Frame | _End | None = first
        self._ended = False

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame = None if self._ended else self._take()
        if frame is None:
            raise StopIteration
        return frame

    def _take(self) -> Frame | None:
        """The next frame, None at the end. Raises what ended the task early."""
        frame, self._first = self._first, None
        if frame is None:
            item = self._pipe.get()
            assert item is not None
            frame = item[1]
        if isinstance(frame, Frame):
            return frame
        self._ended = True
        if frame.error is not None:
            raise frame.error
        return None

    def finish(self) -> None:
        """Take the end, after the last frame."""
        for _ in self:
            raise RuntimeError("the encoder left frames behind")

    def skip(self) -> None:
        """Take everything up to the end, whatever it is."""
        while not self._ended:
            with suppress(GdqError):
                self._take()


class Pipeline:
    """The three steps and what they share."""

    def __init__(self, plan: Plan, options: UpscaleOptions, listener: Listener, summary: BatchSummary) -> None:
        self.options, self.listener, self.summary = options, listener, summary
        self.jobs = [job for job in plan.jobs if job.problem is None and not job.exists]
        self.gate = MemoryGate(options.memory if options.memory is not None else default_budget())
        self.stop = threading.Event()
        self.decoded, self.upscaled = _Pipe(self.stop), _Pipe(self.stop)
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.crash: BaseException | None = None
        self._unfinished = {id(job): job for job in plan.jobs}

    def start(self) -> list[threading.Thread]:
        """Start the outer two steps."""
        threads = [
            threading.Thread(target=self._guard, args=(step,), name=f"gdq-{step.__name__.strip('_')}", daemon=True)
            for step in (self._read, self._write)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StoppedError:
            pass
        except BaseException as error:
            self.crash = error
            self.stop_all()

    def stop_all(self) -> None:
        """End all waiting; a step that is at work ends after that."""
        self.stop.set()
        self.gate.close()

    def _read(self) -> None:
        for job in self.jobs:
            task = Task(job, self.options, self.gate.budget)
            if not self.gate.enter(task.memory):
                return
            end = _End()
            try:
                for frame in task.read():
                    if task.error is not None:  # in a later step
                        break
                    self.decoded.put((task, frame))
            except StoppedError:
                raise
            except Exception as error:
                end = _End(as_failure(error, job.name))
            self.decoded.put((task, end))
        self.decoded.put(None)

    def upscale(self, pool: UpscalerPool) -> None:
        """The middle step, on the calling thread."""
        current: Task | None = None
        frames = 0
        while (item := self.decoded.get(self.drain)) is not None:
            task, frame = item
            if task is not current:
                current, frames = task, 0
                self.listener.started(task.job)
            if isinstance(frame, Frame):
                if task.error is None:
                    self._upscale_frame(task, frame, frames, pool)
                frames += 1
            else:
                self.upscaled.put((task, frame if task.error is None else _End(task.error)), self.drain)
            del item, frame
        self.upscaled.put(None, self.drain)

    def _upscale_frame(self, task: Task, frame: Frame, index: int, pool: UpscalerPool) -> None:
        def progress(done: int, total: int) -> None:
            self.listener.progressed(task.job, (index + done / total) / task.header.frames)
            self.drain()
            if self.stop.is_set():
                raise StoppedError

        try:
            task.load(pool)
        except GdqError as error:
            if len({(job.model, job.native) for job in self.jobs}) == 1:
                raise FatalError(error) from error  # no model, no engine: no other picture would fare better
            task.error = error
            return
        try:
            with task.store.trimmed():
                sr = task.upscale(frame, pool, progress)
        except StoppedError:
            raise
        except Exception as error:
            task.error = as_failure(error, task.job.name)
            return
        self.upscaled.put((task, sr), self.drain)

    def _write(self) -> None:
        while (item := self.upscaled.get()) is not None:
            task, frames = item[0], _TaskFrames(self.upscaled, item[1])
            del item
            try:
                with task.store.trimmed():
                    task.write(frames)
                    frames.finish()
                outcome = Outcome(task.job, "ok", task.report())
            except (StoppedError, BrokenPipeError):  # the reader of standard output has gone
                raise
            except OutputExistsError:  # made by another program in the meantime
                outcome = Outcome(task.job, "skipped")
            except Exception as error:
                outcome = Outcome(task.job, "failed", error=as_failure(error, task.job.name))
            task.error = task.error or outcome.error  # spares the other steps the frames to come
            frames.skip()
            self.gate.leave(task.memory)
            self.outcomes.put(outcome)
            del task, frames

    def drain(self) -> None:
        """Tell the listener what the writer has finished."""
        while True:
            try:
                outcome = self.outcomes.get_nowait()
            except queue.Empty:
                return
            self.finish(outcome)

    def finish(self, outcome: Outcome) -> None:
        """Count an outcome and tell the listener."""
        del self._unfinished[id(outcome.job)]
        self.summary.add(outcome)
        if outcome.report is not None:
            seconds = outcome.report.seconds
            self.summary.seconds_network += seconds["bits"] + seconds["network"]
        self.listener.finished(outcome)

    def give_up(self, error: GdqError) -> None:
        """Every picture that is not finished has failed."""
        self.summary.fatal = error
        for job in list(self._unfinished.values()):
            self.finish(Outcome(job, "failed", error=error))
