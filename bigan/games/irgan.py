"""IRGAN for items (Wang et al., SIGIR 2017): a generator picks some, a critic tells them from those that users like."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt, Lt
from torch import Tensor, nn

from bigan.batch import DataSpec
from bigan.clock import Clock
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.precision import wide
from bigan.settings import Count, NonNegative, Positive, settings
from bigan.uses import Recommendation


@settings
class IRGAN:
    """Settings of the game, the authors' as defaults; reads the stream "real": users and what they like (`kind: ratings`).

    Both players are matrix factorisations. All losses are means over users: the authors' SGD takes a user at a time, so that
    its rate times the batch is the same step. Of a user, the critic's and the pretraining's are sums over the user's likings,
    which the draws stand for; the generator's is a mean over its draws.

    Attributes:
        width: of the vectors of users and items.
        spread: first vectors are uniform in [-spread, spread].
        temperature: of the generator where the critic learns from what it picks.
        mixing: share of the user's own items among what the generator learns from; below 1.
        draws: how many items a move draws for a user.
        decay: weight of the squares of each vector that the critic's loss looks up, each time that it does.
        phase_kimg: how long the critic learns, then the generator, by turns.
        pretrain_kimg: until then the generator learns by dynamic negative sampling, and the critic rests.
        pretrain_weight: a factor of that loss, as the generator has one learning rate.
        pretrain_decay: of that loss, as `decay`.
        negatives: of how many items that a user is not known to like the best is set against one that it likes.
    """

    kind: Literal["irgan"] = "irgan"
    width: Count = 5
    spread: Positive = 0.05
    temperature: Positive = 0.2
    mixing: Annotated[float, Gt(0), Lt(1)] = 0.2
    draws: Count = 64
    decay: NonNegative = 0.1
    phase_kimg: tuple[Positive, Positive] = (94.2, 47.1)
    pretrain_kimg: NonNegative = 0.0
    pretrain_weight: Positive = 1.0
    pretrain_decay: NonNegative = 0.0
    negatives: Count = 5

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """Two factorisations of these users and items."""
        spec = data.get("real")
        if spec is None or not spec.classes or not spec.attributes:
            raise ValueError("data.real: has no users and items; the game reads data of kind: ratings")
        users, items = spec.classes, spec.attributes
        players = {name: Factors(len(users), len(items), self.width, self.spread) for name in ("generator", "critic")}
        pretraining = (
            Move(
                player="generator",
                name="pretraining",
                loss=self.pretraining_loss,
                reads=("real",),
                when=lambda clock, state: self._pretrains(clock),
            ),
        )
        return Game(
            players=players,
            averaged=frozenset({"generator"}),
            moves=(
                *(pretraining if self.pretrain_kimg else ()),
                Move(player="critic", loss=self.critic_loss, reads=("real",), when=self._turn(of_critic=True)),
                Move(player="generator", loss=self.generator_loss, reads=("real",), when=self._turn(of_critic=False)),
            ),
            sample=sample,
            uses=(Recommendation(users, items, lambda ctx, chosen: wide(ctx.players["generator"](chosen))),),
        )

    def critic_loss(self, ctx: Context) -> Terms:
        """Binary cross-entropy of what users like against as many items that the generator picks (equation 2)."""
        users, liked, count = _read(ctx)
        with torch.no_grad():
            odds = (wide(ctx.players["generator"](users)) / self.temperature).softmax(1)
            picked = drawn(odds, ctx.uniform("picked", self.draws))
        critic = ctx.players["critic"]
        real = wide(critic(users))
        fake, share = real.gather(1, picked), count / self.draws
        looked_up = liked.scatter_add(1, picked, share.expand_as(fake))
        ctx.observe("D(liked)", (real.sigmoid() * liked).sum(1) / count[:, 0])
        ctx.observe("D(picked)", fake.sigmoid())
        return {
            "liked": (F.softplus(-real) * liked).sum(1).mean(),
            "picked": (F.softplus(fake) * share).sum(1).mean(),
            "decay": self.decay * squares(critic, users, looked_up),
        }

    def generator_loss(self, ctx: Context) -> Terms:
        """-E log p · reward of items drawn from a mixture with the user's own, weighed by p/q (equation 5; section 3.2)."""
        users, liked, count = _read(ctx)
        log_p = wide(ctx.players["generator"](users)).log_softmax(1)
        with torch.no_grad():
            p = log_p.exp()
            q = (1 - self.mixing) * p + self.mixing * liked / count
            picked = drawn(q, ctx.uniform("picked", self.draws))
            reward = 2 * wide(ctx.players["critic"](users)).gather(1, picked).sigmoid() - 1
            weight = (p / q).gather(1, picked)
        ctx.observe("reward", reward)
        ctx.observe("liked", liked.gather(1, picked))
        return {"policy": -(log_p.gather(1, picked) * reward * weight).mean()}

    def pretraining_loss(self, ctx: Context) -> Terms:
        """Each liking above the best-scored of a few other items (Zhang et al., dynamic negative sampling, SIGIR 2013)."""
        users, liked, count = _read(ctx)
        generator = ctx.players["generator"]
        scores = wide(generator(users))
        own = drawn(liked, ctx.uniform("own", self.draws))
        others = drawn(1 - liked, ctx.uniform("others", self.draws * self.negatives))
        best = scores.gather(1, others).unflatten(1, (self.draws, -1)).argmax(2, keepdim=True)
        other = others.unflatten(1, (self.draws, -1)).gather(2, best)[:, :, 0]
        share = (count / self.draws).expand(-1, self.draws)
        margin = scores.gather(1, own) - scores.gather(1, other)
        ctx.observe("right", (margin > 0).float())
        looked_up = torch.zeros_like(liked).scatter_add(1, own, share).scatter_add(1, other, share)
        terms = {
            "pairs": (F.softplus(-margin) * share).sum(1).mean(),
            "decay": self.pretrain_decay * squares(generator, users, looked_up),
        }
        return {name: self.pretrain_weight * term for name, term in terms.items()}

    def _pretrains(self, clock: Clock) -> bool:
        return clock.round < _rounds(self.pretrain_kimg, clock)

    def _turn(self, *, of_critic: bool) -> Callable[[Clock, nn.Module], bool]:
        """Whose turn it is; in rounds, so that each has one however short its phase is."""

        def when(clock: Clock, state: nn.Module) -> bool:
            if self._pretrains(clock):
                return False
            critic, generator = (_rounds(kimg, clock) for kimg in self.phase_kimg)
            since = clock.round - _rounds(self.pretrain_kimg, clock)
            return (since % (critic + generator) < critic) == of_critic

        return when


class Factors(nn.Module):
    """Scores of all items for each of some users: u · v + b."""

    def __init__(self, users: int, items: int, width: int, spread: float) -> None:
        super().__init__()
        self.users = nn.Embedding(users, width)
        self.items = nn.Parameter(torch.empty(items, width))
        self.bias = nn.Parameter(torch.zeros(items))
        for vectors in (self.users.weight, self.items):
            nn.init.uniform_(vectors, -spread, spread)

    def forward(self, users: Tensor) -> Tensor:
        """[N] int64 → [N, items]."""
        return torch.addmm(self.bias, self.users(users), self.items.T)


def squares(factors: nn.Module, users: Tensor, looked_up: Tensor) -> Tensor:
    """½ (‖u‖² + ‖v‖² + b²), summed over the items that are looked up [N, items] times, and a mean over users [N]."""
    vectors = factors.get_submodule("users")(users).square().sum(1)
    items = factors.get_parameter("items").square().sum(1) + factors.get_parameter("bias").square()
    return (vectors * looked_up.sum(1) + (looked_up * items).sum(1)).mean() / 2  # autocast would multiply matrices in bf16


def drawn(weights: Tensor, uniform: Tensor) -> Tensor:
    """Items [N, K] drawn with weights [N, items] ≥ 0 at [N, K] in [0, 1], by the inverse distribution function."""
    reached = weights.double().cumsum(1)
    whole = reached[:, -1:].contiguous()
    found = torch.searchsorted(reached, uniform.double() * whole, right=True)
    return found.minimum(torch.searchsorted(reached, whole))  # the last of any weight, as a uniform number may round to 1


def sample(ctx: Context) -> Samples:
    """Users at random, and an item that the generator picks for each."""
    generator = ctx.players["generator"]
    users = ctx.integers("user", generator.get_parameter("users.weight").shape[0])
    return {"users": users, "items": drawn(wide(generator(users)).softmax(1), ctx.uniform("item", 1))[:, 0]}


def _rounds(kimg: float, clock: Clock) -> int:
    """How many rounds are so long; at least one where it is no 0."""
    return math.ceil(round(kimg * 1000, 3) / clock.batch)


def _read(ctx: Context) -> tuple[Tensor, Tensor, Tensor]:
    """Users [N], what they like [N, items] in 0 and 1, and how much that is [N, 1]."""
    batch = ctx.batch("real")
    return batch.labels, batch.attributes, batch.attributes.sum(1, keepdim=True)
