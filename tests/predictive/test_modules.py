from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import bayesrob
from bayesrob import nets, rng
from bayesrob.errors import CheckpointError, InputError, ModelWarning
from bayesrob.predictive import OBJECTIVES, HeldDraws, from_modules
from bayesrob.predictive.modules import ModuleDraws
from tests.predictive.helpers import CLASSES, data, defined


def ensemble() -> list[nn.Module]:
    return [nets.mlp(6, (5,), CLASSES, activation="tanh", seed=seed).double().eval() for seed in range(3)]


def mixture() -> list[nn.Module]:
    with rng.global_seed(0):
        flat = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, CLASSES)).double().eval()
    return [*ensemble()[:2], flat]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("make", "kind"), [(ensemble, HeldDraws), (mixture, ModuleDraws)])
def test_wrapped_networks_are_themselves(make, kind, objective):
    networks = make()
    post = from_modules(networks)
    assert type(post) is kind
    x, y = data()
    torch.testing.assert_close(post.logits(x), torch.stack([net(x) for net in networks]).detach(), rtol=1e-12, atol=1e-13)
    z = x.clone().requires_grad_()
    values = defined(objective, [net(z) for net in networks], y, post.likelihood)
    (expected,) = torch.autograd.grad(values.sum(), z)
    torch.testing.assert_close(post.input_gradient(x, y, objective), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", ["expected_loss", "predictive_loss"])
def test_batched_path_equals_the_loop(objective):
    x, y = data()
    batched, loop = from_modules(ensemble()), ModuleDraws(ensemble())
    torch.testing.assert_close(batched(x), loop(x), rtol=1e-12, atol=1e-13)
    for one, other in zip(
        batched.input_gradient(x, y, objective, standard_error=True),
        loop.input_gradient(x, y, objective, standard_error=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_same_shapes_but_another_function_are_not_batched():
    """Their parameters fit each other; their activations differ."""
    networks = [nets.mlp(6, (5,), CLASSES, activation=name).double().eval() for name in ("tanh", "relu")]
    x, _ = data()
    torch.testing.assert_close(from_modules(networks).logits(x), torch.stack([net(x) for net in networks]).detach())


def test_one_activation_layer_in_two_places():
    act = nn.Tanh()
    net = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 2)).eval()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(from_modules([net]).logits(x)[0], net(x).detach())


def test_a_single_module_needs_no_list():
    net = ensemble()[0]
    x, _ = data()
    torch.testing.assert_close(from_modules(net)(x), net(x).log_softmax(-1).detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("index", [0, 2, -1, slice(2), slice(1, None), slice(None, None, -1)])
def test_parts_of_a_mixture(index):
    post = from_modules(mixture())
    x, _ = data()
    picked = mixture()[index]
    expected = [net(x) for net in (picked if isinstance(picked, list) else [picked])]
    torch.testing.assert_close(post[index].logits(x), torch.stack(expected).detach())


def test_an_empty_part_or_an_index_out_of_range():
    with pytest.raises(InputError, match="empty"):
        from_modules(mixture())[3:]
    with pytest.raises(IndexError):
        from_modules(mixture())[3]


@pytest.mark.parametrize("make", [ensemble, mixture])
def test_modules_are_copied(make):
    networks = make()
    post = from_modules(networks)
    x, _ = data()
    before = post(x)
    with torch.no_grad():
        for net in networks:
            for parameter in net.parameters():
                parameter.zero_()
    assert torch.equal(post(x), before)
    assert all(parameter.requires_grad for net in networks for parameter in net.parameters())


def test_dropout_is_switched_off_with_a_warning():
    net = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.5), nn.Linear(50, CLASSES))
    with pytest.warns(ModelWarning, match="training mode"):
        post = from_modules([net])
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(post(x), post(x))
    assert net.training
    torch.testing.assert_close(post.logits(x)[0], net.eval()(x).detach())


@pytest.mark.parametrize("last", [nn.Softmax(-1), nn.LogSoftmax(-1), nn.Sequential(nn.Identity(), nn.Softmax(-1))])
def test_a_last_softmax_is_warned_about(last):
    net = nn.Sequential(nn.Linear(6, CLASSES), last).eval()
    with pytest.warns(ModelWarning, match="last layer is a softmax"):
        post = from_modules([net])
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(post.logits(x)[0], net(x).detach())


def test_a_softmax_inside_is_no_reason_to_warn():
    net = nn.Sequential(nn.Linear(6, 5), nn.Softmax(-1), nn.Linear(5, CLASSES)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_modules([net])


def test_a_mixture_cannot_be_saved(tmp_path):
    with pytest.raises(CheckpointError, match="state_dicts"):
        from_modules(mixture()).save(tmp_path / "post")
    assert not (tmp_path / "post").exists()


def test_an_ensemble_of_our_networks_can(tmp_path):
    post = from_modules(ensemble(), bounds=(0, 1))
    post.save(tmp_path / "post")
    x, _ = data()
    assert torch.equal(bayesrob.load(tmp_path / "post").logits(x), post.logits(x))


@pytest.mark.parametrize("networks", [[], [nets.mlp], ["net"], [nets.mlp(2, (), 2), None]])
def test_only_modules_can_be_wrapped(networks):
    with pytest.raises(InputError, match="wraps networks"):
        from_modules(networks)


def test_outputs_of_a_foreign_network_are_checked_when_told():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES)).double().eval()
    x, _ = data()
    y = torch.tensor([0, 1, 2, 3, CLASSES])
    with pytest.raises(InputError, match="from 0 to 4"):
        from_modules([net], num_classes=CLASSES).input_gradient(x, y)
