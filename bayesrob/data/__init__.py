"""Data sets: real images, toys, and anybody's own arrays, all as one `Dataset`.

`load(name)` finds a set by its name (`names()` lists them), `from_arrays` takes one's own.
"""

from __future__ import annotations

from bayesrob.data.arrays import from_arrays
from bayesrob.data.dataset import Dataset
from bayesrob.data.registry import load, names

__all__ = ["Dataset", "from_arrays", "load", "names"]
