"""Work done side by side in processes of loky's: fresh interpreters, each with one thread of torch.

No forks, as torch's threads do not survive one. What a script or notebook defines is sent along (cloudpickle) and the script
is not run anew, so that no `if __name__ == "__main__":` is needed.
"""

from __future__ import annotations

import functools
import pickle
import signal
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from bayesrob.errors import InputError

__all__ = ["do_apart", "packed"]

ALONE = {"BAYESROB_PROGRESS": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


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

    Args:
        work: `packed`. workers: processes at once. advance: called after each, whether it failed or not.
    """
    from loky import ProcessPoolExecutor, as_completed

    errors: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "work"  # read once by each process
        path.write_bytes(work)
        with ProcessPoolExecutor(min(workers, len(places)), initializer=_begin, env=ALONE) as executor:
            try:
                futures = {executor.submit(_do, path, *one): one[0] for one in places.items()}
                for future in as_completed(futures):
                    broken = future.exception()
                    error = future.result() if broken is None else f"{type(broken).__name__}: {broken}"
                    if error is not None:
                        errors[futures[future]] = error
                    advance(1)
            except BaseException:
                executor.shutdown(kill_workers=True)
                raise
    return errors


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, who then ends this process
    torch.set_num_threads(1)  # the processes are the parallelism


def _do(path: Path, number: int, place: Path) -> str | None:
    """What went wrong, as text: an error that cannot be unpickled would break the pool."""
    try:
        _work(path)(number, place)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}"
    return None


@functools.cache
def _work(path: Path) -> Callable[[int, Path], object]:
    return pickle.loads(path.read_bytes())
