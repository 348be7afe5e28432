"""Deep ensembles: several networks, each trained from its own initial weights, on all the data or on a bootstrap of it."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bayesrob import progress, rng
from bayesrob.arguments import require, whole
from bayesrob.data import Dataset
from bayesrob.errors import check_name
from bayesrob.inference.base import EachEpoch, Inference
from bayesrob.inference.sgd import SGD, are_batched
from bayesrob.models import Likelihood
from bayesrob.predictive import HeldDraws, stacked

__all__ = ["Ensemble"]


@dataclasses.dataclass(frozen=True)
class Ensemble(Inference):
    """The average of independently trained networks (Lakshminarayanan et al. 2017, without adversarial training).

    Member i is what `base.fit(model, data, seed=Ensemble.member_seed(seed, i))` gives: initial weights and order of the
    data are its own. So the first members of a larger ensemble are those of a smaller one: to the last bit if they are
    trained one after the other; batched, up to the rounding of batched products, which grows over long runs.

    Args:
        size: number of networks; 5 as in Lakshminarayanan et al. 2017.
        bootstrap: train each member on as many points as there are, drawn with replacement (bagging, Breiman 1996;
            `Ensemble.bootstrap_index`). False, as in Lakshminarayanan et al.: each is trained on all the data, and only
            initial weights and order make members differ.
        base: how a member is trained: any method whose result is one held draw. With SGD(initial="keep") members differ
            only by the order of their data (and the bootstrap).
        members: "in_turn" trains one after the other, "batched" all in one batch, for the base SGD and stacks of linear
            layers. None: batched where these have fewer than 2^15 weights (2^17 with several threads of torch), else in
            turn. Ten members of 2-32-32-2 train 3 times as fast in a batch; of 784-100-100-10 no faster on one thread.

    Raises:
        InputError: a size below one, a base that is no method; when fitting, a base that gives other than one held draw,
            or members="batched" where they cannot be.
        UnknownNameError: a wrong word for members.

    Example:
        >>> post = br.inference.Ensemble(size=3, base=br.inference.SGD(epochs=5)).fit(net, ds, seed=0)
        >>> post.num_draws
        3
    """

    origin: ClassVar[str] = "members"

    size: int = 5
    bootstrap: bool = False
    base: Inference = dataclasses.field(default_factory=SGD)
    members: Literal["in_turn", "batched"] | None = None

    def __post_init__(self) -> None:
        whole("size", self.size, "It counts the networks.")
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
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        each_epoch: EachEpoch | None = None,
    ) -> tuple[HeldDraws, list[str], dict[str, Any]]:
        batched = are_batched(self.base, model, likelihood, dataset, self.members)
        train = self._batched if batched else self._in_turn
        predictive, notes, records = train(model, likelihood, dataset, seed)
        notes = [f"Member {i + 1} of {self.size}: {note}" for i, own in enumerate(notes) for note in own]
        record = {"base": type(self.base).__name__, "trained": "batched" if batched else "in_turn", "members": records}
        return predictive, notes, record

    def _in_turn(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[HeldDraws, list[list[str]], list[dict[str, Any]]]:
        members, notes, records = [], [], []
        with progress.bar("Ensemble", self.size) as advance:
            for member in range(self.size):
                data = self._data(dataset, seed, member)
                trained, own, record = self.base._run(model, likelihood, data, self.member_seed(seed, member))
                require(
                    isinstance(trained, HeldDraws) and trained.num_draws == 1,
                    f"{type(self.base).__name__} gives {trained.num_draws} draws of kind {trained.kind!r}.",
                    "A member is one trained network.",
                    "Use a base such as SGD().",
                )
                members.append(trained)
                notes.append(own)
                records.append(record)
                advance(1, note=f"member {member + 1}")
        predictive = HeldDraws(members[0].net, stacked(members), **self._common(likelihood, dataset))
        return predictive, notes, records

    def _batched(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int
    ) -> tuple[HeldDraws, list[list[str]], list[dict[str, Any]]]:
        assert isinstance(self.base, SGD)
        seeds = [self.member_seed(seed, member) for member in range(self.size)]
        indices = [self.bootstrap_index(seed, i, len(dataset.x_train)) for i in range(self.size)] if self.bootstrap else None
        index = None if indices is None else torch.stack(indices)
        trained = self.base.train_several(model, likelihood, dataset, seeds=seeds, index=index, title="Ensemble")
        assert isinstance(trained.predictive, HeldDraws)
        return trained.predictive, [run.notes("SGD") for run in trained.runs], [run.record() for run in trained.runs]

    def _data(self, dataset: Dataset, seed: int, member: int) -> Dataset:
        """The points that member number `member` is trained on."""
        if not self.bootstrap:
            return dataset
        index = self.bootstrap_index(seed, member, len(dataset.x_train)).to(dataset.x_train.device)
        return dataclasses.replace(dataset, x_train=dataset.x_train[index], y_train=dataset.y_train[index])
