"""StarGAN: what is asked of whom, what the terms come to, and attributes that a user does not name."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec
from bigan.clock import Clock, Draws
from bigan.conditions import Attributes, OneHot
from bigan.game import Context, Game
from bigan.games.stargan import StarGAN
from bigan.networks.joint import Headed
from bigan.networks.minibatch import MinibatchDiscrimination
from bigan.networks.mlp import MLPCritic
from bigan.networks.patch import PatchCritic
from bigan.networks.resnet import ResNetTranslator
from bigan.objectives import NonSaturating
from bigan.pullback import obstacle
from bigan.uses import Translation, use

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)
LABELLED = {"real": DataSpec(samples=8, image_shape=SHAPE, classes=("a", "b", "c"))}
ATTRIBUTED = {"real": DataSpec(samples=8, image_shape=SHAPE, attributes=("bold", "tall"))}
SMALL = StarGAN(
    generator=ResNetTranslator(width=4, blocks=1), critic=PatchCritic(width=4, layers=2, norm="none"), features=8, penalties=()
)


class Scales(nn.Module):
    """1 + what the label says times x, of class k k / 10: so that the order in which two are asked for makes a difference."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x * (1 + self.weight * condition.view(-1, 1, 1, 1))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None]


def stood_in(classes: int = 3) -> Game:
    """A critic that says the mean of an image, and of class k that its logit is k + 1 times the mean."""
    head, other = nn.Linear(1, 1), nn.Linear(1, classes)
    with torch.no_grad():
        head.weight.fill_(1.0)
        head.bias.zero_()
        other.weight.copy_(torch.arange(1.0, classes + 1)[:, None])
        other.bias.zero_()
    critic = Headed(Mean(), nn.Sequential(head, nn.Flatten(0)), other)
    return replace(SMALL.build(LABELLED), players={"generator": Scales(), "critic": critic})


LABELS, VALUES = torch.tensor([0, 2, 1, 1]), torch.tensor([0.2, 0.5, 0.6, 0.8])


def context(game: Game, **fields: Tensor) -> Context:
    images = VALUES.view(-1, 1, 1, 1).expand(-1, *SHAPE)
    batch = Batch(torch.arange(4), {"images": images, **fields})
    return Context(
        players=game.players, batches={"real": batch}, draws=Draws((0,), 0, 4, CPU), clock=Clock(batch=4), state=game.state
    )


def cross_entropy(means: Tensor, labels: Tensor) -> float:
    logits = means[:, None] * torch.arange(1.0, 4.0)
    return -logits.log_softmax(1)[torch.arange(4), labels].mean().item()


def test_a_generator_makes_what_its_neighbour_is_and_brings_it_back() -> None:
    game = stood_in()
    found = {name: term.item() for name, term in game.moves[1].loss(context(game, labels=LABELS)).items()}
    asked = torch.tensor([2, 0, 1, 1])
    made = VALUES * (1 + 0.1 * asked)
    back = made * (1 + 0.1 * LABELS)
    assert found == pytest.approx(
        {
            "adversarial": -made.mean().item(),
            "classification": cross_entropy(made, asked),
            "reconstruction": 10 * (back - VALUES).mean().item(),
        }
    )


def test_a_critic_learns_classes_of_real_images() -> None:
    game = stood_in()
    ctx = context(game, labels=LABELS)
    found = {name: term.item() for name, term in game.moves[0].loss(ctx).items()}
    fake = VALUES * (1 + 0.1 * torch.tensor([2, 0, 1, 1]))
    assert found == pytest.approx(
        {"adversarial": (fake.mean() - VALUES.mean()).item(), "classification": cross_entropy(VALUES, LABELS)},
        abs=1e-6,
    )
    assert ctx.kept["bank.condition"].tolist() == [2, 0, 1, 1]
    assert [move.group for move in game.moves] == [2, 2]
    assert [move.repeat for move in game.moves] == [5, 1]


def test_the_penalty_is_recorded_and_the_code_has_no_weights() -> None:
    game = StarGAN(generator=SMALL.generator, critic=SMALL.critic, features=8).build(LABELLED)
    assert obstacle(game.players["critic"]) is None
    assert game.notes == ("gradient penalties: recorded pullback",)
    assert isinstance(game.players["generator"].get_submodule("embed"), OneHot)
    terms = game.moves[0].loss(context(game, labels=LABELS))
    assert terms.keys() == {"adversarial", "gradient_penalty", "classification"}


class Says(nn.Module):
    """Image + 10 · bold + 100 · tall."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([10.0, 100.0]))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + (condition * self.weight).sum(1).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "shifts"),
    [("tall=1", [110, 100]), ("bold=0", [0, 100]), ("bold=1,tall=0", [10, 10]), (" tall=0 , bold=0", [0, 0])],
)
def test_attributes_that_are_not_named_stay(text: str, shifts: list[float]) -> None:
    """The critic's second head reads them off the image: the first is bold, the second is tall."""
    game = replace(SMALL, condition=Attributes()).build(ATTRIBUTED)
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
        head.bias.fill_(-0.5)

    class Corners(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 0, :2]

    game = replace(game, players={**game.players, "generator": Says(), "critic": Headed(Corners(), nn.Flatten(0), head)})
    images = torch.zeros(2, *SHAPE)
    images[0, 0, 0, 0] = images[1, 0, 0, 1] = 1.0
    made = use(game, Translation, "translate").to(text).run(context(game), images)
    assert (made - images)[:, 0, 5, 5].tolist() == shifts


def test_a_class_is_asked_for_without_the_critic() -> None:
    """Which may see groups: one image alone is none."""
    critic = MLPCritic(width=4, depth=1, minibatch=MinibatchDiscrimination(group=4))
    game = replace(SMALL, critic=critic).build(LABELLED)
    image = torch.zeros(1, *SHAPE)
    assert use(game, Translation, "translate").to("b").run(context(game), image).shape == image.shape


def test_what_there_is_not_is_said() -> None:
    to = use(replace(SMALL, condition=Attributes()).build(ATTRIBUTED), Translation, "translate").to
    with pytest.raises(ValueError, match=r"tal=1: there is no attribute 'tal'; there is tall"):
        to("tal=1")
    for text in ("", "tall"):
        with pytest.raises(ValueError, match=r"write NAME=NUMBER, .*; there is bold, tall"):
            to(text)
    with pytest.raises(ValueError, match=r"d: there is no class 'd'; there is a, b, c"):
        use(SMALL.build(LABELLED), Translation, "translate").to("d")
    with pytest.raises(ValueError, match=r"data\.real: has no classes"):
        SMALL.build(ATTRIBUTED)
    with pytest.raises(ValueError, match=r"critic\.minibatch: it tells the attributes .* of one image"):
        StarGAN(condition=Attributes(), critic=MLPCritic(minibatch=MinibatchDiscrimination()), penalties=())
    with pytest.raises(ValueError, match=r"objective\.pairing: relativistic .*set independent"):
        replace(SMALL, objective=NonSaturating(pairing="relativistic"))
