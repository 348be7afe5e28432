"""One plot per file: trees of `evaluate` in, a matplotlib figure out; no torch. `PLOTS` lists them by name."""

from bayesrob.plots.attack_accuracy import attack_accuracy
from bayesrob.plots.chains import chains
from bayesrob.plots.examples import examples
from bayesrob.plots.gradient_norms import gradient_norms
from bayesrob.plots.losses import losses

PLOTS = {plot.__name__: plot for plot in (attack_accuracy, chains, examples, gradient_norms, losses)}

__all__ = ["PLOTS", "attack_accuracy", "chains", "examples", "gradient_norms", "losses"]
