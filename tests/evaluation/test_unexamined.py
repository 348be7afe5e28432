"""What nobody examined is not believed: the three states of a verdict, by where draws come from and what was tried."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import bayesrob as br
from bayesrob import audit, evaluate, load
from bayesrob.analysis.findings import BELIEVED, RIVALS, Finding, not_applicable, state, verdict
from bayesrob.attacks import FGSM, PGD, Random, Square
from bayesrob.inference import HMC, SGD, SVI, Ensemble, MCDropout
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws, Predictive, from_modules, from_predictives
from tests.evaluation.judged import EPS, NEAR_AND_FAR, linear, said, worst

PASSED = Finding(0.0, True, "Fine.")
SILENT = not_applicable("Nothing.")


def posterior(post: Predictive, dataset: br.data.Dataset = NEAR_AND_FAR) -> str:
    return evaluate(post, dataset, {}, num_points=20)["robustness"]["posterior_verdict"].item()


# ---- the rule -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rival", RIVALS)
def test_a_figure_needs_its_own_answers_and_one_rival(rival: str) -> None:
    findings = {"outputs": PASSED, "nothing_dropped": PASSED, rival: PASSED, "single_step": PASSED, "inference": SILENT}
    assert verdict(findings, "attack") == BELIEVED
    assert verdict({**findings, rival: SILENT}, "attack").startswith("not judged because nothing as strong was tried")
    assert verdict({**findings, "outputs": SILENT}, "attack") == "not judged because outputs did not answer"
    assert verdict({**findings, "single_step": Finding(1.0, False, "No.")}, "attack") == "doubtful because of single_step"
    assert verdict({**findings, rival: Finding(np.nan, False, "No.", "error")}, "attack") == f"doubtful because of {rival}"


def test_a_posterior_needs_an_answer() -> None:
    assert verdict({"inference": PASSED}, "posterior") == BELIEVED
    assert verdict({"inference": SILENT}, "posterior") == "not judged because nothing"
    assert verdict({"inference": Finding(3.0, False, "No.")}, "posterior") == "doubtful because of inference"
    assert state("not judged because nothing") == "not judged"


# ---- figures ------------------------------------------------------------------------------------------------------------


def test_an_attack_alone_is_not_judged_and_neither_is_its_worst_case() -> None:
    tree = evaluate(linear(), NEAR_AND_FAR, {"pgd": PGD(eps=EPS)})
    assert said(tree, "pgd").startswith("not judged because nothing as strong was tried beside it")
    assert worst(tree) == said(tree, "pgd")


@pytest.mark.parametrize("rival", [PGD(eps=EPS, objective="margin"), Square(eps=EPS, queries=50)])
def test_beside_a_rival_it_is_judged(rival: br.attacks.Attack) -> None:
    tree = evaluate(linear(), NEAR_AND_FAR, {"pgd": PGD(eps=EPS), "rival": rival})
    assert said(tree, "pgd") == worst(tree) == BELIEVED


@pytest.mark.parametrize("weak", [FGSM(eps=EPS), Random(eps=EPS)])
def test_a_weak_attack_beside_it_is_not_enough(weak: br.attacks.Attack) -> None:
    assert state(said(evaluate(linear(), NEAR_AND_FAR, {"pgd": PGD(eps=EPS), "weak": weak}), "pgd")) == "not judged"


def test_nothing_left_to_break_is_believed_alone() -> None:
    tree = evaluate(linear(), NEAR_AND_FAR, {"pgd": PGD(eps=0.3)})
    assert said(tree, "pgd") == worst(tree, "l_inf <= 0.3") == BELIEVED


def test_what_an_evaluation_runs_by_default_is_judged() -> None:
    tree = evaluate(linear(), NEAR_AND_FAR, num_points=20)
    assert {state(words) for words in tree["robustness"]["worst_case_verdict"].values.tolist()} <= {"believed", "doubtful"}


# ---- posteriors ---------------------------------------------------------------------------------------------------------


def chains(shifts: list[float], draws: int = 120, **record: np.ndarray) -> HeldDraws:
    """Chains of the linear model with slopes around 10, each chain shifted by so many standard deviations."""
    generator = torch.Generator().manual_seed(0)
    slope = 10 + torch.randn(draws, len(shifts), generator=generator) + torch.tensor(shifts)
    weight = slope.view(-1, 1, 1) / 2 * torch.tensor([[-1.0] * 4, [1.0] * 4])
    bias = (
        (1 + 0.1 * torch.randn(draws * len(shifts), 1, generator=generator)) * slope.view(-1, 1) * torch.tensor([1.0, -1.0])
    )
    common = {"bounds": (0.0, 1.0), "input_shape": (4,), "out_features": 2, "sample_stats": record}
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    return HeldDraws(net, {"1.weight": weight, "1.bias": bias}, num_chains=len(shifts), **common)


def test_chains_that_never_met_are_doubtful_without_a_record_too() -> None:
    """What `evaluate` and `audit` once believed."""
    apart = chains([-4.0, -1.0, 1.0, 4.0])
    assert posterior(apart) == "doubtful because of inference"
    tree = audit(apart, NEAR_AND_FAR.x_test, NEAR_AND_FAR.y_test, eps=EPS, level="quick", attack=PGD(eps=EPS))
    assert not bool(tree["figures"]["posterior_believed"])
    assert tree["figures"]["posterior_verdict"].item() == "doubtful because of inference"
    assert ("doubtful", "The posterior is doubtful because of inference.") in br.auditing.verdicts(tree)


def test_chains_that_met_are_believed() -> None:
    assert posterior(chains([0.0] * 4, draws=500)) == BELIEVED


def test_one_chain_is_never_believed() -> None:
    """It is doubtful where its halves disagree, and else not judged."""
    alone = chains([0.0] * 4, draws=500)[::4]
    assert alone.origin == "chain"
    assert posterior(alone).startswith("not judged because there is one chain, and nothing shows that another would meet it")
    drifting = chains([0.0] * 4, draws=500)[::4]
    for tensor in drifting.weights.values():
        tensor[250:] *= 2
    assert posterior(drifting) == "doubtful because of inference"


def test_a_chain_that_stands_still_is_doubtful() -> None:
    still = chains([0.0] * 4)
    for tensor in still.weights.values():
        tensor[1::4] = tensor[1]
    assert posterior(still) == "doubtful because of inference"


def test_members_declared_as_chains_are_not_believed() -> None:
    """Independent draws have an R-hat of 1 whatever they are: they are too few to say more."""
    assert posterior(chains([0.0] * 4, draws=5)) == "doubtful because of inference"


@pytest.mark.filterwarnings("ignore::bayesrob.errors.ConvergenceWarning")
def test_draws_of_other_origins_are_not_judged_and_keep_their_origin(moons, tmp_path) -> None:
    bnn = BayesianNetwork(br.nets.mlp(2, (4,), 2))
    sgd, dropout = SGD(epochs=2), MCDropout(epochs=2)
    made = {
        "members": Ensemble(size=3, base=sgd).fit(bnn, moons),
        "noise": dropout.fit(br.nets.mlp(2, (32,), 2), moons).freeze(8),
        "guide": SVI(epochs=2, khat_draws=0).fit(bnn, moons),
        "chain": HMC(num_samples=4, warmup=4, step_size=0.01, num_steps=2, num_chains=2).fit(bnn, moons),
    }
    made["members of predictives"] = from_predictives([sgd.fit(bnn, moons, seed=seed) for seed in range(2)])
    for name, post in made.items():
        origin = name.split()[0]
        again = load(post.save(tmp_path / name))
        frozen = post.freeze(2)
        assert [one.origin for one in (post, again, frozen, post[:2])] == [origin] * 4
    for name in ("members", "noise", "members of predictives"):
        assert posterior(made[name], moons).startswith("not judged because")
    made["guide"].info["notes"] = []
    assert "khat_draws=0" in posterior(made["guide"].freeze(40), moons)
    single = sgd.fit(bnn, moons)
    assert posterior(single, moons) == "not judged because there is one draw: no posterior is claimed"


def test_modules_of_nobody_s_are_not_judged(moons) -> None:
    class Shaken(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, training=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        post = from_modules([Shaken().eval()] * 2, bounds=(-3, 3), num_classes=2)
    assert posterior(post, moons).startswith("not judged because")


# ---- k-hat --------------------------------------------------------------------------------------------------------------


def test_svi_records_its_k_hat_or_why_there_is_none(moons) -> None:
    bnn = BayesianNetwork(br.nets.mlp(2, (3,), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = SVI(epochs=400, khat_draws=1000).fit(bnn, moons)
        few = SVI(epochs=5).fit(bnn, moons)
    khat = asked.info["khat"]
    assert (khat["draws"] == 1000 and khat["seconds"] > 0 and np.isfinite(khat["value"])) or asked.info["notes"]
    assert "skipped" in few.info["khat"]
    assert "khat_draws" not in SVI().settings()
    assert SVI(khat_draws=0).settings()["khat_draws"] == 0
    with pytest.raises(br.errors.InputError, match="khat_draws is 100"):
        SVI(khat_draws=100)
