"""A critic that is its own generator: an energy, sampled by gradient ascent (Du & Mordatch, 2019, algorithm 1)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.batch import DataSpec, modelled
from bigan.game import Context, Game, Move, Terms
from bigan.networks import Critic, judges_alone
from bigan.networks.dcgan import DCGANCritic
from bigan.precision import wide
from bigan.settings import Count, CountFrom0, NonNegative, Positive, Share, settings


@settings
class Energy:
    """Settings of the game, the paper's for images as defaults; reads the stream "real", images or points.

    There is no generator. D is raised at real samples and lowered where ascent on D itself leads: D(x) is the negative
    energy, and where the two meet, D's maxima are the data. A replay buffer goes on with the ascents of former rounds.

    Attributes:
        buffer: how many end points are kept; each is a sample in the memory of every rank and in every checkpoint.
        fresh: share of the ascents that start at noise and not in the buffer.
        steps: gradient steps of an ascent.
        step_size: of one step, times the gradient of D.
        noise: standard deviation of what is added in each step; √(2 · step_size) is Langevin's walk of D itself, less walks a
            colder one, 0 is plain ascent.
        decay: weight of the squares of D, which keep it from growing without end; the paper's α.
        span: ascents start uniform in [-span, span], in every coordinate, and stay there.
    """

    kind: Literal["energy"] = "energy"
    critic: Critic = field(default_factory=DCGANCritic)
    buffer: Count = 10_000
    fresh: Share = 0.05
    steps: CountFrom0 = 60
    step_size: Positive = 10.0
    noise: NonNegative = 0.005
    decay: NonNegative = 1.0
    span: Positive = 1.0

    def __post_init__(self) -> None:
        judges_alone(self.critic, "ascent")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The one player and its buffer, full of noise, for this data."""
        name, shape = modelled(data, "real")
        if name == "images" and self.span != 1:
            raise ValueError(f"span: {self.span:g}, but images lie in [-1, 1]; leave it at 1")
        replay = Replay((2 * torch.rand(self.buffer, *shape) - 1) * self.span)
        return Game(
            players={"critic": self.critic.build(shape)},
            averaged=frozenset({"critic"}),
            moves=(Move(player="critic", loss=self.loss, reads=("real",)),),
            sample=lambda ctx: {name: self.ascend(ctx, drawn(ctx)[1])},
            state=replay,
            after=lambda played: replay.put(played.kept["critic/slots"], played.kept["critic/ends"]),
            critique=lambda ctx, samples: wide(ctx.players["critic"](samples)),
        )

    def loss(self, ctx: Context) -> Terms:
        """E D(where ascent ends) - E D(x), and the squares of both."""
        slots, start = drawn(ctx)
        noise = (2 * ctx.uniform("start", *start.shape[1:]) - 1) * self.span
        anew = (ctx.uniform("fresh") < self.fresh).view(-1, *[1] * (start.ndim - 1))
        end = self.ascend(ctx, torch.where(anew, noise, start))
        ctx.keep("slots", slots)
        ctx.keep("ends", end)
        critic = ctx.players["critic"]
        real, fake = wide(critic(ctx.batch("real").modelled)), wide(critic(end))
        ctx.observe("D(real)", real)
        ctx.observe("D(fake)", fake)
        return {"contrast": fake.mean() - real.mean(), "decay": self.decay * (real.square().mean() + fake.square().mean())}

    def ascend(self, ctx: Context, x: Tensor) -> Tensor:
        """Climb D from x [N, …], with keyed noise; no parameter's gradient is touched. Returns the end points."""
        critic = ctx.players["critic"]
        for step in range(self.steps):
            x = x.detach().requires_grad_()
            with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
                (gradient,) = torch.autograd.grad(critic(x).sum(), x)
            x = x.detach() + self.step_size * gradient
            if self.noise:
                x = x + self.noise * ctx.normal(f"noise{step}", *x.shape[1:])
            x = x.clamp(-self.span, self.span)
        return x


class Replay(nn.Module):
    """Samples [slots, …], a buffer that is equal on every rank."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__()
        self.register_buffer("samples", samples)

    def put(self, slots: Tensor, samples: Tensor) -> None:
        """Overwrite slots [N] by samples [N, …]; of two for one slot the later stays."""
        rows = {slot: row for row, slot in enumerate(slots.tolist())}
        self.get_buffer("samples")[[*rows]] = samples[[*rows.values()]]


def drawn(ctx: Context) -> tuple[Tensor, Tensor]:
    """Slots [N] of the replay buffer, and what lies in them, [N, …]."""
    samples = ctx.state.get_buffer("samples")
    slots = ctx.integers("slot", len(samples))
    return slots, samples[slots]
