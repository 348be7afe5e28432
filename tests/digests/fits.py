"""Every inference method on two networks, and what is built from fits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

import bayesrob as br
from bayesrob import attacks, inference
from bayesrob.data import Dataset
from bayesrob.predictive import Predictive
from tests.digests.digest import Case, digest, posterior


def moons() -> tuple[Dataset, nn.Module]:
    return br.data.load("half_moons", n_train=120, n_test=40, seed=0), br.nets.mlp(2, (12, 8), 2, activation="leaky_relu")


def digits() -> tuple[Dataset, nn.Module]:
    """A convolution, so that nothing of it is a stack of linear layers."""
    with br.rng.global_seed(0, "digests"):
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    return br.data.load("digits", n_train=120, n_test=40, seed=0), net


def methods() -> dict[str, inference.Inference]:
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


def fits() -> Iterator[Case]:
    for place, make in (("moons", moons), ("digits", digits)):
        dataset, net = make()
        bnn = br.models.BayesianNetwork(net, prior_scale=0.5)
        for name, method in methods().items():
            yield f"fit/{place}/{name}", lambda m=method, b=bnn, d=dataset: posterior(m.fit(b, d, seed=3), d)
        for name in ("SGD", "SDR decay", "DropConnect", "TRADES", "AdversarialTraining mixed"):
            method = methods()[name]
            yield f"fit/{place}/{name} without prior", lambda m=method, n=net, d=dataset: posterior(m.fit(n, d, seed=3), d)
        for name in ("SGD", "SVI", "SDR decay", "SDR learnable", "MCDropout", "AdvBNN", "TRADES", "DefensiveDistillation"):
            yield f"fit/{place}/{name} watched", lambda n=name, b=bnn, d=dataset: _watched(methods()[n], b, d)


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
        yield f"fit/regression/{name}", lambda n=name: posterior(methods()[n].fit(bnn, dataset, seed=3), dataset)
    points, net = moons()
    base = inference.SGD(epochs=3, batch_size=32)

    def replicates(**settings: Any) -> str:
        models = inference.Replicates(base, num_models=3, **settings).fit(net, points, seed=2)
        return digest([posterior(model, points) for model in models])

    yield "fit/replicates", replicates
    yield "fit/replicates splits", lambda: replicates(over="disjoint_splits")

    def once() -> str:
        with tempfile.TemporaryDirectory() as folder:
            first = inference.fit_once(base, net, points, seed=1, folder=folder)
            again = inference.fit_once(base, net, points, seed=1, folder=folder)
            return digest(
                posterior(first, points), posterior(again, points), sorted(path.name for path in Path(folder).iterdir())
            )

    yield "fit/once", once

    def saved() -> str:
        with tempfile.TemporaryDirectory() as folder:
            inference.SVI(epochs=2, num_draws=3).fit(br.models.BayesianNetwork(net), points, seed=1).save(f"{folder}/post")
            return posterior(br.load(f"{folder}/post"), points)

    yield "fit/saved", saved


def keys() -> Iterator[Case]:
    """Settings and keys under which results are found again."""
    for name, method in methods().items():
        yield f"settings/{name}", lambda m=method: digest(json.dumps(m.settings(), default=str))
