"""What every attack has in common: its inputs are checked before any work, its outputs after, its looks are counted."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from bayesrob import rng
from bayesrob.arguments import is_whole, whole
from bayesrob.attacks.criteria import Criterion, Misclassified
from bayesrob.attacks.geometry import NORMS
from bayesrob.attacks.victim import Victim, needs_gradients
from bayesrob.errors import BayesrobError, InputError, check_name
from bayesrob.numerics import products
from bayesrob.predictive import OBJECTIVES, Predictive
from bayesrob.predictive.checks import check_num_draws
from bayesrob.types import Batch

__all__ = ["Attack", "Attacked", "check_at_least", "check_positive", "check_radius"]

TARGETS = ("least_likely", "most_likely", "random", "given")
_NO_GRADIENT = ("does not require grad", "not have been used in the graph", "numpy() on Tensor that requires grad")
"""What torch says where the outputs are detached, where they do not depend on the input, and of a detour through numpy."""


class Attacked(NamedTuple):
    """What an attack did."""

    x: Batch
    """Adversarial inputs, `[batch, *shape]`."""
    queries: Int[Tensor, " batch"]
    """Posterior predictions that were asked for at each point."""
    gradients: Int[Tensor, " batch"]
    """Gradients that were taken at each point."""


@dataclasses.dataclass(frozen=True)
class Attack(abc.ABC):
    """Perturb inputs so that the posterior predictive no longer gives the labels; fields are the attack's settings.

    Args:
        target: None: away from the true class. Else towards a class: "least_likely" or "most_likely" (of the clean input's
            posterior predictive, the true class left out), "random" (another class), a class index for all, or "given":
            the labels passed *are* the targets.
        criterion: what counts as success where the attack decides by it (restarts, stops, smallest perturbations).
        label: "true", or "predicted": attack the class that is predicted for the clean input, so that the true label does
            not leak into the perturbation (Kurakin et al. 2017).
        skip_misclassified: leave points alone that are wrong before the attack. False perturbs every point.
        num_draws: draws of the posterior at each look (the first of held ones, new ones of fresh); None: the predictive's
            own number.
        draws: for predictives drawn fresh. "fresh": new draws at every look (expectation over transformation, Athalye et
            al. 2018), so the attack cannot overfit to one set. "held": one set, drawn at the start. Held draws are what
            they are either way.
    """

    target: int | Literal["least_likely", "most_likely", "random", "given"] | None = dataclasses.field(
        default=None, kw_only=True
    )
    criterion: Criterion = dataclasses.field(default=Misclassified(), kw_only=True)
    label: Literal["true", "predicted"] = dataclasses.field(default="true", kw_only=True)
    skip_misclassified: bool = dataclasses.field(default=False, kw_only=True)
    num_draws: int | None = dataclasses.field(default=None, kw_only=True)
    draws: Literal["fresh", "held"] = dataclasses.field(default="fresh", kw_only=True)

    # For the list of attacks in the documentation, and for what is refused.
    norms: ClassVar[tuple[str, ...]] = NORMS
    """Norms that `norm` may be; of perturbations that it bounds or makes small."""
    sees: ClassVar[Literal["gradients", "probabilities", "classes", "nothing"]] = "gradients"
    minimal: ClassVar[bool] = False
    """Whether it looks for the smallest perturbation; else for the worst in a ball of radius `eps`."""
    targetable: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = True
    """Whether a regression has nothing for it."""
    needs_bounds: ClassVar[bool] = False
    paper: ClassVar[str] = ""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.target is not None and not self.targetable:
            raise InputError(f"{name} has no target.", "It moves away from the true class.", "Use PGD(target=...).")
        if self.target is not None and (isinstance(self.target, bool) or not isinstance(self.target, int)):
            check_name("target", self.target, TARGETS)
        if not isinstance(self.criterion, Criterion):
            raise InputError(
                f"criterion is a {type(self.criterion).__name__}.", "It decides what counts.", "Give Misclassified()."
            )
        check_name("label", self.label, ["true", "predicted"])
        check_name("draws", self.draws, ["fresh", "held"])
        if self.target == "given" and (self.label != "true" or self.skip_misclassified):
            raise InputError(
                'target="given" with label="predicted" or skip_misclassified.',
                "The labels passed are then the targets, and no true ones are known.",
                "Choose a rule for the target instead.",
            )
        if self.num_draws is not None:
            check_num_draws(self.num_draws)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if "eps" in fields and not (fields["eps"] is None and type(self).__dataclass_fields__["eps"].default is None):
            check_radius(fields["eps"])
        if "norm" in fields:
            check_name("norm", fields["norm"], self.norms)
        if "objective" in fields:
            check_name("objective", fields["objective"], OBJECTIVES)

    def __call__(self, predictive: Predictive, x: Tensor, y: Tensor, seed: int = 0) -> Batch:
        """Adversarial versions of `x`, `[batch, *shape]`; `run` also says at what cost.

        Args:
            predictive: what is attacked; its `bounds` are kept to (None: unclipped).
            x: inputs `[batch, *shape]`, inside the bounds. y: their true labels.
            seed: fixes every random choice of the attack, also which fresh draws it sees.

        Raises:
            InputError: shapes, labels or values that do not fit, or an attack that needs what the predictive lacks: before
                any work.
            BayesrobError: the attack ran into gradients that are not finite.
        """
        return self.run(predictive, x, y, seed).x

    def run(self, predictive: Predictive, x: Tensor, y: Tensor, seed: int = 0) -> Attacked:
        """The attack as `__call__` does it, with the queries and gradients that each point took."""
        if not isinstance(predictive, Predictive):
            raise InputError(
                f"The attack got a {type(predictive).__name__}.",
                "It sees a model as a distribution over functions.",
                "Wrap trained networks with predictive.from_modules([net]).",
            )
        predictive.check_inputs(x)
        predictive.check_labels(x, y)
        self.check_fits(predictive)
        predictive.resolve(self.num_draws, 0)  # refuses a number of draws that cannot be had
        generator = rng.generator(seed, type(self).__name__)
        result, kept = x.detach().clone(), None
        queries = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        gradients = torch.zeros_like(queries)
        if len(x) == 0:
            return Attacked(result, queries, gradients)
        with torch.no_grad(), products(predictive.net):
            if self.label == "predicted" or self.skip_misclassified:
                predicted = predictive(x, self.num_draws, rng.derive(seed, type(self).__name__, "clean")).argmax(-1)
                queries += 1
                if self.skip_misclassified:
                    kept = torch.nonzero(predicted == y)[:, 0]
                y = predicted if self.label == "predicted" else y
            if kept is None:
                victim = Victim(predictive, self, result, y, generator)
                result = self._perturb(victim, generator).contiguous()
                queries += victim.queries
                gradients += victim.gradients
            elif len(kept):
                victim = Victim(predictive, self, result[kept], y[kept], generator)
                result[kept] = self._perturb(victim, generator)
                queries[kept] += victim.queries
                gradients[kept] += victim.gradients
        # A sum tells in a tenth of the time that all are finite; one that overflows does not tell that some are not.
        lost = 0 if math.isfinite(result.sum()) else int((~result.isfinite()).flatten(1).any(1).sum())
        if lost:
            raise BayesrobError(
                f"{type(self).__name__} ended at NaN or infinity for {lost} of {len(x)} points.",
                "The model's gradient is not finite there; calling these points robust would be wrong.",
                "Check the weights and logits for overflow.",
            )
        return Attacked(result, queries, gradients)

    def _perturb(self, victim: Victim, generator: torch.Generator) -> Batch:
        try:
            return self.perturb(victim, victim.x, generator)
        except RuntimeError as error:
            if any(sign in str(error) for sign in _NO_GRADIENT):
                raise needs_gradients(type(self).__name__, error) from error
            raise

    @abc.abstractmethod
    def perturb(self, victim: Victim, x: Batch, generator: torch.Generator) -> Batch:
        """The attack itself, on checked inputs, without gradient mode; `generator` lives on the CPU.

        The victim's labels are `victim.y`. `x` must not be changed in place.
        """

    def check_fits(self, predictive: Predictive) -> None:
        """Raise `InputError` if the predictive lacks what this attack needs, and say which attack fits."""
        name = type(self).__name__
        classifies = predictive.likelihood.name == "categorical"
        if not classifies and (self.needs_classes or self.target is not None):
            raise InputError(
                f"{name} needs classes.",
                "The predictive is a regression, where no prediction is right or wrong.",
                'Use FGSM or PGD with objective="expected_loss".',
            )
        if self.needs_bounds and predictive.bounds is None:
            raise InputError(
                f"{name} needs bounds.",
                "It sets components to the smallest and largest values that the data can take.",
                "Give the predictive bounds (br.predictive.from_modules(..., bounds=(0, 1))), or use PGD or Boundary.",
            )
        if isinstance(self.target, int) and predictive.out_features is not None:
            good = 0 <= self.target < predictive.out_features
            if not good:
                raise InputError(
                    f"target is {self.target}.",
                    f"There are {predictive.out_features} classes, counted from 0.",
                    "Name one of them.",
                )

    # ---- what checks of a result ask of its attack ----------------------------------------------------------------------

    def members(self) -> tuple[Attack, ...]:
        """The attacks that this one runs on the predictive, in order: itself, unless it combines several."""
        return (self,)

    def climbed(self) -> tuple[str, ...]:
        """The objectives whose gradients the attack climbs, each once; empty for attacks without gradients."""
        objectives = (one._setting("objective") for one in self.members() if one.sees == "gradients")
        return tuple(dict.fromkeys(name for name in objectives if isinstance(name, str)))

    def step_sizes(self) -> tuple[float, ...]:
        """The step sizes that were fixed by hand and are used more than once, one for each member that has one."""
        members = [one for one in self.members() if one._setting("steps", 1) > 1]
        sizes = (one._setting("step_size") for one in members)
        return tuple(float(size) for size in sizes if size is not None)

    def iterated(self) -> bool:
        """Whether the attack takes more than one step."""
        return any(one._setting("steps", 1) > 1 for one in self.members())

    def draws_per_step(self, predictive: Predictive) -> int:
        """Number of draws that each step averages, the smallest of all members; 0 if the predictive is never evaluated."""
        if self.sees == "nothing":
            return 0
        return min(one.num_draws or predictive.num_draws for one in self.members())

    def takes_new_draws(self) -> bool:
        """Whether every step of a predictive drawn fresh averages new draws."""
        return all(one.draws == "fresh" for one in self.members())

    # ---- variations -----------------------------------------------------------------------------------------------------

    def changed(self, **settings: Any) -> Attack:
        """The attack with other `settings`; those that it does not have are ignored."""
        known = {field.name for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: value for name, value in settings.items() if name in known})

    def harder(self) -> Attack | None:
        """The attack with twice the steps and twice the restarts; None if it takes no steps."""
        counts = {name: self._setting(name) for name in ("steps", "restarts")}
        doubled: dict[str, Any] = {name: 2 * value for name, value in counts.items() if is_whole(value)}
        return dataclasses.replace(self, **doubled) if "steps" in doubled else None

    def with_radius(self, eps: float) -> Attack | None:
        """The attack in a ball of radius `eps`, a fixed step size in proportion; None if it has no radius."""
        old, step = self._setting("eps"), self._setting("step_size")
        if self.minimal or not old:
            return None
        new: dict[str, Any] = {"eps": eps} if step is None else {"eps": eps, "step_size": step * eps / old}
        return dataclasses.replace(self, **new)

    def _setting(self, name: str, default: Any = None) -> Any:
        """The field `name`, or `default` for an attack without it."""
        return vars(self).get(name, default)

    @property
    def only_accuracy(self) -> bool:
        """Whether points are left as soon as they are misclassified, so that no other score of the result means anything."""
        return self.minimal

    def settings(self) -> dict[str, Any]:
        """Name and fields, for the record of a result; the criterion only where it is not the usual one."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.criterion == Misclassified():
            del fields["criterion"]
        return {"attack": type(self).__name__} | {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Criterion | Attack):
        return value.settings()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return repr(value) if callable(value) else value


def check_radius(eps: object) -> None:
    """Raise unless `eps` is a radius."""
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not math.isfinite(eps) or eps < 0:
        raise InputError(
            f"eps is {eps!r}.",
            "It is the radius of the ball that the attack stays in, in the inputs' own unit.",
            "Give a finite number >= 0, e.g. 0.1 for pixels in [0, 1].",
        )


def check_at_least(attack: Attack, **least: int) -> None:
    """Raise unless each named field is a whole number, at least so large."""
    for name, smallest in least.items():
        whole(name, getattr(attack, name), least=smallest)


def check_positive(attack: Attack, *names: str) -> None:
    """Raise unless each named field is a positive finite number (or None, where that is its default)."""
    for name in names:
        value = getattr(attack, name)
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise InputError(f"{name} is {value}.", "A step must go somewhere.", "Give a positive number, or None.")
