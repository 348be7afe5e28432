"""Numbers that would otherwise be rounded away, pieces of work that fit the cache, and the fastest product of matrices."""

from bayesrob.numerics.broadcast import per_point
from bayesrob.numerics.chunks import CACHE_BYTES, MEMORY_BYTES, chunk_size, outputs_per_example, slices
from bayesrob.numerics.logspace import categorical_log_likelihood, categorical_score, log_mean_exp, log_softmax
from bayesrob.numerics.precision import PRECISIONS, fast_precision, low_dtype, low_products
from bayesrob.numerics.routes import Products, asked, choose, products, route

__all__ = [
    "CACHE_BYTES",
    "MEMORY_BYTES",
    "PRECISIONS",
    "Products",
    "asked",
    "categorical_log_likelihood",
    "categorical_score",
    "choose",
    "chunk_size",
    "fast_precision",
    "log_mean_exp",
    "log_softmax",
    "low_dtype",
    "low_products",
    "outputs_per_example",
    "per_point",
    "products",
    "route",
    "slices",
]
