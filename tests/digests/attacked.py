"""Every attack on held and on fresh draws, evaluations, audits and a small sweep."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import bayesrob as br
from bayesrob import attacks, inference, sweeps
from bayesrob.predictive import Predictive
from tests.digests.digest import Case, digest
from tests.digests.fits import digits, moons


def victims() -> dict[str, tuple[Predictive, torch.Tensor, torch.Tensor]]:
    dataset, net = digits()
    bnn = br.models.BayesianNetwork(net, prior_scale=0.5)
    held = inference.Ensemble(size=5, base=inference.SGD(epochs=6, batch_size=16, lr=0.01)).fit(bnn, dataset, seed=0)
    fresh = inference.SVI(epochs=6, batch_size=16, num_draws=5).fit(bnn, dataset, seed=0)
    mlp = br.nets.mlp(64, (10,), 10)
    simple = inference.Ensemble(size=5, base=inference.SGD(epochs=6, batch_size=16, lr=0.01)).fit(mlp, dataset, seed=0)
    x, y = dataset.x_test[:8], dataset.y_test[:8]
    return {"held": (held, x, y), "fresh": (fresh, x, y), "stack": (simple, x, y)}


def _brief_attacks(surrogate: Predictive) -> dict[str, attacks.Attack]:
    a = attacks
    return {
        "APGD": a.APGD(eps=0.2, steps=8, restarts=2),
        "APGD dlr": a.APGD(eps=0.2, steps=8, objective="margin"),
        "AutoAttack": a.AutoAttack(eps=0.1, version="rand"),
        "BiasAttack": a.BiasAttack(eps=0.2),
        "VarianceAttack": a.VarianceAttack(eps=0.2),
        "BIM": a.BIM(eps=0.2, steps=4),
        "LeastLikely": a.LeastLikely(eps=0.2, steps=4),
        "Boundary": a.Boundary(steps=20),
        "BV": a.BV(eps=0.2),
        "CarliniWagner": a.CarliniWagner(steps=20, searches=2, lr=0.1),
        "DeepFool": a.DeepFool(),
        "DeepFool logits": a.DeepFool(average="logits"),
        "FAB": a.FAB(steps=8),
        "FAB l_2": a.FAB(steps=8, norm="l_2"),
        "FGSM": a.FGSM(eps=0.2),
        "FGSM l_2 predictive": a.FGSM(eps=0.8, norm="l_2", objective="predictive_loss"),
        "TargetedFGSM": a.TargetedFGSM(eps=0.2),
        "JSMA": a.JSMA(gamma=1.0),
        "LocalSearch": a.LocalSearch(rounds=4),
        "MIFGSM": a.MIFGSM(eps=0.2, steps=4),
        "NES": a.NES(eps=0.2, steps=3),
        "PGD": a.PGD(eps=0.2, steps=4, restarts=2),
        "PGD l_2": a.PGD(eps=1.0, steps=4, norm="l_2"),
        "PGD targeted": a.PGD(eps=0.2, steps=4, target="random", label="predicted"),
        "PGD skip": a.PGD(eps=0.2, steps=4, skip_misclassified=True, objective="margin_per_draw", num_draws=3),
        "PGD held": a.PGD(eps=0.2, steps=4, draws="held", objective="confident_error"),
        "PGD fast": a.PGD.fast(eps=0.2, steps=8),
        "Random": a.Random(eps=0.2),
        "RandomSearch": a.RandomSearch(eps=0.2, samples=20),
        "SinglePixel": a.SinglePixel(),
        "SmallestFGSM": a.SmallestFGSM(grid=50),
        "Square": a.Square(eps=0.2, queries=30),
        "Square l_2": a.Square(eps=1.0, queries=30, norm="l_2"),
        "Transfer": a.Transfer(attack=a.FGSM(0.2), surrogate=surrogate),
    }


def attacked() -> Iterator[Case]:
    attacked_posteriors = victims()
    for place, (post, x, y) in attacked_posteriors.items():
        for name, attack in _brief_attacks(attacked_posteriors["stack"][0]).items():
            yield f"attack/{place}/{name}", lambda k=attack, p=post, x=x, y=y: digest(*k.run(p, x, y, seed=2))
    post, x, y = attacked_posteriors["held"]
    for name, attack in {"FGSM": attacks.FGSM(), "PGD": attacks.PGD(steps=3)}.items():
        matched = attacks.match_perturbation(attack, 0.002)
        yield f"attack/matched {name}", lambda k=matched: digest(*k.run(post, x, y, seed=2))


def evaluated() -> Iterator[Case]:
    dataset, _ = digits()
    few = {
        "random": attacks.Random(eps=0.1),
        "pgd": attacks.PGD(eps=0.1, steps=4),
        "deepfool": attacks.DeepFool(norm="l_inf"),
    }
    for place, (post, x, y) in victims().items():
        yield f"evaluate/{place}", lambda p=post: digest(br.evaluate(p, dataset, few, num_points=20, seed=1))
        yield (
            f"gradients/{place}",
            lambda p=post: digest(br.evaluation.evaluate_gradients(p, dataset, num_points=20, seed=1)),
        )
        yield (
            f"audit/{place}",
            lambda p=post, x=x, y=y: digest(
                (tree := br.audit(p, x, y, eps=0.1, level="quick", seed=1))["checks"].to_dataset(), tree
            ),
        )
        if place != "stack":
            yield f"datatree/{place}", lambda p=post: digest(br.to_datatree(p, dataset))
    points, net = moons()
    bnn = br.models.BayesianNetwork(net, prior_scale=1.0)
    chains = inference.HMC(num_samples=6, warmup=6, step_size=0.02, num_steps=3, num_chains=3).fit(bnn, points, seed=0)
    yield "evaluate/chains", lambda: digest(br.evaluate(chains, points, few, num_points=20, seed=1))
    yield "audit/chains", lambda: digest(br.audit(chains, points.x_test, points.y_test, eps=0.1, level="quick", seed=1))
    yield "datatree/chains", lambda: digest(br.to_datatree(chains, points))
    posts = {name: post for name, (post, _, _) in victims().items()}
    yield (
        "transfer",
        lambda: digest(br.evaluation.transfer_matrix(posts, dataset, attacks.PGD(eps=0.2, steps=3), num_points=20, seed=1)),
    )


def swept() -> Iterator[Case]:
    def sweep() -> str:
        fixed = {
            "data": {"name": "digits", "n_train": 100, "n_test": 40},
            "net": {"architecture": "mlp"},
            "evaluation": {"num_points": 20, "attacks": {"FGSM": {"eps": 0.1}}},
        }
        grids = [
            sweeps.Grid(
                {**fixed, "inference": {"method": "SGD", "batch_size": 32}}, {"net.width": [6], "inference.epochs": [1, 2]}
            ),
            sweeps.Grid(
                {**fixed, "inference": {"method": "HMC", "warmup": 3, "num_steps": 2, "num_chains": 2}},
                {"net.width": [6], "inference.num_samples": [2, 3], "inference.step_size": [0.01]},
            ),
            sweeps.Grid(
                {**fixed, "inference": {"method": "SVI", "num_draws": 4}}, {"net.width": [6], "inference.epochs": [1, 2]}
            ),
        ]
        with tempfile.TemporaryDirectory() as folder:
            sweeps.run(grids, f"{folder}/sweep", workers=1)
            names = sorted(path.name for path in Path(folder, "sweep").rglob("*") if path.suffix in (".json", ".nc", ".npz"))
            return digest(sweeps.collect(f"{folder}/sweep"), [name for name in names if len(name) > 20])

    yield "sweep", sweep
