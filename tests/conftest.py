"""Shapes in annotations are checked in the tests: jaxtyping rewrites these modules as they are imported.

They are the ones behind the checks of bad input. In front of them, a wrong type must reach bayesrob's own error.
"""

import jaxtyping

SHAPED = [
    "bayesrob.attacks.geometry",
    "bayesrob.inference.guides",
    "bayesrob.inference.leapfrog",
    "bayesrob.inference.svi",
    "bayesrob.models.flat",
    "bayesrob.models.likelihoods",
    "bayesrob.nets.forward",
    "bayesrob.numerics",
    "bayesrob.predictive.fresh",
    "bayesrob.predictive.gaussian",
    "bayesrob.predictive.gradients",
    "bayesrob.predictive.held",
    "bayesrob.predictive.objectives",
]

jaxtyping.install_import_hook(SHAPED, "beartype.beartype")
