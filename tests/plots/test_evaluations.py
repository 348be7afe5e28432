"""Plots of one evaluation show its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayesrob import plots
from tests.plots.gradient_makers import make_gradients
from tests.plots.makers import make_tree


def texts(figure) -> str:
    """Everything written on a figure's panels."""
    return " | ".join(
        text for axes in figure.axes for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) if text
    )


def lines(axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]


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


@pytest.mark.parametrize("name", ["chains", "ranks", "effective_draws"])
def test_chain_plots_show_the_points_where_they_agree_least(name):
    tree = make_tree()
    written = texts(plots.PLOTS[name](tree, num_points=2))
    assert "point 110 (R-hat 2.00)" in written
    assert "point 100 (R-hat 1.91)" in written
    assert "point 90 " not in written
    # An R-hat that is undefined says least, and comes last.
    tree["diagnostics"]["rhat"][:] = [*[np.nan] * 10, 1.2, 1.1]
    written = texts(plots.PLOTS[name](tree, num_points=3))
    assert "point 100 (R-hat 1.20)" in written
    assert "point 110 (R-hat 1.10)" in written
    assert "point 0 (R-hat nan)" in written


def test_worst_points_are_the_draws_at_those_points():
    tree = make_tree()
    posterior = plots.worst_points.worst_points(tree, 2)["posterior"].to_dataset()
    assert list(posterior.data_vars) == ["point 110 (R-hat 2.00)", "point 100 (R-hat 1.91)"]
    values = tree["log_likelihood"]["obs"]
    for name, index in zip(posterior.data_vars, (11, 10), strict=True):
        np.testing.assert_array_equal(posterior[name], values.isel(point=index))


def test_effective_draws_end_at_all_draws():
    """ArviZ's sizes of all draws are the last ones drawn."""
    import arviz as az

    tree = make_tree()
    values = tree["log_likelihood"]["obs"].isel(point=11)
    drawn = [float(y[-1]) for axes in plots.effective_draws(tree, num_points=1).axes for y in lines(axes) if len(y)]
    for method in ("bulk", "tail"):
        assert any(np.isclose(end, float(az.ess(values, method=method))) for end in drawn)


@pytest.mark.parametrize("name", ["chains", "ranks", "effective_draws"])
@pytest.mark.parametrize("case", ["constant point", "one chain"])
def test_chain_plots_where_there_is_nothing_to_compare(name, case):
    """A confident network, a single chain: a picture all the same, for it is drawn when all the work is done."""
    tree = make_tree()
    if case == "constant point":
        tree["log_likelihood"]["obs"][..., 11] = 0.0
    else:
        tree["log_likelihood"] = xr.DataTree(tree["log_likelihood"].to_dataset().isel(chain=[0]))
        tree["diagnostics"]["rhat"][:] = np.nan
    assert plots.PLOTS[name](tree, num_points=2).axes


@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 4, 3)])
def test_gradient_images_are_the_gradients_with_their_norms(shape):
    tree = make_gradients(shape=shape)
    figure = plots.gradient_images(tree, "predictive_loss", precision="float32", num_images=3)
    panels = np.array(figure.axes).reshape(3, 4)
    group = tree["images"].to_dataset()
    gradients = group["gradient"].sel(objective="predictive_loss", precision="float32")
    for row in range(3):
        shown = np.asarray(panels[row, 0].images[0].get_array())
        np.testing.assert_allclose(shown.squeeze(), np.moveaxis(group["input"].values[row], 0, -1).squeeze())
        assert panels[row, 0].get_ylabel() == f"label {row + 2}"
        limits = {panels[row, column].images[0].get_clim() for column in (1, 2, 3)}
        assert len(limits) == 1  # one scale a row: fading is fading
        ((low, high),) = limits
        assert low == -high
        everything = np.abs(gradients.isel(point=row).values)
        assert high == pytest.approx(np.quantile(everything, 0.995))
        for column, count in enumerate((1, 5, 20), start=1):
            flat = gradients.isel(point=row).sel(num_draws=count).values
            shown = np.asarray(panels[row, column].images[0].get_array())
            np.testing.assert_allclose(shown, flat.reshape(shape).mean(0))
            assert panels[row, column].get_title() == f"{np.sqrt((flat**2).sum()):.2g}"
    assert [panels[2, column].get_xlabel() for column in (1, 2, 3)] == ["1", "5", "20"]
