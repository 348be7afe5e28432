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

    Further settings: see `PGD`.

    Args:
        steps: gradient steps (10). Their rule for 8-bit images is min(255 eps + 4, 1.25 * 255 eps), which is 32 at eps 0.1.
        random_start: False starts at the input itself, which makes this method; True is `PGD`.

    Example:
        >>> z = br.attacks.BIM(eps=0.1, steps=3)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
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

    Further settings: see `BIM`.

    Args:
        target: "least_likely" is the method; other rules are those of `Attack`.

    Example:
        >>> z = br.attacks.LeastLikely(eps=0.1, steps=3)(post, x, y)
        >>> bool(((z - x).abs() <= 0.1 + 1e-6).all())
        True
    """

    target: Target = dataclasses.field(default="least_likely", kw_only=True)

    needs_classes: ClassVar[bool] = True
