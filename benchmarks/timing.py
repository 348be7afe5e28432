"""Several ways to do one job, timed in turn in one run, so that a machine's drift falls on all of them alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["alternate", "header", "table"]


def alternate(ways: Mapping[str, Callable[[], object]], runs: int = 5) -> dict[str, list[float]]:
    """Seconds of `runs` runs of each way, A B C A B C ..., after one of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        ways[name]()
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def header() -> str:
    """Machine, versions, threads."""
    return (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def table(title: str, seconds: Mapping[str, list[float]], per: float, unit: str, floor: str) -> str:
    """A Markdown table: median, minimum, and the median of the pairwise ratios to the floor."""
    lines = [f"**{title}**", "", f"| way | median {unit} | minimum | ratio to {floor} |", "| --- | --- | --- | --- |"]
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[floor], strict=True))
        scaled = [1e3 * value / per for value in values]
        lines.append(f"| {name} | {statistics.median(scaled):.3g} | {min(scaled):.3g} | {ratio:.2f} |")
    return "\n".join([*lines, ""])
