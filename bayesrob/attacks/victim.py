"""A predictive as one attack sees it: on which draws, for which labels, towards which goal; every look is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bayesrob.errors import InputError
from bayesrob.models import Likelihood
from bayesrob.predictive import HeldDraws, Predictive
from bayesrob.predictive.objectives import DrawMean, Margin, Objective, Pooled
from bayesrob.types import Batch, Bounds, DrawLogits, Labels, Outputs

if TYPE_CHECKING:
    from bayesrob.attacks.base import Attack

__all__ = ["AVERAGES", "ClassWeights", "Victim", "next_seed"]

Rows = Int[Tensor, " row"] | None
"""Which of the attacked points are looked at; None: all of them, in order."""

Few = tuple[int, int] | None
"""How many draws a look is at, fewer than all, and which turn it is: those of `HeldDraws` take turns, so that over the steps
all of them are climbed and not always the same few (of a user's modules it is the first ones: parts would be copies). None:
all."""


class Victim:
    """What `Attack.perturb` attacks. Points are `[row, *shape]`: all of them, or those that `rows` names.

    Args:
        predictive: the model. attack: whose draws, target and criterion count.
        x, y: inputs and true labels. generator: of the attack, on the CPU.
    """

    def __init__(self, predictive: Predictive, attack: Attack, x: Batch, y: Labels, generator: torch.Generator):
        self.predictive = predictive
        self.bounds: Bounds | None = predictive.bounds
        self.classifies = predictive.likelihood.name == "categorical"
        self.num_draws = attack.num_draws
        self.criterion = attack.criterion
        self._fresh = attack.draws == "fresh"
        self._generator = generator
        self._parts: dict[int, HeldDraws] = {}
        self._seed, self._judge_seed = next_seed(generator), next_seed(generator)
        self.x = x
        self.queries = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        """How often the posterior predictive of each point was asked for."""
        self.gradients = torch.zeros_like(self.queries)
        """How many gradients were taken at each point (their forward passes are no further queries)."""
        self.targeted = attack.target is not None
        self.true = y
        self.y: Labels = self._targets(x, y, attack.target) if attack.target is not None else y
        """The classes that the attack moves away from, or for targeted ones towards."""

    @property
    def num_classes(self) -> int:
        assert self.predictive.out_features is not None
        return self.predictive.out_features

    # ---- looks ----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, z: Batch, rows: Rows = None, judge: bool = False) -> Outputs:
        """Log posterior predictive probabilities `[row, class]`; one query of each point.

        Args:
            judge: on the one set of draws that decides about success, the same each time, also where draws are fresh.
        """
        self._count(self.queries, rows)
        with torch.no_grad():
            return self.predictive(z, self.num_draws, self._judge_seed if judge else self.next_seed())

    def loss(self, z: Batch, objective: str, rows: Rows = None) -> Float[Tensor, " row"]:
        """The objective, higher where the attack is nearer to its goal; one query of each point, on the judge's draws."""
        self._count(self.queries, rows)
        value = self.predictive.objective_value(
            z,
            self._labels(rows),
            objective,
            self.num_draws,
            self._judge_seed,
        )
        return -value if self.targeted else value

    def gradient(
        self,
        z: Batch,
        objective: str | Objective,
        rows: Rows = None,
        few: Few = None,
        precision: str = "full",
    ) -> Batch:
        """The direction in which the attack gains most: the objective's gradient, or minus it towards a target class."""
        self._count(self.gradients, rows)
        y, (post, draws) = self._labels(rows), self._draws(few)
        gradient = post.input_gradient(z, y, objective, draws, self.next_seed(), precision=precision)
        return gradient.neg_() if self.targeted else gradient

    def look(
        self,
        z: Batch,
        objective: str | Objective,
        rows: Rows = None,
        few: Few = None,
        precision: str = "full",
    ) -> tuple[Batch, Outputs, Float[Tensor, " row"]]:
        """`gradient`, the log predictive and the objective (higher is nearer to the goal), of one forward pass.

        Of an `Objective` of the attack's own, which knows where it wants to go, no sign is turned.
        """
        self._count(self.gradients, rows)
        y, (post, draws) = self._labels(rows), self._draws(few)
        gradient, log_predictive, value = post.gradient_and_prediction(z, y, objective, draws, self.next_seed(), precision)
        if self.targeted and isinstance(objective, str):
            return gradient.neg_(), log_predictive, -value
        return gradient, log_predictive, value

    def jacobian(
        self, z: Batch, classes: Int[Tensor, "row k"], rows: Rows = None, average: str = "probabilities"
    ) -> tuple[Tensor, Float[Tensor, "row k"], Outputs]:
        """Gradients `[row, k, *shape]` and values of `classes` in the surface that `AVERAGES[average]` makes, and the log
        predictive; k gradients a point.

        All k are taken in one batch of k times as many points.
        """
        rows = torch.arange(len(z), device=z.device) if rows is None else rows
        k = classes.shape[1]
        weights = z.new_zeros(len(z) * k, self.num_classes).scatter_(1, classes.reshape(-1, 1), 1.0)
        seed = self.next_seed()
        self.gradients[rows] += k
        surface = AVERAGES[average](weights)
        gradient, log_predictive, value = self.predictive.gradient_and_prediction(
            z.repeat_interleave(k, 0), self._labels(rows).repeat_interleave(k), surface, self.num_draws, seed
        )
        return gradient.unflatten(0, (-1, k)), value.view(-1, k), log_predictive[::k]

    # ---- success --------------------------------------------------------------------------------------------------------

    def fooled(self, z: Batch, rows: Rows = None) -> Bool[Tensor, " row"]:
        """Whether each point meets the attack's criterion, on the judge's draws; one query. Never so in regression."""
        if not self.classifies:
            return torch.zeros(len(z), dtype=torch.bool, device=z.device)
        return self.judged(self.predict(z, rows, judge=True), z, rows)

    def judged(self, log_predictive: Outputs, z: Batch, rows: Rows = None) -> Bool[Tensor, " row"]:
        """Whether a prediction `log_predictive` at `z`, already made, meets the attack's criterion."""
        true = self.true if rows is None else self.true[rows]
        return self.criterion(log_predictive, self._labels(rows), z, targeted=self.targeted, true=true)

    def gain(self, log_predictive: Outputs, rows: Rows = None) -> Float[Tensor, " row"]:
        """How near predictions already made are to the goal: the target's log probability, or the margin without one."""
        y = self._labels(rows)
        if self.targeted:
            return log_predictive.gather(1, y.unsqueeze(1)).squeeze(1)
        return self.margin(log_predictive, rows)

    def margin(self, log_predictive: Outputs, rows: Rows = None) -> Float[Tensor, " row"]:
        """By how much predictions already made lead towards the goal, in log probability."""
        margin = Margin().loss(log_predictive, self._labels(rows))
        return -margin if self.targeted else margin

    # ---- helpers --------------------------------------------------------------------------------------------------------

    def _targets(self, x: Batch, y: Labels, target: int | str) -> Labels:
        if target == "given":
            return y
        if isinstance(target, int):
            return torch.full_like(y, target)
        if target == "random":
            shift = torch.randint(1, self.num_classes, (len(y),), generator=self._generator).to(y)
            return (y + shift) % self.num_classes
        log_predictive = self.predict(x, judge=True)
        sign = 1.0 if target == "most_likely" else -1.0
        return (sign * log_predictive).scatter(1, y.unsqueeze(1), -torch.inf).argmax(1)

    def _draws(self, few: Few) -> tuple[Predictive, int | None]:
        """What a look is at, and how many draws of it."""
        post, all_draws = self.predictive, self.num_draws or self.predictive.num_draws
        if few is None or few[0] >= all_draws:
            return post, self.num_draws
        number, turn = few
        if not isinstance(post, HeldDraws):
            return post, number
        start = turn % (all_draws // number) * number
        if start not in self._parts:
            self._parts[start] = post[start : start + number]
        return self._parts[start], number

    def _labels(self, rows: Rows) -> Labels:
        return self.y if rows is None else self.y[rows]

    def _count(self, counter: Tensor, rows: Rows) -> None:
        if rows is None:
            counter += 1
        else:  # a point may stand in it several times
            counter.index_add_(0, rows, torch.ones_like(rows))

    def next_seed(self) -> int:
        """Of the draws at the next look."""
        return next_seed(self._generator) if self._fresh else self._seed


class ClassWeights(Pooled):
    """A weighted sum of the log predictive probabilities, `weights` `[batch, cls]`: makes their Jacobian."""

    def __init__(self, weights: Tensor):
        self.weights = weights

    def loss(self, log_predictive: Float[Tensor, "batch cls"], y: Labels) -> Float[Tensor, " batch"]:
        return (self.weights * log_predictive).sum(-1)


class ClassWeightsPerDraw(DrawMean):
    """The same sum of the mean over draws of their log probabilities, whose differences are those of the mean logits."""

    def __init__(self, weights: Tensor):
        self.weights = weights

    def per_draw(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> Float[Tensor, "draw batch"]:
        return (self.weights * outputs.log_softmax(-1)).sum(-1)

    def slope(self, outputs: DrawLogits, y: Labels, likelihood: Likelihood) -> DrawLogits:
        return self.weights - outputs.softmax(-1) * self.weights.sum(-1, keepdim=True)


AVERAGES: dict[str, Callable[[Tensor], Objective]] = {"probabilities": ClassWeights, "logits": ClassWeightsPerDraw}
"""Which function's boundaries an attack linearises, by what is averaged over draws. Those of the averaged probabilities are
the prediction's own, but where draws are sure of themselves their slopes vanish; those of the averaged logits are near it,
and there every draw pulls. Success is judged by the prediction under either."""


def next_seed(generator: torch.Generator) -> int:
    """A seed for fresh draws of a Predictive."""
    return int(torch.randint(2**62, (), generator=generator))


def needs_gradients(name: str, error: Exception) -> InputError:
    """What is said where a network is not differentiable."""
    return InputError(
        f"{name} found no gradient: {error}.",
        "Something between the input and the logits is not differentiable.",
        "Use an attack that only asks for predictions (Square, NES, Boundary), or give that step a differentiable stand-in: "
        "predictive.Preprocessed(post, function, surrogate).",
    )
