"""Dask's processes on this machine, configured for sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SETTINGS", "local_dask"]

SETTINGS: dict[str, Any] = {
    # By default workers return memory to the system after each large tensor and need it again at the next training step,
    # which makes training 25 to 40% slower.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    # By default a busy worker holds waiting runs that an idle worker could start.
    "distributed.scheduler.worker-saturation": 1.0,
}
"""The values of Dask's configuration that differ from its defaults."""


@contextmanager
def local_dask(workers: int | None = None) -> Iterator[Client]:
    """Start Dask's processes for the time of a `with` block: `sweeps.run(..., executor=client.get_executor())`.

    Args:
        workers: number of processes, of one thread each; None for one for each core.

    Yields:
        A client of the processes.

    Raises:
        ImportError: dask.distributed is not installed; `pip install bayesrob[distributed]` installs it.
    """
    from dask import config
    from distributed import Client

    with (
        config.set(SETTINGS),
        Client(processes=True, threads_per_worker=1, n_workers=workers, dashboard_address=":0") as client,
    ):
        yield client
