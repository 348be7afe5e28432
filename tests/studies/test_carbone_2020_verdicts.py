"""The verdicts of figures 2 and 3 and of table 1 on gradients and attacks of which the answer is known; the recipes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import bayesrob as br
from bayesrob.analysis import binomial_interval, component_quantiles, gradient_statistics
from tests.studies.helpers import study

PRINTED = {
    "MNIST/HMC": (0.850, 0.960, 0.970),
    "MNIST/VI": (0.956, 0.936, 0.938),
    "Fashion/HMC": (0.812, 0.848, 0.826),
    "Fashion/VI": (0.744, 0.834, 0.916),
}
"""Carbone et al. 2020, table 1: random, FGSM, PGD."""


@pytest.fixture(scope="module")
def gradients_study():
    return study("vanishing_gradients")


@pytest.fixture(scope="module")
def attack_study():
    return study("attack_table")


# ---- figures 2 and 3 -----------------------------------------------------------------------------------------------------


def left_by(g: np.ndarray, num_chains: int | None = None) -> xr.DataTree:
    """What a posterior would leave whose draws have these gradients."""
    result = gradient_statistics(g, num_draws=[1, 10, 200], num_chains=num_chains)
    along = {"precision": ["float32"]}
    return xr.DataTree.from_dict(
        {
            "statistics": result.drop_vars("gradient").expand_dims(along),
            "components": xr.Dataset({"gradient": component_quantiles(result["gradient"]).expand_dims(along)}),
        }
    )


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((200, 80, 50))


DROPS, NEAR = "components drop towards zero as draws are added", "their expectation is close to zero"


def test_a_gradient_that_vanishes_is_not_told_from_noise_and_one_that_is_there_is(gradients_study):
    """Both shrink as draws are added, so that the paper's first claim holds of both: it tells nothing apart."""
    trees = {"vanished": left_by(noise()), "there": left_by(0.3 + noise()), "chains": left_by(noise(), num_chains=4)}
    rows = gradients_study.claims(trees)
    result = {(r["posterior"], r["claim"]): r for r in rows}
    assert result["vanished", NEAR]["found"] == result["chains", NEAR]["found"] == "cannot be told from noise"
    assert result["there", NEAR]["found"] == "no: the draws agree on a direction"
    for name in trees:
        assert result[name, DROPS]["found"] == "the range of 99% of them narrows, the median image's gradient shrinks"
    # Of 200 draws: as long as its standard error where there is nothing, sqrt(1 + 200 * 0.09) of them where there is.
    for name, ratio in (("vanished", 1), ("chains", 1), ("there", 19**0.5)):
        text = result[name, NEAR]["measured"].partition("median norm ")[2].partition(" standard")[0]
        assert float(text) == pytest.approx(ratio, rel=0.06)


def met(tree: xr.DataTree, *, rhat: float, gradient_rhat: float) -> xr.DataTree:
    """With the diagnostics of chains."""
    values = {"rhat_max": rhat, "gradient_rhat_max": gradient_rhat}
    tree["diagnostics"] = xr.DataTree(xr.Dataset(values, attrs={"rhat_threshold": 1.01, "ess_threshold": 400.0}))
    return tree


@pytest.mark.parametrize(("rhat", "gradient_rhat"), [(1.0, 1.0), (1.2, 1.0), (1.0, 1.2), (np.nan, 1.0), (1.0, np.nan)])
def test_a_verdict_of_chains_that_have_not_met_is_of_this_run(gradients_study, rhat, gradient_rhat):
    tree = met(left_by(0.3 + noise(), num_chains=4), rhat=rhat, gradient_rhat=gradient_rhat)
    (row,) = (r for r in gradients_study.claims({"chains": tree}) if r["claim"] == NEAR)
    expected = "no: the draws agree on a direction"
    if (rhat, gradient_rhat) != (1.0, 1.0):
        expected += "; of this run: the chains have not met"
    assert row["found"] == expected


def test_what_grows_as_draws_are_added_is_said_to(gradients_study):
    g = 1 + noise()
    g[0] /= 100
    row = gradients_study.claims({"growing": left_by(g)})[0]
    assert row["found"] == "the range of 99% of them widens, the median image's gradient grows"


def test_hmc_and_vi_are_set_side_by_side_and_not_judged(gradients_study):
    """Draws m + noise keep sqrt((m^2 + 1/D) / (m^2 + 1)) of their length on average."""
    trees = {"data/HMC": left_by(noise()), "data/VI": left_by(1 + noise(seed=1)), "other/HMC": left_by(noise(seed=2))}
    rows = gradients_study.claims(trees)
    (row,) = (r for r in rows if r["posterior"] in ("data", "other"))
    assert row["claim"] == "HMC's gradients drop more quickly than VI's"
    assert row["found"].startswith("not judged")
    shares = row["measured"].partition(": ")[2].split("; ")
    for text, method, mean in zip(shares, ("HMC", "VI"), (0.0, 1.0), strict=True):
        assert text.startswith(f"{method} ")
        for part, count in zip(text.removeprefix(f"{method} ").split(", "), (1, 10, 200), strict=True):
            share, _, at = part.partition(" at ")
            assert int(at) == count
            expected = ((mean**2 + 1 / count) / (mean**2 + 1)) ** 0.5
            assert float(share) == pytest.approx(expected, abs=0.02)


# ---- table 1 -------------------------------------------------------------------------------------------------------------


def test_published_numbers_are_the_paper_s(attack_study):
    expected = {name: dict(zip(("random", "fgsm", "pgd"), row, strict=True)) for name, row in PRINTED.items()}
    assert expected == attack_study.PUBLISHED


def test_the_protocol_is_the_paper_s(attack_study):
    assert attack_study.SIZES["paper"][:2] == (500, 250)
    attacks = attack_study.attacks_at(0.1)
    assert {attack.eps for attack in attacks.values()} == {0.1}
    assert {attack.norm for attack in attacks.values()} == {"l_inf"}
    assert (attacks["pgd"].steps, attacks["pgd"].restarts) == (15, 1)
    assert attacks["fgsm"].objective == attacks["pgd"].objective == "expected_loss"
    for name, attack in attacks.items():
        objective = {"predictive": "predictive_loss", "margin": "margin", "double": "double_softmax"}
        assert getattr(attack, "objective", "expected_loss") == objective.get(
            name.split("_")[1] if "_" in name else "", "expected_loss"
        )


def attacked_points(right: dict[str, np.ndarray], label: int = 2) -> xr.DataTree:
    """An evaluation whose attacks leave these points right, `[point]` booleans, and all of them right before."""
    names, values = list(right), np.stack(list(right.values()))
    guess = np.where(values, label, 0)
    log_p = np.where(np.arange(3) == guess[..., None], -0.1, -3.0)
    count = values.shape[1]
    intervals = [binomial_interval(int(row.sum()), count) for row in values]
    return xr.DataTree.from_dict(
        {
            "robustness": xr.Dataset(
                {
                    "accuracy": 1.0,
                    "accuracy_interval": ("bound", list(binomial_interval(count, count))),
                    "adversarial_accuracy": ("attack", values.mean(1)),
                    "adversarial_accuracy_interval": (("attack", "bound"), intervals),
                },
                coords={"attack": names, "bound": ["lower", "upper"]},
                attrs={"num_points": count},
            ),
            "points": xr.Dataset(
                {
                    "label": ("point", np.full(count, label)),
                    "adversarial_log_probability": (("attack", "point", "class"), log_p),
                },
                coords={"attack": names},
            ),
        }
    )


def first(right: int, count: int = 500) -> np.ndarray:
    return np.arange(count) < right


def test_published_beside_measured(attack_study):
    """MNIST/HMC: 0.850, 0.960, 0.970 were printed."""
    result = attacked_points({"random": first(430), "fgsm": first(250), "pgd": first(50), "pgd_double_softmax": first(485)})
    rows = {row["attack"]: row for row in attack_study.table("MNIST/HMC", result)}
    assert [rows[name]["published"] for name in ("none", "random", "fgsm", "pgd")] == ["", "0.850", "0.960", "0.970"]
    assert [rows[name]["measured"][:5] for name in ("none", "random", "fgsm", "pgd")] == ["1.000", "0.860", "0.500", "0.100"]
    for name, value in (("random", -0.01), ("fgsm", 0.46), ("pgd", 0.87)):
        text = rows[name]["published - measured"]
        low, high = (float(bound) for bound in text.partition(" [")[2].rstrip("]").split(", "))
        assert text.startswith(f"{value:.3f} [")
        assert low < value < high
        assert (low > 0) == (name != "random")
    assert rows["pgd_double_softmax"]["published"] == rows["pgd_double_softmax"]["published - measured"] == ""
    beside = attack_study.compared({"MNIST/HMC": result, "Fashion/VI": result})["table"].to_dataset()
    np.testing.assert_array_equal(beside["published"].sel(row="Fashion/VI"), [np.nan, 0.744, 0.834, 0.916, np.nan])
    np.testing.assert_array_equal(beside["measured"].sel(row="MNIST/HMC"), [1.0, 0.86, 0.5, 0.1, 0.97])


@pytest.mark.parametrize(
    ("only_random", "only_pgd", "claim"),
    [
        (30, 5, "PGD is stronger"),
        (5, 30, "random signs beat PGD, a flag of masked gradients"),
        (6, 1, "which is stronger is not to be told"),  # p = 0.125
        (8, 1, "PGD is stronger"),  # p = 0.039
        (0, 0, "which is stronger is not to be told"),
    ],
)
def test_random_signs_and_pgd_are_compared_on_the_same_images(attack_study, only_random, only_pgd, claim):
    """`only_random`: images that stay right under random signs alone. McNemar's exact test, from its definition."""
    random = first(200)
    pgd = random.copy()
    pgd[:only_random] = False
    pgd[300 : 300 + only_pgd] = True
    tree = attacked_points({"random": random, "fgsm": first(450), "pgd": pgd, "pgd_double_softmax": first(490)})
    (note,) = attack_study.notes({"MNIST/HMC": tree})
    trials = only_random + only_pgd
    p = min(1.0, 2 * scipy.stats.binom.cdf(min(only_random, only_pgd), trials, 0.5)) if trials else 1.0
    assert f": {claim} ({random.mean():.3f} and {pgd.mean():.3f} stay right; McNemar p = {p:.2g})" in note
    assert "leaves 0.980" in note
    lowest = "random" if random.sum() <= pgd.sum() else "pgd"
    assert f"The lowest of the 4 attacks, {lowest}, leaves {min(random.mean(), pgd.mean()):.3f} [" in note


# ---- recipes -------------------------------------------------------------------------------------------------------------


def test_recipes_have_the_draws_that_the_studies_need(gradients_study, attack_study):
    """The same fit for both, or the second would train again; 500 draws or a multiple of the chains above."""
    for scale in ("smoke", "small", "paper"):
        num_draws = gradients_study.SIZES[scale][2][-1]
        assert attack_study.SIZES[scale][2] == num_draws
        assert attack_study.SIZES[scale][1] <= num_draws
        for recipe in gradients_study.carbone_2020.recipes(scale, num_draws).values():
            method = recipe.method
            total = method.num_draws if isinstance(method, br.inference.SVI) else method.num_samples * method.num_chains
            assert total == num_draws


def test_recipes_at_paper_scale_are_the_paper_s(gradients_study):
    recipes = gradients_study.carbone_2020.recipes("paper", 500)
    assert set(recipes) == set(PRINTED)
    assert recipes["MNIST/HMC"].hidden == recipes["Fashion/HMC"].hidden == (1024, 1024)
    for name, step in (("MNIST/HMC", 0.002), ("Fashion/HMC", 0.001)):
        method = recipes[name].method
        assert (method.warmup, method.step_size, method.num_steps) == (100, step, 10)
    assert {recipe.prior_scale for recipe in recipes.values()} == {1.0}
    assert all(recipe.n_train is None for recipe in recipes.values())
