"""The grid over half moons at smoke scale: its numbers are those of posteriors sampled one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
import xarray as xr

import bayesrob as br
from bayesrob.analysis import mean_interval
from bayesrob.evaluation import evaluate_gradients
from tests.studies.helpers import check_report, manifest, table, tree

STUDY = "half_moons"

CELLS = list(itertools.product((50, 100), (4, 8), (20, 30)))


@pytest.fixture(scope="module")
def grid(folder) -> xr.Dataset:
    return tree(folder, "grid")["grid"].to_dataset()


def sampled_alone(n_train: int, width: int, num_samples: int, warmup: int = 20):
    """One posterior of the grid, sampled by itself."""
    dataset = br.data.load("half_moons", n_train=n_train, n_test=30, seed=0)
    net = br.nets.mlp(2, (width, width), 2, activation="leaky_relu", seed=0)
    hmc = br.inference.HMC(num_samples=num_samples, warmup=warmup, num_steps=5, num_chains=2)
    return hmc.fit(br.models.BayesianNetwork(net, prior_scale=1.0), dataset, seed=0), dataset


def test_the_shortest_warmup_s_window_is_a_run_of_its_own(module):
    """Bit for bit: the draws after 20 transitions do not know how many follow."""
    sizes = module.grid("smoke")
    long, _ = sampled_alone(50, 4, num_samples=20)
    assert sizes.hmc() == br.inference.HMC(num_samples=20, warmup=20, num_steps=5, num_chains=2)
    short, _ = sampled_alone(50, 4, num_samples=10)
    window = sizes.window(long, 20)
    assert all(torch.equal(window.weights[name], tensor) for name, tensor in short.weights.items())
    assert window.num_chains == 2
    for name, values in short.sample_stats.items():
        np.testing.assert_array_equal(window.sample_stats[name], values)


def test_a_longer_warmup_s_window_is_what_the_run_went_on_to(module):
    """Warmup 30: draws 10 to 19 of each chain, so nothing overlaps and nothing is left out."""
    sizes = module.grid("smoke")
    long, _ = sampled_alone(50, 4, num_samples=20)
    window = sizes.window(long, 30)
    assert window.num_draws == 20
    for name, tensor in window.weights.items():
        assert torch.equal(tensor, long.weights[name][20:])
    np.testing.assert_array_equal(window.sample_stats["lp"], long.sample_stats["lp"][:, 10:])


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_every_window_holds_the_draws_asked_for(module, scale):
    """At every scale, from a run that is no longer than the longest warmup needs."""
    sizes = module.grid(scale)
    hmc = sizes.hmc()
    net = br.nets.mlp(1, (), 1)
    count = hmc.num_samples * hmc.num_chains
    weights = {name: torch.zeros(count, *p.shape) for name, p in net.named_parameters()}
    first = next(iter(weights))
    weights[first][:] = torch.arange(count).float().reshape(-1, *[1] * (weights[first].ndim - 1))
    stats = {"lp": np.zeros((hmc.num_chains, hmc.num_samples))}
    post = br.predictive.HeldDraws(net, weights, num_chains=hmc.num_chains, sample_stats=stats)
    for warmup in sizes.warmups:
        window = sizes.window(post, warmup)
        assert sizes.num_draws <= window.num_draws < sizes.num_draws + hmc.num_chains
        assert window.num_chains == hmc.num_chains
        transitions = hmc.warmup + window.weights[first].flatten()[0] / hmc.num_chains
        assert float(transitions) == warmup
    assert float(window.weights[first].max()) == count - 1


def test_the_paper_s_grid(module):
    paper = module.grid("paper")
    assert (paper.widths, paper.n_train, paper.warmups) == ((32, 128, 256, 512), (5000, 10000, 15000), (100, 200, 500))
    assert (paper.num_draws, paper.num_steps) == (250, 10)


@pytest.mark.parametrize("warmup", [20, 30])
def test_a_cell_is_the_posterior_sampled_by_itself(grid, warmup):
    post, dataset = sampled_alone(100, 8, num_samples=20)
    window = post[:20] if warmup == 20 else post[20:]
    statistics = evaluate_gradients(window, dataset, None, [20], ["float64"])["statistics"].to_dataset().squeeze()
    at = grid.sel(n_train=100, width=8, warmup=warmup)
    for name in ("norm", "standard_error", "debiased_norm", "draw_norm", "zero_fraction"):
        np.testing.assert_allclose(at[name], statistics[name].mean("point"), rtol=1e-9, err_msg=name)
    for objective in at["objective"].values:
        expected = mean_interval(statistics["norm"].sel(objective=objective).values)
        np.testing.assert_allclose(at["norm_interval"].sel(objective=objective), expected, rtol=1e-9)
    x, y = dataset.x_test, dataset.y_test
    assert float(at["accuracy"]) == pytest.approx(float((window(x).argmax(-1) == y).double().mean()))
    # The expected loss's gradient, from its definition: the mean of the draws' own.
    gradient = window.double().input_gradient(x.double(), y)
    assert float(at["norm"].sel(objective="expected_loss")) == pytest.approx(float(gradient.norm(dim=1).mean()), rel=1e-9)
    assert int(at["distinct_draws"]) == len({tuple(row.tolist()) for row in window.weights["1.weight"].flatten(1)})
    assert int(at["divergences"]) == window.sample_stats["diverging"].sum()


def test_the_table_holds_the_grid_s_numbers(folder, grid):
    rows = table(folder, "gradients").to_dict("records")
    assert [(int(r["training points"]), int(r["width"]), int(r["warmup"])) for r in rows] == CELLS
    for r, (n_train, width, warmup) in zip(rows, CELLS, strict=True):
        at = grid.sel(n_train=n_train, width=width, warmup=warmup)
        assert r["test accuracy"] == f"{float(at['accuracy']):.3f}"
        for objective in ("expected_loss", "predictive_loss"):
            here = at.sel(objective=objective)
            low, high = here["norm_interval"].transpose("bound").values
            assert r[f"{objective}, norm"] == f"{float(here['norm']):.3f} [{low:.3f}, {high:.3f}]"
            assert r[f"{objective}, standard error"] == f"{float(here['standard_error']):.3f}"
        assert r["single draws, norm"] == f"{float(at['draw_norm'].sel(objective='expected_loss')):.3f}"
        assert r["R-hat median, max"] == f"{float(at['rhat_median']):.3f}, {float(at['rhat_max']):.3f}"
        assert r["distinct draws"] == f"{int(at['distinct_draws'])}"


def test_the_trends_are_those_of_the_longest_warmup(module, folder, grid):
    """Each slope alone: in a balanced grid a least-squares fit of both is that of each."""
    assert table(folder, "trends").to_dict("records") == module.trends(grid)
    at = grid.sel(warmup=30, objective="predictive_loss").transpose("n_train", "width", ...)
    rows = {(r["objective"], r["of"]): r for r in module.trends(grid)}
    log = np.log((at["norm"] / at["draw_norm"]).values)
    row = rows["predictive_loss", "averaged / single"]
    assert row["per doubling of width"].startswith(f"{(log[:, 1] - log[:, 0]).mean():.3f} [")
    assert row["per doubling of points"].startswith(f"{(log[1] - log[0]).mean():.3f} [")


def test_slopes_are_least_squares_with_t_intervals(module):
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    values = 3 - 0.5 * x + 0.1 * rng.normal(size=12)
    ((slope, low, high),) = module.slopes(np.stack([np.ones(12), x], axis=1), values, level=0.9)
    expected = scipy.stats.linregress(x, values)
    half = scipy.stats.t.ppf(0.95, 10) * expected.stderr
    np.testing.assert_allclose((slope, low, high), (expected.slope, expected.slope - half, expected.slope + half))


def law(width_slope: float, points_slope: float, noise: float) -> xr.Dataset:
    """A grid whose norms follow a power law, beside single draws that follow half of it."""
    rng = np.random.default_rng(2)
    widths, points, warmups = [32, 64, 128, 256], [100, 200, 400], [5, 10]
    w, n = np.meshgrid(np.log2(widths), np.log2(points), indexing="ij")
    log = width_slope * w + points_slope * n
    log = np.stack([9 * rng.normal(size=log.shape), log + noise * rng.normal(size=log.shape)])  # the first is not looked at
    dims = ("objective", "warmup", "width", "n_train")
    coords = {"objective": ["expected_loss", "predictive_loss"], "warmup": warmups, "width": widths, "n_train": points}
    both = np.stack([log, log])
    cells = {"rhat_max": 1.0, "rhat_median": 1.0, "distinct_draws": 3}
    extra = {name: (("warmup", "width", "n_train"), np.full((2, 4, 3), value)) for name, value in cells.items()}
    return xr.Dataset({"norm": (dims, np.exp(both)), "draw_norm": (dims, np.exp(both / 2)), **extra}, coords)


def test_trends_recover_a_power_law(module):
    for row in module.trends(law(-0.25, 0.5, noise=0.0)):
        factor = 1.0 if row["of"] == "averaged gradient" else 0.5
        assert row["per doubling of width"] == f"{-0.25 * factor:.3f} [{-0.25 * factor:.3f}, {-0.25 * factor:.3f}]"
        assert row["per doubling of points"] == f"{0.5 * factor:.3f} [{0.5 * factor:.3f}, {0.5 * factor:.3f}]"


@pytest.mark.parametrize(
    ("slopes", "noise", "verdicts"),
    [((-0.5, 0.5), 0.01, ("falls", "rises")), ((0.0, 0.0), 0.5, ("has no sure trend",) * 2)],
)
def test_notes_say_what_the_intervals_say(module, slopes, noise, verdicts):
    result = law(*slopes, noise)
    texts = module.notes(result, module.trends(result))
    for text, verdict in zip(texts[:2], verdicts, strict=True):
        assert f"it {verdict} " in text
    assert "in 24 of 24 posteriors" in texts[-2]


def test_the_report_is_one_page_that_needs_nothing_else(folder):
    check_report(folder)
    result = manifest(folder)
    assert set(result["tables"]) == {"gradients", "trends"}
    assert {"figure_1_expected_loss", "figure_1_predictive_loss", "chains", "ranks", "ess"} <= set(result["figures"])


def test_the_chains_shown_are_the_worst(folder, grid):
    where = grid["rhat_max"].where(grid["rhat_max"] == grid["rhat_max"].max(), drop=True)
    n, width, warmup = (int(where[name].item()) for name in ("n_train", "width", "warmup"))
    assert (
        f"worst posterior ({n} points, width {width}, warmup {warmup})" in manifest(folder)["figures"]["chains"]["caption"]
    )
