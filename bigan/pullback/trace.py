"""One pass through a critic: what a layer's pullback may look at, and how layers compose."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bigan.ops import row_dot
from bigan.precision import wide
from bigan.pullback.registry import NoPullbackError, kind_of, refusal


@dataclass(frozen=True)
class Cotangent:
    """The gradient of every logit with respect to one layer's output, on its way down to the images.

    Attributes:
        held: [P, …], of the samples whose gradient is asked for; recorded by autograd.
        whole: [P or B, …], not recorded: the same values and, until the first layer, those of the free samples behind them.
    """

    held: Tensor
    whole: Tensor

    def map(self, adjoint: Callable[[Tensor], Tensor]) -> "Cotangent":
        """Send the rows through a linear map without parameters."""
        held = adjoint(self.held)
        if len(self.whole) == len(self.held):
            return Cotangent(held, held.detach())
        with torch.no_grad():
            return Cotangent(held, adjoint(self.whole))

    def to(self, dtype: torch.dtype) -> "Cotangent":
        """In another type."""
        return self if self.held.dtype == dtype else self.map(lambda g: g.to(dtype))

    def plus(self, other: "Cotangent") -> "Cotangent":
        """The sum, of as many rows as both have."""
        held = self.held + other.held
        rows = min(len(self.whole), len(other.whole))
        return Cotangent(held, held.detach() if rows == len(held) else self.whole[:rows] + other.whole[:rows])


Pull = Callable[[Cotangent], Cotangent]
"""From the cotangent at a layer's output to the cotangent at its input."""


class Trace:
    """One pass through a critic.

    The batch is [held | free]: of the first P samples the gradient is asked for, of the rest the logit alone. The logits'
    derivative is that of ⟨g_0, images⟩ + Σ terms: for a held sample each layer adds a term for what it adds to its linear map
    (a bias), as its weights are reached through the cotangent; for a free one also a term for its weights.

    Attributes:
        images: what the critic is given; below its first layer free samples need no cotangent.
        held: P.
        held_terms, free_terms: [P] and [B - P] each.
    """

    def __init__(self, images: Tensor, held: int, condition: Tensor | None, dtype: torch.dtype | None) -> None:
        self.images, self.held = images, held
        self.held_terms: list[Tensor] = []
        self.free_terms: list[Tensor] = []
        self.condition_read = condition is None
        self._condition, self._dtype = condition, dtype
        self._recording = torch.is_grad_enabled()
        self._parameters: dict[tuple[nn.Module, str], Tensor] = {}
        # Which tensor a kink may overwrite: the newest, if the chain that made it passes it on. And whether a tensor that two
        # branches read may be the input, which torch's in-place layers would overwrite.
        self._newest: Tensor | None = None
        self._spare: Tensor | None = None
        self._shared = False

    @property
    def condition(self) -> Tensor:
        """[B, …], the critic's condition.

        Raises:
            NoPullbackError: if it was given none.
        """
        if self._condition is None:
            raise NoPullbackError("the critic reads a condition, and was given none")
        self.condition_read = True
        return self._condition

    def run(self, layer: nn.Module, x: Tensor) -> tuple[Tensor, Pull]:
        """A layer's output, unrecorded, and its pullback.

        Raises:
            NoPullbackError: if the layer has none, or none for this input.
        """
        self._spare = None
        return self._run(layer, x)

    def chain(self, layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Pull]:
        """Layers one after the other."""
        entry, pulls = x, []
        for layer in layers:
            # Not what came in, which a layer may have handed on as it is: whoever runs this chain may read it again.
            self._spare = x if x is not entry and x is self._newest else None
            x, pull = self._run(layer, x)
            pulls.append(pull)

        def pull_all(above: Cotangent) -> Cotangent:
            for pull in reversed(pulls):
                above = pull(above)
            return above

        return x, pull_all

    def branches(self, layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, Pull]:
        """The sum of layers that read the same input and have outputs of one shape."""
        outputs: list[Tensor] = []
        pulls: list[Pull] = []
        for layer in layers:
            self._spare, self._shared = None, True
            y, pull = self._run(layer, x)
            outputs.append(y)
            pulls.append(pull)
        self._shared = False
        if len({y.shape for y in outputs}) > 1:
            raise NoPullbackError(f"branches of shapes {', '.join(str(list(y.shape)) for y in outputs)} are not recorded")

        def pull_sum(above: Cotangent) -> Cotangent:
            total = pulls[0](above)
            for pull in pulls[1:]:
                total = total.plus(pull(above))
            return total

        return self.made(sum(outputs[1:], start=outputs[0])) if len(outputs) > 1 else outputs[0], pull_sum

    def _run(self, layer: nn.Module, x: Tensor) -> tuple[Tensor, Pull]:
        found, reason = kind_of(layer), refusal(layer)
        if found is None or reason is not None:
            raise NoPullbackError(f"{type(layer).__name__} {reason}")
        y, pull = found.run(layer, x, self)
        # Not the tensors: the closure would keep every activation.
        types, shape, at_images = (y.dtype, x.dtype), x.shape, x is self.images

        def checked(above: Cotangent) -> Cotangent:
            below = pull(above.to(types[0])).to(types[1])
            if len(below.whole) != shape[0] and not at_images:
                raise RuntimeError(f"the pullback of {type(layer).__name__} dropped the free samples")
            if below.held.shape[1:] != shape[1:]:
                gives = list(below.held.shape[1:])
                raise RuntimeError(f"the pullback of {type(layer).__name__} gives {gives} a sample for {list(shape[1:])}")
            return below

        return y, checked

    def made(self, y: Tensor) -> Tensor:
        """Say that a layer's output is new memory that nobody else reads, so that a kink after it may work in place."""
        self._newest, self._shared = y, False
        return y

    def may_overwrite(self, x: Tensor) -> bool:
        """Whether nobody else reads x."""
        return x is self._spare

    def recording(self) -> AbstractContextManager[object]:
        """Within, autograd records as it does around the pass: for what a layer computes from its parameters alone."""
        return torch.set_grad_enabled(self._recording)

    def parameter(self, layer: nn.Module, name: str) -> Tensor:
        """A layer's parameter, recorded, read once a pass: spectral norm iterates at each reading."""
        key = (layer, name)
        if key not in self._parameters:
            with self.recording():
                self._parameters[key] = getattr(layer, name)
        return self._parameters[key]

    def autocast(self) -> AbstractContextManager[object]:
        """Within, layers compute in the type that autocast asked for around the pass."""
        device = self.images.device.type
        # Without the cache: what is cast unrecorded would be found again where it is recorded.
        return torch.autocast(device, self._dtype, enabled=self._dtype is not None, cache_enabled=False)

    def cast(self, x: Tensor) -> Tensor:
        """An input or a weight in the type in which maps with weights compute: autocast's."""
        if self._dtype is None or x.dtype == torch.float64:
            return x
        with self.recording():
            return x.to(self._dtype)

    def add(self, above: Cotangent, value: Tensor) -> None:
        """Say that `value` [B, …], recorded, was added to the output at which the cotangent is `above`."""
        self.add_held(row_products(above.held, value[: self.held]))
        self.add_free(row_products(above.whole[self.held :], value[self.held :]))

    def add_bias(self, bias: Tensor, held: Tensor, free: Tensor) -> None:
        """A bias [C] added to a layer's output; `held`, `free`: the cotangent, summed over all but samples and channels."""
        self.add_held(wide(held) @ wide(bias))
        self.add_free(wide(free) @ wide(bias))

    def add_held(self, terms: Tensor) -> None:
        """What a layer adds to the held samples' logits, [P]; only its derivative is used."""
        self.held_terms.append(terms)

    def add_free(self, terms: Tensor) -> None:
        """What a layer adds to the free samples' logits, [B - P]; only its derivative is used."""
        if len(terms):
            self.free_terms.append(terms)

    def refuse_shared(self, what: str) -> None:
        """Refuse a layer that works in place on an input that another branch reads."""
        if self._shared:
            raise NoPullbackError(f"{what} overwrites what another branch reads")


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """Each sample's inner product, [N, …] and [N, …] → [N], in float32 or wider."""
    return row_dot(wide(a), wide(b))
