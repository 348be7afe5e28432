"""The adapters refuse settings, models and results that do not fit."""

from __future__ import annotations

import subprocess
import sys

import foolbox
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from torch import Tensor, nn

from bayesrob.attacks import PGD, Confident
from bayesrob.attacks.adapters import ART, Foolbox
from bayesrob.errors import BayesrobError, InputError
from bayesrob.predictive import from_modules
from tests.attacks.helpers import CLASSES, data, held
from tests.interop.adapted import BOTH, EPS, fixed, iterated


class Leaves(foolbox.attacks.base.MinimizationAttack):
    """Returns the upper bound, and `by` beyond it.

    Args:
        by: distance beyond the upper bound.
    """

    distance = foolbox.distances.linf

    def __init__(self, by: float):
        self.by = by

    def run(self, model, inputs, criterion, *, early_stop=None, **kwargs):
        return inputs * 0 + (1 + self.by)


def test_results_outside_the_bounds_are_refused_and_rounding_is_clipped():
    post, (x, y) = held(), data()
    with pytest.raises(BayesrobError, match="Foolbox left the bounds"):
        Foolbox(Leaves(1e-3))(post, x, y)
    assert torch.equal(Foolbox(Leaves(5e-7))(post, x, y), torch.ones_like(x))
    with pytest.raises(BayesrobError, match="NaN"):
        Foolbox(Leaves(float("nan")))(post, x, y)


def test_settings_that_do_not_fit_are_refused():
    post, (x, y) = held(), data()
    with pytest.raises(InputError, match="attack object of foolbox"):
        Foolbox(PGD())
    with pytest.raises(InputError, match="without eps"):
        Foolbox(foolbox.attacks.LinfPGD())
    with pytest.raises(InputError, match="without eps"):
        Foolbox(foolbox.attacks.LinfPGD().repeat(2))
    with pytest.raises(InputError, match="eps is -1"):
        Foolbox(foolbox.attacks.LinfPGD(), -1)
    with pytest.raises(InputError, match="criterion"):
        fixed(criterion=Confident())
    with pytest.raises(InputError, match="criterion"):
        iterated(criterion=Confident())
    with pytest.raises(InputError, match="make is a int"):
        ART(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="make gave a int"):
        ART(lambda classifier: 3)(post, x, y)
    with pytest.raises(InputError, match="not targeted, target is 1"):
        ART(lambda c: FastGradientMethod(c, eps=EPS), target=1)(post, x, y)
    with pytest.raises(InputError, match="is targeted, target is None"):
        ART(lambda c: FastGradientMethod(c, eps=EPS, targeted=True))(post, x, y)
    with pytest.raises(InputError, match="needs bounds"):
        fixed()(held(bounds=None), x, y)
    with pytest.raises(InputError, match="foolbox does not offer it"):
        Foolbox(foolbox.attacks.NewtonFoolAttack(), target=1).run(post, x, y)


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().flatten(1)[:, :CLASSES]


@pytest.mark.parametrize("name", BOTH)
def test_a_missing_gradient_is_said(name):
    x, y = data()
    post = from_modules(Detached().eval(), bounds=(0, 1), num_classes=CLASSES)
    with pytest.raises(InputError, match=r"(Foolbox|ART) found no gradient.*Preprocessed"):
        BOTH[name]()(post, x, y)


def test_neither_library_is_imported_before_it_is_used():
    code = (
        "import sys, bayesrob.attacks.adapters as a; a.ART(str); print([m for m in ('foolbox', 'art') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
