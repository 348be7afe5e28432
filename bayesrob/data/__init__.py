"""Data sets: images, toy problems, and the user's own arrays, all as one `Dataset`.

`load(name)` returns a data set by its name (`names()` lists them), `from_arrays` makes one of the user's own arrays, and
`keep_classes` selects some classes of a data set. A data set that is drawn from a distribution that somebody wrote down
also knows that distribution: `Dataset.conditional`, `Dataset.project` and `Dataset.robust_accuracy` ask its `Truth`.
"""

from __future__ import annotations

from bayesrob.data.arrays import from_arrays
from bayesrob.data.classes import keep_classes
from bayesrob.data.dataset import Dataset
from bayesrob.data.registry import load, names
from bayesrob.data.simulated import simulated_target
from bayesrob.data.truth import Truth

__all__ = ["Dataset", "Truth", "from_arrays", "keep_classes", "load", "names", "simulated_target"]
