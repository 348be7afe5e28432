"""The judgement of each check, from numbers and arrays: an evaluation has them already, an audit makes runs for them."""

from bayesrob.analysis.checks.draws import attack_draws, nothing_dropped, rescored
from bayesrob.analysis.checks.model import SAME, gradient_noise, inference, outputs, randomness, zero_gradients
from bayesrob.analysis.checks.strength import (
    GREY,
    accuracy_falls,
    convergence,
    gradient_free,
    objectives,
    random_search,
    single_step,
    transfer,
)

__all__ = [
    "GREY",
    "SAME",
    "accuracy_falls",
    "attack_draws",
    "convergence",
    "gradient_free",
    "gradient_noise",
    "inference",
    "nothing_dropped",
    "objectives",
    "outputs",
    "random_search",
    "randomness",
    "rescored",
    "single_step",
    "transfer",
    "zero_gradients",
]
