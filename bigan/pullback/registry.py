"""Which layers have a pullback."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from bigan.pullback.trace import Pull, Trace


class NoPullbackError(Exception):
    """A critic, or a layer for its input, has no pullback; it takes the autograd way."""


@dataclass(frozen=True)
class Kind:
    """What `kind` was told of a class of layers."""

    run: Callable[[Any, Tensor, "Trace"], tuple[Tensor, "Pull"]]
    parts: Callable[[Any], Iterable[tuple[str, nn.Module]]]
    refuses: Callable[[Any], str | None]


Function = Callable[..., tuple[Tensor, "Pull"]]
_KINDS: dict[type, Kind] = {}


def children(layer: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """A layer's named children, its parametrizations aside."""
    return [(name, child) for name, child in layer.named_children() if name != "parametrizations"]


def kind(
    *types: type[nn.Module],
    parts: Callable[[Any], Iterable[tuple[str, nn.Module]]] = children,
    refuses: Callable[[Any], str | None] = lambda layer: None,
) -> Callable[[Function], Function]:
    """Teach `record` a kind of layer: decorate a function from (layer, input [B, …], trace) to (output, pullback).

    Only these very types are meant: a subclass may have another forward. A layer that is affine in its input needs no function:
    see `affine`. Test what you register by `verify`.

    Args:
        types: the classes.
        parts: the named layers within that must qualify too.
        refuses: why a layer of these settings has no pullback, or None.
    """

    def register(run: Function) -> Function:
        _KINDS.update(dict.fromkeys(types, Kind(run, parts, refuses)))
        return run

    return register


def kind_of(layer: nn.Module) -> Kind | None:
    """What is known of a layer's class, whatever its parameters are made of."""
    return _KINDS.get(parametrize.type_before_parametrizations(layer))


def refusal(layer: nn.Module) -> str | None:
    """Why this layer itself has no pullback, or None."""
    found = kind_of(layer)
    if found is None:
        return "is not known to be piecewise linear"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return "has hooks"
    if "forward" in vars(layer):
        return "has a forward of its own"
    return found.refuses(layer)


def obstacle(critic: nn.Module) -> str | None:
    """Why a critic cannot be recorded, naming the layer; None where it can, as far as its layers tell without an input."""
    if torch_module._has_any_global_hook():
        return "there are global hooks"
    return _obstacle(critic, "")


def _obstacle(layer: nn.Module, name: str) -> str | None:
    found, reason = kind_of(layer), refusal(layer)
    if found is None or reason is not None:
        where = f"layer {name!r}" if name else "the critic"
        return f"{where} ({parametrize.type_before_parametrizations(layer).__name__}) {reason}"
    for key, part in found.parts(layer):
        if reason := _obstacle(part, f"{name}.{key}" if name else key):
            return reason
    return None
