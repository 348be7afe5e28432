"""The posteriors of Carbone et al. 2020 (arXiv:2002.04359), trained once and shared by studies, and its attack protocol."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import bayesrob as br
from bayesrob.attacks import FGSM, PGD, Attack, Random
from bayesrob.inference import Inference, fit_once
from shared.study import Scale

__all__ = ["BESIDE", "FEW", "PUBLISHED", "Recipe", "protocol", "recipes", "repairs"]

PUBLISHED: dict[str, dict[str, float]] = {
    "MNIST/HMC": {"random": 0.850, "fgsm": 0.960, "pgd": 0.970},
    "MNIST/VI": {"random": 0.956, "fgsm": 0.936, "pgd": 0.938},
    "Fashion/HMC": {"random": 0.812, "fgsm": 0.848, "pgd": 0.826},
    "Fashion/VI": {"random": 0.744, "fgsm": 0.834, "pgd": 0.916},
}
"""Table 1 as printed."""

FEW = 10
"""Number of draws that the attacks of the reference code average."""

BESIDE = "equation 2"
"""The repair that climbs the mean of the draws' losses, as equation 2 of the paper has it."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one posterior is made.

    Args:
        data: name of the data set.
        n_train: number of training points, None for all.
        architecture: "mlp" or "cnn".
        hidden: units of each hidden layer; of a "cnn" the units of its last one.
        activation: name of the activation.
        method: how the posterior is sampled or the network trained.
        prior_scale: standard deviation of the prior; None trains the network itself, without a prior.
    """

    data: str
    n_train: int | None
    architecture: str
    hidden: tuple[int, ...]
    activation: str
    method: Inference
    prior_scale: Any = 1.0

    def fit(self, folder: Path, seed: int) -> tuple[br.predictive.Predictive, br.Dataset]:
        """The posterior, trained now or loaded, and its data."""
        dataset = br.data.load(self.data, n_train=self.n_train, seed=seed)
        shape, classes = dataset.x_train[0].shape, dataset.out_features
        if self.architecture == "cnn":
            net: Any = br.nets.cnn(shape, self.hidden[0], classes, activation=self.activation, seed=seed)
        else:
            net = br.nets.mlp(shape.numel(), self.hidden, classes, activation=self.activation, seed=seed)
        model = net if self.prior_scale is None else br.models.BayesianNetwork(net, prior_scale=self.prior_scale)
        return fit_once(self.method, model, dataset, folder, seed), dataset

    def row(self, name: str, predictive: br.predictive.Predictive) -> dict[str, str]:
        """One row of a table: what was trained, at which size."""
        info = predictive.info
        return {
            "posterior": name,
            "training images": f"{info['dataset']['n_train']:,}",
            "network": f"{self.architecture} {'-'.join(map(str, self.hidden))}, {self.activation}",
            "prior": _PRIORS.get(self.prior_scale, f"N(0, 1/fan in) ({self.prior_scale})"),
            "method": _described(self.method),
            "draws": str(predictive.num_draws),
            "training seconds": f"{info['seconds']:.0f}",
        }


_PRIORS = {None: "none", 1.0: "N(0, 1)"}


def recipes(scale: Scale, num_draws: int) -> dict[str, Recipe]:
    """The four posteriors by the names of table 1, and at small scale one whose chains have an easier task.

    Args:
        scale: the size of the run.
        num_draws: number of draws of each posterior; table 1 needs 250, figures 2 and 3 need 500.
    """
    SVI, HMC = br.inference.SVI, br.inference.HMC
    if scale == "smoke":
        svi = SVI(epochs=20, num_draws=num_draws)
        hmc = HMC(num_samples=-(-num_draws // 2), warmup=20, num_steps=5, num_chains=2)
        return {
            "digits/HMC": Recipe("digits", 200, "mlp", (16, 16), "relu", hmc),
            "digits/VI": Recipe("digits", 200, "mlp", (16, 16, 16), "leaky_relu", svi),
        }
    if scale == "paper":
        mnist, fashion = (
            HMC(num_samples=num_draws // 4, warmup=100, step_size=size, num_steps=10) for size in (0.002, 0.001)
        )
        return {
            "MNIST/HMC": Recipe("mnist", None, "mlp", (1024, 1024), "relu", mnist),
            "MNIST/VI": Recipe(
                "mnist", None, "cnn", (512,), "leaky_relu", SVI(epochs=5, lr=0.01, batch_size=128, num_draws=num_draws)
            ),
            "Fashion/HMC": Recipe("fashion_mnist", None, "mlp", (1024, 1024), "relu", fashion),
            "Fashion/VI": Recipe(
                "fashion_mnist",
                None,
                "cnn",
                (1024,),
                "leaky_relu",
                SVI(epochs=10, lr=0.001, batch_size=128, num_draws=num_draws),
            ),
        }
    # Chains on two cores: fewer images, narrower networks, and trajectories long enough to go somewhere.
    # With a prior of 1/fan in they meet sooner: a posterior that can be believed, beside the paper's prior.
    hmc = HMC(num_samples=num_draws // 4, warmup=125, num_steps=100)
    easier = dataclasses.replace(hmc, num_steps=50)
    wide = (512, 512, 512)  # the main text's network for VI, at full size
    return {
        "MNIST/HMC": Recipe("mnist", 1000, "mlp", (32, 32), "relu", hmc),
        "MNIST/VI": Recipe(
            "mnist", None, "mlp", wide, "leaky_relu", SVI(epochs=5, lr=0.01, batch_size=128, num_draws=num_draws)
        ),
        "Fashion/HMC": Recipe("fashion_mnist", 1000, "mlp", (32, 32), "relu", hmc),
        "Fashion/VI": Recipe(
            "fashion_mnist", None, "mlp", wide, "leaky_relu", SVI(epochs=10, lr=0.001, batch_size=128, num_draws=num_draws)
        ),
        "MNIST/HMC fan-in prior": Recipe("mnist", 1000, "mlp", (32, 32), "relu", easier, prior_scale="fan_in"),
    }


def _described(method: Inference) -> str:
    if isinstance(method, br.inference.HMC):
        step = "adapted step" if method.step_size is None else f"step {method.step_size}"
        chains = f"{method.num_chains} x {method.num_samples} after {method.warmup}"
        return f"HMC, {chains}, {method.num_steps} steps, {step}"
    if isinstance(method, br.inference.Ensemble):
        kind = "bagged " if method.bootstrap else ""
        return f"{kind}ensemble of {method.size}, each {_described(method.base)}"
    epochs, rate = (getattr(method, name, None) for name in ("epochs", "lr"))
    drop = f", p {method.p}" if isinstance(method, br.inference.MCDropout) else ""
    return f"{type(method).__name__}, {epochs or 'default'} epochs, lr {rate}{drop}"


def protocol(eps: float, post: br.predictive.Predictive) -> dict[str, Attack]:
    """The published protocol as its code has it: PGD steps by 2 from the point itself, 15 times as in the paper."""
    common: Any = {"eps": eps, "objective": "double_softmax", "num_draws": min(FEW, post.num_draws)}
    pgd = PGD(steps=15, step_size=2.0, random_start=False, **common)
    return {"random": Random(eps=eps), "FGSM": FGSM(**common), "PGD": pgd}


def repairs(eps: float, post: br.predictive.Predictive) -> dict[str, Attack]:
    """The reference's PGD with one fault less each time; and beside the last the loss of the paper's equation 2."""
    pgd: Any = protocol(eps, post)["PGD"]
    draws = dataclasses.replace(pgd, num_draws=None)
    steps = dataclasses.replace(draws, step_size=None, random_start=True)
    return {
        "all draws": draws,
        "steps that fit": steps,
        "softmax once": dataclasses.replace(steps, objective="predictive_loss"),
        BESIDE: dataclasses.replace(steps, objective="expected_loss"),
    }
