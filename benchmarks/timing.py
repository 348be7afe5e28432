"""Several ways to do one job, timed in turn in one run, so that a machine's drift falls on all of them alike."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bayesrob.numerics import fast_precision

__all__ = ["Ways", "alternate", "header", "options", "table"]

PACKAGES = (
    "bayesrob", "torch", "pyro-ppl", "numpyro", "jax", "blackjax", "posteriors", "foolbox",
    "adversarial-robustness-toolbox", "torchattacks",
)  # fmt: skip

Seconds = dict[str, list[float]]


class Ways:
    """Ways to do one job by name, and why a peer is not among them."""

    def __init__(self, peers: bool = True):
        self.peers = peers
        self.run: dict[str, Callable[[], object]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.scale: dict[str, float] = {}
        self.missing: dict[str, str] = {}
        self._of_peers: set[str] = set()

    def add(
        self, name: str, way: Callable[[], object], before: Callable[[], object] | None = None, scale: float = 1.0
    ) -> None:
        """`before` is run, untimed, before each run; a way that does a part of the job has its seconds times `scale`."""
        self.run[name], self.scale[name] = way, scale
        if before is not None:
            self.before[name] = before

    def peer(self, name: str, module: str, function: str, *args: Any, scale: float = 1.0, **settings: Any) -> None:
        """Add what `peers/<module>.py`'s `function` makes: a way, or a way and its `before`; if it cannot, keep why."""
        if not self.peers:
            return
        self._of_peers.add(name)
        try:
            made = getattr(importlib.import_module(f"peers.{module}"), function)(*args, **settings)
        except Exception as error:  # whatever an installed version of another library raises
            self.fail(name, error)
            return
        self.add(name, *(made if isinstance(made, tuple) else (made,)), scale=scale)

    def fail(self, name: str, error: Exception) -> None:
        """Take `name` out and keep why; of ours and the floor the error is the caller's."""
        if name not in self._of_peers:
            raise error
        traceback.print_exception(error, file=sys.stderr)
        self.run.pop(name, None)
        self.missing[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]


def alternate(ways: Ways, runs: int, after: Callable[[str, Any], object] | None = None, warm_up: bool = True) -> Seconds:
    """Seconds of `runs` runs of each way, A B C A B C ..., after one of each that does not count.

    `after(name, result)` sees what each timed run returned, outside of its time.
    """
    for name, way in list(ways.run.items()):
        if warm_up:
            try:
                way()
            except Exception as error:
                ways.fail(name, error)
    seconds: Seconds = {name: [] for name in ways.run}
    for i in range(runs):
        for name, way in ways.run.items():
            if name in ways.before:
                ways.before[name]()
            start = time.perf_counter()
            result = way()
            seconds[name].append((time.perf_counter() - start) * ways.scale[name])
            if after is not None:
                after(name, result)
            print(f"run {i + 1}/{runs}  {name}: {seconds[name][-1]:.4g} s", file=sys.stderr, flush=True)
    return seconds


def table(
    title: str,
    seconds: Mapping[str, list[float]],
    per: float = 1.0,
    unit: str = "s",
    ways: Ways | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    ours: str = "bayesrob",
) -> str:
    """A Markdown table: median, minimum, the medians of the pairwise ratios to the floor and to ours, and what is missing.

    The floor is the row "by hand..." with the lowest median. `columns` are further ones, from ways to texts.
    """
    by_hand = [name for name in seconds if name.startswith("by hand")]
    floor = min(by_hand, key=lambda name: statistics.median(seconds[name]), default=None)
    factor = 1e3 if unit.startswith("ms") else 1.0
    columns = columns or {}
    heads = ["way", f"median {unit}", "minimum", *(["ratio to floor"] if floor else []), f"ratio to {ours}", *columns]
    lines = [f"**{title}**", "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, values in seconds.items():
        cells = [name, f"{factor * statistics.median(values) / per:.3g}", f"{factor * min(values) / per:.3g}"]
        others = [other for other in (floor, ours) if other is not None]
        cells += [ratio(values, seconds[other]) if other in seconds else "" for other in others]
        cells += [column.get(name, "") for column in columns.values()]
        lines.append(f"| {' | '.join(cells)} |")
    for name, why in (ways.missing if ways else {}).items():
        lines.append(f"| {' | '.join([name, 'missing: ' + why.replace('|', '/'), *[''] * (len(heads) - 2)])} |")
    if floor and len(by_hand) > 1:
        lines += ["", f'The floor is "{floor}".']
    return "\n".join([*lines, ""])


def ratio(values: list[float], others: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(values, others, strict=True)):.2f}"


def header() -> str:
    """Machine, threads, how busy it was (a neighbour's thread makes torch's wait for each other), versions."""
    processor = platform.processor() or platform.machine()
    try:
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
        said = {name.strip(): value.strip() for name, value in reversed(lines)}
        # Names hide generations: an "AMD EPYC" may be a Zen 3 or a Zen 5, three times as fast.
        processor = f"{said['model name']} (family {said['cpu family']}, model {said['model']})"
    except (OSError, KeyError):  # not Linux, or not x86
        pass
    rounds = "bfloat16 products" if fast_precision() == "bf16" else "no bfloat16 products"
    processor = f"{processor}, {torch.backends.cpu.get_cpu_capability()}, {rounds}"
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = f"{cores} processors for this process, {torch.get_num_threads()} threads of torch"
    busy = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown"
    return f"{processor}; {threads}; {busy}; {', '.join(versions)}.\n"


def options(description: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """What every case asks for on its command line, and `more`: names to the settings of `add_argument`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each way (5)")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours and the floor alone")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs; its numbers mean nothing")
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    warnings.simplefilter("ignore")  # other libraries' deprecations, and chains that are too short on purpose
    return parser.parse_args()
