"""Translation between two sets of images without pairs: there and back again (Zhu et al., CycleGAN, 2017; DualGAN, 2017)."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.batch import DataSpec, image_shape
from bigan.game import Context, Game, Move, Round, Samples, Terms
from bigan.games.bank import PICTURES, Bank
from bigan.games.contest import check_penalties, contest, mean_over, observe, persuade
from bigan.games.pool import Pool
from bigan.networks import Critic, Translator, group
from bigan.networks.patch import PatchCritic
from bigan.networks.resnet import ResNetTranslator
from bigan.noise import InstanceNoise
from bigan.objectives import LeastSquares, Objective
from bigan.penalties import Penalty, way
from bigan.precision import wide
from bigan.settings import Count, CountFrom0, NonNegative, settings
from bigan.uses import Translation, Way

FROM = {"real": "source", "source": "real"}
"""Each set of images, and the one that its translator translates into it."""


@settings
class CycleGAN:
    """Settings of the game; reads the streams "source" and "real", which need not be of one length.

    Attributes:
        translator: one each way; they move together, as do the critics, one for either set.
        cycle: weight of |back(there(x)) - x|. The paper's λ = 10 is 5 beside `least_squares`, whose squares are halved here,
            as LSGAN's are.
        identity: weight of |there(y) - y|, y of the set it leads to, as a share of `cycle`; not for sets of unlike channels.
        noise: on what the critics see.
        pool: of how many former fakes each critic is shown one half of the time; 0: of none.
        critic_steps: how often the critics move before the translators do.
    """

    kind: Literal["cyclegan"] = "cyclegan"
    translator: Translator = field(default_factory=ResNetTranslator)
    critic: Critic = field(default_factory=PatchCritic)
    objective: Objective = field(default_factory=LeastSquares)
    penalties: tuple[Penalty, ...] = ()
    cycle: NonNegative = 5.0
    identity: NonNegative = 0.5
    noise: InstanceNoise | None = None
    pool: CountFrom0 = 50
    critic_steps: Count = 1

    def __post_init__(self) -> None:
        check_penalties(self.critic, self.penalties)
        if self.pool and self.critic_steps > 1:
            raise ValueError("pool: is filled once a round; set critic_steps to 1, or pool to 0")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The two players, of two networks each, for this data."""
        shapes = {name: image_shape(data, name) for name in FROM}
        if shapes["source"][1:] != shapes["real"][1:]:
            sizes = (f"data.{name} has {height}x{width}" for name, (_, height, width) in shapes.items())
            raise ValueError(f"{', '.join(sizes)}: a translator keeps the size; pack both at one --size")
        if self.identity and self.cycle and shapes["source"] != shapes["real"]:
            raise ValueError("identity: compares images of unlike channels; set it to 0, or pack both with --grey or --rgb")
        translators = {name: self.translator.build(shapes[other], shapes[name]) for name, other in FROM.items()}
        critics = {name: self.critic.build(shapes[name]) for name in FROM}
        memory = _Memory(shapes, self.pool)
        reads, tied, coupled = tuple(FROM), group(self.critic), self.objective.coupled
        return Game(
            players={"translators": nn.ModuleDict(translators), "critics": nn.ModuleDict(critics)},
            averaged=frozenset({"translators"}),
            moves=(
                Move(
                    player="critics",
                    loss=lambda ctx: self.critics_loss(ctx, memory.pool, memory.bank),
                    reads=reads,
                    repeat=self.critic_steps,
                    group=tied,
                    coupled=coupled,
                ),
                Move(player="translators", loss=self.translators_loss, reads=reads, group=tied, coupled=coupled),
            ),
            sample=lambda ctx: self.sample(ctx, memory.bank),
            state=memory,
            after=memory.put,
            notes=(way(critics["real"], shapes["real"]),) if self.penalties else (),
            critique=None if self.critic.minibatch else self.critique,
            uses=(Translation(to=lambda text: _way(text, shapes)),),
            sources=("source",),
        )

    def critics_loss(self, ctx: Context, pool: Pool, bank: Bank) -> Terms:
        """For each set, the objective's critic loss of real images against fresh or former fakes."""
        translators, critics = ctx.players["translators"], ctx.players["critics"]
        bank.offer(ctx, {"source": ctx.batch("source").images})
        terms: dict[str, Tensor] = {}
        for name, other in FROM.items():
            with torch.no_grad():
                fake = translators.get_submodule(name)(ctx.batch(other).images)
            real, shown = (
                self._under_noise(ctx, images, f"{name}/{side}")
                for side, images in (("real", ctx.batch(name).images), ("fake", pool.shown(ctx, name, fake)))
            )
            outcome = contest(
                critics.get_submodule(name), self.objective, self.penalties, ctx.draws.within(name), ctx.step,
                real, shown, mean=mean_over(ctx, self.objective),
            )  # fmt: skip
            observe(ctx, self.objective, outcome, f"{name}/", estimate=not self.pool)  # former fakes are another's
            terms |= {f"{name}/{term}": value for term, value in outcome.terms.items()}
        return terms

    def translators_loss(self, ctx: Context) -> Terms:
        """Equation 3: what the critics say of translations, the way back, and images that are there already."""
        translators, critics = ctx.players["translators"], ctx.players["critics"]
        terms: dict[str, Tensor] = {}
        for name, other in FROM.items():
            there, back = translators.get_submodule(name), translators.get_submodule(other)
            real, source = ctx.batch(name).images, ctx.batch(other).images
            fake, critic = there(source), critics.get_submodule(name)
            judged = self._under_noise(ctx, fake, f"{name}/fake")
            against = self._under_noise(ctx, real, f"{name}/real") if self.objective.pairs else None
            terms[f"{name}/adversarial"] = persuade(critic, self.objective, judged, against, mean_over(ctx, self.objective))
            if self.cycle:
                terms[f"{other}/cycle"] = self.cycle * F.l1_loss(wide(back(fake)), source)
            if self.cycle and self.identity:
                terms[f"{name}/identity"] = self.cycle * self.identity * F.l1_loss(wide(there(real)), real)
        return terms

    def _under_noise(self, ctx: Context, images: Tensor, name: str) -> Tensor:
        return images if self.noise is None else self.noise.on(images, ctx.clock, ctx.draws, name)

    def sample(self, ctx: Context, bank: Bank) -> Samples:
        """Source images, those of the run's first where the data are not at hand, translated."""
        source = bank.draw(ctx, "source", lambda batch: {"source": batch.images})["source"]
        return {"images": ctx.players["translators"].get_submodule("real")(source), "source": source}

    def critique(self, ctx: Context, samples: Tensor) -> Tensor:
        """What the critic of the real set says, [N], of patches their mean."""
        return wide(ctx.players["critics"].get_submodule("real")(samples)).reshape(len(samples), -1).mean(1)


class _Memory(nn.Module):
    """What the game keeps: former fakes for the critics, and source images to sample from."""

    def __init__(self, shapes: Mapping[str, tuple[int, int, int]], pool: int) -> None:
        super().__init__()
        self.pool = Pool(shapes, pool)
        self.bank = Bank({"source": torch.zeros(shapes["source"], dtype=torch.uint8)}, PICTURES)

    def put(self, played: Round) -> None:
        self.pool.put(played, "critics")
        self.bank.put(played, "critics")


def _way(text: str, shapes: Mapping[str, tuple[int, int, int]]) -> Way:
    name = text or "real"
    if name not in FROM:
        raise ValueError(f"{text!r}: there is {' and '.join(FROM)}")
    return Way(shapes[FROM[name]], lambda ctx, images: ctx.players["translators"].get_submodule(name)(images))
