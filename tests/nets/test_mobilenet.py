from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import bayesrob
from bayesrob import nets
from bayesrob.errors import InputError
from bayesrob.inference import SGD, SVI
from bayesrob.models import BayesianNetwork
from bayesrob.predictive import HeldDraws
from tests.nets.test_resnet import few_images, images, size, used

STAGES = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
"""Expansion, channels and blocks (Sandler et al. 2018, table 2)."""


def counted(classes: int) -> int:
    """Weights by the paper's table: two values of normalisation for every channel, a bias in the last layer only."""
    total, channels = 3 * 32 * 9 + 2 * 32, 32
    for expansion, out, blocks in STAGES:
        for _ in range(blocks):
            wide = expansion * channels
            total += (channels * wide + 2 * wide if expansion > 1 else 0) + wide * 9 + 2 * wide + wide * out + 2 * out
            channels = out
    return total + channels * 1280 + 2 * 1280 + 1281 * classes


def test_with_the_imagenet_stem_it_is_torchvisions():
    theirs = used(torchvision.models.mobilenet_v2(num_classes=10))
    ours = nets.mobilenet_v2(10, stem="imagenet").eval()
    ours.load_state_dict(theirs.state_dict())
    x = images(2, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_number_of_parameters():
    assert counted(1000) == 3_504_872  # torchvision's record
    assert counted(10) == 2_236_682
    for stem in ("cifar", "imagenet"):
        for norm in ("batch", "group"):
            assert size(nets.mobilenet_v2(10, stem=stem, norm=norm)) == counted(10)


def test_the_wider_copy_of_kuangliu_counts_more():
    """It adds a 1x1 convolution and its normalisation beside blocks of stride 1 that change the width, and to block one."""
    beside = sum(wide * out + 2 * out for wide, out in [(32, 16), (16, 24), (64, 96), (160, 320)])
    assert counted(10) + beside + 32 * 32 + 2 * 32 == 2_296_922


@pytest.mark.parametrize(
    ("stem", "sides"), [("cifar", [32, 32, 32, 16, 8, 8, 4, 4]), ("imagenet", [16, 16, 8, 4, 2, 2, 1, 1])]
)
def test_sides(stem, sides):
    """After the first convolution, and after each stage."""
    x = images(1, channels=1)
    net = nets.mobilenet_v2(10, in_channels=1, stem=stem).eval()
    ends = [0, 1, 3, 6, 10, 13, 16, 17]
    found = []
    with torch.no_grad():
        for i, block in enumerate(net.features):
            x = block(x)
            if i in ends:
                found.append(x.shape[-1])
    assert found == sides
    assert x.shape[1:] == (1280, sides[-1], sides[-1])


def test_seed_fixes_the_weights_and_nothing_else():
    before = torch.get_rng_state()
    first = nets.mobilenet_v2(3, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = nets.mobilenet_v2(3, seed=5), nets.mobilenet_v2(3, seed=6)
    assert all(torch.equal(one, same) for one, same in zip(first.parameters(), again.parameters(), strict=True))
    drawn = [(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True) if a.ndim > 1]
    assert not any(torch.equal(one, different) for one, different in drawn)


def test_draws_with_running_statistics_of_their_own():
    modules = [used(nets.mobilenet_v2(3, seed=seed), seed) for seed in (0, 1)]
    weights = {name: torch.stack([m.state_dict()[name] for m in modules]) for name in modules[0].state_dict()}
    x = images(2, 8)
    with torch.no_grad():
        logits = HeldDraws(modules[0], weights).logits(x)
        torch.testing.assert_close(logits, torch.stack([module(x) for module in modules]), rtol=1e-5, atol=1e-6)


def test_group_normalisation_for_bayesian_networks():
    with pytest.raises(InputError, match="batch normalisation"):
        BayesianNetwork(nets.mobilenet_v2(3))
    net = nets.mobilenet_v2(3, norm="group")
    groups = [module.num_groups for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert groups == [8] * 52
    post = SVI(epochs=1, num_draws=1).fit(BayesianNetwork(net, prior_scale="fan_in"), few_images())
    assert post.logits(images(2, 8)).isfinite().all()


def test_one_epoch_and_back_from_disk(tmp_path):
    dataset = few_images()
    post = SGD(epochs=1, batch_size=3).fit(nets.mobilenet_v2(3), dataset)
    post.save(tmp_path / "post")
    again = bayesrob.load(tmp_path / "post")
    assert torch.equal(again.logits(dataset.x_test), post.logits(dataset.x_test))
    assert dict(again.net.named_buffers())["features.0.1.num_batches_tracked"] == 2


def test_a_narrow_network_is_torchvisions():
    theirs = used(torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.35))
    ours = nets.mobilenet_v2(10, stem="imagenet", width_mult=0.35).eval()
    ours.load_state_dict(theirs.state_dict())
    assert size(nets.mobilenet_v2(10, width_mult=0.35)) == size(theirs)
    x = images(2, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("width_mult", [0, -1.0, float("nan"), float("inf"), "0.5", True])
def test_a_width_that_multiplies_nothing(width_mult):
    with pytest.raises(InputError, match="width_mult"):
        nets.mobilenet_v2(3, width_mult=width_mult)
