from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

import bayesrob
from bayesrob import nets
from bayesrob.data import from_arrays
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.inference import SGD, SVI
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws
from tests.nets.helpers import random_inputs

MAKERS = {"resnet18": nets.resnet18, "resnet34": nets.resnet34, "resnet50": nets.resnet50}


def size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def images(n: int, side: int = 32, channels: int = 3) -> torch.Tensor:
    return random_inputs(n, channels, side, side, dtype=torch.float32)


def few_images(n: int = 6, side: int = 8):
    x = images(n, side).numpy()
    y = torch.arange(n).remainder(3).numpy()
    return from_arrays(x, y, x, y, bounds=(0, 1), num_classes=3)


def used(net: nn.Module, seed: int = 0) -> nn.Module:
    """With running statistics that training might have left."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.randn(module.num_features, generator=generator)
            module.running_var *= 0.5 + torch.rand(module.num_features, generator=generator)
    return net.eval()


@pytest.mark.parametrize("name", MAKERS)
def test_with_the_imagenet_stem_it_is_torchvisions(name):
    theirs = used(getattr(torchvision.models, name)(num_classes=10))
    ours = MAKERS[name](10, stem="imagenet").eval()
    ours.load_state_dict(theirs.state_dict())
    x = images(2, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("name", "published"), [("resnet18", 11_173_962), ("resnet34", 21_282_122), ("resnet50", 23_520_842)]
)
def test_number_of_parameters_of_the_cifar_networks(name, published):
    net = MAKERS[name](10)
    assert size(net) == published
    assert size(MAKERS[name](10, norm="group")) == published


def test_number_of_parameters_of_the_imagenet_network():
    """torchvision's record of ResNet-18; the first layer has 49 weights for every channel."""
    assert size(nets.resnet18(1000, stem="imagenet")) == 11_689_512
    assert size(nets.resnet18(1000, stem="imagenet")) - size(nets.resnet18(1000, 1, stem="imagenet")) == 64 * 2 * 49


@pytest.mark.parametrize(("stem", "side"), [("cifar", 4), ("imagenet", 1)])
def test_sides_before_the_average(stem, side):
    net = nets.resnet18(10, in_channels=1, stem=stem).eval()
    shapes = []
    net.avgpool.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        assert net(images(2, channels=1)).shape == (2, 10)
    assert shapes == [(2, 512, side, side)]


def test_seed_fixes_the_weights_and_nothing_else():
    before = torch.get_rng_state()
    first = nets.resnet18(3, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = nets.resnet18(3, seed=5), nets.resnet18(3, seed=6)
    assert all(torch.equal(one, same) for one, same in zip(first.parameters(), again.parameters(), strict=True))
    drawn = [
        (one, different)
        for one, different in zip(first.parameters(), other.parameters(), strict=True)
        if one.ndim > 1  # normalisation starts at ones and zeros
    ]
    assert not any(torch.equal(one, different) for one, different in drawn)
    # by fan out: 64 filters of 3x3
    assert float(first.conv1.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"out_features": 0}, InputError, "out_features is 0"),
        ({"in_channels": 0}, InputError, "in_channels is 0"),
        ({"stem": "cifar10"}, UnknownNameError, "Did you mean 'cifar'"),
        ({"norm": "groups"}, UnknownNameError, "Did you mean 'group'"),
    ],
)
@pytest.mark.parametrize("make", [nets.resnet18, nets.mobilenet_v2])
def test_bad_arguments(make, arguments, error, message):
    with pytest.raises(error, match=message):
        make(**{"out_features": 10, **arguments})


def test_torchvision_is_imported_only_when_needed():
    code = "import sys, bayesrob.nets; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- normalisation -------------------------------------------------------------------------------------------------------


def test_draws_with_running_statistics_of_their_own():
    modules = [used(nets.resnet18(3, seed=seed), seed) for seed in (0, 1)]
    weights = {name: torch.stack([m.state_dict()[name] for m in modules]) for name in modules[0].state_dict()}
    x = images(2, 8)
    with torch.no_grad():
        logits = HeldDraws(modules[0], weights).logits(x)
        torch.testing.assert_close(logits, torch.stack([module(x) for module in modules]), rtol=1e-5, atol=1e-6)


def test_input_gradient():
    module = used(nets.resnet18(3))
    post = HeldDraws(module, {name: parameter[None] for name, parameter in module.named_parameters()})
    x, y = images(2, 8), torch.tensor([0, 2])
    leaf = x.clone().requires_grad_()
    nn.functional.cross_entropy(module(leaf), y, reduction="sum").backward()
    torch.testing.assert_close(post.input_gradient(x, y), leaf.grad, rtol=1e-4, atol=1e-6)


def test_group_normalisation_treats_every_image_alone():
    with pytest.raises(InputError, match="batch normalisation"):
        BayesianNetwork(nets.resnet18(3))
    net = nets.resnet18(3, norm="group")
    groups = [module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert groups == [32] * 20
    x = images(3, 8)
    with torch.no_grad():
        torch.testing.assert_close(net.train()(x)[:1], net(x[:1]), rtol=1e-5, atol=1e-6)
    post = SVI(epochs=1, num_draws=1).fit(BayesianNetwork(net, prior_scale="fan_in"), few_images())
    assert post.logits(x).isfinite().all()


def test_running_statistics_are_trained_and_saved(tmp_path):
    dataset = few_images()
    net = nets.resnet18(3)
    post = SGD(epochs=1, lr=1e-10, batch_size=6, decay=False).fit(net, dataset)
    # One step from means of zero and variances of one, a tenth of the way to the batch's.
    start = nets.initialise(net, 0, "sgd")
    with torch.no_grad():
        first = start.conv1(dataset.x_train)
    buffers = dict(post.net.named_buffers())
    torch.testing.assert_close(buffers["bn1.running_mean"], 0.1 * first.mean((0, 2, 3)), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(buffers["bn1.running_var"], 0.9 + 0.1 * first.var((0, 2, 3)), rtol=1e-3, atol=1e-6)
    assert buffers["bn1.num_batches_tracked"] == 1
    post.save(tmp_path / "post")
    again = bayesrob.load(tmp_path / "post")
    assert torch.equal(again.logits(dataset.x_test), post.logits(dataset.x_test))
    for name, buffer in again.net.named_buffers():
        assert torch.equal(buffer, buffers[name])


@pytest.mark.parametrize(("name", "width"), [("resnet18", 16), ("resnet34", 8), ("resnet50", 16)])
def test_a_narrow_network_has_as_much_less_as_the_published_formula_says(name, width):
    """Every convolution but the first loses the square of the factor, normalisations and the last layer's weights once."""
    full, narrow = MAKERS[name](10), MAKERS[name](10, width=width)
    factor, expected = width / 64, 0
    for key, parameter in full.named_parameters():
        inner = key.startswith("layer") and parameter.ndim == 4
        times = factor**2 if inner else 1 if key == "fc.bias" else factor
        expected += round(parameter.numel() * times)
    assert size(narrow) == expected
    assert narrow(images(2)).shape == (2, 10)


def test_as_wide_as_published_is_the_published_network():
    from bayesrob.nets import resnet

    wide, narrow = nets.resnet18(10, seed=1), nets.resnet18(10, width=128)
    assert [p.shape[0] for p in narrow.parameters()][:3] == [128, 128, 128]
    again = nets.resnet18(10, seed=1, width=64)
    assert all(torch.equal(a, b) for a, b in zip(wide.parameters(), again.parameters(), strict=True))
    assert wide.conv1.out_channels == resnet.PUBLISHED


@pytest.mark.parametrize("width", [0, -4, 2.5, True])
def test_a_width_that_is_none(width):
    with pytest.raises(InputError, match="width"):
        nets.resnet18(3, width=width)


def test_group_normalisation_of_a_narrow_network_divides():
    net = nets.resnet18(3, norm="group", width=12)
    groups = {module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {4}
    assert net(images(2)).shape == (2, 3)
