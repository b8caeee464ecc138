"""What an operator needs that writes over its first argument and has no derivative."""

from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("bigan", "FRAGMENT")


def register(name: str) -> None:
    """Make `bigan::name` refuse arguments that need a gradient, and count as a change of its first argument.

    An operator without a kernel for autograd is let through: the gradient would be lost in silence, and a tensor that a
    backward has saved would change unnoticed.
    """
    op = getattr(torch.ops.bigan, name).default

    def below_autograd(keyset: torch._C.DispatchKeySet, mutated: Tensor, *args: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in (mutated, *args)):
            raise RuntimeError(f"bigan::{name} has no derivative: call it under torch.no_grad()")
        with torch._C._AutoDispatchBelowAutograd():
            result = op.redispatch(keyset & torch._C._after_autograd_keyset, mutated, *args)
        if not mutated.is_inference():
            torch.autograd.graph.increment_version(mutated)
        return result

    _LIBRARY.impl(name, below_autograd, "Autograd", with_keyset=True)
