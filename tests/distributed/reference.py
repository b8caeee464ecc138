"""The game of the conformance test in plain torch, on one process and the whole batch: nothing of bigan is used here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH, ROUNDS, CRITIC_STEPS, LATENT = 8, 4, 2, 3
PENALTIES = ("none", "R1", "WGAN-GP")
R1_WEIGHT, GP_WEIGHT = 2.0, 4.0

Optimizers = Mapping[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]]


def networks() -> dict[str, nn.Module]:
    """First weights, the same wherever they are asked for."""
    torch.manual_seed(5)
    critic = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 3, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(32, 1), nn.Flatten(0),
    )  # fmt: skip
    generator = nn.Sequential(
        nn.Linear(LATENT, 16), nn.LeakyReLU(0.2), nn.Linear(16, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))
    )
    return {"critic": critic, "generator": generator}


def samples(start: int, count: int) -> dict[str, Tensor]:
    """Samples of the endless stream: images [N, 1, 8, 8] in [-1, 1], latents [N, LATENT], places between [N] in [0, 1]."""
    index = torch.arange(start, start + count, dtype=torch.float64)[:, None]
    images = torch.sin(index * 1.7 + torch.arange(64.0, dtype=torch.float64) * (1 + index % 5))
    latents = 2 * torch.sin(index * 12.9898 + torch.arange(LATENT, dtype=torch.float64) * 78.233)
    places = (torch.sin(index[:, 0] * 4.3) + 1) / 2
    return {"images": images.view(-1, 1, 8, 8).float(), "latents": latents.float(), "places": places.float()}


@dataclass
class Trace:
    """What a run left.

    Attributes:
        norms, losses: "MOVE/gradient_norm" and "MOVE/TERM" → mean of each round.
        least_norm: of all gradients.
        went: how far the weight went that went farthest.
        widest: the largest weight at the end.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    norms: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    least_norm: float = math.inf
    went: float = 0.0
    widest: float = 0.0


def play(
    penalty: str, optimizers: Optimizers, clip_norm: float | None, factor: Callable[[int], float], bound: float | None
) -> Trace:
    """Play all rounds; `factor` is that of the learning rate after so many images, `bound` what each weight is held to."""
    modules = networks()
    first = {name: [p.detach().clone() for p in module.parameters()] for name, module in modules.items()}
    trace = Trace(modules, {name: make(list(modules[name].parameters())) for name, make in optimizers.items()})
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in trace.optimizers.items()}
    position = 0
    for number in range(ROUNDS):
        seen: dict[str, list[float]] = {}
        for mover in ["critic"] * CRITIC_STEPS + ["generator"]:
            terms = LOSSES[mover](modules, samples(position, BATCH), penalty)
            position += BATCH
            parameters = list(modules[mover].parameters())
            gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters)
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            scale = 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient * scale
            trace.optimizers[mover].param_groups[0]["lr"] = rates[mover] * factor(number * BATCH)
            trace.optimizers[mover].step()
            if bound is not None:
                for parameter in parameters:
                    parameter.data = parameter.data.clamp(-bound, bound)
            trace.least_norm = min(trace.least_norm, norm)
            seen.setdefault(f"{mover}/gradient_norm", []).append(norm)
            for name, term in terms.items():
                seen.setdefault(f"{mover}/{name}", []).append(float(term.detach()))
        for name, values in seen.items():
            kept = trace.norms if name.endswith("/gradient_norm") else trace.losses
            kept.setdefault(name, []).append(sum(values) / len(values))
    trace.widest = max(float(p.detach().abs().max()) for module in modules.values() for p in module.parameters())
    trace.went = max(
        float((p.detach() - q).abs().max())
        for name, module in modules.items()
        for p, q in zip(module.parameters(), first[name], strict=True)
    )
    return trace


def critic_loss(modules: Mapping[str, nn.Module], batch: Mapping[str, Tensor], penalty: str) -> dict[str, Tensor]:
    critic, real = modules["critic"], batch["images"]
    fake = modules["generator"](batch["latents"]).detach()
    if penalty == "WGAN-GP":
        places = batch["places"].view(-1, 1, 1, 1)
        between = (places * real + (1 - places) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        norms = gradient.flatten(1).norm(dim=1)
        wasserstein = critic(fake).mean() - critic(real).mean()
        return {"adversarial": wasserstein, "gradient_penalty": GP_WEIGHT * (norms - 1).square().mean()}
    real = real.clone().requires_grad_()
    logits = critic(real)
    adversarial = functional.softplus(-logits).mean() + functional.softplus(critic(fake)).mean()
    if penalty == "none":
        return {"adversarial": adversarial}
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return {"adversarial": adversarial, "r1": R1_WEIGHT / 2 * gradient.square().sum((1, 2, 3)).mean()}


def generator_loss(modules: Mapping[str, nn.Module], batch: Mapping[str, Tensor], penalty: str) -> dict[str, Tensor]:
    logits = modules["critic"](modules["generator"](batch["latents"]))
    return {"adversarial": -logits.mean() if penalty == "WGAN-GP" else functional.softplus(-logits).mean()}


LOSSES = {"critic": critic_loss, "generator": generator_loss}
