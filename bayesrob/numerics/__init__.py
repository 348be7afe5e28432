"""Numbers that would otherwise be rounded away, pieces of work that fit the cache, and the fastest product of matrices."""

from bayesrob.numerics.chunks import chunk_size, outputs_per_example, slices
from bayesrob.numerics.logspace import categorical_log_likelihood, log_mean_exp
from bayesrob.numerics.routes import asked, choose, products, route

__all__ = [
    "asked",
    "categorical_log_likelihood",
    "choose",
    "chunk_size",
    "log_mean_exp",
    "outputs_per_example",
    "products",
    "route",
    "slices",
]
