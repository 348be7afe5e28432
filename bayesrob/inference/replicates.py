"""Several models of one method, with other seeds or other parts of the training set, for studies of bias and variance."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bayesrob import numerics, progress, rng
from bayesrob.arguments import require, whole
from bayesrob.data import Dataset
from bayesrob.errors import ConvergenceWarning, InputError, WorkerError, check_name
from bayesrob.inference.base import Inference
from bayesrob.inference.fit_once import load_fit, place_of
from bayesrob.inference.sgd import SGD, are_batched
from bayesrob.models import Likelihood, network_of
from bayesrob.nets import values_kept
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.processes import packed, run_in_processes

__all__ = ["LONG", "Replicates"]

LONG = 5e7
"""Number of values in the layers' outputs, for all of a model's training points, from which on processes are the default.

One epoch of SGD then takes between half a second of one core (1,060 images of 28 x 28 under `cnn(hidden=32)`) and three
seconds (96,000 points of 784-512-10), so that ten epochs or more outweigh the start of a process, about 3.6 seconds."""


@dataclasses.dataclass(frozen=True)
class Replicates:
    """T models of one method, for studies of bias and variance (`analysis.bias_variance`, axis of models).

    Model i is what `method.fit(model, part, seed=Replicates.member_seed(seed, i))` gives, where `part` is
    `self.part(dataset, seed, i)`. In turn and in processes it is the same to the last bit, with one number of threads (a
    process has one thread); batched it is the same up to the rounding of batched products, which grows over long runs.

    Args:
        method: any method with its settings; its result may be one network or a posterior.
        num_models: number of models, 5 as in Aboutalebi et al. 2020.
        over: "seeds": each model is trained on all the data; its initial weights, order of the data and other random choices
            are its own (with more models the first stay what they were). "disjoint_splits": each also has a part of the data
            to itself (Yang et al. 2020): a permutation that depends on nothing but the seed, cut into `num_models` runs of
            floor(n / num_models) points; the remainder is dropped. So the first of two splits contains the first of three,
            and the first two of four. Yang et al.'s repetitions of the splitting are other seeds of `fit`.
        members: "in_turn" trains one after the other in this process; "batched" all in one batch, for SGD and stacks of
            linear layers (`Ensemble.members`); "processes" several at the same time. None: batched where the networks are
            small (`Ensemble.members`); else in processes if there are two cores, the network is on the CPU, training is as
            long as `LONG` says, and the model can be pickled (torch's parametrizations cannot); else in turn, where torch's
            own threads share the cores. Training that is long for other reasons (long chains of small networks) gains from
            `fit(..., workers=2)`. What a script or notebook defines is sent to the processes as it is at that moment; what
            the script imports, they import.

    Raises:
        InputError: fewer than two models (they have no variance), or a method that is none.
        UnknownNameError: another word for `over` or `members`.

    Example:
        >>> models = br.inference.Replicates(br.inference.SGD(epochs=3), num_models=2).fit(net, ds, seed=0)
        >>> len(models)
        2
    """

    method: Inference
    num_models: int = 5
    over: Literal["seeds", "disjoint_splits"] = "seeds"
    members: Literal["in_turn", "batched", "processes"] | None = None

    def __post_init__(self) -> None:
        require(
            isinstance(self.method, Inference),
            f"method is {self.method!r}.",
            "It trains the models.",
            "Give a method with its settings, e.g. Replicates(SGD(epochs=20)).",
        )
        whole("num_models", self.num_models, "A variance needs two models.", least=2)
        check_name("over", self.over, ["disjoint_splits", "seeds"])
        if self.members is not None:
            check_name("members", self.members, ["batched", "in_turn", "processes"])

    @staticmethod
    def member_seed(seed: int, member: int) -> int:
        """The seed that model number `member`, from 0, is trained with."""
        return rng.derive(seed, "replicates", member)

    def split_index(self, seed: int, member: int, num_data: int) -> Tensor:
        """Numbers of the training points of model `member` under "disjoint_splits", int64 `[num_data // num_models]`."""
        size = num_data // self.num_models
        order = torch.randperm(num_data, generator=rng.generator(seed, "replicates", "splits"))
        return order[member * size : (member + 1) * size]

    def part(self, dataset: Dataset, seed: int, member: int) -> Dataset:
        """What model number `member` is trained on: `dataset` itself, or its split of it."""
        if self.over == "seeds":
            return dataset
        index = self.split_index(seed, member, len(dataset.x_train)).to(dataset.x_train.device)
        return dataclasses.replace(dataset, x_train=dataset.x_train[index], y_train=dataset.y_train[index])

    def fit(
        self,
        model: nn.Module,
        dataset: Dataset,
        seed: int = 0,
        folder: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        key: str | None = None,
    ) -> list[Predictive]:
        """Train the models; `predictive.from_predictives` makes one predictive of networks trained so.

        Args:
            model: see `Inference.fit`.
            dataset: see `Inference.fit`.
            seed: see `Inference.fit`.
            folder: where each model is saved when it is trained (batched: all at the end); `fit_once` uses the same
                places. A run that was interrupted trains only what is missing. None: nothing is saved.
            workers: number of processes at the same time, each with one thread of torch and a copy of the data. More than
                one asks for processes where `members` is None, one for none. None: as many as there are usable cores.
            key: see `fit_once`, for networks of your own with a folder.

        Returns:
            `num_models` Predictives, in order.

        Raises:
            InputError: as `method.fit`, before any work; fewer points than models; what cannot be batched or sent to
                processes, where these are asked for.
            CheckpointError: as `fit_once`.
            WorkerError: models failed in their processes, or a process died, which ends all of them; the models that were
                trained are in its `models`, and in `folder`. In turn an error ends the run.
        """
        likelihood = self.method._check(model, dataset)
        rng.derive(seed)
        whole("workers", workers, "It counts processes.", or_none=True)
        num_data, everyone = len(dataset.x_train), range(self.num_models)
        require(
            self.over == "seeds" or num_data >= self.num_models,
            f"{num_data} training points for {self.num_models} disjoint splits.",
            "Each needs a point.",
            "Give more points, or fewer models.",
        )
        places: dict[int, Path] = {}
        if folder is not None:
            parts, seeds = zip(*((self.part(dataset, seed, i), self.member_seed(seed, i)) for i in everyone), strict=True)
            places = {i: place_of(self.method, model, parts[i], folder, seeds[i], key=key) for i in everyone}
        models = {i: load_fit(place, model) for i, place in places.items() if place.exists()}

        def save(i: int, trained: Predictive) -> None:
            models[i] = trained
            if i in places:
                trained.save(places[i])

        if missing := [i for i in everyone if i not in models]:
            way, sent = self._way(model, likelihood, dataset, seed, workers)
            if way == "processes":
                models |= self._in_processes(model, sent, missing, workers, places=places, before=models)
            elif way == "batched":
                self._batched(model, likelihood, dataset, seed, missing, save=save)
            else:
                with progress.bar("Replicates", len(missing)) as advance:
                    for i in missing:
                        save(i, self._trained(model, dataset, seed, i))
                        advance(1, note=f"model {i + 1}")
        for i in everyone:
            for note in models[i].info.get("notes", []):
                warnings.warn(f"Model {i + 1} of {self.num_models}: {note}", ConvergenceWarning, stacklevel=2)
        return [models[i] for i in everyone]

    def _trained(self, model: nn.Module, dataset: Dataset, seed: int, member: int) -> Predictive:
        return self.method._trained(model, self.part(dataset, seed, member), self.member_seed(seed, member))

    def _way(
        self, model: nn.Module, likelihood: Likelihood, dataset: Dataset, seed: int, workers: int | None
    ) -> tuple[str, bytes]:
        """How models are trained, and what is sent to processes; the same whatever is missing, because bits depend on it."""
        net, part = network_of(model), self.part(dataset, seed, 0)
        asked = "processes" if self.members is None and workers is not None and workers > 1 else self.members
        if asked == "processes":
            return "processes", self._packed(model, dataset, seed)
        if asked != "in_turn" and are_batched(self.method, model, likelihood, part, asked):
            return "batched", b""
        parameter = next(net.parameters())
        with torch.no_grad():  # a copy, as batch statistics are of training mode and would move
            values = values_kept(copy.deepcopy(net).eval(), part.x_train[:1].to(parameter)) * len(part.x_train)
        if asked is None and workers is None and parameter.is_cpu and values >= LONG and _cores() > 1:
            with contextlib.suppress(InputError):  # cannot be sent
                return "processes", self._packed(model, dataset, seed)
        return "in_turn", b""

    def _packed(self, model: nn.Module, dataset: Dataset, seed: int) -> bytes:
        tensors = {name: value.clone() for name, value in vars(dataset).items() if isinstance(value, Tensor)}
        copied = dataclasses.replace(dataset, **tensors)  # a view of all images would bring them all
        train = functools.partial(self._trained, model, copied, seed)
        return packed(functools.partial(_train_and_save, train, numerics.asked()))

    def _batched(
        self,
        model: nn.Module,
        likelihood: Likelihood,
        dataset: Dataset,
        seed: int,
        missing: list[int],
        *,
        save: Callable[[int, Predictive], None],
    ) -> None:
        assert isinstance(self.method, SGD)
        net = network_of(model)
        start = time.perf_counter()
        with numerics.choose(net) as products:
            seeds, num_data = [self.member_seed(seed, i) for i in missing], len(dataset.x_train)
            splits = self.over == "disjoint_splits"
            index = torch.stack([self.split_index(seed, i, num_data) for i in missing]) if splits else None
            settings = {"seeds": seeds, "index": index, "title": "Replicates"}
            trained = self.method.train_several(model, likelihood, dataset, **settings)
        seconds = (time.perf_counter() - start) / len(missing)
        assert isinstance(trained.predictive, HeldDraws)
        for row, (i, run) in enumerate(zip(missing, trained.runs, strict=True)):
            own = {name: tensor[row : row + 1].clone() for name, tensor in trained.predictive.weights.items()}
            part = self.part(dataset, seed, i)
            post = HeldDraws(net, own, **self.method._common(likelihood, part))
            self.method._record(post, model, part, seeds[row], products)
            post.info.update(seconds=seconds, notes=run.notes("SGD"), trained="batched", **run.record())
            save(i, post)

    def _in_processes(
        self,
        model: nn.Module,
        sent: bytes,
        missing: list[int],
        workers: int | None,
        *,
        places: dict[int, Path],
        before: dict[int, Predictive],
    ) -> dict[int, Predictive]:
        """Train the models that are `missing`; failures are reported when all others have ended."""
        with tempfile.TemporaryDirectory() as folder, progress.bar("Replicates", len(missing)) as advance:
            where = {i: places.get(i, Path(folder) / str(i)) for i in missing}
            errors = run_in_processes(sent, where, _cores() if workers is None else workers, advance)
            trained = {i: load_fit(place, model) for i, place in where.items() if place.exists()}
        errors = {i: error for i, error in errors.items() if i not in trained}  # saved, and a neighbour's death came first
        if errors:
            models = [(before | trained).get(i) for i in range(self.num_models)]
            again = "Fit again with the same folder: it holds the others." if places else "Give a folder=, which keeps them."
            raise WorkerError(models, errors, again)
        return trained


def _train_and_save(train: Callable[[int], Predictive], route: str, member: int, place: Path) -> None:
    with numerics.route(route):
        train(member).save(place)


def _cores() -> int:
    """Processors that this process may use."""
    from loky import cpu_count

    return cpu_count()
