"""Work done side by side in processes of loky's: fresh interpreters (torch's threads survive no fork) with one thread each.

What a script or notebook defines is sent along, and it is not run anew: no `if __name__ == "__main__":` is needed.
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

import torch

from bayesrob.errors import InputError

__all__ = ["ALONE", "begin", "do_apart", "packed"]

ALONE = {"BAYESROB_PROGRESS": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of the processes."""


def packed(work: Callable[[int, Path], object]) -> bytes:
    """`work` for other processes, or `InputError`."""
    import cloudpickle

    try:
        return cloudpickle.dumps(work)
    except Exception as error:  # whatever a network of the user's own raises
        raise InputError(
            f"The network, method or data cannot be sent to another process: {error}.",
            "Processes get copies of them.",
            'Give members="in_turn", or leave out what cannot be copied (open files, locks, parametrizations).',
        ) from error


def do_apart(work: bytes, places: Mapping[int, Path], workers: int, advance: Callable[[int], object]) -> dict[int, str]:
    """Call `work(number, place)` for each of `places` in a process; returns what happened to those that failed.

    What raises leaves the others alone. A process that dies (a signal, no memory left) ends them all, and whatever is not
    done by then has failed. Whatever ends this call ends the processes.

    `work` is `packed`, `workers` the processes at once; `advance` is called after each, whether it failed or not.
    """
    from loky import ProcessPoolExecutor, as_completed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "work"  # read once by each process
        path.write_bytes(work)
        with ProcessPoolExecutor(min(workers, len(places)), initializer=begin, initargs=(os.getpid(),), env=ALONE) as pool:
            try:
                asked = {number: pool.submit(_do, path, number, place) for number, place in places.items()}
                for _ in as_completed(asked.values()):
                    advance(1)
            except BaseException:
                pool.shutdown(kill_workers=True)
                raise
    return {number: str(error) for number, future in asked.items() if (error := future.exception())}


def begin(caller: int) -> None:
    """What a process of loky's does first: it ends with the `caller`, leaves Ctrl-C to it, and has one thread of torch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, who then ends this process
    if os.name == "posix":
        threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    torch.set_num_threads(1)  # the processes are the parallelism


def _end_with(caller: int) -> None:
    """If the caller is killed, loky's processes would wait for ever (https://github.com/joblib/loky/pull/360)."""
    while os.getppid() == caller:
        time.sleep(1)
    os._exit(1)


def _do(path: Path, number: int, place: Path) -> None:
    try:
        _work(path)(number, place)
    except BaseException as error:  # as text, since one that cannot be unpickled would break the pool
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        raise RuntimeError(f"{type(error).__name__}: {error}\n{where}") from None


@functools.cache
def _work(path: Path) -> Callable[[int, Path], object]:
    return pickle.loads(path.read_bytes())
