"""Figures 2 and 3 and table 1 at smoke scale: one set of posteriors, tables of the trees' numbers, honest verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

import bayesrob as br
from bayesrob.analysis import binomial_interval, component_quantiles, gradient_statistics, mean_cosine, median_interval
from bayesrob.evaluation import evaluate_gradients
from bayesrob.inference import Inference
from tests.studies.helpers import check_report, manifest, study, table, tree

PRINTED = {
    "MNIST/HMC": (0.850, 0.960, 0.970),
    "MNIST/VI": (0.956, 0.936, 0.938),
    "Fashion/HMC": (0.812, 0.848, 0.826),
    "Fashion/VI": (0.744, 0.834, 0.916),
}
"""Carbone et al. 2020, table 1: random, FGSM, PGD."""

NAMES = ["digits/HMC", "digits/VI"]
ARTEFACT = "double_softmax_per_draw"


@pytest.fixture(scope="module")
def gradients_study():
    return study("vanishing_gradients")


@pytest.fixture(scope="module")
def attack_study():
    return study("attack_table")


@pytest.fixture(scope="module")
def posteriors(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("posteriors")


def run(module, out: Path, posteriors: Path) -> list[str]:
    """Run a study; the methods that it trained."""
    trained = []
    fit = Inference.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Inference, "fit", lambda self, *rest, **more: trained.append(type(self).__name__) or fit(self, *rest, **more)
        )
        module.main(scale="smoke", out=out, posteriors=posteriors)
    return trained


@pytest.fixture(scope="module")
def gradients(gradients_study, posteriors, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("study") / "vanishing_gradients"
    assert run(gradients_study, out, posteriors) == ["HMC", "SVI"]
    return out


@pytest.fixture(scope="module")
def attacks(attack_study, gradients, posteriors, tmp_path_factory) -> Path:
    """After the other study, whose posteriors it finds."""
    out = tmp_path_factory.mktemp("study") / "attack_table"
    assert run(attack_study, out, posteriors) == []
    return out


@pytest.fixture(scope="module")
def trees(gradients) -> dict[str, xr.DataTree]:
    return {name: tree(gradients, name.replace("/", "-")) for name in NAMES}


@pytest.fixture(scope="module")
def attacked(attacks) -> dict[str, xr.DataTree]:
    return {name: tree(attacks, name.replace("/", "-")) for name in NAMES}


def kept(posteriors: Path, name: str):
    method = {"digits/HMC": "HMC", "digits/VI": "SVI"}[name]
    (path,) = posteriors.glob(f"{method}-digits-*")
    return br.load(path), br.data.load("digits", n_train=200, seed=0)


# ---- one set of posteriors -----------------------------------------------------------------------------------------------


def test_two_posteriors_are_kept_and_both_studies_look_at_them(gradients, attacks, posteriors):
    assert len(list(posteriors.iterdir())) == 2
    columns = ["posterior", "training images", "network", "prior", "method", "draws", "training seconds"]
    pd.testing.assert_frame_equal(table(gradients, "posteriors")[columns], table(attacks, "posteriors")[columns])


def test_both_studies_look_at_the_same_chains(gradients, attacks, trees, attacked):
    """In the same way: also the weights by which they are judged."""
    for group in ("sample_stats", "log_likelihood", "input_gradients", "posterior", "diagnostics"):
        ours, theirs = (found["digits/HMC"][group].to_dataset() for found in (trees, attacked))
        xr.testing.assert_allclose(ours, theirs, rtol=1e-5)
    pd.testing.assert_frame_equal(table(gradients, "chains"), table(attacks, "chains"))


# ---- figures 2 and 3 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_statistics_are_those_of_the_kept_posterior(trees, posteriors, name):
    post, dataset = kept(posteriors, name)
    found = evaluate_gradients(post, dataset, 30, [1, 5, 20], ["float32"])
    for group in ("statistics", "components", "images"):
        ours, expected = trees[name][group].to_dataset(), found[group].to_dataset()
        if group == "statistics":
            ours, expected = ours.drop_vars("unsure_fraction"), expected.drop_vars("unsure_fraction")
        xr.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    both = trees[name]["precisions"].to_dataset()
    assert both["precision"].values.tolist() == ["float32", "float64"]
    assert set(both["point"].values) < set(trees[name]["statistics"]["point"].values)
    np.testing.assert_array_equal(trees[name]["robustness"]["accuracy"].values, accuracy(post, dataset, trees[name]))


def accuracy(post, dataset, found: xr.DataTree) -> float:
    index = found["statistics"]["point"].values.copy()
    right = post(dataset.x_test[index], seed=br.rng.derive(0, "evaluate", "score")).argmax(-1) == dataset.y_test[index]
    return float(right.double().mean())


def test_the_gradient_table_holds_the_trees_numbers(gradients, trees):
    rows = table(gradients, "gradients").to_dict("records")
    expected = [(name, objective) for name in NAMES for objective in ("expected_loss", "predictive_loss", ARTEFACT)]
    assert [(r["posterior"], r["objective"]) for r in rows] == expected
    for r in rows:
        at = trees[r["posterior"]]["statistics"].to_dataset().sel(objective=r["objective"], precision="float32")
        for count, column in ((1, "1 draw"), (5, "5 draws")):
            assert r[column] == f"{np.median(at['norm'].sel(num_draws=count)):.3g}"
        last = at.sel(num_draws=20)
        low, high = median_interval(last["norm"].values)
        assert r["20 draws"] == f"{np.median(last['norm']):.3f} [{low:.3f}, {high:.3f}]"
        for column, variable in (
            ("standard error", "standard_error"),
            ("without it", "debiased_norm"),
            ("single draws", "draw_norm"),
        ):
            assert r[column] == f"{np.median(last[variable]):.3g}"
        both = trees[r["posterior"]]["precisions"].to_dataset().sel(objective=r["objective"], num_draws=20)
        single, exact = (both.sel(precision=p) for p in ("float32", "float64"))
        cosine, *bounds = mean_cosine(last["cosine"])
        assert r["cosine of batches"] == f"{cosine:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"
        assert r["effective draws"] == f"{np.median(last['effective_draws']):.0f}"
        assert r["float32 off by"] == f"{float(np.median(np.abs(single['norm'] - exact['norm']) / exact['norm'])):.1e}"
        assert float(r["float32 off by"]) < 1e-4
        assert r["exactly zero, float32"] == f"{float(single['zero_fraction'].mean()):.4f}"
        assert r["exactly zero, float64"] == f"{float(exact['zero_fraction'].mean()):.4f}"


def test_the_claims_table_is_of_these_trees(gradients, gradients_study, trees):
    rows = table(gradients, "claims").to_dict("records")
    assert rows == gradients_study.claims(trees)
    assert [r["posterior"] for r in rows] == ["digits/HMC", "digits/HMC", "digits/VI", "digits/VI", "digits"]
    for name in NAMES:
        last = trees[name]["statistics"].to_dataset().sel(objective="expected_loss", precision="float32", num_draws=20)
        (row,) = (r for r in rows if r["posterior"] == name and "close to zero" in r["claim"])
        cosine, low, high = mean_cosine(last["cosine"])
        ratio, kept = (float(np.median(last["norm"] / last[of])) for of in ("standard_error", "draw_norm"))
        for text in (
            f"draws {cosine:.3f}",
            f"from {low:.3f} to {high:.3f}",
            f"norm {ratio:.2f} standard",
            f"{kept:.0%} of a",
        ):
            assert text in row["measured"]
        assert row["found"].startswith("no: the draws agree on a direction") == (low > 0)
        met = name == "digits/VI" or float(trees[name]["diagnostics"]["rhat_max"]) <= 1.01
        assert row["found"].endswith("the chains have not met") == (not met)


def left_by(g: np.ndarray, num_chains: int | None = None) -> xr.DataTree:
    """What a posterior would leave whose draws have these gradients."""
    found = gradient_statistics(g, num_draws=[1, 10, 200], num_chains=num_chains)
    along = {"precision": ["float32"]}
    return xr.DataTree.from_dict(
        {
            "statistics": found.drop_vars("gradient").expand_dims(along),
            "components": xr.Dataset({"gradient": component_quantiles(found["gradient"]).expand_dims(along)}),
        }
    )


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((200, 80, 50))


DROPS, NEAR = "components drop towards zero as draws are added", "their expectation is close to zero"


def test_a_gradient_that_vanishes_is_not_told_from_noise_and_one_that_is_there_is(gradients_study):
    """Both shrink as draws are added, so that the paper's first claim holds of both: it tells nothing apart."""
    trees = {"vanished": left_by(noise()), "there": left_by(0.3 + noise()), "chains": left_by(noise(), num_chains=4)}
    rows = gradients_study.claims(trees)
    found = {(r["posterior"], r["claim"]): r for r in rows}
    assert found["vanished", NEAR]["found"] == found["chains", NEAR]["found"] == "cannot be told from noise"
    assert found["there", NEAR]["found"] == "no: the draws agree on a direction"
    for name in trees:
        assert found[name, DROPS]["found"] == "the range of 99% of them narrows, the median image's gradient shrinks"
    # Of 200 draws: as long as its standard error where there is nothing, sqrt(1 + 200 * 0.09) of them where there is.
    for name, ratio in (("vanished", 1), ("chains", 1), ("there", 19**0.5)):
        text = found[name, NEAR]["measured"].partition("median norm ")[2].partition(" standard")[0]
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


def test_the_report_of_the_gradients(gradients):
    check_report(gradients)
    found = manifest(gradients)
    assert set(found["tables"]) == {"claims", "gradients", "posteriors", "chains"}
    expected = {"figure_3", "decay", "figure_2_digits-HMC", "figure_2_digits-VI", "chains_digits-HMC", "ess_digits-HMC"}
    assert expected <= set(found["figures"])


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


@pytest.mark.parametrize("name", NAMES)
def test_the_evaluation_is_that_of_the_kept_posterior(attacked, attack_study, posteriors, name):
    post, dataset = kept(posteriors, name)
    few = {key: attack for key, attack in attack_study.attacks_at(0.1).items() if key in ("random", "pgd_margin")}
    found = br.evaluate(post.freeze(20, seed=0), dataset, few, num_points=30)["robustness"].to_dataset()
    ours = attacked[name]["robustness"].to_dataset().sel(attack=list(few))
    # One point of thirty may tip over on a last bit.
    # Seconds are never the same, and the worst case is that of all attacks of a run.
    same = ["accuracy", "accuracy_interval", "adversarial_accuracy", "adversarial_accuracy_interval", "softmax_robustness"]
    xr.testing.assert_allclose(*[one[same].drop_vars("seconds", errors="ignore") for one in (ours, found)], atol=0.04)
    assert float(ours["accuracy"]) == float(found["accuracy"])


def test_table_1_holds_the_trees_numbers(attacks, attacked):
    rows = iter(table(attacks, "table_1").to_dict("records"))
    for name in NAMES:
        result = attacked[name]["robustness"].to_dataset()
        for attack in ("none", *result["attack"].values.tolist()):
            row = next(rows)
            at = result if attack == "none" else result.sel(attack=attack)
            prefix = "" if attack == "none" else "adversarial_"
            low, high = at[f"{prefix}accuracy_interval"].values
            assert (row["posterior"], row["attack"]) == (name, attack)
            assert row["measured"] == f"{float(at[f'{prefix}accuracy']):.3f} [{low:.3f}, {high:.3f}]"
            assert row["published"] == row["published - measured"] == ""  # the paper has no digits
    assert list(rows) == []


def test_the_compared_tree_is_the_table(attacks, attacked):
    found = tree(attacks, "table_1")["table"].to_dataset()
    assert found["row"].values.tolist() == NAMES
    assert found["column"].values.tolist()[:4] == ["none", "random", "fgsm", "pgd"]
    assert np.isnan(found["published"]).all()
    for name in NAMES:
        result = attacked[name]["robustness"].to_dataset()
        ours = found.sel(row=name)
        assert float(ours["measured"].sel(column="none")) == float(result["accuracy"])
        np.testing.assert_array_equal(ours["interval"].sel(column="none"), result["accuracy_interval"])
        for attack in result["attack"].values:
            at = result.sel(attack=attack)
            assert float(ours["measured"].sel(column=attack)) == float(at["adversarial_accuracy"])
            np.testing.assert_array_equal(ours["interval"].sel(column=attack), at["adversarial_accuracy_interval"])


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
    found = attacked_points({"random": first(430), "fgsm": first(250), "pgd": first(50), "pgd_double_softmax": first(485)})
    rows = {row["attack"]: row for row in attack_study.table("MNIST/HMC", found)}
    assert [rows[name]["published"] for name in ("none", "random", "fgsm", "pgd")] == ["", "0.850", "0.960", "0.970"]
    assert [rows[name]["measured"][:5] for name in ("none", "random", "fgsm", "pgd")] == ["1.000", "0.860", "0.500", "0.100"]
    for name, value in (("random", -0.01), ("fgsm", 0.46), ("pgd", 0.87)):
        text = rows[name]["published - measured"]
        low, high = (float(bound) for bound in text.partition(" [")[2].rstrip("]").split(", "))
        assert text.startswith(f"{value:.3f} [")
        assert low < value < high
        assert (low > 0) == (name != "random")
    assert rows["pgd_double_softmax"]["published"] == rows["pgd_double_softmax"]["published - measured"] == ""
    beside = attack_study.compared({"MNIST/HMC": found, "Fashion/VI": found})["table"].to_dataset()
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


def test_the_report_of_table_1(attacks, attacked):
    check_report(attacks)
    found = manifest(attacks)
    assert set(found["tables"]) == {"table_1", "posteriors", "chains"}
    assert {"table_1", "gradients", "examples_digits-HMC", "chains_digits-HMC"} <= set(found["figures"])
    settings = json.loads(attacked["digits/HMC"].attrs["attacks"])
    assert settings["pgd_margin"]["objective"] == "margin"


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
