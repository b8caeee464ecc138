"""Pix2pix: who sees what, what is descended, and that it is one run on any ranks and after a resume."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec, ImageSpec
from bigan.build import prepared
from bigan.clock import Clock, Draws
from bigan.conditions import Attributes, Label
from bigan.config import parse
from bigan.data.pack import pack
from bigan.data.sources import Item, Source
from bigan.distributed.group import Alone
from bigan.game import Context, Game
from bigan.games.bank import PICTURES
from bigan.games.pix2pix import Pix2Pix
from bigan.look import Look
from bigan.networks.dcgan import DCGANCritic
from bigan.networks.patch import PatchCritic
from bigan.networks.unet import UNet
from bigan.objectives import LeastSquares, NonSaturating
from bigan.penalties import R1
from bigan.play import Meter, play
from bigan.uses import Translation, use

from ..cli.launch import bigan, differing, raw_config, refused, saved
from ..unit.pictures import image

CPU = torch.device("cpu")
PAIRS = {
    "real": DataSpec(
        samples=8, image_shape=(3, 16, 16), classes=("a", "b", "c"), attributes=("sin", "cos"),
        more_images=(ImageSpec(name="source", shape=(1, 16, 16)),),
    )
}  # fmt: skip
SMALL = Pix2Pix(generator=UNet(width=4), critic=PatchCritic(width=4, layers=2))
RAW = {"kind": "pix2pix", "generator": {"kind": "unet", "width": 4}, "critic": {"kind": "patch", "width": 4, "layers": 2}}


class Scaled(nn.Module):
    """x [N, C, H, W] → weight · x's first channel, three times."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x[:, :1].expand(-1, 3, -1, -1)


class Told(nn.Module):
    """A critic whose logit is an own function of what it judges and of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.weight * x.mean((1, 2, 3)) - 3 * condition.square().mean((1, 2, 3))


def batch(count: int = 4) -> Batch:
    torch.manual_seed(1)
    fields = {
        "images": torch.rand(count, 3, 16, 16) * 2 - 1,
        "source": torch.rand(count, 1, 16, 16) - 0.5,
        "labels": torch.arange(count) % 3,
        "attributes": torch.rand(count, 2),
    }
    return Batch(torch.arange(count), fields)


def context(game: Game, of: Batch | None = None, players: Mapping[str, nn.Module] | None = None, round: int = 0) -> Context:
    of = batch() if of is None else of
    return Context(
        players=players or game.players, batches={"real": of}, state=game.state,
        draws=Draws((0, round), 0, len(of), CPU), clock=Clock(batch=len(of), round=round),
    )  # fmt: skip


def terms(settings: Pix2Pix, move: str, of: Batch | None = None) -> dict[str, float]:
    game = settings.build(PAIRS)
    loss = next(each.loss for each in game.moves if each.name == move)
    probes: dict[str, nn.Module] = {"generator": Scaled(), "critic": Told()}
    return {name: value.item() for name, value in loss(context(game, of, probes)).items()}


def test_the_losses_are_those_of_the_paper() -> None:
    """D tells (x, y) from (x, G(x)); G is held against y. With x and y in each other's place every number is another."""
    rows = batch()
    x, y = rows["source"], rows.images
    g, d = Scaled()(x), Told()
    softplus = nn.functional.softplus
    expected = {
        "critic": {"adversarial": softplus(-d(y, x)).mean() + softplus(d(g, x)).mean()},
        "generator": {
            "adversarial": 0.5 * softplus(-d(g, x)).mean(),
            "L1": 100 * (g - y).abs().mean(),
            "L2": 7 * (g - y).square().mean(),
        },
    }
    settings = replace(SMALL, adversarial=0.5, l2=7)
    swapped = Batch(rows.index, {**rows.fields, "images": x.expand(-1, 3, -1, -1), "source": y[:, :1]})
    for move, wanted in expected.items():
        found = terms(settings, move)
        assert found == pytest.approx({name: value.item() for name, value in wanted.items()})
        for name, value in terms(settings, move, swapped).items():
            assert value != pytest.approx(found[name], rel=1e-2)


def test_a_condition_is_seen_by_both() -> None:
    settings = replace(SMALL, condition=Attributes())
    game = settings.build(PAIRS)
    rows = batch()
    other = Batch(rows.index, {**rows.fields, "attributes": 1 - rows.attributes})
    for move in game.moves:
        first, second = (move.loss(context(game, of))["adversarial"].item() for of in (rows, other))
        assert first != pytest.approx(second, rel=1e-6), move.name
    seen = game.players["generator"].get_parameter("down.0.0.weight")
    assert seen.shape[1] == 1 + 2
    assert game.players["critic"].get_parameter("above.0.weight").shape[1] == 3 + 1 + 2


def test_without_the_critics_word_there_is_none() -> None:
    game = replace(SMALL, adversarial=0.0, l1=0.0, l2=1.0).build(PAIRS)
    assert set(game.players) == {"generator"}
    assert [move.name for move in game.moves] == ["generator"]
    assert set(game.moves[0].loss(context(game))) == {"L2"}


@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, critic=DCGANCritic(width=4)),
        replace(SMALL, objective=LeastSquares(), penalties=(R1(),)),
        replace(SMALL, critic=PatchCritic(width=4, layers=2, norm="none"), penalties=(R1(),)),
        replace(SMALL, objective=NonSaturating(pairing="relativistic")),
        replace(SMALL, condition=Label()),
    ],
    ids=["one logit", "R1 on patches", "R1 on patches without norm", "relativistic", "label"],
)
def test_any_critic_objective_and_penalty(settings: Pix2Pix) -> None:
    game = settings.build(PAIRS)
    for move in game.moves:
        found = move.loss(context(game))
        torch.stack([*found.values()]).sum().backward()
        assert all(value.isfinite() for value in found.values())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in game.players[move.player].parameters())


def test_samples_are_of_sources_that_were_read() -> None:
    game = replace(SMALL, condition=Attributes()).build(PAIRS)
    rows = batch(PICTURES)
    ctx = context(game, rows)
    game.moves[1].loss(ctx)
    assert set(ctx.kept) == {"bank.source", "bank.condition"}
    for name, buffer in game.state.named_buffers():
        buffer.copy_(ctx.kept[f"bank.{name}"])
    players = {name: player.eval() for name, player in game.players.items()}
    look = Look(game=game, players=players, clock=Clock(batch=PICTURES, round=1), device=CPU)
    samples = look.samples(40)
    assert samples["images"].shape == (40, 3, 16, 16)
    for number in range(40):
        distances = (samples["source"][number] - rows["source"]).abs().flatten(1).amax(1)
        assert distances.min() <= 1 / 255
        assert torch.equal(samples["condition"][number], rows.attributes[distances.argmin()])
    way = use(game, Translation, "translate").to("sin=0.25,cos=0.5")
    asked = {**samples, "condition": torch.tensor([[0.25, 0.5]]).expand(40, 2)}
    for name, buffer in game.state.named_buffers():  # one row for all: what is drawn is then what is asked
        buffer.copy_(ctx.kept[f"bank.{name}"][:1].expand_as(buffer) if name == "source" else asked["condition"][:1])
    first = look.samples(3)
    assert way.shape == (1, 16, 16)
    torch.testing.assert_close(look.used(lambda it: way.run(it, first["source"]), 3, "translate"), first["images"])


def test_the_way_is_named_where_there_are_several() -> None:
    plain, posed = (use(replace(SMALL, condition=condition).build(PAIRS), Translation, "translate").to
                    for condition in (None, Attributes()))  # fmt: skip
    assert plain("").shape == (1, 16, 16)
    with pytest.raises(ValueError, match=r"^'real': this game translates one way; leave it out"):
        plain("real")
    with pytest.raises(ValueError, match=r"^'': write NAME=NUMBER.*sin, cos"):
        posed("")
    with pytest.raises(ValueError, match=r"^tan=1: there is no attribute 'tan'; there is sin, cos"):
        posed("tan=1")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (partial(replace, SMALL, source="target"), r"^source: data\.real has no image 'target' beside its images; pack pairs"),
        (partial(replace, SMALL, source="images"), r"^source: data\.real has no image 'images' beside"),
        (partial(replace, SMALL, adversarial=0, l1=0), r"^adversarial: is 0 as l1 and l2 are"),
        (partial(replace, SMALL, penalties=(R1(),), critic=PatchCritic(norm="batch")), r"^critic\.norm: a gradient penalty"),
        (partial(replace, SMALL, critic=PatchCritic(layers=3)), r"^images of 16x16 are too small for 3 layers"),
    ],
)
def test_what_does_not_fit_is_refused(settings: Callable[[], Pix2Pix], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings().build(PAIRS)


def test_a_source_of_another_size_is_refused() -> None:
    odd = replace(PAIRS["real"], more_images=(ImageSpec(name="source", shape=(1, 8, 8)),))
    with pytest.raises(ValueError, match=r"images of 8x8 and 16x16"):
        SMALL.build({"real": odd})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise, its negative as source, and two attributes."""
    folder = tmp_path_factory.mktemp("pairs") / "packed"
    items = [
        Item(f"{number:02d}", partial(image, number, 16, 16), None, (number / 20, 0.5), None, (partial(_negative, number),))
        for number in range(20)
    ]
    source = Source(
        description="made up", items=items, classes=(), attributes=("sin", "cos"), more=("source",), fingerprint="a"
    )
    return pack(source, folder, size=16).folder


def _negative(number: int) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image(number, 16, 16)))


def test_three_rounds_move_every_player(pairs: Path, tmp_path: Path) -> None:
    raw = raw_config(pairs, folder=str(tmp_path)) | {"game": RAW | {"condition": {"kind": "attributes"}}}
    meter = Meter()
    with prepared(parse(raw, tmp_path / "run.yaml"), Alone(), CPU) as setup:
        before = {name: {n: p.clone() for n, p in player.module.named_parameters()} for name, player in setup.players.items()}
        clock = setup.clock
        for _ in range(3):
            clock = play(setup.table, clock, meter)
        for name, player in setup.players.items():
            assert all(not torch.equal(p, before[name][n]) for n, p in player.module.named_parameters()), name
    assert all(np.isfinite(value) for value in meter.means(Alone()).values())


def test_a_run_is_resumed_sampled_and_never_interpolated(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(yaml.safe_dump(raw_config(pairs) | {"game": RAW}))
    assert bigan("train", "run.yaml", "name=whole", "length_kimg=0.032").status == 0
    assert bigan("train", "run.yaml", "length_kimg=0.016").status == 0
    half = saved(Path("runs/run")).tensors["state.source"]
    assert bigan("train", "run.yaml", "length_kimg=0.032").status == 0
    one, other = saved(Path("runs/run")), saved(Path("runs/whole"))
    assert differing(one, other) == []
    assert (half[:16] == one.tensors["state.source"][:16]).all()
    assert (half[16:32] == 0).all()
    assert (one.tensors["state.source"][16:32] != 0).any()
    pairs.rename(pairs.with_name("away"))
    try:
        assert bigan("sample", "runs/run", "--out=samples.png", "--count=4").status == 0
        refused(bigan("interpolate", "runs/run", "--out=a.png"), "runs/run", "nothing lies between two of them")
    finally:
        pairs.with_name("away").rename(pairs)
    with Image.open("samples.png") as drawn:
        assert drawn.size == (2 * (32 + 2) + 2, 2 * (16 + 2) + 2)  # each beside its source
    assert not any(Path("runs/run/interpolation").glob("*"))


def test_data_without_a_source_are_told_what_to_be(tmp_path: Path) -> None:
    raw: dict[str, Any] = raw_config(tmp_path) | {"game": RAW, "data": {"real": {"kind": "stacked_digits", "size": 16}}}
    with pytest.raises(ValueError, match=r"^game: source: data\.real has no image 'source'"):
        with prepared(parse(raw, tmp_path / "run.yaml"), Alone(), CPU):
            pass
