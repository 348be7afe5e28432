"""The basic iterative method, away from the true class or towards the least likely one."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bayesrob.attacks.goal import Target
from bayesrob.attacks.pgd import PGD

__all__ = ["BIM", "LeastLikely"]


@dataclasses.dataclass(frozen=True)
class BIM(PGD):
    """FGSM in small steps from the input itself (Kurakin et al. 2017, section 2.1): PGD without a random start.

    Args:
        steps: 10; their rule for 8-bit images is min(255 eps + 4, 1.25 * 255 eps), which is 32 at eps 0.1.
        step_size: None: eps / steps for l_inf, so that every component can cross the ball in one direction and no more
            (their step is one grey level, 1/255); for l_2 as in `PGD`.
        the others: see `PGD`.
    """

    steps: int = 10
    random_start: bool = False

    paper: ClassVar[str] = "Kurakin et al. 2017"

    def _step(self, step: int) -> float:
        if self.step_size is None and self.norm == "l_inf":
            return self.eps / self.steps
        return super()._step(step)


@dataclasses.dataclass(frozen=True)
class LeastLikely(BIM):
    """`BIM` towards the class that the clean input's posterior predictive holds least likely (Kurakin et al. 2017).

    Args:
        target: "least_likely" is the method; other rules are those of `Attack`.
        the others: see `BIM`.
    """

    target: Target = dataclasses.field(default="least_likely", kw_only=True)

    needs_classes: ClassVar[bool] = True
