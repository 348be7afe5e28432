"""Numbers that would otherwise be rounded away, and pieces of work that fit the cache."""

from bayesrob.numerics.chunks import chunk_size, outputs_per_example, slices
from bayesrob.numerics.logspace import categorical_log_likelihood, log_mean_exp

__all__ = ["categorical_log_likelihood", "chunk_size", "log_mean_exp", "outputs_per_example", "slices"]
