"""Unrolled GANs: the generator plays against the critic as it would become in k steps (Metz et al., 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bigan.settings import Count, Positive, settings

Judge = Callable[[Tensor], Tensor]
"""A critic as a function from samples to its raw outputs."""


@settings
class Unroll:
    """How far the generator looks ahead.

    Attributes:
        steps: k.
        lr: η of the critic's k steps, which are plain gradient descent (equation 7).
    """

    steps: Count = 5
    lr: Positive = 0.1


def ahead(unroll: Unroll, critic: nn.Module, loss: Callable[[Judge], Tensor], mean: Callable[[Tensor], Tensor]) -> Judge:
    """The critic after k steps down its loss, as a function that knows how it came about.

    θ_{i+1} = θ_i - η ∇_θ loss(θ_i), every step on the same samples. What the critic that is returned says of a sample can
    be differentiated with respect to all that the loss saw, through the k steps (equation 8; the term that looks ahead is
    the second of equation 10). The critic itself stays as it is.

    Args:
        unroll: k and η.
        critic: must not couple the samples by batch norm. Its parameters may be frozen.
        loss: of a critic, a mean over this rank's samples; the generated ones among them not detached.
        mean: over all ranks' samples, of [rows, …]: `Context.global_mean`. One collective a step.
    """
    weights = {name: parameter.detach().clone().requires_grad_() for name, parameter in critic.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in critic.named_buffers()}  # spectral norm's go along

    def at(weights: dict[str, Tensor]) -> Judge:
        def judge(samples: Tensor) -> Tensor:
            with torch.compiler.set_stance("force_eager"):  # a compiled function can be differentiated only once
                return functional_call(critic, {**weights, **buffers}, (samples,))

        return judge

    sizes = [weight.numel() for weight in weights.values()]
    for _ in range(unroll.steps):
        value = loss(at(weights))
        with torch.autocast(value.device.type, enabled=False):
            gradients = torch.autograd.grad(
                value, list(weights.values()), create_graph=True, allow_unused=True, materialize_grads=True
            )
            flat = mean(torch.cat([gradient.flatten() for gradient in gradients])[None]).split(sizes)
            weights = {
                name: weight - unroll.lr * part.view_as(weight)
                for (name, weight), part in zip(weights.items(), flat, strict=True)
            }
    return at(weights)
