"""SHA-256 digests of public results at fixed seeds: what a change of structure must leave alone.

Run it before a change and after it, on the same machine, and compare:

    python -m tests.digests before.json
    python -m tests.digests after.json --compare before.json

It is no test, because digests hold for one machine, torch version and number of threads (here one).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

import bayesrob as br
from bayesrob import attacks, inference, sweeps
from bayesrob.data import Dataset
from bayesrob.predictive import Predictive

LEFT_OUT = {
    *("seconds", "training_seconds", "scoring_seconds"),  # differ from run to run
    *("reason", "worst_case_reason", "question", "source", "about"),  # sentences, which may be reworded
}
RECORDED = ("losses", "sigma", "steps", "epochs", "members")
"""What a digest covers of a fit's record."""

# ---- what is digested ---------------------------------------------------------------------------------------------------


def digest(*parts: Any) -> str:
    """The SHA-256 of tensors, arrays, numbers, text, trees and containers of them."""
    state = hashlib.sha256()
    for part in parts:
        _feed(state, part)
    return state.hexdigest()


def _feed(state: Any, part: Any) -> None:
    if isinstance(part, torch.Tensor):
        part = part.detach().contiguous().numpy()
    if isinstance(part, xr.DataTree):
        for node in part.subtree:
            state.update(node.path.encode())
            _feed(state, node.to_dataset(inherit=False))
    elif isinstance(part, xr.Dataset):
        for name in sorted(map(str, part.variables)):
            if name not in LEFT_OUT:
                state.update(name.encode())
                _feed(state, part[name].values)
    elif isinstance(part, np.ndarray) and part.dtype.kind != "O":
        state.update(str((part.dtype.str, part.shape)).encode() + np.ascontiguousarray(part).tobytes())
    elif isinstance(part, dict):
        for name in sorted(part):
            if name not in LEFT_OUT:
                state.update(str(name).encode())
                _feed(state, part[name])
    elif isinstance(part, list | tuple | np.ndarray):
        for one in part:
            _feed(state, one)
    else:
        state.update(repr(part).encode())


def posterior(post: Predictive, dataset: Dataset) -> str:
    """Everything a fit leaves: logits, gradients, the record of the run and the chains' statistics."""
    x, y = dataset.x_test[:20], dataset.y_test[:20]
    held = post.freeze(min(3, post.num_draws), seed=1)
    info = {name: value for name, value in post.info.items() if name in RECORDED}
    stats = getattr(post, "sample_stats", None) or {}
    notes = len(post.info.get("notes", []))
    return digest(
        held.logits(x), post.logits(x, seed=5), post.input_gradient(x, y, seed=5), info, notes, dict(stats), post.num_draws
    )


# ---- cases --------------------------------------------------------------------------------------------------------------


def _moons() -> tuple[Dataset, nn.Module]:
    return br.data.load("half_moons", n_train=120, n_test=40, seed=0), br.nets.mlp(2, (12, 8), 2, activation="leaky_relu")


def _digits() -> tuple[Dataset, nn.Module]:
    """A convolution, so that nothing of it is a stack of linear layers."""
    with br.rng.global_seed(0, "digests"):
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    return br.data.load("digits", n_train=120, n_test=40, seed=0), net


def _methods() -> dict[str, inference.Inference]:
    brief = {"epochs": 3, "batch_size": 32}
    sgd = inference.SGD(**brief)
    chains = {"num_samples": 4, "warmup": 6, "num_chains": 2}
    pgd = attacks.PGD(eps=0.05, steps=2)
    return {
        "SGD": sgd,
        "SGD momentum": inference.SGD(**brief, optimizer="sgd", lr=0.05, weight_decay=1e-3, decay=False),
        "SGD keep": inference.SGD(**brief, initial="keep"),
        "SGD blows up": inference.SGD(epochs=4, batch_size=16, optimizer="sgd", lr=1e18),
        "Ensemble": inference.Ensemble(size=3, base=sgd),
        "Ensemble in turn": inference.Ensemble(size=3, base=sgd, members="in_turn"),
        "Ensemble bootstrap": inference.Ensemble(size=3, base=sgd, bootstrap=True),
        "Ensemble blows up": inference.Ensemble(
            size=2, base=inference.SGD(epochs=4, batch_size=16, optimizer="sgd", lr=1e18)
        ),
        "HMC": inference.HMC(**chains, num_steps=3, step_size=0.01),
        "HMC adapted": inference.HMC(**chains, num_steps=3, adapt_mass=True),
        "HMC batched": inference.HMC(**chains, num_steps=3, chains="batched"),
        "HMC prior": inference.HMC(**chains, num_steps=3, start="prior", step_jitter=0.2, step_size=0.001),
        "NUTS": inference.NUTS(**chains, max_tree_depth=3),
        "NUTS adapted": inference.NUTS(**chains, max_tree_depth=3, adapt_mass=True),
        "NUTS batched": inference.NUTS(**chains, max_tree_depth=3, chains="batched", step_size=0.01),
        "SVI": inference.SVI(**brief, num_draws=4),
        "SVI shared": inference.SVI(**brief, num_draws=4, estimator="shared_draw"),
        "SVI not mirrored": inference.SVI(**brief, num_draws=4, estimator="shared_draw", mirrored=False, kl_weight=0.3),
        "SVI low rank": inference.SVI(**brief, num_draws=4, guide="low_rank", rank=2),
        "SDR decay": inference.SDR(**brief),
        "SDR at decays": inference.SDR(**brief, growth="at_decays", predict="draws", num_draws=4),
        "SDR learnable": inference.SDR(**brief, variance="learnable", num_draws=4),
        "SDR learnable means": inference.SDR(
            **brief, variance="learnable", predict="means", kl_weight=0.5, initial_sigma=0.02
        ),
        "DropConnect": inference.DropConnect(**brief, num_draws=4),
        "MCDropout": inference.MCDropout(**brief, num_draws=4, inputs=True),
        "AdversarialTraining SGD": inference.AdversarialTraining(pgd, base=sgd),
        "AdversarialTraining mixed": inference.AdversarialTraining(attacks.FGSM(eps=0.05), base=sgd, clean_weight=0.5),
        "AdversarialTraining SVI": inference.AdversarialTraining(pgd, base=inference.SVI(**brief, num_draws=4)),
        "AdversarialTraining SDR": inference.AdversarialTraining(pgd, base=inference.SDR(**brief)),
        "AdversarialTraining learnable": inference.AdversarialTraining(
            pgd, base=inference.SDR(**brief, variance="learnable")
        ),
        "AdversarialTraining DropConnect": inference.AdversarialTraining(pgd, base=inference.DropConnect(**brief)),
        "TRADES": inference.TRADES(eps=0.05, steps=2, base=sgd),
        "AdvBNN": inference.AdvBNN(pgd, **brief, num_draws=4, initial_scale=0.05),
        "AdvBNN prior": inference.AdvBNN(pgd, **brief, num_draws=4),
        "DefensiveDistillation": inference.DefensiveDistillation(base=sgd),
        "DefensiveDistillation hard": inference.DefensiveDistillation(base=sgd, labels="hard", temperature=5),
    }


Case = tuple[str, Callable[[], str]]


def fits() -> Iterator[Case]:
    for place, make in (("moons", _moons), ("digits", _digits)):
        dataset, net = make()
        bnn = br.models.BayesianNetwork(net, prior_scale=0.5)
        for name, method in _methods().items():
            yield f"fit/{place}/{name}", lambda m=method, b=bnn, d=dataset: posterior(m.fit(b, d, seed=3), d)
        for name in ("SGD", "SDR decay", "DropConnect", "TRADES", "AdversarialTraining mixed"):
            method = _methods()[name]
            yield f"fit/{place}/{name} without prior", lambda m=method, n=net, d=dataset: posterior(m.fit(n, d, seed=3), d)
        for name in ("SGD", "SVI", "SDR decay", "SDR learnable", "MCDropout", "AdvBNN", "TRADES", "DefensiveDistillation"):
            yield f"fit/{place}/{name} watched", lambda n=name, b=bnn, d=dataset: _watched(_methods()[n], b, d)


def _watched(method: inference.Inference, model: nn.Module, dataset: Dataset) -> str:
    seen: list[str] = []

    def watch(epoch: int, post: Predictive) -> float:
        seen.append(posterior(post, dataset))
        return float(epoch)

    return digest(posterior(method.fit(model, dataset, seed=3, each_epoch=watch), dataset), seen)


def more_fits() -> Iterator[Case]:
    dataset = br.data.load("simulated_regression", n_train=80, n_test=30, seed=0)
    net = br.nets.mlp(dataset.shape[0], (9,), 1, activation="tanh")
    bnn = br.models.BayesianNetwork(net, prior_scale=1.0, likelihood="normal", noise_scale=0.1)
    for name in ("SGD", "Ensemble", "HMC", "NUTS", "SVI", "SDR decay", "MCDropout", "TRADES"):
        yield f"fit/regression/{name}", lambda n=name: posterior(_methods()[n].fit(bnn, dataset, seed=3), dataset)
    moons, net = _moons()
    base = inference.SGD(epochs=3, batch_size=32)

    def replicates(**settings: Any) -> str:
        models = inference.Replicates(base, num_models=3, **settings).fit(net, moons, seed=2)
        return digest([posterior(model, moons) for model in models])

    yield "fit/replicates", replicates
    yield "fit/replicates splits", lambda: replicates(over="disjoint_splits")

    def once() -> str:
        with tempfile.TemporaryDirectory() as folder:
            first = inference.fit_once(base, net, moons, seed=1, folder=folder)
            again = inference.fit_once(base, net, moons, seed=1, folder=folder)
            return digest(
                posterior(first, moons), posterior(again, moons), sorted(path.name for path in Path(folder).iterdir())
            )

    yield "fit/once", once

    def saved() -> str:
        with tempfile.TemporaryDirectory() as folder:
            inference.SVI(epochs=2, num_draws=3).fit(br.models.BayesianNetwork(net), moons, seed=1).save(f"{folder}/post")
            return posterior(br.load(f"{folder}/post"), moons)

    yield "fit/saved", saved


def _victims() -> dict[str, tuple[Predictive, torch.Tensor, torch.Tensor]]:
    dataset, net = _digits()
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
    victims = _victims()
    for place, (post, x, y) in victims.items():
        for name, attack in _brief_attacks(victims["stack"][0]).items():
            yield f"attack/{place}/{name}", lambda k=attack, p=post, x=x, y=y: digest(*k.run(p, x, y, seed=2))
    post, x, y = victims["held"]
    for name, attack in {"FGSM": attacks.FGSM(), "PGD": attacks.PGD(steps=3)}.items():
        matched = attacks.match_perturbation(attack, 0.002)
        yield f"attack/matched {name}", lambda k=matched: digest(*k.run(post, x, y, seed=2))


def evaluated() -> Iterator[Case]:
    dataset, _ = _digits()
    few = {
        "random": attacks.Random(eps=0.1),
        "pgd": attacks.PGD(eps=0.1, steps=4),
        "deepfool": attacks.DeepFool(norm="l_inf"),
    }
    for place, (post, x, y) in _victims().items():
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
    moons, net = _moons()
    bnn = br.models.BayesianNetwork(net, prior_scale=1.0)
    chains = inference.HMC(num_samples=6, warmup=6, step_size=0.02, num_steps=3, num_chains=3).fit(bnn, moons, seed=0)
    yield "evaluate/chains", lambda: digest(br.evaluate(chains, moons, few, num_points=20, seed=1))
    yield "audit/chains", lambda: digest(br.audit(chains, moons.x_test, moons.y_test, eps=0.1, level="quick", seed=1))
    yield "datatree/chains", lambda: digest(br.to_datatree(chains, moons))
    posts = {name: post for name, (post, _, _) in _victims().items()}
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


def keys() -> Iterator[Case]:
    """Settings and keys under which results are found again."""
    for name, method in _methods().items():
        yield f"settings/{name}", lambda m=method: digest(json.dumps(m.settings(), default=str))


GROUPS = {"fits": fits, "more": more_fits, "attacks": attacked, "evaluation": evaluated, "sweeps": swept, "settings": keys}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--compare", type=Path, help="digests of before")
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    for group in arguments.only:
        for name, compute in GROUPS[group]():
            try:
                with warnings.catch_warnings(), contextlib.redirect_stderr(None):
                    warnings.simplefilter("ignore")
                    found[name] = compute()
            except Exception as error:  # a result too, and one that may change
                found[name] = f"{type(error).__name__}: {error}"
    arguments.out.write_text(json.dumps(found, indent=1))
    print(len(found), "results,", sum(":" in value for value in found.values()), "errors")
    if arguments.compare is None:
        return 0
    before = json.loads(arguments.compare.read_text())
    changed = sorted(name for name in found if before.get(name) != found[name])
    print(*changed, f"{len(found) - len(changed)} of {len(found)} are the same.", sep="\n")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
