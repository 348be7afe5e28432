"""Sweeps whose processes are killed, and two sweeps on one folder, end with the same results."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayesrob import sweeps
from bayesrob.sweeps import Grid, files
from tests.sweeps.helpers import ALL, FIXED, assert_same

ROOT = Path(__file__).resolve().parents[2]


SCRIPT = """
import signal, sys
from bayesrob import sweeps
from tests.sweeps.helpers import ALL
signal.signal(signal.SIGINT, signal.default_int_handler)
print(sweeps.run(ALL, sys.argv[1], workers=int(sys.argv[2])))
"""


def started(folder: Path, workers: int = 2) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(workers)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def children(process: int) -> list[int]:
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == process and "popen_loky" in (path.parent / "cmdline").read_text():
                pids.append(int(path.parent.name))
        except (OSError, ValueError):
            continue
    return pids


def wait_for(condition, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def caught_in_mid_sweep(tmp_path: Path) -> tuple[Path, subprocess.Popen, list[int]]:
    """A sweep with cells that are done and workers at others; on a busy machine it may be over before one has looked."""
    for attempt in range(5):
        folder = tmp_path / f"sweep{attempt}"
        script = started(folder)
        wait_for(lambda folder=folder, script=script: any((folder / "cells").glob("*.nc")) or script.poll() is not None)
        workers = children(script.pid)
        if workers and script.poll() is None:
            return folder, script, workers
        error = script.communicate(timeout=240)[1]
        assert script.returncode == 0, error
    raise AssertionError("The sweep was over each time before a worker was found.")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes where Linux lists them")
@pytest.mark.parametrize(
    "how",
    [pytest.param("worker killed", marks=pytest.mark.slow), pytest.param("driver killed", marks=pytest.mark.slow), "ctrl-c"],
)
def test_deaths_in_mid_sweep_lose_at_most_what_was_in_flight(tmp_path, reference, how):
    folder, script, workers = caught_in_mid_sweep(tmp_path)
    try:
        if how == "worker killed":
            os.kill(workers[0], signal.SIGKILL)
        elif how == "driver killed":
            script.kill()
        else:
            os.killpg(script.pid, signal.SIGINT)
        out, error = script.communicate(timeout=240)
    finally:
        script.kill()
    if how == "worker killed":
        assert "20 done, 0 failed, 0 damaged, 0 missing" in out, error
    else:
        assert ("KeyboardInterrupt" in error) == (how == "ctrl-c")
        for worker in workers:
            wait_for(lambda worker=worker: not Path(f"/proc/{worker}").exists(), 30)
    before = {path: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.nc")}
    sweeps.run(ALL, folder, workers=1)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())  # none twice
    assert_same(folder, reference)


def test_two_sweeps_on_one_folder_do_not_corrupt_it(tmp_path, reference):
    folder = tmp_path / "sweep"
    scripts = [started(folder, workers=1), started(folder, workers=1)]  # more would meet in the same way
    for script in scripts:
        out, error = script.communicate(timeout=240)
        assert "0 failed, 0 damaged" in out, error
    assert sweeps.status(folder)["done"] == 20
    assert_same(folder, reference)
    assert not list(folder.rglob(".*"))


def test_a_process_that_dies_twice_is_given_up_and_the_others_go_on(tmp_path, monkeypatch):
    """One run kills its process; those beside it are none the worse."""
    grid = Grid(FIXED, {"net.width": [8, 12], "inference.epochs": [2, 3]})  # two runs
    bad = grid.cells()[0].key
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setattr(sweeps.engine.work, "do", Deadly(bad))
    reached = sweeps.run(grid, tmp_path, workers=2)
    assert (reached["done"], reached["failed"]) == (2, 2)
    assert all("died twice" in text for text in reached.errors.values())


class Deadly:
    """In a process of its own: the run of the bad cell ends it."""

    def __init__(self, bad: str):
        self.bad = bad

    def __call__(self, configs, ends, folder, *others):
        from bayesrob.sweeps import Cell
        from bayesrob.sweeps import work as real

        keys = [Cell(**config).key for config in configs]
        if self.bad in keys:
            files.begin(Path(folder), keys[-1])
            os.kill(os.getpid(), signal.SIGKILL)
        return real.do(configs, ends, folder, *others)


@pytest.mark.slow
def test_dask_finishes_though_a_worker_is_killed(tmp_path, reference):
    pytest.importorskip("distributed", reason="pip install bayesrob[distributed]")
    with sweeps.local_dask(2) as client:
        victims = [worker.pid for worker in client.cluster.workers.values()]
        folder = tmp_path / "sweep"

        def kill() -> None:
            wait_for(lambda: len(list((folder / "cells").glob("*.nc"))) > 0)
            os.kill(victims[0], signal.SIGKILL)

        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            killed = beside.submit(kill)
            reached = sweeps.run(ALL, folder, executor=client.get_executor())
            killed.result()
    assert reached["done"] == 20
    assert_same(folder, reference)
