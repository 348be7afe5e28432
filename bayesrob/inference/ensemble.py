"""Deep ensembles: several networks, each trained from its own initial weights, on all the data or on a bootstrap of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.base import Inference, require
from bayesrob.inference.sgd import SGD
from bayesrob.inference.together import batches, train_together
from bayesrob.models import BayesianNetwork, Likelihood
from bayesrob.predictive import HeldDraws
from bayesrob.predictive.stacking import stacked

__all__ = ["Ensemble"]


@dataclasses.dataclass(frozen=True)
class Ensemble(Inference):
    """Networks trained apart, averaged (Lakshminarayanan, Pritzel & Blundell 2017, without adversarial training).

    Member i is what `base.fit(model, data, seed=Ensemble.member_seed(seed, i))` gives: initial weights and order of the
    data are its own. So the first members of a larger ensemble are those of a smaller one. In turn they are so to the last
    bit; batched, up to the rounding of batched products, by which long runs part.

    Args:
        size: networks; 5 is Lakshminarayanan et al.'s.
        bootstrap: train each on as many points as there are, drawn with replacement (bagging, Breiman 1996;
            `Ensemble.bootstrap_index`). False, as in the paper: initial weights alone make members differ, and each sees
            all the data.
        base: how a member is trained: any method whose result is one held draw. With SGD(initial="keep") members differ
            by the order of their data (and the bootstrap) alone.
        members: trained "in_turn", one after the other, or "batched", all at once, for the base SGD and stacks of linear
            layers. None: batched where these have fewer than 2^15 weights, with several threads of torch 2^17, in turn else.
            (One thread, batches of 128, 10 members: 2-32-32-2 3 times as fast, 64-100-100-10 1 to 1.5, 784-100-100-10 1.05:
            there arithmetic is all the time, and memory grows with the members. Two threads: 784-100-100-10 1.3.)

    Raises:
        InputError: a size below one, a base that is no method; when fitting, a base that gives other than one held draw,
            or members="batched" where they cannot be. UnknownNameError: a wrong word for members.
    """

    size: int = 5
    bootstrap: bool = False
    base: Inference = dataclasses.field(default_factory=SGD)
    members: Literal["in_turn", "batched"] | None = None

    def __post_init__(self) -> None:
        good = isinstance(self.size, int) and not isinstance(self.size, bool) and self.size >= 1
        require(good, f"size is {self.size!r}.", "It counts the networks.", "Give a whole number >= 1.")
        require(
            isinstance(self.base, Inference),
            f"base is {self.base!r}.",
            "It trains the members.",
            "Give a method with its settings, e.g. base=SGD(epochs=20).",
        )
        if self.members is not None:
            check_name("members", self.members, ["in_turn", "batched"])

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
        net = model.net if isinstance(model, BayesianNetwork) else model
        assert isinstance(net, nn.Module)
        batched = batches(self.base, net, likelihood, dataset, self.members)
        train = self._together if batched else self._in_turn
        predictive, runs, records = train(model, net, likelihood, dataset, seed)
        notes = [f"Member {i + 1} of {self.size}: {note}" for i, found in enumerate(runs) for note in found]
        record = {"base": type(self.base).__name__, "trained": "batched" if batched else "in_turn", "members": records}
        return predictive, notes, record

    def _in_turn(
        self, model: nn.Module, net: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[HeldDraws, list[list[str]], list[dict[str, Any]]]:
        members, runs, records = [], [], []
        with progress.bar("Ensemble", self.size) as advance:
            for member in range(self.size):
                data = self._data(dataset, seed, member)
                trained, notes, record = self.base._run(model, likelihood, data, self.member_seed(seed, member))
                require(
                    isinstance(trained, HeldDraws) and trained.num_draws == 1,
                    f"{type(self.base).__name__} gives {trained.num_draws} draws of kind {trained.kind!r}.",
                    "A member is one trained network.",
                    "Use a base such as SGD().",
                )
                members.append(trained)
                runs.append(notes)
                records.append(record)
                advance(1, note=f"member {member + 1}")
        predictive = HeldDraws(members[0].net, stacked(members), **self._common(likelihood, dataset))
        return predictive, runs, records

    def _together(
        self, model: nn.Module, net: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[HeldDraws, list[list[str]], list[dict[str, Any]]]:
        assert isinstance(self.base, SGD)
        bnn = model if isinstance(model, BayesianNetwork) else None
        x, y = dataset.training(like=next(net.parameters()))
        seeds = [self.member_seed(seed, member) for member in range(self.size)]
        points = [self.bootstrap_index(seed, i, len(x)) for i in range(self.size)] if self.bootstrap else None
        weights, runs = train_together(self.base, net, bnn, likelihood, x, y, seeds, points, "Ensemble")
        predictive = HeldDraws(net, weights, **self._common(likelihood, dataset))
        return predictive, [run.notes("SGD") for run in runs], [{"losses": r.losses, "steps": r.steps} for r in runs]

    def _data(self, dataset: Dataset, seed: int, member: int) -> Dataset:
        if not self.bootstrap:
            return dataset
        index = self.bootstrap_index(seed, member, len(dataset.x_train)).to(dataset.x_train.device)
        return dataclasses.replace(dataset, x_train=dataset.x_train[index], y_train=dataset.y_train[index])
