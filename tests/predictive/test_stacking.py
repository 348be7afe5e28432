"""Trained networks as the draws of one predictive: each draw is its network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bayesrob import nets
from bayesrob.errors import InputError
from bayesrob.models import Normal
from bayesrob.predictive import GaussianDraws, HeldDraws, from_modules, from_predictives

X = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 1, 0, 1])


def normalised(seed: int) -> nn.Module:
    """With batch statistics, of which no two are the same."""
    net = nets.mlp(2, (3,), 2, seed=seed)
    return nn.Sequential(net, nn.BatchNorm1d(2))


def single(seed: int, net: nn.Module | None = None, **common) -> HeldDraws:
    net = nets.mlp(2, (3,), 2, seed=seed) if net is None else net
    weights = {name: parameter.detach()[None].clone() for name, parameter in net.named_parameters()}
    return HeldDraws(net, weights, **{"bounds": (0, 1), "input_shape": (2,), "info": {"seed": seed}, **common})


def test_each_draw_is_its_model():
    models = [single(seed) for seed in range(3)]
    post = from_predictives(models)
    assert post.num_draws == 3
    assert (post.bounds, post.input_shape, post.out_features) == ((0.0, 1.0), (2,), 2)
    assert post.info == {"method": "predictives", "members": [{"seed": seed} for seed in range(3)]}
    torch.testing.assert_close(post.logits(X), torch.cat([model.logits(X) for model in models]))
    torch.testing.assert_close(
        post.input_gradient(X, Y), torch.stack([model.input_gradient(X, Y) for model in models]).mean(0)
    )
    again = from_predictives([post[i] for i in range(3)])
    assert torch.equal(again.logits(X), post.logits(X))


def test_batch_statistics_go_with_their_model():
    models = []
    for seed in range(3):
        net = normalised(seed)
        net[1].running_mean.fill_(float(seed))
        models.append(single(seed, net))
    post = from_predictives(models)
    assert post.weights.keys() - models[0].weights.keys() == {"1.running_mean"}  # the others are the same
    for model, logits in zip(models, post.logits(X), strict=True):
        assert torch.equal(logits, model.logits(X)[0])
    # Draws that bring their statistics and models that have them in the network may be mixed.
    mixed = from_predictives([post[2], models[0], post[1]])
    assert torch.equal(mixed.logits(X), post.logits(X)[[2, 0, 1]])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (lambda: single(1).double(), "dtypes"),
        (lambda: single(1, likelihood=Normal()), "likelihood"),
        (lambda: single(1, bounds=None), "bounds"),
        (lambda: single(1, input_shape=None), "shape of their inputs"),
    ],
)
def test_models_must_agree(other, what):
    with pytest.raises(InputError, match=f"Models 1 and 3 differ in .*{what}"):
        from_predictives([single(0), single(1), other()])


def test_predictives_of_many_draws_or_other_networks_are_draws_by_their_averages():
    net = nets.mlp(2, (3,), 2)
    loc = {name: parameter.detach() for name, parameter in net.named_parameters()}
    fresh = GaussianDraws(
        net, loc, {name: torch.ones_like(tensor) for name, tensor in loc.items()}, bounds=(0, 1), input_shape=(2,)
    )
    two, wide = from_predictives([single(0), single(1)]), single(0, nets.mlp(2, (4,), 2))
    post = from_predictives([two, fresh, wide])
    assert (post.num_draws, post.bounds, post.input_shape, post.out_features) == (3, (0.0, 1.0), (2,), 2)
    expected = torch.stack([two(X), fresh.freeze(seed=1)(X), wide(X)])
    torch.testing.assert_close(post.logits(X).log_softmax(-1), expected, rtol=1e-5, atol=1e-6)
    others = from_predictives([two, fresh, single(3, nets.mlp(2, (4,), 2, seed=5))])
    assert post.settings() != others.settings()
    assert from_predictives([two.freeze(1), fresh.freeze(1)]).num_draws == 2


def test_only_predictives():
    net = nets.mlp(2, (3,), 2).eval()
    for bad in ([], single(0), [net], [single(0), net], None):
        with pytest.raises(InputError, match=r"from_predictives got.*from_modules"):
            from_predictives(bad)
    with pytest.raises(InputError, match="from_predictives"):
        from_modules([net, single(0)])
