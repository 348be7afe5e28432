"""Attacks: one file each, a frozen dataclass called as `attack(predictive, x, y, seed=0)`; `ATTACKS` lists them by name."""

from bayesrob.attacks import adapters
from bayesrob.attacks.apgd import APGD
from bayesrob.attacks.autoattack import AutoAttack
from bayesrob.attacks.ball import BallAttack
from bayesrob.attacks.base import Attack, Attacked
from bayesrob.attacks.bias_variance import BiasAttack, VarianceAttack
from bayesrob.attacks.bim import BIM, LeastLikely
from bayesrob.attacks.boundary import Boundary
from bayesrob.attacks.bv import BV
from bayesrob.attacks.carlini_wagner import CarliniWagner
from bayesrob.attacks.criteria import Confident, Criterion, LabelInvariant, Misclassified
from bayesrob.attacks.deepfool import DeepFool
from bayesrob.attacks.fab import FAB
from bayesrob.attacks.fgsm import FGSM, TargetedFGSM
from bayesrob.attacks.geometry import check_radius, norms, project, random_point
from bayesrob.attacks.goal import Goal
from bayesrob.attacks.jsma import JSMA
from bayesrob.attacks.local_search import LocalSearch
from bayesrob.attacks.matching import match_perturbation
from bayesrob.attacks.mifgsm import MIFGSM
from bayesrob.attacks.nes import NES
from bayesrob.attacks.pgd import PGD
from bayesrob.attacks.random import Random
from bayesrob.attacks.random_search import RandomSearch
from bayesrob.attacks.single_pixel import SinglePixel
from bayesrob.attacks.smallest_fgsm import SmallestFGSM
from bayesrob.attacks.square import Square
from bayesrob.attacks.transfer import Transfer

ATTACKS: dict[str, type[Attack]] = {
    attack.__name__: attack
    for attack in (
        APGD,
        AutoAttack,
        BiasAttack,
        BIM,
        Boundary,
        BV,
        CarliniWagner,
        DeepFool,
        FAB,
        FGSM,
        JSMA,
        LeastLikely,
        LocalSearch,
        MIFGSM,
        NES,
        PGD,
        Random,
        RandomSearch,
        SinglePixel,
        SmallestFGSM,
        Square,
        TargetedFGSM,
        Transfer,
        VarianceAttack,
    )
}

__all__ = [
    "APGD",
    "ATTACKS",
    "BIM",
    "BV",
    "FAB",
    "FGSM",
    "JSMA",
    "MIFGSM",
    "NES",
    "PGD",
    "Attack",
    "Attacked",
    "AutoAttack",
    "BallAttack",
    "BiasAttack",
    "Boundary",
    "CarliniWagner",
    "Confident",
    "Criterion",
    "DeepFool",
    "Goal",
    "LabelInvariant",
    "LeastLikely",
    "LocalSearch",
    "Misclassified",
    "Random",
    "RandomSearch",
    "SinglePixel",
    "SmallestFGSM",
    "Square",
    "TargetedFGSM",
    "Transfer",
    "VarianceAttack",
    "adapters",
    "check_radius",
    "match_perturbation",
    "norms",
    "project",
    "random_point",
]
