"""Through the adapter a library's attack does what it does called by hand, and what it reports is checked."""

from __future__ import annotations

import json
import random

import foolbox
import numpy as np
import pytest
import torch
from art.attacks.evasion import DeepFool, ProjectedGradientDescent
from torch import nn

from bayesrob import evaluation, numerics
from bayesrob.attacks.adapters import ART, Foolbox, to_art, to_foolbox
from bayesrob.data import from_arrays
from bayesrob.errors import InputError
from bayesrob.predictive import from_modules
from tests.attacks.helpers import CLASSES, data, fresh, held, linear
from tests.interop.adapted import BOTH, EPS, STEPS, iterated


@pytest.fixture(autouse=True)
def plain():
    """A backward pass called by hand runs in torch's own products; the adapter's then does, too."""
    with numerics.route("plain"):
        yield


@pytest.mark.parametrize(
    ("attack", "eps"),
    [
        (foolbox.attacks.LinfPGD(steps=STEPS, random_start=False), EPS),
        (foolbox.attacks.FGSM(random_start=False), EPS),
        (foolbox.attacks.L2DeepFoolAttack(), None),
        (foolbox.attacks.L2DeepFoolAttack(), 0.3),
        (foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=2, steps=20), None),
    ],
)
def test_foolbox_is_foolbox_by_hand(attack, eps):
    post, (x, y) = held(), data()
    by_hand = attack(to_foolbox(post), x, foolbox.criteria.Misclassification(y), epsilons=eps)[1]
    ours = Foolbox(attack, eps)(post, x, y)
    assert not torch.equal(ours, x)
    assert torch.equal(ours, by_hand)


def test_foolbox_is_foolbox_by_hand_towards_a_target():
    post, (x, y) = held(), data()
    attack, goal = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=2, steps=20), (y + 1) % CLASSES
    by_hand = attack(to_foolbox(post), x, foolbox.criteria.TargetedMisclassification(goal), epsilons=None)[1]
    assert torch.equal(Foolbox(attack, target="given")(post, x, goal), by_hand)


@pytest.mark.parametrize("targeted", [False, True])
def test_art_is_art_by_hand(targeted):
    post, (x, y) = held(), data()
    goal = (y + 1) % CLASSES
    attack = iterated(target="given" if targeted else None)
    by_hand = attack.make(to_art(post)).generate(x.numpy(), (goal if targeted else y).numpy())
    ours = attack(post, x, goal if targeted else y)
    assert not torch.equal(ours, x)
    assert torch.equal(ours, torch.from_numpy(by_hand))


def test_art_deepfool_is_art_by_hand():
    post, (x, y) = held(), data()
    attack = ART(lambda classifier: DeepFool(classifier, verbose=False), smallest=True)
    by_hand = attack.make(to_art(post)).generate(x.numpy())
    assert torch.equal(attack(post, x, y), torch.from_numpy(by_hand))
    assert attack.only_accuracy


def test_deepfool_on_a_linear_classifier_ends_at_the_boundary():
    """The distance to the nearest boundary is min over c of (f_y - f_c) / ||w_y - w_c||; foolbox goes 1e-4 and 2% beyond."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(1, CLASSES, 6, generator=generator, dtype=torch.float64)
    x = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    post = linear(weight, bounds=(-100, 100))
    logits = x @ weight[0].T
    y = logits.argmax(1)
    gaps = logits.gather(1, y[:, None]) - logits
    lengths = (weight[0][y][:, None] - weight[0]).norm(dim=-1)
    distance = torch.where(gaps > 0, gaps / lengths, torch.inf).amin(1)
    z = Foolbox(foolbox.attacks.L2DeepFoolAttack(overshoot=0.02))(post, x, y)
    torch.testing.assert_close((z - x).norm(dim=1), 1.02 * (distance + 1e-4), rtol=1e-6, atol=1e-9)
    assert bool((post(z).argmax(1) != y).all())


@pytest.mark.parametrize("make", [held, fresh])
@pytest.mark.parametrize("name", BOTH)
def test_the_same_seed_gives_the_same_and_leaves_everything_alone(name, make):
    post, (x, y) = make(), data()
    attack = (
        Foolbox(foolbox.attacks.LinfPGD(steps=STEPS), EPS)
        if name == "foolbox"
        else ART(lambda c: ProjectedGradientDescent(c, eps=EPS, max_iter=STEPS, num_random_init=1, verbose=False))
    )
    before = x.clone(), torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = attack(post, x, y, seed=3)
    assert torch.equal(x, before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002
    assert random.getstate() == before[3]
    assert not first.requires_grad
    assert torch.equal(attack(post, x, y, seed=3), first)
    assert not torch.equal(attack(post, x, y, seed=4), first)


@pytest.mark.parametrize("name", BOTH)
def test_fresh_draws_are_new_at_each_look_or_held(name):
    post, (x, y) = fresh(), data()
    seeds = []
    sample = post.functions
    post.functions = lambda size, num_draws, seed, dtype=None: (
        seeds.append((num_draws, seed)),
        sample(size, num_draws, seed),
    )[1]
    BOTH[name](num_draws=3)(post, x, y)
    assert {draws for draws, _ in seeds} == {3}
    assert len(set(seeds)) == len(seeds) > STEPS
    seeds.clear()
    BOTH[name](draws="held")(post, x, y)
    assert len(seeds) > STEPS
    assert len(set(seeds)) == 1


@pytest.mark.parametrize(("name", "queries"), [("foolbox", 1), ("art", 1)])
def test_queries_and_gradients_are_counted(name, queries):
    """Steps take a gradient each; the forward pass that judges the end takes none."""
    post, (x, y) = held(), data()
    found = BOTH[name]().run(post, x, y)
    assert found.gradients.tolist() == [STEPS] * len(x)
    assert int(found.queries[0]) >= queries
    assert len(set(found.queries.tolist())) == 1
    if name == "foolbox":
        assert int(found.queries[0]) == queries


@pytest.mark.parametrize("name", BOTH)
def test_labels_and_skips_are_those_of_every_attack(name):
    post, (x, _) = held(), data()
    predicted = post(x).argmax(1)
    y = torch.where(torch.arange(len(x)) % 2 == 0, predicted, (predicted + 1) % CLASSES)
    skipped = BOTH[name](skip_misclassified=True).run(post, x, y)
    assert torch.equal(skipped.x[1::2], x[1::2])
    assert skipped.gradients[1::2].tolist() == [0] * (len(x) // 2)
    assert not torch.equal(skipped.x[0::2], x[0::2])
    leaking = BOTH[name](label="predicted")(post, x, y)
    assert torch.equal(leaking, BOTH[name]()(post, x, predicted))


@pytest.mark.parametrize("name", BOTH)
def test_dtype_and_bounds_are_kept(name):
    post, (x, y) = held(bounds=(0, 1)).double(), data()
    z = BOTH[name]()(post, x.double(), y)
    assert z.dtype == torch.float64
    assert 0 <= float(z.min()) <= float(z.max()) <= 1
    assert float((z - x.double()).abs().max()) <= EPS + 1e-6


def test_art_without_bounds():
    post, (x, y) = held(bounds=None), data()
    z = iterated()(post, x, y)
    assert float(z.min()) < 0
    assert float((z - x).abs().max()) <= EPS + 1e-6


@pytest.mark.parametrize("name", BOTH)
def test_an_evaluation_takes_it_and_records_it(name):
    post, (x, y) = held(), data()
    attack = BOTH[name]()
    dataset = from_arrays(x, y, x, y, bounds=(0, 1), num_classes=CLASSES)
    tree = evaluation.evaluate(post, dataset, attacks={"theirs": attack}, num_points=len(x))
    accuracy = float((post(attack(post, x, y)).argmax(1) == y).double().mean())
    assert float(tree["robustness"].adversarial_accuracy[0]) == pytest.approx(accuracy)
    recorded = json.dumps(attack.settings())
    assert "0x" not in recorded
    assert "LinfProjectedGradientDescentAttack(" in recorded or "iterated" in recorded


# ---- their models of ours ------------------------------------------------------------------------------------------------


def test_both_models_predict_what_the_posterior_does():
    post, (x, _) = held(), data()
    assert torch.equal(to_foolbox(post)(x), post(x))
    np.testing.assert_array_equal(to_art(post).predict(x.numpy()), post(x).numpy())


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_the_loss_of_art_is_that_of_the_averaged_prediction(loss):
    post, (x, y) = held(), data()
    theirs = to_art(post, loss).loss_gradient(x.numpy(), np.eye(CLASSES, dtype=np.float32)[y.numpy()])
    ours = post.input_gradient(x, y, "predictive_loss")
    torch.testing.assert_close(torch.from_numpy(theirs) * len(x), ours, rtol=1e-4, atol=1e-6)  # theirs averages points


def test_models_need_a_classifier_and_what_the_library_must_know():
    from bayesrob.models import Normal

    with pytest.raises(InputError, match="classifier is needed"):
        to_foolbox(nn.Linear(2, 2))  # type: ignore[arg-type]
    regression = held()
    regression.likelihood = Normal(1.0)
    for model in (to_foolbox, to_art):
        with pytest.raises(InputError, match="classifier is needed"):
            model(regression)
    with pytest.raises(InputError, match="bounds"):
        to_foolbox(held(bounds=None))
    with pytest.raises(InputError, match="input_shape"):
        to_art(from_modules(nn.Linear(3, 2).eval(), num_classes=2))
    assert to_art(from_modules(nn.Linear(3, 2).eval(), num_classes=2), input_shape=(3,)).input_shape == (3,)
