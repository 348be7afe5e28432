"""Plots: functions of DataTrees that return a matplotlib figure, one in each file. `PLOTS` lists them by name."""

from bayesrob.plots.accuracy_lines import accuracy_lines
from bayesrob.plots.accuracy_robustness import accuracy_robustness
from bayesrob.plots.attack_accuracy import attack_accuracy
from bayesrob.plots.bias_variance import bias_variance
from bayesrob.plots.chains import chains
from bayesrob.plots.definitions import definitions
from bayesrob.plots.effective_draws import effective_draws
from bayesrob.plots.epochs import epochs
from bayesrob.plots.examples import examples
from bayesrob.plots.feature_weights import feature_weights
from bayesrob.plots.gradient_components import gradient_components
from bayesrob.plots.gradient_decay import gradient_decay
from bayesrob.plots.gradient_grid import gradient_grid
from bayesrob.plots.gradient_images import gradient_images
from bayesrob.plots.gradient_norms import gradient_norms
from bayesrob.plots.gradient_parts import gradient_parts
from bayesrob.plots.losses import losses
from bayesrob.plots.model_spread import model_spread
from bayesrob.plots.pictures import pictures
from bayesrob.plots.protocols import protocols
from bayesrob.plots.published import published
from bayesrob.plots.ranks import ranks
from bayesrob.plots.robustness_by import robustness_by
from bayesrob.plots.robustness_curves import robustness_curves
from bayesrob.plots.threats import threats
from bayesrob.plots.tradeoff import tradeoff
from bayesrob.plots.transfer import transfer

PLOTS = {
    plot.__name__: plot
    for plot in (
        accuracy_robustness,
        accuracy_lines,
        attack_accuracy,
        bias_variance,
        chains,
        definitions,
        effective_draws,
        epochs,
        examples,
        feature_weights,
        gradient_components,
        gradient_decay,
        gradient_grid,
        gradient_images,
        gradient_norms,
        gradient_parts,
        losses,
        model_spread,
        pictures,
        protocols,
        published,
        ranks,
        robustness_by,
        robustness_curves,
        threats,
        tradeoff,
        transfer,
    )
}

__all__ = [
    "PLOTS",
    "accuracy_lines",
    "accuracy_robustness",
    "attack_accuracy",
    "bias_variance",
    "chains",
    "definitions",
    "effective_draws",
    "epochs",
    "examples",
    "feature_weights",
    "gradient_components",
    "gradient_decay",
    "gradient_grid",
    "gradient_images",
    "gradient_norms",
    "gradient_parts",
    "losses",
    "model_spread",
    "pictures",
    "protocols",
    "published",
    "ranks",
    "robustness_by",
    "robustness_curves",
    "threats",
    "tradeoff",
    "transfer",
]
