"""An attack of each library, behind its adapter, in which chance plays no part."""

from __future__ import annotations

import foolbox
from art.attacks.evasion import ProjectedGradientDescent

from bayesrob.attacks.adapters import ART, Foolbox

EPS = 0.2
STEPS = 6


def fixed(**settings: object) -> Foolbox:
    """No chance plays a part."""
    return Foolbox(foolbox.attacks.LinfPGD(steps=STEPS, random_start=False), EPS, **settings)


def iterated(**settings: object) -> ART:
    targeted = settings.get("target") is not None
    return ART(
        lambda classifier: ProjectedGradientDescent(
            classifier, eps=EPS, eps_step=0.05, max_iter=STEPS, targeted=targeted, verbose=False
        ),
        **settings,
    )


BOTH = {"foolbox": fixed, "art": iterated}
