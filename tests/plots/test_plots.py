"""Plots show the numbers that they are given."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from bayesrob import plots
from bayesrob.analysis import bias_variance, component_quantiles, gradient_statistics
from bayesrob.analysis.gradients import QUANTILES
from bayesrob.errors import InputError


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


# ---- chains -------------------------------------------------------------------------------------------------------------


def texts(figure) -> str:
    """Everything written on a figure's panels."""
    return " | ".join(
        text for axes in figure.axes for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) if text
    )


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
    found = plots.worst_points.worst_points(tree, 2)["posterior"].to_dataset()
    assert list(found.data_vars) == ["point 110 (R-hat 2.00)", "point 100 (R-hat 1.91)"]
    values = tree["log_likelihood"]["obs"]
    for name, index in zip(found.data_vars, (11, 10), strict=True):
        np.testing.assert_array_equal(found[name], values.isel(point=index))


def lines(axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]


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


# ---- gradients ----------------------------------------------------------------------------------------------------------


def make_gradients(scale: float = 1.0, shape: tuple[int, ...] = (1, 4, 3)) -> xr.DataTree:
    """A result of `evaluate_gradients` of known draws, in two precisions that differ plainly."""
    rng = np.random.default_rng(1)
    points, prefixes = 7, (1, 5, 20)
    g = scale * (0.2 + rng.normal(size=(20, points, *shape)))
    found = xr.concat(
        [
            gradient_statistics(g * factor, -np.abs(g[..., 0].sum(axis=tuple(range(2, g.ndim - 1)))), prefixes)
            for factor in (10, 1)
        ],
        xr.DataArray(["float32", "float64"], dims="precision", name="precision"),
    )
    axes = [f"axis_{i}" for i in range(len(shape))]
    images = xr.Dataset(
        {
            "gradient": found["gradient"].isel(point=slice(5)),
            "input": (("point", *axes), rng.uniform(size=(5, *shape))),
            "label": ("point", np.arange(5) + 2),
        }
    )
    quantiles = [component_quantiles(found["gradient"].sel(precision=name)) for name in ("float32", "float64")]
    quantiles = xr.concat(quantiles, found["precision"])
    return xr.DataTree.from_dict(
        {
            "statistics": found.drop_vars("gradient"),
            "components": xr.Dataset({"gradient": quantiles}),
            "images": images,
        }
    )


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


def make_grid() -> xr.DataTree:
    rng = np.random.default_rng(2)
    dims = ("objective", "n_train", "warmup", "width")  # in no order that a plot may count on
    coords = {
        "objective": ["expected_loss", "predictive_loss"],
        "n_train": [100, 200, 300],
        "warmup": [5, 10],
        "width": [4, 16, 64, 256],
        "bound": ["lower", "upper"],
    }
    shape = (2, 3, 2, 4)
    norm = rng.uniform(1, 2, size=shape)
    grid = {
        "norm": (dims, norm),
        "standard_error": (dims, rng.uniform(0.1, 0.2, size=shape)),
        "draw_norm": (dims, rng.uniform(3, 4, size=shape)),
        "norm_interval": (("bound", *dims), np.stack([norm * 0.9, norm * 1.3])),
    }
    return xr.DataTree.from_dict({"grid": xr.Dataset(grid, coords)})


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


def make_table() -> xr.DataTree:
    measured = np.array([[0.9, 0.5, 0.2], [0.8, 0.4, 0.1], [0.7, 0.3, 0.0]])
    table = xr.Dataset(
        {
            "measured": (("row", "column"), measured),
            "published": (("row", "column"), [[np.nan, 0.95, 0.97], [np.nan, np.nan, 0.6], [np.nan] * 3]),
            "interval": (("bound", "row", "column"), np.stack([measured - 0.05, measured + 0.02])),
        },
        coords={"row": ["MNIST/HMC", "MNIST/VI", "digits"], "column": ["none", "pgd", "pgd_margin"]},
    )
    return xr.DataTree.from_dict({"table": table})


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


def make_transfer() -> xr.DataTree:
    rng = np.random.default_rng(3)
    names, targets = ["SGD", "HMC"], ["SGD", "SVI", "HMC"]
    coords = {"source": names, "target": targets, "bound": ["lower", "upper"]}
    values = rng.uniform(size=(2, 3))
    restricted = values.copy()
    restricted[1, 2] = np.nan
    pair = ("source", "target")
    matrix = {
        "accuracy": ("target", [0.9, 0.8, 0.7]),
        "accuracy_interval": (("bound", "target"), [[0.85, 0.75, 0.65], [0.95, 0.85, 0.75]]),
        "adversarial_accuracy": (pair[::-1], values.T),
        "adversarial_accuracy_interval": ((*pair, "bound"), np.stack([values - 0.1, values + 0.1], -1)),
        "both_right_accuracy": (pair, restricted),
        "both_right_accuracy_interval": ((*pair, "bound"), np.stack([restricted - 0.1, restricted + 0.1], -1)),
    }
    return xr.DataTree.from_dict({"transfer": xr.Dataset(matrix, coords)})


def test_transfer_writes_every_number_where_it_belongs():
    tree = make_transfer()
    found = tree["transfer"].to_dataset()
    figure = plots.transfer(tree)
    left, right = figure.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == ["SGD", "HMC", "no attack"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["SGD", "HMC"]
    expected = np.vstack([found["adversarial_accuracy"].transpose("source", "target"), found["accuracy"]])
    for axes, values in ((left, expected), (right, found["both_right_accuracy"].values)):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["SGD", "SVI", "HMC"]
        np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), values)
        assert axes.images[0].get_clim() == (0, 1)
        written = {tuple(text.get_position()): text.get_text() for text in axes.texts}
        assert len(written) == np.isfinite(values).sum()
        for (j, i), text in written.items():
            assert text.startswith(f"{values[i, j]:.3f}\n[")
    assert "[0.75, 0.85]" in [text.get_text() for text in left.texts][-2]


def make_gauntlet(shift: float = 0.0) -> xr.DataTree:
    """Three attacks in l_inf <= 0.1, one in l_2 <= 1, two that look for the smallest l_2 and one for the smallest l_0."""
    settings = {
        "weak": {"norm": "l_inf", "eps": 0.1},
        "strong l_inf": {"norm": "l_inf", "eps": 0.1},
        "middle": {"norm": "l_inf", "eps": 0.1},
        "round": {"norm": "l_2", "eps": 1.0},
        "near l_2": {"norm": "l_2", "eps": 0.3},
        "nearer": {"norm": "l_2"},
        "few": {"norm": "l_0"},
    }
    accuracy = np.array([0.8, 0.2, 0.5, 0.4, 0.0, 0.0, 0.1]) + shift
    smallest = np.full((7, 6), np.nan)
    smallest[4] = [0, 0.5, 0.6, 0.7, np.inf, np.inf]
    smallest[5] = [0, 0.4, 0.9, 0.7, 1.1, np.inf]
    smallest[6] = [0, 1, 1, 2, 3, np.inf]
    median = np.array([np.nan] * 4 + [0.7, 0.8, 2.0])
    worst = np.array([0.1, 0.3]) + shift
    scores = xr.Dataset(
        {
            "accuracy": 0.9 + shift,
            "accuracy_interval": ("bound", np.array([0.8, 0.95]) + shift),
            "adversarial_accuracy": ("attack", accuracy),
            "adversarial_accuracy_interval": (("bound", "attack"), [accuracy - 0.02, accuracy + 0.03]),
            "median_perturbation": ("attack", median),
            "worst_case_accuracy": ("threat", worst),
            "worst_case_accuracy_interval": (("bound", "threat"), [worst - 0.05, worst + 0.04]),
        },
        coords={
            "attack": list(settings),
            "threat": ["l_inf <= 0.1", "l_2 <= 1"],
            "norm": ("threat", ["l_inf", "l_2"]),
            "eps": ("threat", [0.1, 1.0]),
            "bound": ["lower", "upper"],
        },
    )
    points = xr.Dataset({"smallest_perturbation": (("attack", "point"), smallest)}, coords={"attack": list(settings)})
    tree = xr.DataTree.from_dict({"robustness": scores, "points": points})
    tree.attrs["attacks"] = json.dumps(settings)
    return tree


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


def make_epochs() -> xr.DataTree:
    value = np.array([[[0.1, 0.3, 0.2], [0.3, 0.5, 0.6]], [[0.5, np.nan, np.nan], [0.7, np.nan, np.nan]]])
    coords = {"curve": ["mean", "stopped"], "seed": [0, 1], "epoch": [1, 2, 3]}
    group = xr.Dataset({"value": (("curve", "seed", "epoch"), value)}, coords=coords)
    return xr.DataTree.from_dict({"MLP": group, "LSTM": group.isel(curve=[1])})


def test_epochs_show_the_mean_over_seeds_and_end_where_a_run_ends():
    figure = plots.epochs(make_epochs(), "accuracy")
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["MLP", "LSTM"]
    lines = {line.get_label(): line for line in first.get_lines()}
    np.testing.assert_allclose(lines["mean"].get_ydata(), [0.2, 0.4, 0.4])
    np.testing.assert_allclose(lines["stopped"].get_xdata(), [1])
    np.testing.assert_allclose(lines["stopped"].get_ydata(), [0.6])
    assert second.get_lines()[0].get_color() == lines["stopped"].get_color()


def make_protocols() -> dict[str, xr.DataTree]:
    """Two data sets, the second with a posterior of its own; of the first, one median gradient is zero."""
    trees = {}
    for data, names in (("digits", ["HMC", "SGD"]), ("moons", ["SGD", "VI"])):
        right = np.arange(10) < np.array([9, 7, 3])[:, None]
        both = np.stack([right, np.arange(10) < np.array([9, 4, 0])[:, None]])
        norm = np.random.default_rng(0).exponential(size=(2, 3, 3, 10))
        norm[0, 0] = 0
        coords = {"posterior": names, "eps": [0.0, 0.1, 0.3]}
        accuracy = xr.Dataset(
            {"right": (("posterior", "protocol", "eps", "point"), np.stack([both, both[::-1]]))},
            coords={**coords, "protocol": ["reference", "audited"]},
        )
        gradients = xr.Dataset(
            {"norm": (("posterior", "objective", "eps", "point"), norm)}, coords={**coords, "objective": ["a", "b", "c"]}
        )
        trees[data] = xr.DataTree.from_dict({"accuracy": accuracy, "gradients": gradients})
    return trees


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


def make_curves(shift: float = 0.0, dim: str = "eps") -> xr.Dataset:
    """What `bias_variance` gives of four models at six points and three perturbations."""
    rng = np.random.default_rng(0)
    f = xr.DataArray(shift + rng.normal(size=(4, 3, 6)), dims=("model", dim, "point"), coords={dim: [0.0, 0.1, 0.4]})
    return bias_variance(f, np.zeros(6), noise_variance=0.5)


def make_spread() -> xr.Dataset:
    values = {"accuracy": [0.9, 0.5], "accuracy_spread": [0.0, 0.1], "mean_loss": [0.2, 2.0], "loss_spread": [0.01, 0.5]}
    return xr.Dataset({name: ("rms", row) for name, row in values.items()}, coords={"rms": [0.0, 0.1]})


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


def make_features() -> xr.DataTree:
    rng = np.random.default_rng(4)
    correlation = rng.uniform(-1, 1, 12)
    correlation[3] = np.nan
    features = xr.Dataset(
        {"weights": (("model", "feature"), rng.normal(size=(2, 12))), "correlation": ("feature", correlation)},
        coords={"model": ["plain", "robust"]},
        attrs={"shape": [1, 4, 3]},
    )
    return xr.DataTree.from_dict({"features": features})


def test_feature_weights_are_drawn_where_features_vary():
    tree = make_features()
    found = tree["features"].to_dataset()
    panels = np.array(plots.feature_weights(tree).axes).reshape(2, 2)
    varies = np.arange(12) != 3
    for column, name in enumerate(("plain", "robust")):
        weights = found["weights"].values[column]
        weights = weights / np.abs(weights).max()
        assert panels[0, column].get_title() == name
        np.testing.assert_allclose(np.asarray(panels[0, column].images[0].get_array()), weights.reshape(4, 3))
        drawn = panels[1, column].collections[0].get_offsets()
        np.testing.assert_allclose(drawn, np.abs(np.stack([found["correlation"].values, weights], 1))[varies])
        (line,) = panels[1, column].lines
        assert line.get_xdata()[0] == np.median(np.abs(found["correlation"].values[varies]))


def make_pictures(channels: int = 3) -> xr.DataTree:
    rng = np.random.default_rng(5)
    found = xr.Dataset(
        {
            "picture": (("row", "column", "channel", "height", "width"), rng.uniform(size=(2, 3, channels, 4, 5))),
            "text": (("row", "column"), [["a", "b", ""], ["d", "", "f"]]),
            "signed": ("column", [False, True, False]),
        },
        coords={"row": ["one", "two"], "column": ["image", "gradient", "attacked"]},
    )
    return xr.DataTree.from_dict({"pictures": found})


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


def make_accuracy() -> xr.DataTree:
    rng = np.random.default_rng(6)
    values = rng.uniform(0.3, 0.7, size=(2, 2, 3))
    found = xr.Dataset(
        {
            "accuracy": (("training", "eps", "n_train"), values),
            "accuracy_interval": (("bound", "training", "eps", "n_train"), np.stack([values - 0.1, values + 0.2])),
        },
        coords={"training": ["plain", "robust"], "eps": [0.0, 0.1], "n_train": [10, 50, 200]},
    )
    return xr.DataTree.from_dict({"accuracy": found})


@pytest.mark.parametrize(("against", "panels", "scale"), [("n_train", "eps", "log"), ("eps", "n_train", "linear")])
def test_accuracy_lines_draw_values_and_intervals(against, panels, scale):
    tree = make_accuracy()
    found = tree["accuracy"].to_dataset()
    figure = plots.accuracy_lines(tree, against, panels)
    assert [axes.get_title() for axes in figure.axes] == [f"{panels} {value:g}" for value in found[panels].values]
    for axes, value in zip(figure.axes, found[panels].values, strict=True):
        assert axes.get_xscale() == scale
        for container, name in zip(axes.containers, ("plain", "robust"), strict=True):
            at = found.sel({panels: value, "training": name})
            assert container.get_label() == name
            np.testing.assert_array_equal(container.lines[0].get_xdata(), found[against])
            np.testing.assert_allclose(container.lines[0].get_ydata(), at["accuracy"])
            bars = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
            np.testing.assert_allclose(bars, at["accuracy_interval"].transpose(against, "bound"))


ARGUMENTS = {
    "accuracy_lines": make_accuracy,
    "feature_weights": make_features,
    "pictures": make_pictures,
    **dict.fromkeys(("attack_accuracy", "gradient_norms", "losses"), lambda: {"a": make_tree(), "b": make_tree()}),
    **dict.fromkeys(("robustness_curves", "threats"), lambda: {"a": make_gauntlet(), "b": make_gauntlet(0.05)}),
    **dict.fromkeys(("chains", "effective_draws", "examples", "ranks"), make_tree),
    **dict.fromkeys(("gradient_components", "gradient_decay"), lambda: {"a": make_gradients(), "b": make_gradients()}),
    "model_spread": lambda: {"plain": {"FGSM": make_spread(), "PGD": make_spread()}, "robust": {"FGSM": make_spread()}},
    "bias_variance": lambda: {"a": make_curves(), "b": make_curves(1.0)},
    "epochs": make_epochs,
    "gradient_grid": make_grid,
    "gradient_images": make_gradients,
    "protocols": make_protocols,
    "published": make_table,
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
