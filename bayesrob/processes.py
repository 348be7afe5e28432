"""Work in several processes of loky: fresh interpreters with one thread each (torch's threads survive no fork).

What a script or notebook defines is pickled by value and the script is not run again, so it needs no
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bayesrob.errors import InputError

__all__ = ["ENVIRONMENT", "packed", "process_pool", "run_in_processes"]

ENVIRONMENT = {"BAYESROB_PROGRESS": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment variables of the processes."""


def packed(work: Callable[[int, Path], object]) -> bytes:
    """Pickle `work` for other processes.

    Raises:
        InputError: something that `work` refers to cannot be pickled.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(work)
    except Exception as error:  # whatever a network of the user's own raises
        raise InputError(
            f"The network, method or data cannot be sent to another process: {error}.",
            "Processes get copies of them.",
            'Give members="in_turn", or leave out what cannot be copied (open files, locks, parametrizations).',
        ) from error


def run_in_processes(
    work: bytes, places: Mapping[int, Path], workers: int, advance: Callable[[int], object]
) -> dict[int, str]:
    """Call `work(number, place)` for each of `places` in another process.

    An exception in one call leaves the others alone. A process that dies (a signal, no memory left) ends all of them, and
    every call that has not returned by then counts as failed. When this function ends, for whatever reason, its processes
    end too.

    Args:
        work: the function, as `packed` returns it.
        places: the second argument of each call, by number.
        workers: number of processes that run at the same time.
        advance: is called with 1 after each call, whether it failed or not.

    Returns:
        The error message of each call that failed, by number.
    """
    from loky import as_completed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "work"  # read once by each process
        path.write_bytes(work)
        count = min(workers, len(places))
        with process_pool(count) as pool:
            try:
                submitted = {number: pool.submit(_call, path, number, place) for number, place in places.items()}
                for _ in as_completed(submitted.values()):
                    advance(1)
            except BaseException:
                pool.shutdown(kill_workers=True)
                raise
    return {number: str(error) for number, future in submitted.items() if (error := future.exception())}


def process_pool(count: int) -> Any:
    """Return an executor of loky with `count` processes, each with one thread, that end with this process."""
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(count, initializer=set_up, initargs=(os.getpid(),), env=ENVIRONMENT)


def set_up(caller: int) -> None:
    """Initialise a process of loky: it ends with the process `caller`, leaves Ctrl-C to it, and has one thread of torch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, who then ends this process
    if os.name == "posix":
        threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    torch.set_num_threads(1)  # the processes are the parallelism


def _end_with(caller: int) -> None:
    """End this process when the caller is gone: loky's would wait for ever (https://github.com/joblib/loky/pull/360)."""
    while os.getppid() == caller:
        time.sleep(1)
    os._exit(1)


def _call(path: Path, number: int, place: Path) -> None:
    try:
        _work(path)(number, place)
    except BaseException as error:  # as text, since one that cannot be unpickled would break the pool
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        raise RuntimeError(f"{type(error).__name__}: {error}\n{where}") from None


@functools.cache
def _work(path: Path) -> Callable[[int, Path], object]:
    return pickle.loads(path.read_bytes())
