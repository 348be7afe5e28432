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
from bayesrob.errors import InputError, check_name
from bayesrob.models.likelihoods import likelihood_from
from bayesrob.predictive.base import Predictive
from bayesrob.predictive.checks import check_num_draws
from bayesrob.predictive.fresh import FreshDraws
from bayesrob.predictive.gradients import DrawsFunction, Pullback
from bayesrob.predictive.held import grouped
from bayesrob.types import Bounds

__all__ = ["RandomResizePad"]

RATIO = 299 / 331
"""Smallest to padded side in Xie et al. 2018."""


class RandomResizePad(Predictive):
    """`post` as it sees images at a random size and place on a blank square (Xie, Wang, Zhang, Ren & Yuille 2018).

    A draw is one transformation for all points: side r uniform in smallest ... size - 1, the image resized to r x r, its
    upper left corner at row and column uniform in 0 ... size - r, zeros elsewhere; and one draw of `post` behind it, a new
    one where they are drawn fresh, else number i modulo how many are held. (Xie et al.: 299 to 330, on 331 x 331. The
    code of their submission to the NIPS 2017 competition draws 310 to 330 and also mirrors at random, which this does not.)

    Both steps are linear, A x B' for each channel, so gradients are exact. Attacks see new transformations at every look,
    averaged over as many as they ask for (Athalye et al. 2018, section 5.3, break the defence so), or with draws="held" one
    set: that overstates robustness, as does attacking `post` itself.

    Without `freeze` draws are made anew from the seed; `freeze(n)` holds n transformations, with the draws behind them.

    Args:
        post: the predictive behind.
        size: side of the padded square, what the networks of `post` take. None: `post.input_shape` says.
        smallest: side. None: size * 299 / 331, rounded (28: 25), so that images shrink onto a square of the size that the
            networks were trained on. For enlarging, as in the paper, give the images' own side, and a larger `size` (of 28
            pixels: 28 and 31) that the networks can take.
        input_shape: (channel, side, side) of the images that come in. None: those of `post`.
        num_draws: when no number is given. 30, the average of that submission.
        seed: of the predictive's own generator, which draws without a seed continue.
        mode: "bilinear" (the usual), or "nearest" (that code's); as `torch.nn.functional.interpolate`.
        bounds: of the inputs, where they are not those of `post`. They must hold zero, the padding, for the networks to see
            nothing out of bounds.

    Raises:
        InputError: no predictive, shapes that are no square images, sides that leave no choice. UnknownNameError: the mode.
    """

    kind = "random_resize_pad"

    def __init__(
        self,
        post: Predictive,
        size: int | None = None,
        smallest: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        num_draws: int = 30,
        seed: int = 0,
        mode: Literal["bilinear", "nearest"] = "bilinear",
        bounds: Bounds | None = None,
    ):
        if not isinstance(post, Predictive):
            raise InputError(
                f"RandomResizePad got a {type(post).__name__}.",
                "It puts a random step in front of a predictive.",
                "Wrap trained networks with predictive.from_modules([net], input_shape=...) first.",
            )
        check_name("mode", mode, ["bilinear", "nearest"])
        behind = _square(post.input_shape, "The predictive's input_shape") if size is None else int(size)
        super().__init__(
            nn.Identity(),
            likelihood=post.likelihood,
            bounds=post.bounds if bounds is None else bounds,
            input_shape=post.input_shape if input_shape is None else input_shape,
            out_features=post.out_features,
            info=post.info,
        )
        self.side = _square(self.input_shape, "input_shape")
        self.size, self.smallest = behind, round(behind * RATIO) if smallest is None else int(smallest)
        if not 1 <= self.smallest < self.size:
            raise InputError(
                f"Sides from {self.smallest} to below {self.size}.",
                "There is no side to draw.",
                f"Give 1 <= smallest < size, e.g. {round(self.size * RATIO)}.",
            )
        self.post = post[:]
        self.net = self.post.net
        self.mode: Literal["bilinear", "nearest"] = mode
        self.seed = seed
        self._num_draws = check_num_draws(num_draws)
        self._generator = rng.generator(seed, "fresh")
        self._held: Tensor | None = None
        """Of held draws each transformation and the number of the draw of `post` behind it, int64 `[draw, 4]`."""
        self._maps: dict[object, tuple[Tensor, Tensor]] = {}

    # ---- draws --------------------------------------------------------------------------------------------------------

    def sample(self, num_draws: int, generator: torch.Generator) -> Tensor:
        """Transformations, int64 `[draw, 3]`: side, row and column of the corner."""
        draws = []
        for _ in range(num_draws):  # one after the other, so that they do not depend on how many are made
            side = int(torch.randint(self.smallest, self.size, (), generator=generator))
            draws.append([side, *torch.randint(self.size - side + 1, (2,), generator=generator).tolist()])
        return torch.tensor(draws)

    @property
    def num_draws(self) -> int:
        return self._num_draws

    def functions(self, size: int, num_draws: int, seed: int, dtype: torch.dtype | None = None) -> Iterator[_Placed]:
        if self._held is not None:
            rows = self._held[:num_draws].tolist()
            behind = list(self.post.functions(1, self.post.num_draws, 0, dtype))
            for *transformation, number in rows:
                yield _Placed(self, tuple(transformation), behind[number])
            return
        draws = self.sample(num_draws, rng.generator(seed, "transformations")).tolist()
        if isinstance(self.post, FreshDraws):
            fresh = self.post.functions(1, num_draws, seed, dtype)
        else:
            fresh = itertools.cycle(list(self.post.functions(1, self.post.num_draws, 0, dtype)))
        for transformation, one in zip(draws, fresh, strict=False):
            yield _Placed(self, tuple(transformation), one)

    def resolve(self, num_draws: int | None, seed: int | None) -> tuple[int, int]:
        if self._held is not None:
            return self._num_draws if num_draws is None else check_num_draws(num_draws, self._num_draws), 0
        if seed is None:
            seed = int(torch.randint(2**62, (), generator=self._generator))
        return self._num_draws if num_draws is None else check_num_draws(num_draws), seed

    def freeze(self, num_draws: int | None = None, seed: int = 0) -> RandomResizePad:
        num_draws, seed = self.resolve(num_draws, seed)
        if self._held is not None:
            return self[:num_draws]
        fresh = isinstance(self.post, FreshDraws)
        post = self.post.freeze(num_draws, seed) if fresh else self.post
        number = torch.arange(num_draws) % post.num_draws
        frozen = self._before(post, num_draws)
        frozen._held = torch.cat([self.sample(num_draws, rng.generator(seed, "transformations")), number[:, None]], dim=1)
        frozen.info["frozen"] = {"num_draws": num_draws, "seed": seed}
        return frozen

    def __getitem__(self, index: int | slice) -> RandomResizePad:
        if self._held is not None:
            held = self._held[index : index + 1 or None] if isinstance(index, int) else self._held[index]
            if len(held) == 0:
                raise InputError(f"[{index}] of {self._num_draws} draws is empty.", "One is needed at least.", "Widen it.")
            picked = self._before(self.post, len(held))
            picked._held = held
            return picked
        if not isinstance(index, slice) or index.start not in (None, 0) or index.step not in (None, 1):
            raise InputError(
                f"[{index}] of fresh draws.",
                "They have no order: only their number can be chosen.",
                "freeze() them first.",
            )
        return self._before(self.post, self._num_draws if index.stop is None else index.stop)

    def _before(self, post: Predictive, num_draws: int) -> RandomResizePad:
        other = RandomResizePad(
            post, self.size, self.smallest, self.input_shape, num_draws, self.seed, self.mode, self.bounds
        )
        other.info = copy.deepcopy(self.info)
        return other

    # ---- files --------------------------------------------------------------------------------------------------------

    def contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = self.post.contents()
        tensors = {f"post/{name}": tensor for name, tensor in tensors.items()}
        if self._held is not None:
            tensors["held/rows"] = self._held
        shape = None if self.post.input_shape is None else list(self.post.input_shape)
        own = {name: getattr(self, name) for name in ("size", "smallest", "num_draws", "seed", "mode")}
        behind = {"kind": self.post.kind, "values": values, "input_shape": shape, "bounds": self.post.bounds}
        return tensors, {**own, "post": {**behind, "likelihood": self.post.likelihood.spec()}}

    @classmethod
    def restore(cls, net: nn.Module, tensors: dict[str, Tensor], values: dict[str, Any], **common: Any) -> RandomResizePad:
        from bayesrob.predictive.loading import KINDS  # which has a row for this class

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
        found = cls(post, input_shape=common["input_shape"], bounds=common["bounds"], **own)
        found._held = groups["held"].get("rows")
        return found

    # ---- helpers ------------------------------------------------------------------------------------------------------

    def chunk(self, x: Tensor, extra: int = 0) -> int:
        return 1  # every draw has inputs of its own

    def check_labels(self, x: Tensor, y: Tensor) -> None:
        if self.out_features is None and len(x):
            with torch.no_grad():
                self.out_features = self.logits(x[:1], 1, 0).shape[-1]
        super().check_labels(x, y)

    def maps(self, transformation: tuple[int, int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """A and B `[size, side]`, with which an image x becomes A x B'."""
        key = (transformation, like.dtype, like.device)
        if key not in self._maps:
            if len(self._maps) > 10_000:  # of a large picture's many places, not all can be kept
                self._maps.clear()
            side, *corner = transformation
            eye = torch.eye(self.side, dtype=torch.float64)[None]
            mode = "linear" if self.mode == "bilinear" else "nearest"
            resize = nn.functional.interpolate(eye, size=side, mode=mode)[0].mT
            found = [nn.functional.pad(resize, (0, 0, start, self.size - side - start)).to(like) for start in corner]
            self._maps[key] = found[0], found[1]
        return self._maps[key]


@dataclasses.dataclass(frozen=True)
class _Placed:
    """One draw: of the transformation, and of the network behind."""

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
        """The draw's own at the transformed images, then the transposed map."""
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
