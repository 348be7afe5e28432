"""Numbers that would otherwise be rounded away, pieces of work that fit the cache, and the fastest product of matrices."""

from bayesrob.numerics.broadcast import per_point
from bayesrob.numerics.chunks import CACHE_BYTES, MEMORY_BYTES, chunk_size, outputs_per_example, slices
from bayesrob.numerics.logspace import (
    categorical_log_likelihood,
    categorical_score,
    log_mean_exp,
    log_softmax,
    rescaled_categorical_score,
)
from bayesrob.numerics.negligible import Rescaled, drop_negligible, faint, negligible, rescaled, without_negligible
from bayesrob.numerics.precision import PRECISIONS, fast_precision, low_dtype, low_products
from bayesrob.numerics.routes import Products, asked, choose, products, route

__all__ = [
    "CACHE_BYTES",
    "MEMORY_BYTES",
    "PRECISIONS",
    "Products",
    "Rescaled",
    "asked",
    "categorical_log_likelihood",
    "categorical_score",
    "choose",
    "chunk_size",
    "drop_negligible",
    "faint",
    "fast_precision",
    "log_mean_exp",
    "log_softmax",
    "low_dtype",
    "low_products",
    "negligible",
    "outputs_per_example",
    "per_point",
    "products",
    "rescaled",
    "rescaled_categorical_score",
    "route",
    "slices",
    "without_negligible",
]
