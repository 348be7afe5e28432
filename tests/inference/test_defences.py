"""What trained defences are for, and what all of them refuse."""

from __future__ import annotations

import math

import pytest

from bayesrob import nets
from bayesrob.attacks import FGSM, PGD, DeepFool
from bayesrob.errors import InputError
from bayesrob.inference import SGD, TRADES, AdvBNN, AdversarialTraining
from bayesrob.models import BayesianNetwork
from tests.inference.defences import digits, mlp


def test_networks_trained_to_resist_keep_more_under_pgd():
    dataset = digits(1200, 400)
    base, net = SGD(epochs=20, lr=5e-3), nets.mlp(64, (48,), 10)
    attack = PGD(eps=0.15, steps=20)
    methods = {
        "plain": base,
        "adversarial": AdversarialTraining(PGD(eps=0.15, steps=5), base),
        "mixed": AdversarialTraining(FGSM(eps=0.15), base, clean_weight=0.5),
        "trades": TRADES(eps=0.15, steps=5, base=base),
    }
    x, y = dataset.x_test, dataset.y_test
    robust, clean = {}, {}
    for name, method in methods.items():
        post = method.fit(net, dataset)
        clean[name] = float((post(x).argmax(-1) == y).float().mean())
        robust[name] = float((post(attack(post, x, y)).argmax(-1) == y).float().mean())
    error = math.sqrt(0.25 / len(x))  # at most, of each
    for name in ("adversarial", "mixed", "trades"):
        assert robust[name] > robust["plain"] + 8 * error
        assert clean[name] > 0.85


@pytest.mark.parametrize("make", [AdversarialTraining, AdvBNN], ids=["AdversarialTraining", "AdvBNN"])
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (DeepFool(), "DeepFool has no ball"),
        (FGSM, "attack is FGSM"),
        ("fgsm", "attack is str"),
        (None, "attack is NoneType"),
        (FGSM(eps=0.1, target="given"), 'target="given"'),
    ],
    ids=["minimal", "class", "name", "none", "given"],
)
def test_what_is_no_attack_with_a_ball_is_refused(make, attack, message):
    with pytest.raises(InputError, match=message):
        make(attack)


@pytest.mark.parametrize(
    "make",
    [
        lambda **eps: AdversarialTraining(FGSM(**eps)),
        lambda **eps: AdvBNN(PGD(**eps)),
        lambda **eps: TRADES(**eps),
    ],
    ids=["AdversarialTraining", "AdvBNN", "TRADES"],
)
def test_a_ball_beyond_the_bounds_is_refused_before_any_work(make):
    with pytest.raises(InputError, match=r"eps is 1.5, the bounds are \(0.0, 1.0\)"):
        make(eps=1.5).fit(BayesianNetwork(mlp()), digits())
