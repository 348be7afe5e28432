"""Dask's processes on this machine, set as sweeps want them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SETTINGS", "local_dask"]

SETTINGS: dict[str, Any] = {
    # Workers give memory back to the system after each large tensor, and a step asks for it again: 25 to 40% slower.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    # A run that waits at a worker waits while another worker is idle.
    "distributed.scheduler.worker-saturation": 1.0,
}
"""Of Dask's configuration, where it departs from the defaults."""


@contextmanager
def local_dask(workers: int | None = None) -> Iterator[Client]:
    """A client of `workers` processes (None: one for each core) of one thread each: `sweeps.run(..., executor=
    client.get_executor())`.

    Raises:
        ImportError: no dask.distributed: pip install bayesrob[distributed].
    """
    from dask import config
    from distributed import Client

    with (
        config.set(SETTINGS),
        Client(processes=True, threads_per_worker=1, n_workers=workers, dashboard_address=":0") as client,
    ):
        yield client
