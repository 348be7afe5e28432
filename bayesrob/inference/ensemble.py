"""Deep ensembles: several networks, each trained from its own initial weights, on all the data or on a bootstrap of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.inference.base import Inference, require
from bayesrob.inference.sgd import SGD
from bayesrob.models import Likelihood
from bayesrob.predictive import HeldDraws

__all__ = ["Ensemble"]


@dataclasses.dataclass(frozen=True)
class Ensemble(Inference):
    """Networks trained apart, averaged (Lakshminarayanan, Pritzel & Blundell 2017, without adversarial training).

    Member i is what `base.fit(model, data, seed=Ensemble.member_seed(seed, i))` gives: initial weights and order of the
    data are its own. So the first members of a larger ensemble are those of a smaller one.

    Args:
        size: networks; 5 is Lakshminarayanan et al.'s.
        bootstrap: train each on as many points as there are, drawn with replacement (bagging, Breiman 1996;
            `Ensemble.bootstrap_index`). False, as in the paper: initial weights alone make members differ, and each sees
            all the data.
        base: how a member is trained: any method whose result is one held draw. With SGD(initial="keep") members differ
            by the order of their data (and the bootstrap) alone.

    Raises:
        InputError: a size below one, a base that is no method; when fitting, a base that gives other than one held draw.
    """

    size: int = 5
    bootstrap: bool = False
    base: Inference = SGD()

    def __post_init__(self) -> None:
        good = isinstance(self.size, int) and not isinstance(self.size, bool) and self.size >= 1
        require(good, f"size is {self.size!r}.", "It counts the networks.", "Give a whole number >= 1.")
        require(
            isinstance(self.base, Inference),
            f"base is {self.base!r}.",
            "It trains the members.",
            "Give a method with its settings, e.g. base=SGD(epochs=20).",
        )

    @staticmethod
    def member_seed(seed: int, member: int) -> int:
        """The seed that member number `member`, from 0, is trained with."""
        return rng.derive(seed, "ensemble", member)

    @staticmethod
    def bootstrap_index(seed: int, member: int, num_data: int) -> Tensor:
        """Numbers of the training points that the member sees with bootstrap=True, int64 `[num_data]`."""
        generator = rng.generator(seed, "ensemble", member, "bootstrap")
        return torch.randint(num_data, (num_data,), generator=generator)

    def _run(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        members, records, notes = [], [], []
        with progress.bar("Ensemble", self.size) as advance:
            for member in range(self.size):
                data = self._data(dataset, seed, member)
                trained, found, record = self.base._run(model, likelihood, data, self.member_seed(seed, member))
                require(
                    isinstance(trained, HeldDraws) and trained.num_draws == 1,
                    f"{type(self.base).__name__} gives {trained.num_draws} draws of kind {trained.kind!r}.",
                    "A member is one trained network.",
                    "Use a base such as SGD().",
                )
                members.append(trained)
                records.append(record)
                notes += [f"Ensemble, member {member + 1} of {self.size}: {note}" for note in found]
                advance(1)
        weights = stacked(members)
        predictive = HeldDraws(members[0].net, weights, **self._common(likelihood, dataset))
        return predictive, notes, {"base": type(self.base).__name__, "members": records}

    def _data(self, dataset: Dataset, seed: int, member: int) -> Dataset:
        if not self.bootstrap:
            return dataset
        index = self.bootstrap_index(seed, member, len(dataset.x_train)).to(dataset.x_train.device)
        return dataclasses.replace(dataset, x_train=dataset.x_train[index], y_train=dataset.y_train[index])


def stacked(members: list[HeldDraws]) -> dict[str, Tensor]:
    """The members' parameters, and buffers (batch statistics) where they differ, `[draw, *shape]`."""
    weights = {name: torch.cat([member.weights[name] for member in members]) for name in members[0].weights}
    buffers = [dict(member.net.named_buffers()) for member in members]
    for name, first in buffers[0].items():
        counts = name.rpartition(".")[2] == "num_batches_tracked"  # plays no part in a prediction
        if name not in weights and not counts and any(not torch.equal(first, other[name]) for other in buffers[1:]):
            weights[name] = torch.stack([buffer[name] for buffer in buffers])
    return weights
