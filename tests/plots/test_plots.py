"""Every plot saves, and leaves what it is given as it was."""

from __future__ import annotations

import pytest
import xarray as xr

from bayesrob import plots
from tests.plots.gradient_makers import make_gradients, make_grid, make_parts
from tests.plots.makers import (
    make_epochs,
    make_gauntlet,
    make_protocols,
    make_table,
    make_transfer,
    make_tree,
)
from tests.plots.model_makers import (
    make_accuracy,
    make_curves,
    make_definitions,
    make_features,
    make_pictures,
    make_spread,
    make_sweep,
    make_tradeoff,
)

ARGUMENTS = {
    "accuracy_lines": make_accuracy,
    "feature_weights": make_features,
    "pictures": make_pictures,
    **dict.fromkeys(("attack_accuracy", "gradient_norms", "losses"), lambda: {"a": make_tree(), "b": make_tree()}),
    **dict.fromkeys(("robustness_curves", "threats"), lambda: {"a": make_gauntlet(), "b": make_gauntlet(0.05)}),
    **dict.fromkeys(("chains", "effective_draws", "examples", "ranks"), make_tree),
    **dict.fromkeys(("gradient_components", "gradient_decay"), lambda: {"a": make_gradients(), "b": make_gradients()}),
    "accuracy_robustness": make_sweep,
    "robustness_by": make_sweep,
    "model_spread": lambda: {"plain": {"FGSM": make_spread(), "PGD": make_spread()}, "robust": {"FGSM": make_spread()}},
    "bias_variance": lambda: {"a": make_curves(), "b": make_curves(1.0)},
    "definitions": lambda: {"a": make_definitions(), "b": make_definitions(0.1)},
    "epochs": make_epochs,
    "gradient_grid": make_grid,
    "gradient_images": make_gradients,
    "gradient_parts": lambda: {"a": make_parts(), "b": make_parts(0.1)},
    "protocols": make_protocols,
    "published": make_table,
    "tradeoff": lambda: {"a": make_tradeoff(), "b": make_tradeoff()},
    "transfer": make_transfer,
}
"""What each plot is given; a new plot adds its row."""


def test_every_plot_has_its_row():
    assert sorted(ARGUMENTS) == sorted(plots.PLOTS)


def leaves(argument: object) -> list:
    """Every Dataset or DataTree in nested dictionaries."""
    return [leaf for value in argument.values() for leaf in leaves(value)] if type(argument) is dict else [argument]


@pytest.mark.parametrize("name", sorted(plots.PLOTS))
def test_every_plot_saves_without_a_display(name, tmp_path):
    """And leaves its data as they were, and nothing with pyplot, which would keep it alive."""
    from matplotlib import pyplot

    argument, same = ARGUMENTS[name](), ARGUMENTS[name]()
    plots.PLOTS[name](argument).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert pyplot.get_fignums() == []
    for ours, before in zip(leaves(argument), leaves(same), strict=True):
        xr.testing.assert_identical(ours, before)
