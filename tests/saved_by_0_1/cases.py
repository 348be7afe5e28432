"""What bayesrob 0.1 was asked for when it wrote the files beside this one; today's must find and read the same."""

from __future__ import annotations

import torch

import bayesrob as br
from bayesrob import attacks, inference, sweeps
from bayesrob.data import Dataset


def points() -> Dataset:
    """Points whose coordinates are the same bits on every machine, since saved fits are found by them."""
    number = torch.arange(42)
    x = torch.stack([number * 7 % 32, number * 11 % 32], 1) / 32
    y = (x.sum(1) > 1).long()
    return br.data.from_arrays(x[:30], y[:30], x[30:], y[30:], bounds=(0, 1), num_classes=2, name="points")


def methods() -> dict[str, tuple[inference.Inference, br.models.BayesianNetwork]]:
    """By name, each way to a posterior at its cheapest, and the model that it was fitted to."""
    model = br.models.BayesianNetwork(br.nets.mlp(2, (3,), 2), prior_scale=0.7)
    brief = {"epochs": 2, "batch_size": 10}
    sgd = inference.SGD(**brief)
    found: dict[str, inference.Inference] = {
        "SGD": sgd,
        "HMC": inference.HMC(num_samples=3, warmup=2, num_steps=2, num_chains=2, step_size=0.01),
        "NUTS": inference.NUTS(num_samples=2, warmup=2, max_tree_depth=2, num_chains=2),
        "SVI": inference.SVI(**brief, num_draws=3),
        "low rank": inference.SVI(**brief, guide="low_rank", rank=2, num_draws=3),
        "SDR": inference.SDR(**brief, variance="learnable", num_draws=3),
        "SDR decay": inference.SDR(**brief),
        "DropConnect": inference.DropConnect(**brief, num_draws=3),
        "MCDropout": inference.MCDropout(**brief, num_draws=3),
        "Ensemble": inference.Ensemble(size=2, base=sgd),
        "AdversarialTraining": inference.AdversarialTraining(attacks.PGD(eps=0.05, steps=2), base=sgd),
        "AdvBNN": inference.AdvBNN(attacks.FGSM(eps=0.05), **brief, num_draws=3, initial_scale=0.05),
        "TRADES": inference.TRADES(eps=0.05, steps=2, base=sgd),
        "DefensiveDistillation": inference.DefensiveDistillation(base=sgd),
    }
    return {name: (method, model) for name, method in found.items()}


def grids() -> list[sweeps.Grid]:
    """One cell of each kind."""
    fixed = {
        "data": {"name": "digits", "n_train": 60, "n_test": 20},
        "net": {"architecture": "mlp"},
        "evaluation": {"num_points": 10, "attacks": {"FGSM": {"eps": 0.1}}},
    }
    chains = {"method": "HMC", "warmup": 2, "num_steps": 2, "num_chains": 2, "step_size": 0.01}
    return [
        sweeps.Grid(
            {**fixed, "inference": {"method": "SGD", "batch_size": 32}}, {"net.width": [4], "inference.epochs": [1]}
        ),
        sweeps.Grid({**fixed, "inference": chains}, {"net.width": [4], "inference.num_samples": [2]}),
        sweeps.Grid({**fixed, "inference": {"method": "SVI", "num_draws": 3}}, {"net.width": [4], "inference.epochs": [1]}),
    ]
