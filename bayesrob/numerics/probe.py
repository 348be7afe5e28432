"""Which float32 matrix product is fastest here at full precision: measured once per machine, and stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor

__all__ = ["BOUND", "CLEARLY", "Outcome", "probe", "recall", "store"]

BOUND = 1e-6
"""Largest relative error (Frobenius, against float64) of a full-precision float32 product of up to 5,000 terms: libraries
stay at 2e-7 to 5e-7 whatever their order of summation, where factors rounded to bfloat16 give 2e-3, to TF32 3e-4."""

CLEARLY = 1.05
"""How many times faster than torch's default another route must be. Less is noise and not worth other bits: one thread on a
busy machine gave medians of one and the same comparison between 1.09 and 1.12. (More threads than idle processors give
anything; what is stored then costs speed, never exactness.)"""

REPEATS = (3, 7)
SECONDS = 0.4
"""The routes take turns at least three times, then until seven times or so many seconds have passed. With what it takes to
make the factors and their products in float64, a probe stays below a second."""

type Multiply = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The route to take, and why.

    Args:
        route: name of the route to take.
        errors: by route, the largest relative error of its products.
        speedups: by route, the seconds of the route "plain" divided by its own.
    """

    route: str
    errors: dict[str, float]
    speedups: dict[str, float]


def probe(routes: Mapping[str, Multiply], clock: Callable[[], float] = time.perf_counter) -> Outcome:
    """The fastest of `routes` among those within `BOUND`; one other than "plain" only if it is `CLEARLY` faster."""
    cases = _cases()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # whatever the caller is in the middle of
        references = [a.double() @ b.double() for a, b in cases]
        products = {name: [multiply(a, b) for a, b in cases] for name, multiply in routes.items()}
        errors = {name: max(map(_error, products[name], references)) for name in routes}
        # Where the library lacks the other kernels, a setting changes nothing, and there is nothing to time.
        same = {name for name in routes if all(map(torch.equal, products[name], products["plain"]))}
        rivals = [name for name in routes if errors[name] <= BOUND and name not in same]
        seconds: dict[str, list[float]] = {name: [] for name in ("plain", *rivals)}
        end = clock() + SECONDS
        for repeat in range(REPEATS[1] if rivals else 0):
            if repeat >= REPEATS[0] and clock() > end:
                break
            for name, times in seconds.items():
                start = clock()
                for a, b in cases:
                    routes[name](a, b)
                times.append(clock() - start)
    # Of each repeat the ratio: what else the machine does slows its routes alike.
    speedups = {
        name: statistics.median(plain / own for plain, own in zip(seconds["plain"], seconds[name], strict=True))
        for name in rivals
    }
    fastest = max(speedups, key=lambda name: speedups[name], default="plain")
    return Outcome(fastest if speedups.get(fastest, 0.0) >= CLEARLY else "plain", errors, speedups)


def _cases() -> list[tuple[Tensor, Tensor]]:
    """Factors of typical products: layers of 784-512-10 and 2-128-2 forwards and backwards, for data and for draws."""
    generator = np.random.default_rng(0)  # numpy's: torch's would mind the default device, and vmap

    def uniform(*shape: int) -> Tensor:
        return torch.from_numpy(generator.random(shape, dtype=np.float32) - np.float32(0.5))

    x, w, h = uniform(2000, 784), uniform(512, 784), uniform(2000, 512)
    some, out = h[:500], uniform(10, 512)
    xs, ws, hs = uniform(4, 128, 784), uniform(4, 512, 784), uniform(4, 128, 512)
    points, first, square, last = uniform(5000, 2), uniform(128, 2), uniform(128, 128), uniform(2, 128)
    wide = uniform(5000, 128)
    layers = [(x, w.T), (some, w), (some.T, x[:500]), (h, out.T)]
    draws = [(xs, ws.mT), (hs, ws)]
    small = [(points, first.T), (wide, square.T), (wide.T, wide), (wide, last.T)]
    return [*layers, *draws, *small]


def _error(product: Tensor, reference: Tensor) -> float:
    return float((product.double() - reference).norm() / reference.norm())


# ---- once per machine ----------------------------------------------------------------------------------------------------


def recall(routes: Mapping[str, Multiply]) -> Outcome | None:
    """What an earlier probe of these routes found on this machine; None if there was none, or its record is damaged."""
    try:
        stored = json.loads(_path().read_text())
        outcome = Outcome(stored["route"], dict(stored["errors"]), dict(stored["speedups"]))
        exact = outcome.route == "plain" or outcome.errors[outcome.route] <= BOUND
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return outcome if exact and outcome.errors.keys() == routes.keys() else None


def store(outcome: Outcome, routes: Mapping[str, Multiply]) -> Outcome:
    """Keep `outcome` for later processes; where one was faster, its outcome is returned. Never fails."""
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".partial", delete=False) as file:
            json.dump({**dataclasses.asdict(outcome), "machine": _machine()}, file, indent=1)
        partial = Path(file.name)
        try:
            os.link(partial, path)  # unlike a replacement it fails where a file is: the first process wins
        except OSError:
            theirs = recall(routes)
            if theirs is not None:
                return theirs
            partial.replace(path)  # a damaged record, or a file system without links
        finally:
            partial.unlink(missing_ok=True)
    except OSError:
        pass
    return outcome


def _path() -> Path:
    """Below BAYESROB_CACHE, else the platform's user cache folder; a file for every machine that shares the folder."""
    folder = os.environ.get("BAYESROB_CACHE") or platformdirs.user_cache_dir("bayesrob")
    digest = hashlib.sha256(json.dumps(_machine()).encode()).hexdigest()
    return Path(folder).expanduser() / "numerics" / f"{digest[:16]}.json"


def _machine() -> dict[str, str | int | list[str]]:
    """What the outcome depends on. Instruction sets are named because a virtual machine may hide some of its processor's."""
    processor = [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability()]
    wanted = ("vendor", "model", "cpu family", "stepping", "flags", "features", "cpu part", "cpu implementer")
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        processor += sorted(line for line in first.splitlines() if line.lower().startswith(wanted))
    except OSError:  # not Linux
        pass
    libraries = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith(("ONEDNN_", "DNNL_", "MKL_")))
    return {
        "processor": processor,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "environment": libraries,
    }
