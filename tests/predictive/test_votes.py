"""Majority votes against counting."""

from __future__ import annotations

import weakref

import pytest
import torch

from bayesrob.errors import BayesrobError, InputError
from bayesrob.models import Normal
from bayesrob.predictive import HeldDraws, Preprocessed, majority
from bayesrob.predictive.votes import shares
from tests.nets.helpers import random_inputs
from tests.predictive.helpers import CLASSES, data, held, in_chunks_of, network
from tests.predictive.test_interface import CASES, KINDS, _own_random_state  # noqa: F401  (a fixture)


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_shares_are_counts_over_draws(monkeypatch, kind, name, chunk):
    post = KINDS[kind](name)
    x = random_inputs(40, *data(name)[0].shape[1:], seed=3) - 0.5
    counts = torch.zeros(len(x), CLASSES, dtype=torch.float64)
    for d in range(post.num_draws):
        outputs = post.logits(x, seed=6)[d].tolist()
        for point, row in enumerate(outputs):
            counts[point, row.index(max(row))] += 1
    in_chunks_of(monkeypatch, chunk)
    votes = post.vote(x, seed=6)
    assert torch.equal(votes, counts / post.num_draws)
    assert name != "mlp" or ((votes > 0) & (votes < 1)).any()  # draws disagree somewhere
    assert torch.equal(post.vote(x, num_draws=1, seed=6), torch.eye(CLASSES).double()[post.logits(x, 1, 6)[0].argmax(-1)])
    assert torch.equal(Preprocessed(post, lambda z: z).vote(x, seed=6), votes)


def opposed() -> tuple[HeldDraws, torch.Tensor]:
    """Two draws, one sure of class 3 and one that just prefers class 1."""
    net = network().double()
    weights = {name: torch.zeros(2, *parameter.shape).double() for name, parameter in net.named_parameters()}
    weights["3.bias"] = torch.tensor([[0.0, 0.0, 0.0, 9.0], [0.0, 0.1, 0.0, 0.0]]).double()
    return HeldDraws(net, weights), data()[0]


def test_ties():
    post, x = opposed()
    votes = post.vote(x)
    assert torch.equal(votes, torch.tensor([0, 0.5, 0, 0.5]).double().expand(len(x), -1))
    assert (votes.argmax(-1) == 1).all()
    assert (majority(votes) == 1).all()
    assert (majority(votes, post(x)) == 3).all()


def test_nan_does_not_vote():
    post, x = opposed()
    post.weights["3.bias"][1] = torch.nan
    with pytest.raises(BayesrobError, match="The outputs of 1 draws hold NaN"):
        post.vote(x)
    with pytest.raises(InputError, match="votes holds NaN"):
        majority(torch.full((2, 3), torch.nan))


def test_a_probable_class_without_votes_does_not_win():
    votes = torch.tensor([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0]])
    assert majority(votes, torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]]).log()).tolist() == [0, 1]


def test_one_chunk_is_kept_at_a_time():
    alive: list[weakref.ref[torch.Tensor]] = []

    class Chunk:
        num_draws = 2

        def __call__(self, x, per_draw=False):
            outputs = torch.rand(2, len(x), 3)
            assert sum(reference() is not None for reference in alive) <= 1
            alive.append(weakref.ref(outputs))
            return outputs

    votes = shares((Chunk() for _ in range(20)), torch.zeros(5, 1))  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(votes.sum(-1), torch.ones(5))
    assert len(alive) == 20


def test_votes_have_no_gradient_and_may_be_none():
    post, x = opposed()
    assert not post.vote(x.requires_grad_()).requires_grad
    assert post.vote(x[:0]).shape == (0, CLASSES)


def test_regression_has_no_classes():
    post = held(likelihood=Normal(0.7))
    with pytest.raises(InputError, match="A vote with a normal likelihood"):
        post.vote(data()[0])
