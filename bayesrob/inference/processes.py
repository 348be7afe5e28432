"""Models trained side by side, each in a process of its own with one thread of torch.

A process is a fresh interpreter, not a fork (torch's threads do not survive one) and not `multiprocessing`'s, which runs the
caller's script anew: here no `if __name__ == "__main__":` is needed, and a notebook will do. The price: what the script or
notebook itself defines cannot be sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bayesrob import numerics
from bayesrob.data import Dataset
from bayesrob.errors import InputError
from bayesrob.inference.base import Inference

__all__ = ["Job", "packed", "serve", "train_apart", "usable_cores"]


@dataclasses.dataclass(frozen=True)
class Job:
    """What a process needs to train any of the models.

    Args:
        method, model: see `Inference.fit`. data: of each model. seeds: of each model.
        route: of float32 products (`numerics.route`).
    """

    method: Inference
    model: nn.Module
    data: list[Dataset]
    seeds: list[int]
    route: str


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pickler(pickle.Pickler):
    """Refuses what only this script or notebook can find, and of tensors sends their own values alone."""

    def reducer_override(self, obj: Any) -> Any:
        if getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__"):
            raise pickle.PicklingError(f"{obj.__qualname__} is defined in the script or notebook that runs")
        if type(obj) is torch.Tensor and obj.is_leaf and obj.untyped_storage().nbytes() > obj.nbytes:
            return obj.clone().__reduce_ex__(self.proto)  # a part of all images would bring them all
        return NotImplemented

    proto = pickle.HIGHEST_PROTOCOL


def packed(job: Job) -> bytes:
    """`job` for other processes, or `InputError`."""
    file = io.BytesIO()
    try:
        _Pickler(file, _Pickler.proto).dump(job)
    except Exception as error:  # whatever a network of the user's own raises
        raise InputError(
            f"The network, method or data cannot be sent to another process: {error}.",
            "Processes get copies of them, and import the code that they are made of.",
            'Define it in a module that can be imported, or give members="in_turn".',
        ) from error
    return file.getvalue()


def train_apart(job: bytes, places: Mapping[int, Path], workers: int, advance: Callable[[int], object]) -> dict[int, str]:
    """Train the models that `places` names, each saved there as soon as it is done; returns the errors of those that failed.

    Args:
        job: `packed`. places: where each is saved, by number. workers: processes at once. advance: called after each.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job"
        path.write_bytes(job)
        with _Crew(path, places, workers) as crew:
            errors = {}
            for _ in places:
                number, error = crew.ended.get()
                if error is not None:
                    errors[number] = error
                advance(1)
    return errors


class _Crew:
    """Threads that each keep one process busy, until no model waits; whatever ends the block ends the processes."""

    def __init__(self, job: Path, places: Mapping[int, Path], workers: int):
        self.job, self.places = job, places
        self.waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
        self.processes: list[subprocess.Popen[str]] = []
        self.lock, self.closed = threading.Lock(), False
        for number in places:
            self.waiting.put(number)
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(workers, len(places)))]

    def __enter__(self) -> _Crew:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.closed = True
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # deep in a product
                process.kill()
        for thread in self.threads:
            thread.join()
        for process in self.processes:
            process.communicate()  # closes its pipes

    def _work(self) -> None:
        process = None
        while True:
            try:
                number = self.waiting.get_nowait()
            except queue.Empty:
                return
            try:
                process = self._start() if process is None else process
                reply = self._ask(process, number)
            except Exception as error:  # no process, or none any more
                reply = f"{type(error).__name__}: {error}"
            self.ended.put((number, reply))
            if process is not None and process.poll() is not None:
                process = None

    def _start(self) -> subprocess.Popen[str]:
        code = f"import sys; sys.path[:] = {sys.path!r}; from bayesrob.inference.processes import serve; serve(sys.argv[1])"
        environment = {**os.environ, "BAYESROB_PROGRESS": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with self.lock:
            if self.closed:
                raise RuntimeError("interrupted")
            # A session of its own, so that Ctrl-C reaches this process alone, which then ends the others.
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(self.job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment,
                start_new_session=True,
            )
            self.processes.append(process)
        return process

    def _ask(self, process: subprocess.Popen[str], number: int) -> str | None:
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):  # its exit code says more
            process.stdin.write(json.dumps([number, str(self.places[number])]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if line:
            return json.loads(line)
        code = process.wait()
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return f"its process ended with {how} (signal 9: often for lack of memory); see its last words above, if any."


# ---- in the process -------------------------------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Train what standard input asks for, until it ends."""
    torch.set_num_threads(1)  # the processes are the parallelism
    with contextlib.suppress(ValueError, AttributeError):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is half written is removed on the way
    with _replies() as reply:
        job, failed = None, ""
        try:
            with open(path, "rb") as file:
                job = pickle.load(file)
        except Exception:  # a module that cannot be imported here
            failed = traceback.format_exc(limit=-3)
        for line in sys.stdin:
            number, place = json.loads(line)
            reply(failed if job is None else _train(job, number, place))


def _train(job: Job, number: int, place: str) -> str | None:
    try:
        with numerics.route(job.route):
            job.method._trained(job.model, job.data[number], job.seeds[number]).save(place)
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        return f"{type(error).__name__}: {error}\n{where}"
    return None


@contextlib.contextmanager
def _replies() -> Iterator[Callable[[str | None], None]]:
    """A function that answers on standard output; what networks print goes to standard error meanwhile."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as file:
        os.dup2(2, 1)

        def reply(error: str | None) -> None:
            file.write(json.dumps(error) + "\n")
            file.flush()

        yield reply
