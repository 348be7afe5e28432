"""Data sets: real images, toys, and anybody's own arrays, all as one `Dataset`.

`load(name)` finds a set by its name (`names()` lists them), `from_arrays` takes one's own, `keep_classes` some
classes of either. Sets drawn from a distribution that somebody wrote down know it: `Dataset.conditional`, `project`,
`robust_accuracy` ask their `Truth`.
"""

from __future__ import annotations

from bayesrob.data.arrays import from_arrays
from bayesrob.data.classes import keep_classes
from bayesrob.data.dataset import Dataset
from bayesrob.data.registry import load, names
from bayesrob.data.truth import Truth

__all__ = ["Dataset", "Truth", "from_arrays", "keep_classes", "load", "names"]
