"""BiGAN: pairs, roles, and completion."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.config import parse
from bigan.game import Context, Game
from bigan.games.bidirectional import BiGAN
from bigan.latents import Latent, Normal, Truncated, Uniform
from bigan.look import Look
from bigan.networks.minibatch import MinibatchDiscrimination
from bigan.networks.mlp import MLPCritic, MLPGenerator
from bigan.objectives import LeastSquares, Minimax, NonSaturating, Objective, Wasserstein
from bigan.penalties import R1, R2
from bigan.uses import Completion, use

CPU = torch.device("cpu")
IMAGES = {"real": DataSpec(samples=8, image_shape=(1, 4, 4))}
SMALL = BiGAN(
    generator=MLPGenerator(latent=3, width=8, depth=1), encoder=MLPCritic(width=8, depth=1), critic=MLPCritic(width=8, depth=1),
    features=6,
)  # fmt: skip


def context(game: Game, images: Tensor) -> Context:
    return Context(
        players=game.players, batches={"real": Batch(torch.arange(len(images)), {"images": images})}, state=game.state,
        draws=Draws((0,), 0, len(images), CPU), clock=Clock(batch=len(images)),
    )  # fmt: skip


class Told(nn.Module):
    """A critic that remembers what pairs it was shown."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        self.pairs.append((x.detach().clone(), z.detach().clone()))
        return self.critic(x, z)


def test_the_critic_sees_each_image_with_its_code_and_each_latent_with_its_image() -> None:
    """A real image beside a latent of another, or a swap of the two pairs, is what the game must not do."""
    game = SMALL.build(IMAGES)
    told = Told(game.players["critic"])
    game = replace(game, players={**game.players, "critic": told})
    images = torch.rand(4, 1, 4, 4) * 2 - 1
    coder = game.players["coder"]
    for move in game.moves:
        told.pairs.clear()
        move.loss(context(game, images))
        (x, code), (fake, z) = (
            told.pairs
            if len(told.pairs) == 2
            else [(h[0], h[1]) for h in zip(*(t.chunk(2) for t in told.pairs[0]), strict=True)]
        )
        assert torch.equal(x, images)
        torch.testing.assert_close(code, coder.get_submodule("encoder")(images))
        torch.testing.assert_close(fake, coder.get_submodule("generator")(z))
        torch.testing.assert_close(z, Draws((0,), 0, 4, CPU).normal("latent", 3))


@pytest.mark.parametrize("objective", [NonSaturating(), LeastSquares(), Minimax(), Wasserstein()], ids=lambda it: it.kind)
def test_the_coder_wants_what_the_critic_does_not(objective: Objective) -> None:
    settings = replace(SMALL, objective=objective)
    game = settings.build(IMAGES)
    images = torch.rand(4, 1, 4, 4) * 2 - 1
    critic, coder = (move.loss(context(game, images))["adversarial"] for move in game.moves)
    ctx = context(game, images)
    z = settings.latent.draw(ctx, 3)
    on_real = game.players["critic"](images, settings.encode(ctx, images))
    on_fake = game.players["critic"](settings.generate(ctx, z), z)
    torch.testing.assert_close(critic, objective.critic(on_real, on_fake))
    if objective.zero_sum:
        torch.testing.assert_close(coder, -critic)
    torch.testing.assert_close(coder, -critic if objective.zero_sum else objective.critic(on_fake, on_real))
    gradients = torch.autograd.grad(
        game.moves[1].loss(context(game, images))["adversarial"], [*game.players["coder"].parameters()]
    )
    assert all(gradient.any() for gradient in gradients)  # of encoder and generator


def test_the_reconstruction_is_the_mean_squared_error() -> None:
    settings = replace(SMALL, reconstruction=3.0)
    game = settings.build(IMAGES)
    images = torch.rand(4, 1, 4, 4) * 2 - 1
    coder = game.players["coder"]
    made = coder.get_submodule("generator")(coder.get_submodule("encoder")(images))
    terms = game.moves[1].loss(context(game, images))
    torch.testing.assert_close(terms["reconstruction"], 3 * (made - images).square().mean())
    assert set(SMALL.build(IMAGES).moves[1].loss(context(game, images))) == {"adversarial"}


@pytest.mark.parametrize(("latent", "bound"), [(Normal(), None), (Uniform(), 1.0), (Truncated(bound=2.0), 2.0)])
def test_a_code_lies_where_latents_lie(latent: Latent, bound: float | None) -> None:
    settings = replace(SMALL, latent=latent)
    game = settings.build(IMAGES)
    nn.init.constant_([*game.players["coder"].get_submodule("encoder").parameters()][-1], 50.0)
    code = settings.encode(context(game, torch.zeros(2, 1, 4, 4)), torch.rand(2, 1, 4, 4))
    assert code.max() > 40 if bound is None else code.max() == bound


def test_penalties_are_those_that_have_a_pair() -> None:
    settings = replace(SMALL, penalties=(R1(), R2(weight=0.5)))
    game = settings.build(IMAGES)
    assert game.notes == ("gradient penalties: recorded pullback",)
    assert {"r1", "r2"} <= set(game.moves[0].loss(context(game, torch.rand(4, 1, 4, 4))))
    raw: dict[str, Any] = {"name": "run", "data": {}, "length_kimg": 1}
    with pytest.raises(ValueError, match=r"game\.penalties"):
        parse({**raw, "game": {"kind": "bigan", "penalties": [{"kind": "gradient_penalty"}]}}, Path("run.yaml"))
    with pytest.raises(ValueError, match=r"critic\.norm: a gradient penalty needs"):
        replace(SMALL, penalties=(R1(),), critic=MLPCritic(norm="batch"))


def test_an_encoder_sees_an_image_by_itself() -> None:
    with pytest.raises(ValueError, match=r"encoder\.minibatch: it tells the code of one image by itself; set it to null"):
        replace(SMALL, encoder=MLPCritic(minibatch=MinibatchDiscrimination()))


def test_completion_comes_to_the_image_that_fits() -> None:
    """G makes z of every pixel and E reads the mean: from half an image of one grey, each step halves what is wrong."""
    settings = replace(SMALL, generator=MLPGenerator(latent=1, width=8, depth=1))

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3))[:, None]

    class Even(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z[:, :, None, None].expand(-1, 1, 4, 4)

    game = settings.build(IMAGES)
    coder = nn.ModuleDict({"encoder": Mean(), "generator": Even()})
    look = Look(game=game, players={"coder": coder}, clock=Clock(batch=8), device=CPU)
    images = torch.tensor([0.8, -0.4]).view(2, 1, 1, 1).expand(2, 1, 4, 4).clone()
    observed = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    observed[..., :2] = True
    wrong = images.clone()
    wrong[..., 2:] = 77.0  # what is missing is not looked at
    by = use(game, Completion, "")
    ends = {
        steps: look.used(lambda ctx, steps=steps: by.complete(ctx, wrong, observed, steps), 2, "a") for steps in (0, 1, 2, 20)
    }
    torch.testing.assert_close(ends[20], images, atol=1e-4, rtol=0)
    one, two = ((ends[steps] - images).abs().amax((1, 2, 3)) for steps in (1, 2))
    torch.testing.assert_close(two, one / 2)
    assert torch.equal(ends[1][..., :2], images[..., :2])
    again = look.used(lambda ctx: by.complete(ctx, wrong, observed, 0), 2, "b")
    begun = torch.cat([start[:, 0, 0, 2] for start in (ends[0], again)])
    assert len(begun.unique()) == 4  # each with a sample of its own
