"""Artefacts that an evaluation must doubt, and sound figures that it must believe, three seeds each."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import pytest
import torch
import xarray as xr
from torch import nn

from bayesrob import data, evaluate
from bayesrob.attacks import PGD, Attack, Random, RandomSearch
from bayesrob.errors import SuspiciousOutputs
from bayesrob.predictive import GaussianDraws, Predictive, from_modules
from tests.auditing import helpers
from tests.evaluation.judged import EPS, found, said, worst

SEEDS = (0, 1, 2)
RIVAL = PGD(eps=EPS, objective="margin_per_draw", restarts=2)
"""Something as strong as the audited attack, without which nothing is believed."""


@functools.cache
def digits(seed: int) -> data.Dataset:
    whole = helpers.digits()
    x, y = helpers.points(seed)
    return data.from_arrays(whole.x_train, whole.y_train, x, y, bounds=(0, 1), num_classes=10, name="digits")


def judged(make: Callable[[int], tuple[Predictive, Attack | None]], seed: int, **more: Attack) -> xr.DataTree:
    post, attack = make(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspiciousOutputs)
        attack = attack or PGD(eps=EPS, objective="margin_per_draw")
        return evaluate(post, digits(seed), {"audited": attack, **more}, seed=seed)


CAUGHT = {
    "double_softmax": (helpers.double_softmax, {"outputs"}),
    "large_step": (helpers.large_step, {"convergence"}),
    "saturated": (helpers.saturated, {"zero_gradients"}),
    "another_draw_scored": (helpers.another_draw_scored, {"randomness"}),
    "rounded": (helpers.rounded, {"zero_gradients"}),
    "noisy_gradient": (helpers.noisy_gradient, {"gradient_noise"}),
    "logits_averaged": (helpers.logits_averaged, {"attack_draws"}),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CAUGHT)
def test_artefacts_are_doubted_for_their_own_reason(name, seed):
    make, reasons = CAUGHT[name]
    tree = judged(make, seed)
    assert said(tree, "audited").startswith("doubtful because of ")
    assert reasons <= set(said(tree, "audited").removeprefix("doubtful because of ").split(", "))
    assert worst(tree) == said(tree, "audited")  # there is nothing else in the ball


@pytest.mark.parametrize("seed", SEEDS)
def test_one_draw_kept_is_about_the_posterior(seed):
    tree = judged(helpers.one_draw_kept, seed, rival=RIVAL)
    assert said(tree, "audited") == "believed"
    assert tree["robustness"]["posterior_verdict"].item() == "doubtful because of inference"
    assert "1 of 20 draws are distinct" in tree["checks"].attrs["posterior_reason"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [helpers.plain, helpers.adversarially_trained])
def test_an_honest_attack_is_believed(make, seed):
    tree = judged(make, seed, random=Random(eps=EPS), rival=RIVAL)
    assert said(tree, "audited") == "believed"
    assert worst(tree) == "believed"
    assert "attack_draws" in said(tree, "random")
    assert tree["robustness"]["posterior_verdict"].item().startswith("not judged because there is one draw")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_attack_on_draws_made_anew_is_believed(seed):
    """The weights that one draw on another is scored on, with twenty and expectation over them."""

    def many(seed: int) -> tuple[Predictive, Attack]:
        one, _ = helpers.another_draw_scored(seed)
        assert isinstance(one, GaussianDraws)
        post = GaussianDraws(one.net, one.loc, one.scale, num_draws=30, seed=seed, out_features=10, **helpers.COMMON)
        return post, PGD(eps=EPS, objective="margin")

    tree = judged(many, seed, rival=RIVAL)
    assert said(tree, "audited") == "believed"
    assert "new ones each time" in found(tree, "randomness", "audited")["reason"].item()
    assert "scored again on another set of fresh draws" in found(tree, "rescored", "audited")["reason"].item()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_points_that_beat_pgd_make_it_doubtful(seed):
    """Rounding hides every gradient: without a random start PGD stays where it is."""
    net = helpers.rounded(seed)[0]
    pgd = PGD(eps=EPS, objective="margin", random_start=False)
    tree = evaluate(net, digits(seed), {"pgd": pgd, "search": RandomSearch(eps=EPS, samples=200)}, seed=seed)
    assert "random_search" in said(tree, "pgd")
    at = tree["points"].to_dataset()
    right = at["adversarial_log_probability"].argmax("class") == at["label"]
    won = right.sel(attack="pgd") & ~right.sel(attack="search") & (at["log_probability"].argmax("class") == at["label"])
    assert float(found(tree, "random_search", "pgd")["value"]) == pytest.approx(float(won.mean()))
    assert "random_search" in worst(tree)


def test_random_layers_are_seen_and_do_not_stop_the_evaluation():
    class Shaken(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = helpers.trained(0)

        def forward(self, x):
            return self.net(x + 0.05 * torch.randn_like(x))

    post = from_modules([Shaken().eval()], bounds=(0, 1), num_classes=10)
    tree = evaluate(post, digits(0), {"pgd": PGD(eps=EPS, objective="margin")})
    assert "randomness" in said(tree, "pgd")
