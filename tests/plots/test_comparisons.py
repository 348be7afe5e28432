"""Plots of several evaluations, of epochs and published figures show their numbers."""

from __future__ import annotations

import numpy as np

from bayesrob import plots
from tests.plots.makers import make_epochs, make_gauntlet, make_protocols, make_table, make_transfer


def test_published_stands_beside_measured():
    tree = make_table()
    figure = plots.published(tree)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["MNIST/HMC", "MNIST/VI", "digits"]
    for axes in shown:
        at = tree["table"].to_dataset().sel(row=axes.get_title())
        (container,) = axes.containers
        np.testing.assert_allclose(container.lines[0].get_ydata(), at["measured"])
        bars = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
        np.testing.assert_allclose(bars, at["interval"].transpose("column", "bound"))
        (crosses,) = (line for line in axes.lines if line.get_marker() == "x")
        np.testing.assert_array_equal(crosses.get_xdata(), [0, 1, 2])
        np.testing.assert_array_equal(crosses.get_ydata(), at["published"])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "pgd", "pgd margin"]


def test_transfer_writes_every_number_where_it_belongs():
    tree = make_transfer()
    group = tree["transfer"].to_dataset()
    figure = plots.transfer(tree)
    left, right = figure.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == ["SGD", "HMC", "no attack"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["SGD", "HMC"]
    expected = np.vstack([group["adversarial_accuracy"].transpose("source", "target"), group["accuracy"]])
    for axes, values in ((left, expected), (right, group["both_right_accuracy"].values)):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["SGD", "SVI", "HMC"]
        np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), values)
        assert axes.images[0].get_clim() == (0, 1)
        written = {tuple(text.get_position()): text.get_text() for text in axes.texts}
        assert len(written) == np.isfinite(values).sum()
        for (j, i), text in written.items():
            assert text.startswith(f"{values[i, j]:.3f}\n[")
    assert "[0.75, 0.85]" in [text.get_text() for text in left.texts][-2]


def test_threats_order_attacks_by_strength_and_end_with_all_together():
    trees = {"SGD": make_gauntlet(), "HMC": make_gauntlet(0.05)}
    left, right = plots.threats(trees).axes
    assert (left.get_title(), right.get_title()) == ("l_inf <= 0.1", "l_2 <= 1")
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == ["no attack", "weak", "middle", "strong", "all, point by point"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["no attack", "round", "all, point by point"]
    for container, shift in zip(left.containers, (0, 0.05), strict=True):
        np.testing.assert_allclose(container.lines[0].get_xdata(), np.array([0.9, 0.8, 0.5, 0.2, 0.1]) + shift)
        bars = np.array([segment[:, 0] for segment in container.lines[2][0].get_segments()]) - shift
        expected = [[0.8, 0.95], [0.78, 0.83], [0.48, 0.53], [0.18, 0.23], [0.05, 0.14]]
        np.testing.assert_allclose(bars, expected)
        rows = np.asarray(container.lines[0].get_ydata())
        np.testing.assert_array_equal(np.round(rows), np.arange(5))
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["SGD", "HMC"]


def test_curves_are_of_the_nearest_that_any_attack_found():
    tree = make_gauntlet()
    euclidean, sparse = plots.robustness_curves({"SGD": tree}).axes
    assert (euclidean.get_xlabel(), sparse.get_xlabel()) == ("eps (l_2)", "eps (l_0)")
    assert euclidean.get_title() == "near, nearer"
    best, near, nearer = (line for line in euclidean.lines if line.get_drawstyle() == "steps-post")
    np.testing.assert_allclose(best.get_xdata(), [0, 0.4, 0.6, 0.7, 1.1])
    np.testing.assert_allclose(best.get_ydata(), np.array([5, 4, 3, 2, 1]) / 6)
    np.testing.assert_allclose(near.get_ydata(), np.array([5, 4, 3, 2]) / 6)
    np.testing.assert_allclose(nearer.get_xdata(), [0, 0.4, 0.7, 0.9, 1.1])
    (square,) = euclidean.containers
    np.testing.assert_allclose(square.lines[0].get_xydata(), [[1.0, 0.3]])
    np.testing.assert_allclose(square.lines[2][0].get_segments()[0][:, 1], [0.25, 0.34])
    # One attack alone has no dotted line beside it, and no attack of fixed radius is in l_0.
    assert len(sparse.lines) == 1
    assert len(sparse.containers) == 0


def test_epochs_show_the_mean_over_seeds_and_end_where_a_run_ends():
    figure = plots.epochs(make_epochs(), "accuracy")
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["MLP", "LSTM"]
    lines = {line.get_label(): line for line in first.get_lines()}
    np.testing.assert_allclose(lines["mean"].get_ydata(), [0.2, 0.4, 0.4])
    np.testing.assert_allclose(lines["stopped"].get_xdata(), [1])
    np.testing.assert_allclose(lines["stopped"].get_ydata(), [0.6])
    assert second.get_lines()[0].get_color() == lines["stopped"].get_color()


def test_protocols_are_shares_above_and_medians_below():
    trees = make_protocols()
    figure = plots.protocols(trees)
    above, other, below, _ = figure.axes
    assert [above.get_title(), other.get_title()] == ["digits", "moons"]
    shares = [line.get_ydata() for line in above.lines]
    np.testing.assert_allclose(shares, [[0.9, 0.7, 0.3], [0.9, 0.4, 0.0], [0.9, 0.4, 0.0], [0.9, 0.7, 0.3]])
    assert [line.get_linestyle() for line in above.lines] == ["--", "-", "--", "-"]
    # One colour a posterior, the same in every column: SGD is second here and first there.
    assert above.lines[2].get_color() == other.lines[0].get_color() != other.lines[2].get_color()
    norms = [line.get_ydata() for line in below.lines]
    assert len(norms) == 6
    np.testing.assert_array_equal(norms[0], plots.protocols.__globals__["FLOOR"])
    expected = trees["digits"]["gradients"]["norm"].sel(posterior="SGD", objective="c").median("point")
    np.testing.assert_allclose(norms[5], expected)
    legend = [text.get_text() for text in figure.axes[3].get_legend().get_texts()]
    assert legend == ["reference; a", "audited; b", "c"]
