from __future__ import annotations

import itertools

import pytest
import torch

from bayesrob import nets
from bayesrob.attacks import FGSM, PGD
from bayesrob.attacks.geometry import project, steepest
from bayesrob.errors import InputError, UnknownNameError
from bayesrob.models import Normal
from bayesrob.predictive import HeldDraws, Predictive
from tests.attacks.helpers import data, fresh, held
from tests.nets.helpers import random_weights

NORMS = ["l_inf", "l_2"]
NAN, INF = float("nan"), float("inf")


def recorded_seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seeds: list[int] = []
    original = Predictive.input_gradient

    def record(self, *arguments, **settings):
        seeds.append(arguments[4])
        return original(self, *arguments, **settings)

    monkeypatch.setattr(Predictive, "input_gradient", record)
    return seeds


@pytest.mark.parametrize("norm", NORMS)
def test_one_full_step_from_the_input_is_fgsm(norm):
    x, y = data()
    pgd = PGD(eps=0.2, norm=norm, steps=1, step_size=0.2, random_start=False)
    post = held(bounds=None)
    torch.testing.assert_close(pgd(post, x, y), FGSM(eps=0.2, norm=norm)(post, x, y), rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_from_the_definition(norm):
    x, y = data()
    post = held()
    z = x
    for _ in range(5):
        z = project(z + 0.15 * steepest(post.input_gradient(z, y), norm), x, 0.3, norm, post.bounds)
    pgd = PGD(eps=0.3, norm=norm, steps=5, step_size=0.15, random_start=False)
    torch.testing.assert_close(pgd(post, x, y), z, rtol=0, atol=1e-6)
    steps = [0.15] * 5 if norm == "l_inf" else [0.3, 0.24, 0.18, 0.12, 0.06]  # 2.5 * 0.3 / 5, or falling from 0.3
    z = x
    for step in steps:
        z = project(z + step * steepest(post.input_gradient(z, y), norm), x, 0.3, norm, post.bounds)
    torch.testing.assert_close(PGD(eps=0.3, norm=norm, steps=5, random_start=False)(post, x, y), z, rtol=0, atol=1e-5)


@pytest.mark.parametrize("objective", ["expected_loss", "margin"])
@pytest.mark.parametrize("norm", NORMS)
def test_restarts_never_score_worse(norm, objective):
    """Per point: wrong stays wrong, and where that does not change, the objective does not fall."""
    x, y = data(40)
    post = held(bounds=None)
    runs = [PGD(eps=0.4, norm=norm, steps=2, restarts=r, objective=objective)(post, x, y, seed=1) for r in (1, 2, 6)]
    wrong = [post(z).argmax(-1) != y for z in runs]
    value = [post.objective_value(z, y, objective) for z in runs]
    for few, many in ((0, 1), (1, 2)):
        assert not (wrong[few] & ~wrong[many]).any()
        same = wrong[few] == wrong[many]
        assert (value[many] >= value[few] - 1e-6)[same].all()
    assert (value[2] > value[0] + 1e-3).any()


def test_held_draws_are_one_set_and_fresh_draws_new_at_every_step(monkeypatch):
    x, y = data()
    seeds = recorded_seeds(monkeypatch)
    PGD(steps=4, draws="held")(fresh(), x, y)
    assert len(seeds) == 4
    assert len(set(seeds)) == 1
    seeds.clear()
    PGD(steps=4, draws="fresh")(fresh(), x, y)
    assert len(set(seeds)) == 4


def test_held_attack_is_the_attack_on_those_draws(monkeypatch):
    x, y = data()
    seeds = recorded_seeds(monkeypatch)
    found = PGD(steps=4, draws="held")(fresh(), x, y, seed=2)
    frozen = fresh().freeze(seed=seeds[0])
    torch.testing.assert_close(PGD(steps=4)(frozen, x, y, seed=2), found, rtol=0, atol=1e-6)
    assert not torch.allclose(PGD(steps=4)(fresh(), x, y, seed=2), found, atol=1e-3)


def test_draws_make_no_difference_to_held_ones():
    x, y = data()
    assert torch.equal(*[PGD(steps=4, draws=draws)(held(), x, y) for draws in ("held", "fresh")])


def test_fresh_draws_follow_the_mean_over_all_draws():
    """Few draws a step, many steps: a linear loss on average has its worst case at the mean's corner."""
    x, y = data()
    post = fresh(num_draws=20)
    many = post.freeze(2000, seed=9)
    start = many.objective_value(x, y)
    eot = many.objective_value(PGD(eps=0.2, steps=20)(post, x, y), y)
    one = many.objective_value(PGD(eps=0.2, steps=20, num_draws=1, draws="held")(post, x, y), y)
    assert (eot > start).all()
    assert eot.mean() > one.mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"restarts": 0}, "restarts is 0"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"step_size": -0.1}, "step_size is -0.1"),
        ({"step_size": NAN}, "step_size is nan"),
        ({"step_size": INF}, "step_size is inf"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        PGD(**settings)


def test_unknown_draws_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'fresh'"):
        PGD(draws="freshly")


# ---- the fast option -------------------------------------------------------------------------------------------------


def test_low_precision_is_asked_for_by_name(monkeypatch):
    """Every gradient of the attack, and nothing else, is computed in it."""
    asked: list[str] = []
    original = Predictive.input_gradient

    def record(self, *args, precision="full", **settings):
        asked.append(precision)
        return original(self, *args, precision=precision, **settings)

    monkeypatch.setattr(Predictive, "input_gradient", record)
    x, y = data()
    PGD(steps=3, precision="bf16")(held(), x, y)
    PGD(steps=2)(held(), x, y)
    assert asked == ["bf16"] * 3 + ["full"] * 2


@pytest.mark.parametrize("num_draws", [None, 3])
def test_draws_take_turns_at_coarse_steps(num_draws):
    x, y = data()
    post, z = held(), x
    turns = (num_draws or post.num_draws) // 2
    for step in range(6):
        start = step % turns * 2
        draws = post[start : start + 2] if step < 5 else post[:num_draws]
        z = project(z + 0.1 * draws.input_gradient(z, y).sign(), x, 0.3, "l_inf", post.bounds)
    settings = {"eps": 0.3, "steps": 6, "step_size": 0.1, "random_start": False, "num_draws": num_draws}
    attack = PGD(**settings, coarse_steps=5, coarse_draws=2)
    torch.testing.assert_close(attack(post, x, y), z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("coarse_draws", [5, 50])
def test_coarse_steps_of_more_draws_than_there_are(coarse_draws):
    x, y = data()
    few = PGD(eps=0.3, steps=3, coarse_steps=3, coarse_draws=coarse_draws)
    assert torch.equal(few(held(), x, y), PGD(eps=0.3, steps=3)(held(), x, y))


def test_coarse_steps_on_fresh_draws_are_at_new_ones(monkeypatch):
    x, y = data()
    asked: list[int | None] = []
    post = fresh()
    original = post.input_gradient

    def record(z, y, objective, num_draws, *args, **settings):
        asked.append(num_draws)
        return original(z, y, objective, num_draws, *args, **settings)

    monkeypatch.setattr(post, "input_gradient", record)
    PGD(eps=0.3, steps=3, coarse_steps=2, coarse_draws=2)(post, x, y)
    assert asked == [2, 2, None]


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("make", [held, fresh])
def test_points_that_are_broken_leave_and_stay_broken(monkeypatch, make, restarts):
    """The same points fall as without stopping, at the step at which they first did, for fewer gradients."""
    x, y = data()
    seen: list[int] = []
    original = Predictive.gradient_and_prediction

    def record(self, z, *args, **settings):
        seen.append(len(z))
        return original(self, z, *args, **settings)

    monkeypatch.setattr(Predictive, "gradient_and_prediction", record)
    post = make()
    settings = {"eps": 0.3, "steps": 6, "restarts": restarts, "objective": "margin", "draws": "held"}
    stopped = PGD(**settings, stop_when_broken=True)(post, x, y, seed=1)
    assert seen[0] == len(x)
    assert all(later <= sooner for sooner, later in itertools.pairwise(seen))
    assert seen[-1] < len(x)
    assert ((stopped - x).abs() <= 0.3 + 1e-6).all()
    if make is held:  # fresh draws are judged on others than those they are climbed on
        whole = PGD(**settings)(post, x, y, seed=1)
        broken, everywhere = (post(z).argmax(-1) != y for z in (stopped, whole))
        assert broken.any()
        assert (broken | ~everywhere).all()


def test_a_point_that_is_wrong_already_stays_where_it_starts():
    x, _ = data()
    post = held()
    wrong = (post(x).argmax(-1) + 1) % 4
    attack = PGD(steps=5, random_start=False, stop_when_broken=True)
    assert attack(post, x, wrong).equal(x)


def test_fast_is_a_set_of_settings_that_may_be_overridden():
    fast = PGD.fast(0.2, steps=9)
    assert fast == PGD(0.2, steps=9, coarse_steps=5, coarse_draws=25, stop_when_broken=True, precision=fast.precision)
    assert fast.precision in ("bf16", "full")
    assert fast.only_accuracy
    assert not PGD().only_accuracy
    assert PGD.fast(precision="full", stop_when_broken=False, coarse_steps=0, coarse_draws=10) == PGD()
    assert fast.settings()["precision"] == fast.precision


def test_stopping_needs_classes():
    net = nets.mlp(6, (5,), 1)
    post = HeldDraws(net, random_weights(net, 2, dtype=torch.float32), likelihood=Normal(0.3))
    x = data()[0]
    with pytest.raises(InputError, match="stop_when_broken in regression"):
        PGD(stop_when_broken=True)(post, x, torch.zeros(len(x), 1))


def test_tf32_needs_a_card():
    x, y = data()
    with pytest.raises(InputError, match="precision='tf32' on cpu"):
        PGD(precision="tf32")(held(), x, y)
