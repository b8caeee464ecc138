"""A step in any game: a critic holds real against fake, under any objective and penalties; a generator persuades it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bigan.clock import Numbers
from bigan.game import Context
from bigan.networks import Critic, judges_alone
from bigan.networks.joint import both
from bigan.objectives import Adversarial, over_batch
from bigan.penalties import DRAGAN, Penalty, due_at, judge, mix, norm
from bigan.precision import wide


def mean_over(ctx: Context, objective: Adversarial) -> Callable[[Tensor], Tensor]:
    """The mean that an objective takes within its loss: over the global batch where it couples that, else over the rows."""
    return ctx.global_mean if objective.coupled else over_batch


def check_penalties(critic: Critic, penalties: Sequence[Penalty]) -> None:
    """Refuse penalties that do not fit the critic, or each other; ValueError."""
    if penalties:
        judges_alone(critic, "a gradient penalty")
    kinds = [penalty.kind for penalty in penalties]
    if len(kinds) != len(set(kinds)):
        raise ValueError(f"penalties: {', '.join(kinds)}: name each kind once")


class Outcome(NamedTuple):
    """What a contest came to.

    Attributes:
        terms: the critic's loss, and the penalties that are due, by name.
        logits: point → [N], or a map [N, h, w] of patches.
        gradients: point → [N, …], where a penalty is due.
    """

    terms: dict[str, Tensor]
    logits: dict[str, Tensor]
    gradients: dict[str, Tensor]


def contest(
    critic: nn.Module,
    objective: Adversarial,
    penalties: Sequence[Penalty],
    draws: Numbers,
    step: int,
    real: Tensor,
    fake: Tensor,
    condition: Tensor | Mapping[str, Tensor] | None = None,
    mean: Callable[[Tensor], Tensor] = over_batch,
) -> Outcome:
    """Judge both sides.

    Args:
        draws: N rows, of the points between and near; a move with several critics gives each its own: `within(name)`.
        step: the critic's own.
        real: [N, …].
        fake: [N, …], detached.
        condition: [N, …], of real and fake alike, or point → its own; see `bigan.penalties.judge`.
        mean: over the global batch; asked where the objective is coupled.
    """
    spread = next((penalty.spread for penalty in penalties if isinstance(penalty, DRAGAN)), 0.0)
    fake = fake.to(real.dtype)
    points: dict[str, Callable[[Tensor], object]] = {
        "real": lambda out: out.copy_(real),
        "fake": lambda out: out.copy_(fake),
        "mix": lambda out: mix(real, fake, draws.uniform("mix"), out),
        "near": lambda out: torch.add(real, draws.normal("near", *real.shape[1:]), alpha=spread, out=out),
    }
    logits, terms, gradients = judge(critic, penalties, step, points, real, condition)
    return Outcome({"adversarial": objective.critic(logits["real"], logits["fake"], mean), **terms}, logits, gradients)


def contest_headed(
    critic: nn.Module,
    objective: Adversarial,
    penalties: Sequence[Penalty],
    draws: Numbers,
    step: int,
    real: Tensor,
    fake: Tensor,
    asked: Sequence[str],
    mean: Callable[[Tensor], Tensor] = over_batch,
) -> tuple[Outcome, dict[str, Tensor]]:
    """`contest` of a critic with two heads, and what the second says of the sides that are asked for: side → [N, K].

    Where no penalty is due each side passes the trunk once; the recorded pullback of one that is due follows the first head.
    """
    sides = {"real": real, "fake": fake.to(real.dtype)}
    if due_at(step, penalties):
        outcome = contest(critic, objective, penalties, draws, step, real, fake, mean=mean)
        return outcome, {side: both(critic, sides[side])[1] for side in asked}
    passes = {side: both(critic, samples) for side, samples in sides.items()}
    logits = {side: wide(first) for side, (first, _) in passes.items()}
    adversarial = objective.critic(logits["real"], logits["fake"], mean)
    return Outcome({"adversarial": adversarial}, logits, {}), {side: passes[side][1] for side in asked}


def persuade(
    critic: Callable[[Tensor], Tensor],
    objective: Adversarial,
    fake: Tensor,
    real: Tensor | None = None,
    mean: Callable[[Tensor], Tensor] = over_batch,
) -> Tensor:
    """A generator's loss, [].

    Args:
        fake: [N, …].
        real: [N, …]; read where the objective `pairs`.
        mean: over the global batch; asked where the objective is coupled.
    """
    real_logits = against(critic, objective, real)
    return objective.generator(wide(critic(fake)), real_logits, mean)


def against(critic: Callable[[Tensor], Tensor], objective: Adversarial, real: Tensor | None) -> Tensor | None:
    """Logits [N] of real samples, where the objective `pairs` fakes with them."""
    if real is None or not objective.pairs:
        return None
    with torch.no_grad():
        return wide(critic(real))


def observe(ctx: Context, objective: Adversarial, outcome: Outcome, of: str = "", *, estimate: bool = True) -> None:
    """Log how a critic fares.

    Args:
        of: which critic, where a move has several.
        estimate: whether what it says of real and fake samples estimates the objective's divergence of them.
    """
    real, fake = (outcome.logits[name].detach() for name in ("real", "fake"))
    scores = {"real": objective.score(real), "fake": objective.score(fake)}
    for name, score in scores.items():
        ctx.observe(f"{of}D({name})", score)
    ctx.observe(f"{of}accuracy", objective.right(real, fake))
    if objective.probability:
        ctx.observe(f"{of}distance_from_half", (torch.cat([*scores.values()]) - 0.5).abs())
    if estimate:
        for name, value in objective.estimate(real, fake).items():
            ctx.observe(f"{of}estimate/{name}", value)
    for point, gradient in outcome.gradients.items():
        ctx.observe(f"{of}input_gradient({point})", norm(gradient.detach()))
