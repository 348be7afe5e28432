"""A predictive that sees its images randomly resized and padded, anew at every draw."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from bayesrob import rng
from bayesrob.arguments import whole
from bayesrob.errors import InputError, check_name
from bayesrob.models import likelihood_from
from bayesrob.predictive.base import KINDS, Predictive
from bayesrob.predictive.checks import check_num_draws, check_prefix
from bayesrob.predictive.fresh import FreshDraws
from bayesrob.predictive.gradients import DrawsFunction, Pullback
from bayesrob.predictive.held import grouped
from bayesrob.predictive.wrapped import Wrapped
from bayesrob.types import Bounds

__all__ = ["HeldResizePad", "RandomResizePad"]

RATIO = 299 / 331
"""Smallest to padded side in Xie et al. 2018."""

MAPS = 10_000
"""Transformations whose matrices are cached; a large picture has more places than memory could hold."""


class RandomResizePad(Wrapped):
    """`post` as it sees images at a random size and place on a blank square (Xie, Wang, Zhang, Ren & Yuille 2018).

    A draw is one transformation for all points: the side r is uniform in smallest ... size - 1, the image is resized to
    r x r, its upper left corner is at a row and a column uniform in 0 ... size - r, and zeros are elsewhere. Behind the
    transformation is one draw of `post`: a new one where its draws are fresh, else number i modulo how many are held. (Xie
    et al. draw sides 299 to 330, on 331 x 331. The code of their submission to the NIPS 2017 competition draws 310 to 330
    and also mirrors at random, which this does not.)

    Both steps are linear, A x B' for each channel, so gradients are exact. Attacks see new transformations at every model
    evaluation, averaged over as many as they ask for (Athalye et al. 2018, section 5.3, break the defence so). With
    draws="held" they see one set of them: that overstates robustness, as does attacking `post` itself.

    Without `freeze` draws are made anew from the seed; `freeze(n)` holds n transformations, with the draws behind them.

    Args:
        post: the predictive behind.
        size: side of the padded square, which the networks of `post` take. None: `post.input_shape` says.
        smallest: smallest side of a resized image. None: size * 299 / 331, rounded (28: 25), so that images shrink onto a
            square of the size that the networks were trained on. For enlarging, as in the paper, give the images' own side,
            and a larger `size` (for 28 pixels: 28 and 31) that the networks can take.
        input_shape: (channel, side, side) of the images that come in. None: those of `post`.
        num_draws: number of draws where none is given. 30, the average of the submission to the competition.
        seed: seed of the predictive's own generator, which draws without a seed continue.
        mode: "bilinear" (the usual), or "nearest" (as in the submission); as `torch.nn.functional.interpolate`.
        bounds: bounds of the inputs, where they are not those of `post`. They must hold zero, the padding, or the networks
            see values out of bounds.

    Raises:
        InputError: no predictive, shapes that are no square images, sides that leave no choice.
        UnknownNameError: an unknown mode.

    Example:
        >>> images = br.predictive.from_modules([br.nets.mlp(64, (8,), 2).eval()], input_shape=(1, 8, 8))
        >>> defended = br.predictive.RandomResizePad(images, smallest=6, num_draws=4)
        >>> defended.logits(x.new_zeros(3, 1, 8, 8)).shape
        torch.Size([4, 3, 2])
    """

    kind = "random_resize_pad"

    def __init__(
        self,
        post: Predictive,
        size: int | None = None,
        smallest: int | None = None,
        *,
        input_shape: tuple[int, ...] | None = None,
        num_draws: int = 30,
        seed: int = 0,
        mode: Literal["bilinear", "nearest"] = "bilinear",
        bounds: Bounds | None = None,
    ):
        shape = getattr(post, "input_shape", None)
        super().__init__(post, bounds=bounds, input_shape=shape if input_shape is None else input_shape)
        check_name("mode", mode, ["bilinear", "nearest"])
        if size is None:
            self.size = _square(shape, "The predictive's input_shape")
        else:
            self.size = whole("size", size, "It is the side of the padded square.", least=2)
        self.side = _square(self.input_shape, "input_shape")
        self.smallest = round(self.size * RATIO) if smallest is None else smallest
        why = f"Sides are drawn from it up to below size, {self.size}."
        self.smallest = whole("smallest", self.smallest, why, most=self.size - 1)
        self.mode: Literal["bilinear", "nearest"] = mode
        self._generator = rng.generator(seed, "fresh")
        self.seed = int(seed)
        self._num_draws = check_num_draws(num_draws)
        self._maps: dict[object, tuple[Tensor, Tensor]] = {}

    # ---- draws --------------------------------------------------------------------------------------------------------

    def sample(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """Draw transformations, int64 `[draw, 3]`: side, row and column of the corner."""
        draws = []
        for _ in range(num_draws):  # one after the other, so that they do not depend on how many are made
            side = int(torch.randint(self.smallest, self.size, (), generator=generator))
            draws.append([side, *torch.randint(self.size - side + 1, (2,), generator=generator).tolist()])
        return torch.tensor(draws)

    @property
    def num_draws(self) -> int:
        return self._num_draws

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[_Placed]:
        draws = self.sample(num_draws, rng.generator(seed, "transformations")).tolist()
        if isinstance(self.post, FreshDraws):
            behind = self.post.functions(1, num_draws, seed, dtype)
        else:
            behind = itertools.cycle(list(self.post.functions(1, self.post.num_draws, 0, dtype)))
        for transformation, draw in zip(draws, behind, strict=False):
            yield _Placed(self, tuple(transformation), draw)

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        if seed is None:
            seed = int(torch.randint(2**62, (), generator=self._generator))
        return self._num_draws if num_draws is None else check_num_draws(num_draws), int(seed)

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> RandomResizePad:
        num_draws, seed = self.resolve(num_draws, seed)
        post = self.post.freeze(num_draws, seed) if isinstance(self.post, FreshDraws) else self.post
        number = torch.arange(num_draws) % post.num_draws
        drawn = self.sample(num_draws, rng.generator(seed, "transformations"))
        frozen = HeldResizePad(post, torch.cat([drawn, number[:, None]], dim=1), **self._settings_of_steps())
        frozen.info = {**copy.deepcopy(self.info), "frozen": {"num_draws": num_draws, "seed": seed}}
        return frozen

    def __getitem__(self, index: int | slice) -> RandomResizePad:
        num_draws = check_prefix(index, self._num_draws)
        fewer = RandomResizePad(self.post, num_draws=num_draws, **self._settings_of_steps())
        fewer.info = copy.deepcopy(self.info)
        return fewer

    def _settings_of_steps(self) -> dict[str, Any]:
        """The arguments of the constructor but for `post` and the number of draws."""
        names = ("size", "smallest", "input_shape", "seed", "mode", "bounds")
        return {name: getattr(self, name) for name in names}

    # ---- files --------------------------------------------------------------------------------------------------------

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = self.post.contents()
        tensors = {f"post/{name}": tensor for name, tensor in tensors.items()}
        shape = None if self.post.input_shape is None else list(self.post.input_shape)
        own = {name: getattr(self, name) for name in ("size", "smallest", "num_draws", "seed", "mode")}
        behind = {"kind": self.post.kind, "values": values, "input_shape": shape, "bounds": self.post.bounds}
        return tensors, {**own, "post": {**behind, "likelihood": self.post.likelihood.spec()}}

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> RandomResizePad:
        groups, own = grouped(tensors, "post", "held"), dict(values)
        behind = own.pop("post")
        bounds, shape = behind["bounds"], behind["input_shape"]
        post = KINDS[behind["kind"]].restore(
            net,
            groups["post"],
            behind["values"],
            likelihood=likelihood_from(behind["likelihood"]),
            bounds=None if bounds is None else tuple(bounds),
            input_shape=None if shape is None else tuple(shape),
            out_features=common["out_features"],
            info=common["info"],
        )
        own |= {"input_shape": common["input_shape"], "bounds": common["bounds"]}
        if "rows" not in groups["held"]:
            return RandomResizePad(post, **own)
        del own["num_draws"]
        return HeldResizePad(post, groups["held"]["rows"], **own)

    # ---- helpers ------------------------------------------------------------------------------------------------------

    def chunk(self, x: Tensor, extra: int = 0) -> int:
        return 1  # every draw has inputs of its own

    def maps(self, transformation: tuple[int, int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return A and B `[size, side]`, with which an image x becomes A x B'.

        Args:
            transformation: side, row and column.
            like: a tensor of the dtype and on the device that is wanted.
        """
        key = (transformation, like.dtype, like.device)
        if key not in self._maps:
            if len(self._maps) > MAPS:
                self._maps.clear()
            side, *corner = transformation
            eye = torch.eye(self.side, dtype=torch.float64)[None]
            mode = "linear" if self.mode == "bilinear" else "nearest"
            resize = nn.functional.interpolate(eye, size=side, mode=mode)[0].mT
            rows, columns = [nn.functional.pad(resize, (0, 0, start, self.size - side - start)).to(like) for start in corner]
            self._maps[key] = rows, columns
        return self._maps[key]


class HeldResizePad(RandomResizePad):
    """Transformations that were drawn once, each with the draw behind it; `RandomResizePad.freeze` makes them.

    Args:
        post: the predictive behind, whose draws are held.
        rows: for each draw side, row and column of its transformation and the number of its draw of `post`, int64
            `[draw, 4]`.
        **steps: as in `RandomResizePad`, without `num_draws`.
    """

    def __init__(self, post: Predictive, rows: Tensor, **steps: Any):
        super().__init__(post, num_draws=len(rows), **steps)
        self.rows = rows

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[_Placed]:
        behind = list(self.post.functions(1, self.post.num_draws, 0, dtype))
        for *transformation, number in self.rows[:num_draws].tolist():
            yield _Placed(self, tuple(transformation), behind[number])

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        return self.num_draws if num_draws is None else check_num_draws(num_draws, self.num_draws), 0

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> RandomResizePad:
        return self[: self.resolve(num_draws, seed)[0]]

    def __getitem__(self, index: int | slice) -> HeldResizePad:
        rows = self.rows[index : index + 1 or None] if isinstance(index, int) else self.rows[index]
        if len(rows) == 0:
            raise InputError(f"[{index}] of {self.num_draws} draws is empty.", "One is needed at least.", "Widen it.")
        part = HeldResizePad(self.post, rows, **self._settings_of_steps())
        part.info = copy.deepcopy(self.info)
        return part

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().contents()
        return {**tensors, "held/rows": self.rows}, values

    def _get_name(self) -> str:
        return "RandomResizePad"  # in its `repr`, by which the folders of audits made before know it


@dataclasses.dataclass(frozen=True)
class _Placed:
    """One draw: a transformation, and a draw of the network behind it."""

    owner: RandomResizePad
    transformation: tuple[int, ...]
    draws: DrawsFunction
    num_draws: int = 1

    def __call__(self, x: Tensor, per_draw: bool = False) -> Tensor:
        return self.draws(self.placed(x), per_draw)

    def placed(self, x: Tensor) -> Tensor:
        rows, columns = self._maps(x)
        return rows @ x @ columns.mT

    def vjp(self, x: Tensor, per_draw: bool = False) -> tuple[Tensor, Pullback]:
        """That of the network's draw at the transformed images, then the transposed maps."""
        rows, columns = self._maps(x)
        value = self.placed(x)
        outputs, inner = self.draws.vjp(value, per_draw)

        def pullback(slope: Tensor, into: Tensor) -> None:
            at_value = torch.zeros_like(value)
            inner(slope, at_value)
            into.add_(rows.mT @ at_value @ columns)

        return outputs, pullback

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.owner.maps(cast(tuple[int, int, int], self.transformation), x)


def _square(shape: tuple[int, ...] | None, what: str) -> int:
    if shape is None or len(shape) != 3 or shape[1] != shape[2]:
        raise InputError(
            f"{what} is {shape}.",
            "Square images are resized, [channel, side, side].",
            "Give input_shape=(channel, side, side), and size where the networks take another.",
        )
    return shape[1]
