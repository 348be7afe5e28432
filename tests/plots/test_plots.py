"""Plots show the numbers that they are given."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from bayesrob import plots


def make_tree(image: bool = True, chains: bool = True) -> xr.DataTree:
    rng = np.random.default_rng(0)
    attacks, points = ["random", "pgd"], 12
    shape = (1, 5, 5) if image else (2,)
    axes = [f"axis_{i}" for i in range(len(shape))]
    log_p = np.log(rng.dirichlet(np.ones(3), points))
    groups = {
        "robustness": xr.Dataset(
            {
                "accuracy": 0.9,
                "accuracy_interval": ("bound", [0.8, 0.95]),
                "adversarial_accuracy": ("attack", [0.7, 0.2]),
                "adversarial_accuracy_interval": (("attack", "bound"), [[0.6, 0.8], [0.1, 0.35]]),
            },
            coords={"attack": attacks, "bound": ["lower", "upper"]},
        ),
        "points": xr.Dataset(
            {
                "label": ("point", rng.integers(0, 3, points)),
                "log_probability": (("point", "class"), log_p),
                "adversarial_log_probability": (("attack", "point", "class"), np.stack([log_p, log_p[::-1]])),
            },
            coords={"attack": attacks},
        ),
        "gradients": xr.Dataset(
            {
                "norm": (("objective", "point"), rng.exponential(size=(2, points))),
                "standard_error": (("objective", "point"), rng.exponential(size=(2, points)) / 10),
            },
            coords={"objective": ["expected_loss", "predictive_loss"]},
        ),
        "examples": xr.Dataset(
            {
                "clean": (("point", *axes), rng.uniform(size=(9, *shape))),
                "adversarial": (("attack", "point", *axes), rng.uniform(size=(2, 9, *shape))),
            },
            coords={"attack": attacks},
        ),
    }
    if chains:
        values = rng.normal(size=(2, 20, points))
        groups["log_likelihood"] = xr.Dataset(
            {"obs": (("chain", "draw", "point"), values)},
            coords={"chain": range(2), "draw": range(20), "point": np.arange(points) * 10},
        )
        groups["diagnostics"] = xr.Dataset(
            {"rhat": ("point", np.linspace(1, 2, points))}, coords={"point": np.arange(points) * 10}
        )
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["predictive"] = json.dumps({"losses": [3.0, 2.0, 1.0], "steps": 300})
    return tree


def test_attack_accuracy_draws_values_and_intervals():
    (axes,) = plots.attack_accuracy({"HMC": make_tree()}).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "random", "pgd"]
    (container,) = axes.containers
    np.testing.assert_allclose(container.lines[0].get_ydata(), [0.9, 0.7, 0.2])
    segments = container.lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], [[0.8, 0.95], [0.6, 0.8], [0.1, 0.35]])


def test_gradient_norms_are_empirical_distribution_functions():
    tree = make_tree()
    figure = plots.gradient_norms({"HMC": tree})
    assert [axes.get_title() for axes in figure.axes] == ["expected_loss", "predictive_loss"]
    solid = figure.axes[0].lines[0]
    np.testing.assert_allclose(solid.get_xdata(), np.sort(tree["gradients"]["norm"].values[0]))
    np.testing.assert_allclose(solid.get_ydata(), np.arange(12) / 12)


def test_gradient_norms_of_one_network_have_no_error_line():
    tree = make_tree()
    tree["gradients"]["standard_error"][:] = np.nan
    assert len(plots.gradient_norms({"SGD": tree}).axes[0].lines) == 1


def test_examples_mark_wrong_predictions():
    tree = make_tree()
    figure = plots.examples(tree, "pgd", num_images=4)
    points = tree["points"].to_dataset()
    for column in range(4):
        for row, guesses in enumerate((points["log_probability"], points["adversarial_log_probability"].sel(attack="pgd"))):
            axes = figure.axes[4 * row + column]
            guess = int(guesses.values[column].argmax())
            assert axes.get_title() == str(guess)
            wrong = guess != int(points["label"][column])
            assert (axes.title.get_color() == "crimson") == wrong


def test_examples_of_inputs_that_are_no_images_are_a_scatter():
    tree = make_tree(image=False)
    (axes,) = plots.examples(tree).axes
    np.testing.assert_allclose(axes.collections[0].get_offsets(), tree["examples"]["clean"].values[:8])


def test_chains_show_the_points_where_they_agree_least():
    figure = plots.chains(make_tree(), num_points=2)
    labels = {axes.get_ylabel() for axes in figure.axes} | {axes.get_xlabel() for axes in figure.axes}
    assert any("point 110 (R-hat 2.00)" in label for label in labels)
    assert not any("point 0 " in label for label in labels)


def test_losses_are_drawn_against_steps():
    (axes,) = plots.losses({"SVI": make_tree()}).axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [100, 200, 300])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [3, 2, 1])


@pytest.mark.parametrize("name", sorted(plots.PLOTS))
def test_every_plot_saves_without_a_display(name, tmp_path):
    tree = make_tree()
    argument = tree if name in ("chains", "examples") else {"a": tree, "b": tree}
    plots.PLOTS[name](argument).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
