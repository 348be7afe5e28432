"""bayesrob: how robust is this posterior, and would the number survive scrutiny?

Rooms are imported when first used, so `import bayesrob` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bayesrob._version import __version__

_ROOMS = (
    "analysis",
    "arguments",
    "attacks",
    "auditing",
    "data",
    "errors",
    "evaluation",
    "inference",
    "models",
    "nets",
    "numerics",
    "plots",
)
_ROOMS += ("predictive", "report", "rng", "sweeps", "types", "weights")
_NAMES = {
    "Dataset": "bayesrob.data",
    "audit": "bayesrob.auditing",
    "evaluate": "bayesrob.evaluation",
    "load": "bayesrob.predictive",
    "to_datatree": "bayesrob.evaluation",
}

__all__ = ["__version__", *_ROOMS, *_NAMES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from bayesrob import (
        analysis,
        attacks,
        auditing,
        data,
        errors,
        evaluation,
        inference,
        models,
        nets,
        numerics,
        plots,
        predictive,
        report,
        rng,
        sweeps,
        types,
        weights,
    )
    from bayesrob.auditing import audit
    from bayesrob.data import Dataset
    from bayesrob.evaluation import evaluate, to_datatree
    from bayesrob.predictive import load


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"bayesrob.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'bayesrob' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
