"""Paired image translation: a conditional GAN and a pixel loss (Isola et al., "Image-to-image translation", pix2pix, 2017)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec, image_shape
from bigan.conditions import Given, Plain
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.games.bank import PICTURES, Bank
from bigan.games.contest import check_penalties, contest, mean_over, observe, persuade
from bigan.networks import Critic, Translator, group
from bigan.networks.joint import JointCritic, beside
from bigan.networks.patch import PatchCritic
from bigan.networks.unet import UNet
from bigan.objectives import NonSaturating, Objective
from bigan.penalties import Penalty
from bigan.precision import wide
from bigan.settings import Count, NonNegative, settings
from bigan.uses import Translation, Way


@settings
class Pix2Pix:
    """Settings of the game; reads the stream "real", whose images have another image each beside them.

    Attributes:
        generator: from the source to an image; its noise, where it has some, is dropout (section 3.1), in training alone.
        critic: of source and image side by side.
        source: the field that is translated.
        condition: given to both beside the source, at every pixel (a pose, a class); None: nothing.
        adversarial: weight of the critic's word in the generator's loss; 0: there is no critic.
        l1: weight of the mean absolute error, λ of equation 4, where images lie in [-1, 1].
        l2: weight of the mean squared error.
        critic_steps: how often the critic moves before the generator does.
    """

    kind: Literal["pix2pix"] = "pix2pix"
    generator: Translator = field(default_factory=UNet)
    critic: Critic = field(default_factory=PatchCritic)
    source: str = "source"
    condition: Plain | None = None
    objective: Objective = field(default_factory=NonSaturating)
    penalties: tuple[Penalty, ...] = ()
    adversarial: NonNegative = 1.0
    l1: NonNegative = 100.0
    l2: NonNegative = 0.0
    critic_steps: Count = 1

    def __post_init__(self) -> None:
        check_penalties(self.critic, self.penalties)
        if not (self.adversarial or self.l1 or self.l2):
            raise ValueError("adversarial: is 0 as l1 and l2 are; one of them has to weigh something")

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        """The players for this data."""
        shape = image_shape(data, "real")
        seen = _Seen.of(self, data)
        bank = Bank(seen.blanks, PICTURES)
        players = {"generator": self.generator.build(seen.shape, shape)}
        if self.adversarial:
            judged = (shape[0] + seen.shape[0], *shape[1:])
            players["critic"] = JointCritic(nn.Identity(), nn.Identity(), self.critic.build(judged))
        coupled, side_by_side = self.objective.coupled, group(self.critic)
        moves = {
            "critic": Move(
                player="critic",
                loss=lambda ctx: self.critic_loss(ctx, seen),
                reads=("real",),
                repeat=self.critic_steps,
                group=side_by_side,
                coupled=coupled,
            ),
            "generator": Move(
                player="generator",
                loss=lambda ctx: self.generator_loss(ctx, seen, bank),
                reads=("real",),
                group=side_by_side,
                coupled=coupled,
            ),
        }
        return Game(
            players=players,
            averaged=frozenset({"generator"}),
            moves=[move for name, move in moves.items() if name in players],
            state=bank,
            after=lambda played: bank.put(played, "generator"),
            sample=lambda ctx: self.sample(ctx, seen, bank),
            uses=(Translation(seen.to),),
            sources=("real",),
        )

    def critic_loss(self, ctx: Context, seen: "_Seen") -> Terms:
        """Is y the image of x, or G(x)? (equation 1)."""
        batch = ctx.batch("real")
        x = seen.beside(seen.read(batch))
        with torch.no_grad():
            fake = ctx.players["generator"](x)
        mean = mean_over(ctx, self.objective)
        outcome = contest(
            ctx.players["critic"], self.objective, self.penalties, ctx.draws, ctx.step, batch.images, fake, x, mean
        )
        observe(ctx, self.objective, outcome)
        return outcome.terms

    def generator_loss(self, ctx: Context, seen: "_Seen", bank: Bank) -> Terms:
        """Deceive the critic, and be near y (equation 4)."""
        batch = ctx.batch("real")
        rows = seen.read(batch)
        bank.offer(ctx, rows)
        x = seen.beside(rows)
        fake = ctx.players["generator"](x)
        terms: dict[str, Tensor] = {}
        if self.adversarial:
            terms["adversarial"] = self.adversarial * persuade(
                lambda images: ctx.players["critic"](images, x),
                self.objective,
                fake,
                batch.images,
                mean_over(ctx, self.objective),
            )
        if self.l1:
            terms["L1"] = self.l1 * (wide(fake) - batch.images).abs().mean()
        if self.l2:
            terms["L2"] = self.l2 * (wide(fake) - batch.images).square().mean()
        return terms

    def sample(self, ctx: Context, seen: "_Seen", bank: Bank) -> Samples:
        """Translations of sources, those of the first images of the run where the data are not at hand; and the sources."""
        rows = bank.draw(ctx, "real", seen.read)
        return {"images": ctx.players["generator"](seen.beside(rows)), **rows}


@dataclass(frozen=True)
class _Seen:
    """What the generator sees, and the critic beside an image.

    Attributes:
        field: the source's.
        source: its shape (C, H, W).
        given: the condition.
        encode: from raw conditions [N, …] to codes [N, K].
    """

    field: str
    source: tuple[int, int, int]
    given: Given | None
    encode: nn.Module

    @classmethod
    def of(cls, game: Pix2Pix, data: Mapping[str, DataSpec]) -> "_Seen":
        shapes = data["real"].image_shapes
        if game.source not in shapes or game.source == "images":
            raise ValueError(
                f"source: data.real has no image {game.source!r} beside its images; pack pairs (bigan pack … --halves or "
                "--source), or have it made (data.real.kind: derived)"
            )
        given = None if game.condition is None else game.condition.fit(data, "real")
        return cls(game.source, shapes[game.source], given, nn.Identity() if given is None else given.encoder())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the source with a condition's planes."""
        return self.source[0] + (self.given.size if self.given else 0), *self.source[1:]

    @property
    def blanks(self) -> dict[str, Tensor]:
        """A row of the bank."""
        source = {"source": torch.zeros(self.source, dtype=torch.uint8)}
        return source | ({"condition": self.given.blank} if self.given else {})

    def read(self, batch: Batch) -> dict[str, Tensor]:
        """The rows of a batch."""
        return {"source": batch[self.field]} | ({"condition": self.given.read(batch)} if self.given else {})

    def beside(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Rows as one tensor [N, *shape]."""
        return beside(rows["source"], self.encode(rows["condition"])) if self.given else rows["source"]

    def to(self, text: str) -> Way:
        """The one way, or that to a condition."""
        if self.given is None and text:
            raise ValueError(f"{text!r}: this game translates one way; leave it out")
        raw = None if self.given is None else self.given.parse(text)

        def run(ctx: Context, images: Tensor) -> Tensor:
            asked = {} if raw is None else {"condition": raw.to(images.device).expand(len(images), *raw.shape)}
            return ctx.players["generator"](self.beside({"source": images, **asked}))

        return Way(self.source, run)
