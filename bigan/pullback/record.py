"""Record a critic's pullback, and hold one's own layers to autograd."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from bigan.precision import wide
from bigan.pullback.nodes import HungLogits
from bigan.pullback.registry import NoPullbackError
from bigan.pullback.trace import Cotangent, Trace


def record(
    critic: nn.Module, images: Tensor, condition: Tensor | None = None, held: int | None = None
) -> tuple[Tensor, Tensor]:
    """A critic's logits and, of the first `held` samples, the gradient of each with respect to its own image.

    Both are differentiable once, with respect to the critic's parameters, for any loss of them. At z = 0 a kink has its slope.
    Where nothing is recorded, this is the cheapest way to a critic's gradient at its images: two passes, a bit an activation.

    Args:
        critic: one for which `obstacle` knows none; its samples do not see each other.
        images: [B, …]; no gradient flows to them.
        condition: [B, …], for a critic that takes one.
        held: 1 … B; all where None. A sample that is not held costs what an ordinary logit does.

    Returns:
        logits, in the critic's shape and in float32 or wider, and the gradient, [held, …] in the type of the images.

    Raises:
        NoPullbackError: if a layer has none for this input, or the critic does not give one number a sample.
        ValueError: for another `held`, or a condition that the critic does not read.
    """
    if held is not None and not 1 <= held <= len(images):
        raise ValueError(f"held is {held}; it must be 1 … {len(images)}, the number of images")
    if torch_module._has_any_global_hook():
        raise NoPullbackError("there are global hooks")
    images = images.detach()
    device = images.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    trace = Trace(images, len(images) if held is None else held, condition, dtype)
    with torch.autocast(device, enabled=False):
        with torch.no_grad():
            values, pull = trace.run(critic, images)
            _check(values, trace)
            seed = torch.ones_like(values)
        gradient = pull(Cotangent(seed[: trace.held], seed)).held.to(images.dtype)
    logits, gradient = HungLogits.apply(
        wide(values), gradient, images[: trace.held], len(trace.held_terms), *trace.held_terms, *trace.free_terms
    )
    return logits, gradient


def _check(values: Any, trace: Trace) -> None:
    count = len(trace.images)
    if not isinstance(values, Tensor) or values.dim() == 0 or values.numel() != count or len(values) != count:
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise NoPullbackError(f"the critic gives {shape} for {count} images; one logit a sample is recorded")
    if not trace.condition_read:
        raise ValueError("the critic was given a condition and does not read it")


def verify(critic: nn.Module, images: Tensor, condition: Tensor | None = None) -> None:
    """Hold the recorded pullback of a critic to autograd's double backward, in float64: for the test of a layer of one's own.

    Args:
        critic: any critic; a copy is tested.
        images: [B, …], B ≥ 2, at which no activation is 0.
        condition: as the critic's.

    Raises:
        AssertionError: if a value or a gradient differs by more than 1e-9 of all gradients together.
        NoPullbackError: if the critic cannot be recorded.
        ValueError: for a single image.
    """
    if len(images) < 2:
        raise ValueError("verify needs two images or more, as it tests free samples beside held ones")
    images = images.detach().double()
    for held in (len(images), 1):
        results = []
        for recorded in (True, False):
            twin = copy.deepcopy(critic).double()
            inputs = (images,) if condition is None else (images, condition)
            if recorded:
                logits, gradient = record(twin, images, condition, held)
            else:
                leaf = images.requires_grad_()
                logits = twin(leaf, *inputs[1:])
                gradient = torch.autograd.grad(logits.sum(), leaf, create_graph=True)[0][:held]
            weights = torch.linspace(0.5, 2.0, gradient.numel(), dtype=torch.float64).view(gradient.shape)
            loss = (logits.flatten().square() * (1 + logits.mean())).sum() + (gradient * weights).square().sum()
            parameters = [p for p in twin.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            results.append(
                [logits.detach().flatten(), gradient.detach().flatten(), torch.cat([g.flatten() for g in gradients])]
            )
        for what, found, wanted in zip(("logits", "gradient", "parameters' gradients"), *results, strict=True):
            error = float((found - wanted).norm() / wanted.norm().clamp_min(1e-300))
            assert error <= 1e-9, f"{what} differ from autograd's by {error:.1e}, with {held} of {len(images)} samples held"
