"""Plots of averaged input gradients show their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bayesrob import plots
from bayesrob.analysis.gradients import QUANTILES
from tests.plots.gradient_makers import make_gradients, make_grid


def lines(axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_gradient_decay_draws_medians_against_draws(precision):
    trees = {"HMC": make_gradients(), "VI": make_gradients(0.1)}
    figure = plots.gradient_decay(trees, precision=precision)
    assert [axes.get_title() for axes in figure.axes] == ["expected_loss", "predictive_loss"]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        drawn = iter(axes.lines)
        for tree in trees.values():
            at = tree["statistics"].to_dataset().sel(objective=axes.get_title(), precision=precision)
            for variable, style in (("draw_norm", ":"), ("norm", "-"), ("standard_error", "--")):
                line = next(drawn)
                assert line.get_linestyle() == style
                np.testing.assert_array_equal(line.get_xdata(), [1, 5, 20])
                # A single draw has no standard error; a logarithmic axis has no zero.
                np.testing.assert_allclose(line.get_ydata(), at[variable].median("point"))
        assert list(drawn) == []
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["HMC", "VI"]
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2


def test_gradient_decay_of_a_gradient_that_is_exactly_zero_draws_nothing():
    tree = make_gradients(0.0)
    (first, second) = plots.gradient_decay({"dead": tree}).axes
    for axes in (first, second):
        assert all(np.isnan(y).all() for y in lines(axes))


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_gradient_components_bands_hold_the_quantiles(objective):
    trees = {"HMC": make_gradients(), "VI": make_gradients(0.1)}
    figure = plots.gradient_components(trees, objective, precision="float32")
    assert [axes.get_title() for axes in figure.axes] == list(trees)
    for axes, tree in zip(figure.axes, trees.values(), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "20"]
        components = tree["components"]["gradient"].sel(objective=objective, precision="float32")
        everything = tree["statistics"].sizes["point"] * 12
        assert everything == 84
        shares = [band.get_label() for band in axes.collections]
        assert shares == ["all", "99%", "90%", "50%"]
        for band, (low, high) in zip(axes.collections, ((0, 1), (0.005, 0.995), (0.05, 0.95), (0.25, 0.75)), strict=True):
            (path,) = band.get_paths()
            for where, count in enumerate((1, 5, 20)):
                here = path.vertices[path.vertices[:, 0] == where, 1]
                expected = [float(components.sel(num_draws=count, quantile=q)) for q in (low, high)]
                np.testing.assert_allclose([here.min(), here.max()], expected)


def test_component_bands_are_among_the_quantiles_that_are_kept():
    from bayesrob.plots.gradient_components import BANDS

    assert {q for low, high, _ in BANDS for q in (low, high)} <= set(QUANTILES)


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_gradient_grid_draws_a_line_for_each_number_of_points(objective):
    tree = make_grid()
    figure = plots.gradient_grid(tree, objective)
    assert [axes.get_title() for axes in figure.axes] == ["warmup 5", "warmup 10"]
    assert objective in figure.axes[0].get_ylabel()
    for axes, warmup in zip(figure.axes, (5, 10), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "16", "64", "256"]
        drawn = {(line.get_linestyle(), tuple(line.get_ydata())) for line in axes.lines}
        for container, n_train in zip(axes.containers, (100, 200, 300), strict=True):
            at = tree["grid"].to_dataset().sel(objective=objective, warmup=warmup, n_train=n_train)
            assert container.get_label() == f"{n_train} points"
            np.testing.assert_array_equal(container.lines[0].get_xdata(), [4, 16, 64, 256])
            np.testing.assert_allclose(container.lines[0].get_ydata(), at["norm"])
            bars = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
            np.testing.assert_allclose(bars, at["norm_interval"].transpose("width", "bound"))
            assert ("--", tuple(at["standard_error"].values)) in drawn
            assert (":", tuple(at["draw_norm"].values)) in drawn
