"""The one training loop: minibatches, a decaying learning rate, and the last good weights if a loss blows up."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bayesrob import progress, rng
from bayesrob.inference.training.batches import Batches, Points
from bayesrob.inference.training.good_weights import GoodWeights, Row
from bayesrob.inference.training.learner import Learner
from bayesrob.inference.training.schedule import Schedule
from bayesrob.predictive import Predictive

__all__ = ["RECORDS", "Loop", "Run", "Trained", "Watch", "train"]

RECORDS = 200
"""Number of losses that are recorded of a run."""

Watch = Callable[[int, Predictive], Any]
"""Called after every epoch with the number of epochs done and the Predictive that training would end with now."""


@dataclasses.dataclass(frozen=True)
class Run:
    """How the training of one network went.

    Args:
        losses: mean loss of each stretch of steps.
        steps: number of steps that the schedule has.
        failed_at: the step after which the loss or the weights were found not to be finite; None: they always were.
    """

    losses: list[float]
    steps: int
    failed_at: int | None

    def notes(self, method: str, advice: str = Learner.advice) -> list[str]:
        """What the user must be warned about."""
        if self.failed_at is None:
            return []
        return [
            f"{method}: the loss became NaN or infinite at step {self.failed_at} of {self.steps}; the last finite "
            f"weights were kept. {advice}"
        ]

    def record(self) -> dict[str, Any]:
        """What the fit's `info` says of the run."""
        return {"losses": self.losses, "steps": self.steps}


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of training.

    Args:
        predictive: what was trained.
        runs: how it went, one entry for each network that was trained.
    """

    predictive: Predictive
    runs: list[Run]


def train(
    learner: Learner,
    schedule: Schedule,
    points: Points,
    *,
    seed: int | Sequence[int],
    watch: Watch | None = None,
    title: str = "Training",
) -> Trained:
    """Minimise the learner's loss over its parameters.

    A loss that is not finite ends the run at recent weights whose loss was finite. Where several networks are trained at
    once, the other networks go on.

    Args:
        learner: what is trained; its parameters change in place.
        schedule: how long, in which steps, and by which optimizer.
        points: the data.
        seed: fixes the order of the data and what layers draw; one seed for each network if the loss is `[network]`.
        watch: called after every epoch as `watch(epochs_done, predictive)`. What it draws from torch's global generator does
            not change the run.
        title: name for the progress bar.
    """
    loop = Loop(learner, schedule, points, seed=seed)
    with progress.bar(title, loop.steps) as advance:
        loop.run(watch=watch, advance=advance)
    return loop.trained()


class Loop:
    """A run of training that can pause between steps and be continued, in this process or another.

    `state` has everything that the steps to come depend on. A new loop with the same learner, schedule, data and seed that
    is given it by `restore` goes on with the same bits.

    Args:
        learner: see `train`.
        schedule: see `train`.
        points: see `train`.
        seed: see `train`.
    """

    def __init__(self, learner: Learner, schedule: Schedule, points: Points, *, seed: int | Sequence[int]):
        seeds = list(seed) if isinstance(seed, Sequence) else [seed]
        several = isinstance(seed, Sequence)
        self.learner, self.schedule = learner, schedule
        self.optimizer = schedule.optimizer.make(learner.parameters)
        generators = [rng.generator(one, schedule.stream) for one in seeds]
        self.batches = Batches(points, schedule.batch_size, learner.split, generators=generators, several=several)
        self.steps = schedule.epochs * self.batches.num_batches
        self.step = self.epoch = 0
        self.losses: list[list[float]] = [[] for _ in seeds]
        self.failed_at: list[int | None] = [None for _ in seeds]
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._every = max(1, self.steps // RECORDS)
        # Copies of one network's weights may take as long as the steps of a short run.
        self._copy_every = self._every * (1 if several else max(1, min(10, self.steps // 20) // self._every))
        self._rows: list[Row] = list(range(len(seeds))) if several else [...]
        self._good = GoodWeights([*learner.parameters, *learner.statistics])
        self._recent: list[Tensor] = []
        self._left: Iterator[Any] | None = None  # minibatches of an epoch that has begun
        self._layers_seed = rng.derive(seeds[0], schedule.stream, "layers")
        self._layers: Tensor | None = None  # state of torch's global generator, from which layers such as dropout draw

    @property
    def done(self) -> bool:
        """Whether all steps were taken, or no network is left whose loss is finite."""
        return self.epoch == self.schedule.epochs or None not in self.failed_at

    def run(
        self, *, until: int | None = None, watch: Watch | None = None, advance: Callable[..., None] | None = None
    ) -> None:
        """Take steps.

        Args:
            until: pause when so many steps were taken in all; None: go on to the end.
            watch: see `train`.
            advance: called as `advance(steps, note=...)` for the progress bar.
        """
        pause = -1 if until is None or until >= self.steps else until
        with self._layers_draw_from_here(), torch.enable_grad():
            while not self.done and self.step != pause:
                if self._left is None:
                    self._left = self.batches.epoch()
                self._take(self._left, pause, advance)
                if self.step == pause or None not in self.failed_at:
                    break
                self._left = None
                self.epoch += 1
                self.learner.end_epoch()
                if watch is not None:
                    with torch.random.fork_rng(devices=[]):
                        watch(self.epoch, self.learner.predictive())
        if self.done:
            self._good.give_back(self._failed())

    def _take(self, batches: Iterator[Any], pause: int, advance: Callable[..., None] | None) -> None:
        """Take a step for each of `batches`, until the pause or until no network's loss is finite."""
        learner, optimizer, recent = self.learner, self.optimizer, self._recent
        decay, steps, every = self.schedule.decay, self.steps, self._every
        step = self.step
        for batch in batches:
            if decay:
                part = 0.5 * (1 + math.cos(math.pi * (step / steps)))
                for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
                    group["lr"] = rate * part
            optimizer.zero_grad(set_to_none=True)
            value = learner.loss(batch)
            if value.requires_grad:
                value.backward()
            learner.before_step()
            optimizer.step()
            recent.append(value.detach())
            self.step = step = step + 1
            if step % every == 0 or step == steps:
                self._judge(advance)
                if None not in self.failed_at:
                    return
            if step == pause:
                return

    def _judge(self, advance: Callable[..., None] | None) -> None:
        """Record the mean of the last losses; tell networks that have failed from those whose weights may be trusted."""
        mean = torch.stack(self._recent).mean(0)
        self._recent.clear()
        means = mean.tolist() if mean.ndim else [float(mean)]
        copying = self.step % self._copy_every == 0 or self.step == self.steps
        # A step may also carry finite losses into weights that are not.
        finite = self._good.are_finite(self._rows) if copying else [True] * len(means)
        going = []
        for network, value in enumerate(means):
            if self.failed_at[network] is not None:
                continue
            if math.isfinite(value) and finite[network]:
                self.losses[network].append(value)
                going.append(value)
            else:
                self.failed_at[network] = self.step
                self._good.stop(self._rows[network])
        if not going:
            return
        if copying:
            self._good.keep(self._failed())
        if advance is not None:
            advance(self._every, note=f"loss {sum(going) / len(going):.4f}")

    def _failed(self) -> list[Row]:
        return [row for row, failed in zip(self._rows, self.failed_at, strict=True) if failed is not None]

    def trained(self) -> Trained:
        """What training has led to so far."""
        runs = [Run(losses, self.steps, failed) for losses, failed in zip(self.losses, self.failed_at, strict=True)]
        return Trained(self.learner.predictive(), runs)

    # ---- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """A copy of everything that the steps to come depend on: tensors, numbers, None, and containers of them."""
        learner = self.learner
        return copy.deepcopy(
            {
                "step": self.step,
                "epoch": self.epoch,
                "losses": self.losses,
                "recent": [value.detach() for value in self._recent],
                "failed_at": self.failed_at,
                "parameters": [one.detach() for one in learner.parameters],
                "statistics": learner.statistics,
                "counters": list(learner.counters),
                "trusted": self._good.trusted,
                "newest": self._good.newest,
                "optimizer": self.optimizer.state_dict()["state"],
                "order": self.batches.order if self._left is not None else None,
                "generators": [generator.get_state() for generator in self.batches.generators],
                "layers": self._layers,
                "learner": learner.state(),
            }
        )

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which a loop with the same arguments returned."""
        state = copy.deepcopy(state)
        self.step, self.epoch = state["step"], state["epoch"]
        self.losses, self.failed_at, self._recent = state["losses"], state["failed_at"], state["recent"]
        for name in ("parameters", "statistics", "counters"):
            for tensor, saved in zip(getattr(self.learner, name), state[name], strict=True):
                tensor.copy_(saved)
        self._good.trusted, self._good.newest = state["trusted"], state["newest"]
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": settings})
        for generator, saved in zip(self.batches.generators, state["generators"], strict=True):
            generator.set_state(saved)
        self._layers = state["layers"]
        self.learner.restore(state["learner"])
        taken = self.step - self.epoch * self.batches.num_batches
        self._left = self.batches.rest(taken, state["order"]) if taken else None

    @contextlib.contextmanager
    def _layers_draw_from_here(self) -> Iterator[None]:
        """Torch's global generator goes on where the loop left it, and is given back as it was."""
        with torch.random.fork_rng(devices=[]):
            if self._layers is None:
                torch.manual_seed(self._layers_seed)
            else:
                torch.set_rng_state(self._layers)
            yield
            self._layers = torch.get_rng_state()
