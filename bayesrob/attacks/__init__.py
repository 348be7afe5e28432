"""Attacks: one file each, a frozen dataclass called as `attack(predictive, x, y, seed=0)`; `ATTACKS` lists them by name."""

from bayesrob.attacks.base import Attack, Attacked
from bayesrob.attacks.bim import BIM, LeastLikely
from bayesrob.attacks.bv import BV
from bayesrob.attacks.criteria import Confident, Criterion, LabelInvariant, Misclassified
from bayesrob.attacks.fgsm import FGSM, TargetedFGSM
from bayesrob.attacks.mifgsm import MIFGSM
from bayesrob.attacks.pgd import PGD
from bayesrob.attacks.random import Random

ATTACKS: dict[str, type[Attack]] = {
    attack.__name__: attack for attack in (BIM, BV, FGSM, LeastLikely, MIFGSM, PGD, Random, TargetedFGSM)
}

__all__ = [
    "ATTACKS",
    "BIM",
    "BV",
    "FGSM",
    "MIFGSM",
    "PGD",
    "Attack",
    "Attacked",
    "Confident",
    "Criterion",
    "LabelInvariant",
    "LeastLikely",
    "Misclassified",
    "Random",
    "TargetedFGSM",
]
