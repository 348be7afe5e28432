"""Plots of sets of models, sweeps, worlds and pictures show their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from bayesrob import plots
from bayesrob.errors import InputError
from tests.plots.gradient_makers import make_parts
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


def test_model_spread_draws_means_and_one_standard_deviation():
    figure = plots.model_spread({"plain": {"FGSM": make_spread()}, "robust": {"FGSM": make_spread(), "PGD": make_spread()}})
    accuracy, other, loss, _ = figure.axes
    assert accuracy.lines[0].get_xydata().tolist() == [[0.0, 0.9], [0.1, 0.5]]
    assert loss.lines[0].get_xydata().tolist() == [[0.0, 0.2], [0.1, 2.0]]
    band = accuracy.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.4)
    assert loss.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(2.5)
    assert accuracy.lines[0].get_color() == other.lines[0].get_color() != other.lines[1].get_color()
    with pytest.raises(InputError, match="no models"):
        plots.model_spread({})


def test_bias_variance_draws_curves_intervals_and_predictions():
    curves = {"FGSM": make_curves(), "BV": make_curves(1.0)}
    curves["BV"]["predicted_bias"] = curves["BV"]["mean_bias"] + 1
    bias, variance, loss = plots.bias_variance(curves).axes
    assert [axes.get_title() for axes in (bias, variance, loss)] == ["bias", "variance", "loss"]
    assert [text.get_text() for text in bias.get_legend().get_texts()] == ["FGSM", "BV"]
    for axes, name in ((bias, "bias"), (variance, "variance"), (loss, "loss")):
        assert axes.get_xlabel() == "eps"
        for line, curve in zip(axes.lines, curves.values(), strict=False):
            np.testing.assert_allclose(line.get_xydata(), np.stack([curve["eps"], curve[f"mean_{name}"]], 1))
        corners = axes.collections[0].get_paths()[0].vertices
        interval = curves["FGSM"][f"mean_{name}_interval"]
        np.testing.assert_allclose([corners[:, 1].min(), corners[:, 1].max()], [interval.min(), interval.max()])
    np.testing.assert_allclose(bias.lines[2].get_ydata(), curves["BV"]["predicted_bias"])
    assert (len(bias.lines), len(variance.lines)) == (3, 2)


def test_bias_variance_of_one_curve_and_of_none():
    (axes, *_) = plots.bias_variance(make_curves(dim="rms")).axes
    assert axes.get_xlabel() == "rms"
    assert axes.get_legend() is None
    with pytest.raises(InputError, match="no curves"):
        plots.bias_variance({})
    with pytest.raises(InputError, match="over no dim"):
        plots.bias_variance(make_curves().isel(eps=0))


def test_accuracy_robustness_draws_a_dot_for_each_setting():
    fgsm, pgd = plots.accuracy_robustness(make_sweep()).axes
    assert fgsm.collections[0].get_offsets().tolist() == [[0.1, 0.9], [0.5, 0.7], [0.9, 0.5]]
    assert pgd.collections[1].get_offsets().tolist() == [[0.1, 0.8], [0.9, 0.4]]


def test_robustness_by_draws_a_box_for_each_value():
    sgd, hmc = plots.robustness_by(make_sweep(), attack="PGD").axes
    assert [text.get_text() for text in sgd.get_xticklabels()] == ["8", "16"]
    medians = [line.get_ydata()[0] for line in sgd.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    assert any(value == pytest.approx(0.7) for value in medians)
    assert len(hmc.get_xticklabels()) == 2


def test_tradeoff_puts_classifiers_beside_the_bound():
    trees = {"d=100": make_tradeoff(), "d=9": make_tradeoff(("HMC", "SVI"))}
    figure = plots.tradeoff(trees)
    assert [axes.get_title() for axes in figure.axes] == list(trees)
    colours = {}
    for axes, tree in zip(figure.axes, trees.values(), strict=True):
        solid, dashed = axes.lines[:2]
        np.testing.assert_allclose(solid.get_xydata(), [[1.0, 0.0], [0.9, 0.9]])
        np.testing.assert_allclose(dashed.get_xydata(), [[0.99, 0.01], [0.95, 0.3]])
        group = tree["classifiers"].to_dataset().transpose("classifier", "bound")
        for container, name in zip(axes.containers, group["classifier"].values.tolist(), strict=True):
            at = group.sel(classifier=name)
            point, across, up = container.lines[0], *(segments.get_segments()[0] for segments in container.lines[2])
            np.testing.assert_allclose(point.get_xydata(), [[at["accuracy"], at["robust_accuracy"]]])
            np.testing.assert_allclose(across[:, 0], at["accuracy_interval"])
            np.testing.assert_allclose(up[:, 1], at["robust_accuracy_interval"])
            assert colours.setdefault(name, point.get_color()) == point.get_color()  # one colour a name, in every panel
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["bound", "linear, exact", "SVM", "HMC", "SVI"]


def test_definitions_stand_side_by_side():
    argument = {"toy, 0.9": make_definitions()}
    argument |= {f"toy, {eps}": make_definitions(eps / 100, best=False) for eps in range(6)}
    figure = plots.definitions(argument)
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == list(argument)
    for axes, (title, group) in zip(figure.axes, argument.items(), strict=False):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["x_1", "SGD", "HMC"]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), group["accuracy"])
        for container, kind in zip(axes.containers, ("norm", "label_invariant"), strict=True):
            at = group.sel(definition=kind)
            assert container.get_label() == kind.replace("_", "-")
            np.testing.assert_allclose(container.lines[0].get_ydata(), at["worst_case_accuracy"])
            bars = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
            np.testing.assert_allclose(bars, at["worst_case_accuracy_interval"].transpose("classifier", "bound"))
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert [line.get_ydata()[0] for line in dotted] == ([0.85] if title == "toy, 0.9" else [])


def test_gradient_parts_draws_means_by_part():
    argument = {"HMC": make_parts(), "SVI": make_parts(0.1), "none off": make_parts(parts=("tangent",))}
    figure = plots.gradient_parts(argument)
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == list(argument)
    for axes, group in zip(figure.axes, argument.values(), strict=True):
        drawn = iter(axes.lines)
        for part in group["part"].values.tolist():
            at = group.sel(part=part, objective="expected_loss")
            for variable, style in (("draw_norm", ":"), ("norm", "-"), ("standard_error", "--")):
                line = next(drawn)
                assert line.get_linestyle() == style
                np.testing.assert_array_equal(line.get_xdata(), [1, 5, 20])
                np.testing.assert_allclose(line.get_ydata(), at[variable].mean("point"))
        assert list(drawn) == []
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["tangent", "off"]


def test_feature_weights_are_drawn_where_features_vary():
    tree = make_features()
    group = tree["features"].to_dataset()
    panels = np.array(plots.feature_weights(tree).axes).reshape(2, 2)
    varies = np.arange(12) != 3
    for column, name in enumerate(("plain", "robust")):
        weights = group["weights"].values[column]
        weights = weights / np.abs(weights).max()
        assert panels[0, column].get_title() == name
        np.testing.assert_allclose(np.asarray(panels[0, column].images[0].get_array()), weights.reshape(4, 3))
        drawn = panels[1, column].collections[0].get_offsets()
        np.testing.assert_allclose(drawn, np.abs(np.stack([group["correlation"].values, weights], 1))[varies])
        (line,) = panels[1, column].lines
        assert line.get_xdata()[0] == np.median(np.abs(group["correlation"].values[varies]))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_those_of_the_tree(channels):
    tree = make_pictures(channels)
    values = tree["pictures"]["picture"].values
    panels = np.array(plots.pictures(tree).axes).reshape(2, 3)
    for i, j in np.ndindex(2, 3):
        shown = np.asarray(panels[i, j].images[0].get_array())
        expected = values[i, j].mean(0) if j == 1 else np.moveaxis(values[i, j], 0, -1).squeeze()
        np.testing.assert_allclose(shown, expected)
    assert [axes.get_title() for axes in panels[0]] == ["image\na", "gradient\nb", "attacked"]
    assert [axes.get_title() for axes in panels[1]] == ["d", "", "f"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["one", "two"]
    low, high = panels[0, 1].images[0].get_clim()
    assert -low == high == np.quantile(np.abs(values[0, 1].mean(0)), 0.995)


@pytest.mark.parametrize(("against", "panels", "scale"), [("n_train", "eps", "log"), ("eps", "n_train", "linear")])
def test_accuracy_lines_draw_values_and_intervals(against, panels, scale):
    tree = make_accuracy()
    group = tree["accuracy"].to_dataset()
    figure = plots.accuracy_lines(tree, against, panels)
    assert [axes.get_title() for axes in figure.axes] == [f"{panels} {value:g}" for value in group[panels].values]
    for axes, value in zip(figure.axes, group[panels].values, strict=True):
        assert axes.get_xscale() == scale
        for container, name in zip(axes.containers, ("plain", "robust"), strict=True):
            at = group.sel({panels: value, "training": name})
            assert container.get_label() == name
            np.testing.assert_array_equal(container.lines[0].get_xdata(), group[against])
            np.testing.assert_allclose(container.lines[0].get_ydata(), at["accuracy"])
            bars = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
            np.testing.assert_allclose(bars, at["accuracy_interval"].transpose(against, "bound"))
