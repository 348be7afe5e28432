"""The training loop."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from bayesrob.inference.training import Learner, Optimizer, Points, Schedule, train
from bayesrob.inference.training.loop import RECORDS
from bayesrob.inference.training.schedule import num_epochs


class Recorder(torch.optim.SGD):
    """Plain gradient descent that writes down the learning rate of every step."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.rates = []

    def step(self, closure=None):
        self.rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


@dataclasses.dataclass(frozen=True)
class Recorded(Optimizer):
    """The optimizer that it makes is in `made`."""

    made: list = dataclasses.field(default_factory=list)

    def make(self, parameters):
        self.made.append(Recorder(parameters, lr=self.lr))
        return self.made[0]


class OneWeight(Learner):
    """One weight, whose loss is any function; `seen` has the first feature of every minibatch's points."""

    def __init__(self, loss=None):
        self.w = torch.zeros(1, requires_grad=True)
        self.parameters, self.statistics, self.seen = [self.w], [], []
        self._loss = (lambda x, y: (self.w - y).square().mean()) if loss is None else loss(self.w)

    def loss_at(self, x, y):
        self.seen.append(x[:, 0].tolist())
        return self._loss(x, y)

    def predictive(self):
        return None

    def live(self):
        return None


X = torch.arange(10.0)[:, None]


def run(loss=None, epochs=5, *, batch_size=4, decay=True, lr=0.1, seed=0):
    learner, optimizer = OneWeight(loss), Recorded(lr)
    schedule = Schedule(epochs, batch_size, optimizer, decay, stream="")
    result = train(learner, schedule, Points(X, 2 * X), seed=seed).runs[0]
    return learner.w.detach(), optimizer.made[0].rates, learner.seen, result


def test_rate_follows_half_a_cosine_to_zero():
    _, rates, _, result = run(epochs=50)
    steps = 50 * 3
    assert result.steps == len(rates) == steps
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)])
    assert rates[0] == 0.1
    assert rates[-1] < 1e-4


def test_rate_is_constant_without_decay():
    assert set(run(decay=False)[1]) == {0.1}


def test_every_epoch_sees_every_point_once_in_new_order():
    _, _, seen, _ = run(epochs=3)
    assert [len(batch) for batch in seen] == [4, 3, 3] * 3  # even: each loss is a mean over its batch
    epochs = [list(itertools.chain(*seen[i : i + 3])) for i in (0, 3, 6)]
    assert all(sorted(epoch) == X[:, 0].tolist() for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]


def test_a_batch_of_everything_keeps_the_order():
    _, _, seen, result = run(epochs=2, batch_size=10)
    assert seen == [X[:, 0].tolist()] * 2
    assert result.steps == 2


def test_gradient_descent_by_hand():
    """w <- w - lr * 2 (w - mean y), mean y = 9, two full-batch steps at lr 0.1."""
    w, _, _, _ = run(epochs=2, batch_size=10, decay=False)
    assert float(w) == pytest.approx(1.8 + 0.2 * (9 - 1.8))


def test_losses_are_means_of_stretches():
    _, _, _, result = run(epochs=20 * RECORDS, decay=False, lr=1e-9)
    assert RECORDS <= len(result.losses) <= RECORDS + 2
    # At w = 0 the mean of (2 x)^2 over 0 ... 9 is 114; a stretch is over many whole epochs.
    assert result.losses == pytest.approx([114.0] * len(result.losses), rel=0.15)


def test_a_loss_that_is_not_finite_ends_the_run_at_weights_whose_loss_was():
    """Weights -1.0 are finite but have a NaN loss (the eleventh); the ones before them are kept."""

    def loss(w):
        return lambda x, y: w.sum() * (math.nan if w.item() < -0.95 else 1.0)

    w, rates, _, result = run(loss, epochs=10, decay=False)
    assert result.failed_at == len(rates) == 11
    assert float(w) == pytest.approx(-0.9)
    assert len(result.losses) == 10
    assert "step 11 of 30" in result.notes("SGD")[0]


@pytest.mark.parametrize("after", [99, 100, 101, 105, 250])
def test_a_longer_run_ends_at_weights_of_at_most_twenty_steps_before(after):
    """Of 300 steps; each takes 0.1 from the weight. The loss is NaN after `after` of them."""

    def loss(w):
        return lambda x, y: w.sum() * (math.nan if w.item() < -0.1 * after + 0.05 else 1.0)

    w, _, _, result = run(loss, epochs=100, decay=False)
    assert result.failed_at == after + 1
    assert len(result.losses) == after
    assert after - 20 <= round(-10 * float(w)) < after


def test_a_loss_that_is_never_finite_keeps_the_start():
    w, _, _, result = run(lambda w: lambda x, y: w.sum() * math.nan, epochs=10)
    assert result.failed_at == 1
    assert float(w) == 0.0


def test_weights_that_are_not_finite_end_the_run_even_if_the_loss_is():
    """The square root has an infinite derivative at zero: a finite loss, and a step to infinity."""
    w, _, _, result = run(lambda w: lambda x, y: (w + 1).sum() if w.item() > -0.25 else (w - w.detach()).sqrt().sum())
    assert result.failed_at == 4
    assert -0.3 < float(w) < 0


def test_a_good_run_has_no_notes():
    result = run()[3]
    assert result.failed_at is None
    assert result.notes("SGD") == []


@pytest.mark.parametrize(
    ("num_data", "batch_size", "least", "min_steps", "expected"),
    [(100, 128, 10, 2000, 2000), (1000, 128, 10, 2000, 250), (60_000, 128, 10, 2000, 10), (257, 256, 20, 4000, 2000)],
)
def test_default_epochs_give_enough_steps(num_data, batch_size, least, min_steps, expected):
    assert num_epochs(None, num_data, batch_size, least=least, min_steps=min_steps) == expected
    assert num_epochs(7, num_data, batch_size, least=least, min_steps=min_steps) == 7
