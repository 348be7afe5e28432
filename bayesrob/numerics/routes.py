"""Which library computes float32 matrix products, and for how long: never beyond bayesrob's own work."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob.errors import InputError, check_name
from bayesrob.numerics.probe import BOUND, Multiply, Outcome, probe, recall, store

__all__ = ["LARGE", "ROUTES", "Products", "asked", "choose", "products", "route"]

MATMUL: Any = getattr(torch.backends.mkldnn, "matmul", None)
"""Torch's switch for float32 products on a CPU; None before torch 2.9."""

ROUTES = {"plain": "ieee"} if MATMUL is None else {"plain": "ieee", "onednn": "bf16"}
"""Values of `torch.backends.mkldnn.matmul.fp32_precision`. "ieee" is torch's default (the same kernels, the same bits),
also where the user's own settings ask for less. "bf16" hands products to oneDNN and allows it to round the factors: a
processor without a matrix unit for bfloat16 does not, and gets oneDNN's float32 kernels: on AMD 1.1 (Zen 4) to 2 times as
fast as MKL's. One that has the unit does round, and the probe's error refuses the route. Torch offers no full-precision
name for oneDNN's products; its "tf32" needs a matrix unit too, and rounds."""

LARGE = 2**14
"""Weights of a network's largest layer from which on "auto" may leave torch's default. Below 128 x 128 the dispatch of
oneDNN costs more than its kernels save (Zen 4, one thread: 500 points of 32 x 32 take 14 microseconds plain, 26 through
oneDNN; 5,000 points of 128 x 128 1.72 and 1.54 ms), and small networks should not wait a second for a probe."""

_asked: str | None = None  # by the innermost `route` block; of the process, as torch's own setting is
_outcomes: dict[int, Outcome] = {}  # by number of threads
_lock = threading.Lock()
_layers: weakref.WeakKeyDictionary[nn.Module, tuple[Tensor | None, int]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def route(name: str) -> Iterator[None]:
    """Let bayesrob's float32 products on a CPU take the route `name` within the block.

    Without it the environment variable BAYESROB_NUMERICS says, else "auto". Networks in float64 or on an accelerator are
    not concerned: nothing changes for them. The setting is the process's, as torch's own is: threads share it.

    Args:
        name: "plain", torch's default; "auto", the fastest that is exact to float32 where the network's largest layer has
            `LARGE` weights or more, as a probe of half a second measured it once for this processor, torch and number of
            threads (kept in the user's cache folder, or below BAYESROB_CACHE: delete it to measure again); or another
            of `ROUTES` for networks of every size.

    Raises:
        UnknownNameError: no route of that name here.
    """
    global _asked
    before, _asked = _asked, _known(name)
    try:
        yield
    finally:
        _asked = before


def asked() -> str:
    """The route that is asked for: by `route`, else by BAYESROB_NUMERICS, else "auto"."""
    return _asked or _known(os.environ.get("BAYESROB_NUMERICS") or "auto")


class Products:
    """Float32 products take the route `name` in the block; what torch was set to before is set again behind it.

    Args:
        name: name of the route.
        outcome: what the probe measured; None if no probe was needed.
    """

    __slots__ = ("before", "name", "outcome")

    def __init__(self, name: str, outcome: Outcome | None = None):
        self.name, self.outcome = name, outcome
        self.before: str | None

    def __enter__(self) -> Products:
        self.before = None
        if MATMUL is None:
            return self
        setting, now = ROUTES[self.name], MATMUL.fp32_precision
        if now == setting or (now == "none" and setting == "ieee"):
            return self
        # The value read may be inherited from torch's setting for all of mkldnn. Then it is to be so again.
        inherited = now == "none" or now == torch.backends.mkldnn.fp32_precision
        self.before = "none" if inherited else now
        MATMUL.fp32_precision = setting
        return self

    def __exit__(self, *error: object) -> None:
        if self.before is not None:
            MATMUL.fp32_precision = self.before

    def record(self) -> dict[str, Any]:
        """For results: the route, the threads its bits depend on, and if a probe was needed what it measured."""
        record = {"route": self.name, "asked": asked(), "threads": torch.get_num_threads()}
        if self.outcome is None:
            return record
        return {**record, "errors": dict(self.outcome.errors), "speedups": dict(self.outcome.speedups)}


def products(net: nn.Module) -> contextlib.AbstractContextManager[object]:
    """The route of this network's products for the time of a block.

    Settings are no part of a program that `torch.compile` makes: there this does nothing, and the caller's setting rules.

    Raises: as `choose`.
    """
    return contextlib.nullcontext() if torch.compiler.is_compiling() else choose(net)


def choose(net: nn.Module) -> Products:
    """The route of this network's products. It depends on what is asked for, on the network and on the machine alone.

    Raises:
        UnknownNameError: BAYESROB_NUMERICS is no route. InputError: a route is asked for that rounds on this machine.
    """
    name = asked()
    known = _layers.get(net)
    if known is None:
        weights = list(net.parameters())
        known = _layers[net] = (weights[0] if weights else None, max((w.numel() for w in weights if w.ndim == 2), default=0))
    first, size = known
    if name == "plain" or first is None or first.dtype != torch.float32 or not first.is_cpu:
        return Products("plain")
    if name == "auto" and size < LARGE:
        return Products("plain")
    outcome = measured()
    name = outcome.route if name == "auto" else name
    if name != "plain" and not outcome.errors[name] <= BOUND:
        raise InputError(
            f"Products by the route {name!r} have a relative error of {outcome.errors[name]:.1e} on this machine.",
            f"That is not float32's precision, {BOUND:g}: its processor rounds the factors.",
            'Use numerics.route("auto"), or BAYESROB_NUMERICS=auto.',
        )
    return Products(name, outcome)


def measured() -> Outcome:
    """The probe's outcome for this machine and number of threads: of this process, else stored, else measured now."""
    threads = torch.get_num_threads()
    if threads not in _outcomes:
        with _lock:
            if threads not in _outcomes:
                routes: dict[str, Multiply] = {name: functools.partial(_multiply, name) for name in ROUTES}
                _outcomes[threads] = recall(routes) or store(probe(routes), routes)
    return _outcomes[threads]


def _multiply(name: str, a: Tensor, b: Tensor) -> Tensor:
    with Products(name):
        return a @ b


def _known(name: str) -> str:
    known = name == "auto" or name in ROUTES
    return name if known else check_name("route of float32 products", name, ["auto", *ROUTES])
