"""Figure 1 of Carbone et al. 2020: does the averaged gradient shrink with width and data, on half moons?

HMC posteriors over a grid of widths, training points and warmups. Warmups are prefixes of one run: the shortest adapts the
step size, longer ones go on with it, so each chain is run once. Beside the averaged gradient stand its Monte Carlo error
and the gradient of single draws, for a gradient that shrinks because every network's does has not been averaged away.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import xarray as xr
from scipy import stats

import bayesrob as br
from bayesrob import plots
from bayesrob.analysis import mean_interval
from bayesrob.evaluation import evaluate_gradients
from shared.chains import chain_figures
from shared.study import Scale, Study
from shared.tables import estimate, with_interval


@dataclasses.dataclass(frozen=True)
class Grid:
    """Which posteriors are sampled, by default those of the paper.

    Args:
        widths: units of each of the two hidden layers.
        n_train: numbers of training points.
        warmups: numbers of transitions before the draws that count.
        num_draws: draws of all chains.
        num_chains: number of chains.
        num_steps: leapfrog steps of each transition.
        num_points: number of test points at which gradients are averaged.
    """

    widths: tuple[int, ...] = (32, 128, 256, 512)
    n_train: tuple[int, ...] = (5000, 10000, 15000)
    warmups: tuple[int, ...] = (100, 200, 500)
    num_draws: int = 250
    num_chains: int = 4
    num_steps: int = 10
    num_points: int = 500

    def hmc(self) -> br.inference.HMC:
        """One run that holds every warmup: its first draws are the longer warmups' last transitions."""
        samples = -(-self.num_draws // self.num_chains) + self.warmups[-1] - self.warmups[0]
        return br.inference.HMC(
            num_samples=samples, warmup=self.warmups[0], num_steps=self.num_steps, num_chains=self.num_chains
        )

    def window(self, post: br.predictive.Predictive, warmup: int) -> br.predictive.Predictive:
        """The draws after `warmup` transitions."""
        start = (warmup - self.warmups[0]) * self.num_chains
        return post[start : start + -(-self.num_draws // self.num_chains) * self.num_chains]


def grid(scale: Scale) -> Grid:
    """The posteriors that a run of this size samples."""
    if scale == "smoke":
        return Grid((4, 8), (50, 100), (20, 30), num_draws=20, num_chains=2, num_steps=5, num_points=30)
    if scale == "small":
        return Grid((32, 128, 256), (400, 1200, 3600), (50, 100, 200), num_steps=20)
    return Grid()


def main(*, scale: Scale = "small", out: Path | None = None, seed: int = 0) -> None:
    """Sample the grid, take gradients, compare.

    Args:
        scale: smoke: seconds; small: widths 32 to 256, 400 to 3,600 points, minutes on two cores; paper: the paper's grid.
        out: Folder for results and report; default results/half_moons-SCALE.
        seed: Fixes data, chains and points.
    """
    sizes = grid(scale)
    settings = {name: str(value) for name, value in dataclasses.asdict(sizes).items()}
    settings |= {"network": "two hidden layers, leaky ReLU", "prior": "N(0, 1) on every weight and bias"}
    with Study(__file__, __doc__, scale=scale, seed=seed, out=out, settings=settings, captions=CAPTIONS) as study:
        cells, worst = sampled(study, sizes, seed)
        tree = xr.DataTree.from_dict({"grid": xr.combine_by_coords(cells)})  # pyright: ignore[reportArgumentType]
        study.tree("grid", tree, "averaged gradients over the grid")
        for objective in tree["grid"].to_dataset()["objective"].values.tolist():
            study.figure(f"figure_1_{objective}", plots.gradient_grid(tree, objective), FIGURE.format(objective))
        _, title, evaluation = worst
        study.tree("worst_chains", evaluation, f"evaluation of the posterior whose chains agree least ({title})")
        chain_figures(study, f"worst posterior ({title})", evaluation)
        study.add("trends", trends(tree["grid"].to_dataset()))
        study.note(*notes(tree["grid"].to_dataset(), trends(tree["grid"].to_dataset())))


def sampled(study: Study, sizes: Grid, seed: int) -> tuple[list[xr.Dataset], tuple[float, str, xr.DataTree]]:
    """The numbers of every posterior of the grid; and the largest R-hat, with the posterior's name and evaluation."""
    cells: list[xr.Dataset] = []
    worst: tuple[float, str, xr.DataTree] | None = None
    for n_train, width in itertools.product(sizes.n_train, sizes.widths):
        dataset = br.data.load("half_moons", n_train=n_train, n_test=sizes.num_points, seed=seed)
        net = br.nets.mlp(2, (width, width), 2, activation="leaky_relu", seed=seed)
        post = sizes.hmc().fit(br.models.BayesianNetwork(net, prior_scale=1.0), dataset, seed=seed)
        study.say(f"{n_train} points, width {width}: {post.info['seconds']:.0f} s")
        for warmup in sizes.warmups:
            window = sizes.window(post, warmup)
            gradients = evaluate_gradients(
                window, dataset, num_points=None, num_draws=[sizes.num_draws], precisions=["float64"], seed=seed
            )
            evaluation = br.evaluate(window, dataset, attacks={}, num_points=None, seed=seed)
            cells.append(cell(gradients, evaluation).expand_dims(warmup=[warmup], n_train=[n_train], width=[width]))
            study.add("gradients", [row(n_train, width, warmup, cells[-1].squeeze())])
            rhat = cells[-1]["rhat_max"].item()
            rhat = np.inf if np.isnan(rhat) else rhat
            if worst is None or rhat > worst[0]:
                worst = (rhat, f"{n_train} points, width {width}, warmup {warmup}", evaluation)
    assert worst is not None
    return cells, worst


CAPTIONS = {
    "gradients": "Averaged input gradients at the test points: mean l2 norm over points with its 95% t interval, Monte "
    "Carlo standard "
    "error (batch means), norm of single draws, and whether the chains agree in function space.",
    "trends": "Slopes of the logarithm of the mean norm against log2 of width and of training points, over the cells of the "
    "longest warmup, with 95% t intervals (of one seed: the cells scatter, chains and data are not drawn again). The "
    "paper's "
    "figure 1 claims that both slopes are negative for the averaged gradient, by cancellation: then so are averaged / "
    "single's.",
}
FIGURE = (
    "Norm of the averaged gradient of {}: solid, with 95% intervals over test points; dashed its Monte Carlo standard "
    "error; dotted the single draws' norm."
)


def cell(gradients: xr.DataTree, evaluation: xr.DataTree) -> xr.Dataset:
    """The numbers of one posterior, means over test points."""
    statistics = gradients["statistics"].to_dataset().squeeze(["precision", "num_draws"], drop=True)
    diagnostics = evaluation["diagnostics"].to_dataset()
    intervals = [mean_interval(statistics["norm"].sel(objective=name).values) for name in statistics["objective"].values]
    mean = statistics[["norm", "standard_error", "debiased_norm", "draw_norm", "zero_fraction"]].mean("point")
    return mean.assign(
        norm_interval=(("objective", "bound"), np.array(intervals)),
        accuracy=evaluation["robustness"]["accuracy"].drop_vars(["point", "attack"], errors="ignore"),
        rhat_max=float(diagnostics["rhat_max"]),
        rhat_median=float(diagnostics["rhat"].median()),
        gradient_rhat_max=float(diagnostics["gradient_rhat_max"]),
        ess_bulk_min=float(diagnostics["ess_bulk_min"]),
        distinct_draws=int(diagnostics["distinct_draws"].sum()),
        divergences=int(diagnostics["divergences"].sum()),
        acceptance_rate=float(diagnostics["acceptance_rate"].mean()),
    ).assign_coords(bound=["lower", "upper"])


def row(n_train: int, width: int, warmup: int, at: xr.Dataset) -> dict[str, str]:
    """One row of the table of gradients."""
    numbers = {"training points": f"{n_train}", "width": f"{width}", "warmup": f"{warmup}"}
    numbers["test accuracy"] = f"{float(at['accuracy']):.3f}"
    for objective in ("expected_loss", "predictive_loss"):
        here = at.sel(objective=objective)
        numbers[f"{objective}, norm"] = estimate(here, "norm")
        numbers[f"{objective}, standard error"] = f"{float(here['standard_error']):.3f}"
    numbers["single draws, norm"] = f"{float(at['draw_norm'].sel(objective='expected_loss')):.3f}"
    numbers["R-hat median, max"] = f"{float(at['rhat_median']):.3f}, {float(at['rhat_max']):.3f}"
    numbers["distinct draws"] = f"{int(at['distinct_draws'])}"
    return numbers


def trends(cells: xr.Dataset) -> list[dict[str, str]]:
    """Least squares over the cells of the longest warmup: log norm = a + b log2 width + c log2 points."""
    at = cells.isel(warmup=-1).transpose("n_train", "width", ...)
    n, width = np.meshgrid(np.log2(at["n_train"].values), np.log2(at["width"].values), indexing="ij")
    design = np.stack([np.ones(n.size), width.ravel(), n.ravel()], axis=1)
    rows = []
    for objective, variable in itertools.product(("expected_loss", "predictive_loss"), ("norm", "draw_norm", "ratio")):
        here = at.sel(objective=objective)
        values = here["norm"] / here["draw_norm"] if variable == "ratio" else here[variable]
        names = {"norm": "averaged gradient", "draw_norm": "single draws", "ratio": "averaged / single"}
        line = {"objective": objective, "of": names[variable]}
        for name, (slope, low, high) in zip(("width", "points"), slopes(design, np.log(values.values.ravel())), strict=True):
            line[f"per doubling of {name}"] = with_interval(slope, (low, high))
        rows.append(line)
    return rows


def slopes(design: np.ndarray, values: np.ndarray, level: float = 0.95) -> list[tuple[float, float, float]]:
    """Least-squares coefficients without the constant, with t intervals (NaN without degrees of freedom)."""
    coefficients, _, _, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(values) - design.shape[1]
    residual = values - design @ coefficients
    variance = residual @ residual / freedom if freedom > 0 else np.nan
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    half = stats.t.ppf(0.5 + level / 2, max(freedom, 1)) * errors
    return [(c, c - h, c + h) for c, h in zip(coefficients[1:], half[1:], strict=True)]


def notes(cells: xr.Dataset, lines: list[dict[str, str]]) -> list[str]:
    """Says whether the published effect is there and whether the chains agree."""
    texts = []
    for line in lines:
        if line["of"] == "single draws":
            continue
        for name in ("width", "points"):
            value, _, bounds = line[f"per doubling of {name}"].partition(" [")
            low, high = (float(bound) for bound in bounds.rstrip("]").split(", "))
            verdict = "falls" if high < 0 else "rises" if low > 0 else "has no sure trend"
            texts.append(
                f"{line['objective']}, norm of {line['of']}: with {name} it {verdict} "
                f"(log norm {value} per doubling, [{low}, {high}])."
            )
    agree = int((cells["rhat_max"] <= 1.01).sum())
    texts.append(
        f"Chains agree in function space (R-hat at most 1.01 at every test point) in {agree} of {cells['rhat_max'].size} "
        f"posteriors; the median R-hat is at most 1.01 in {int((cells['rhat_median'] <= 1.01).sum())}. Where they do not, "
        "the gradients are this run's."
    )
    per_posterior: Any = cells["distinct_draws"]
    texts.append(f"Distinct draws in a posterior: {int(per_posterior.min())} to {int(per_posterior.max())}.")
    return texts


if __name__ == "__main__":
    cyclopts.run(main)
