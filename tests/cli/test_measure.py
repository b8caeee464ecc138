"""A run that is measured while it trains: by what `bigan evaluate` says, and without a trace in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan import evaluate as evaluation
from bigan import measure
from bigan.build import prepared
from bigan.clock import Clock
from bigan.config import load
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import save
from bigan.distributed.group import Alone
from bigan.evaluate import evaluate
from bigan.folder import RunFolder
from bigan.game import Game, Move
from bigan.look import Look, looking
from bigan.measure import Gauge, sources_of
from bigan.metrics import fit
from bigan.metrics.judge import Card
from bigan.play import Meter, Table, play
from bigan.sample import images

from .launch import GAMES, STREAMS, bigan, differing, kimg, pack_digits, refused, saved, write_config

CPU = torch.device("cpu")
COUNT = 24


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MIN_STEPS", 6)
    monkeypatch.setattr(fit, "MAX_STEPS", 6)


@pytest.mark.parametrize("game", GAMES)
def test_a_run_that_is_measured_ends_as_one_that_is_not(here: Path, digits: Path, game: str) -> None:
    run = load(write_config(here / "run.yaml", digits, game))
    folder = RunFolder(run.home)
    ends, figures = [], None
    for measuring in (False, True):
        torch.manual_seed(5)
        gauge = Gauge(run, folder, COUNT)
        with prepared(run, Alone(), CPU) as setup:
            clock = setup.clock
            for _ in range(4):
                clock = play(setup.table, clock, Meter())
                if measuring:
                    gauge.measured(setup.table, clock)
            whole = setup.checkpoint(clock)
            modes = [part.training for module in setup.table.modules.values() for part in module.modules()]
            asked = [p.requires_grad for module in setup.table.modules.values() for p in module.parameters()]
            tensors = {name: tensor.clone() for name, tensor in whole.tensors.items()}
            ends.append((tensors, whole.clock, modes, asked, torch.get_rng_state()))
            if measuring:
                figures = gauge.measured(setup.table, clock)
                folder.home.mkdir(parents=True, exist_ok=True)
                folder.config.touch()
                save(folder.checkpoints, whole, keep=1)
    one, other = ends
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), name
    assert one[1:4] == other[1:4]
    assert torch.equal(one[4], other[4])
    assert figures is not None
    card = evaluate(run.home, count=COUNT, seed=0).card
    assert isinstance(card, Card)
    assert figures["frechet"] == pytest.approx(card.fake.frechet, rel=1e-4)
    assert figures["precision"] == pytest.approx(card.fake.precision, abs=0.1)


SMALL = {"kind": "dcgan", "width": 4}
PATCHES = {"kind": "patch", "width": 4, "layers": 1, "norm": "none"}
RESNET = {"kind": "resnet", "width": 4, "blocks": 1}
TRANSLATORS: dict[str, dict[str, Any]] = {
    "cyclegan": dict(GAMES["cyclegan"]),
    "stargan": {"kind": "stargan", "generator": RESNET, "critic": PATCHES, "features": 4, "critic_steps": 1},
    "pix2pix": {"kind": "pix2pix", "generator": RESNET, "critic": PATCHES},
    "cgan": {"kind": "cgan", "generator": {**SMALL, "latent": 4}, "critic": SMALL},
}


@pytest.mark.parametrize("kind", TRANSLATORS)
def test_what_is_translated_or_asked_for_comes_from_all_of_the_data(here: Path, digits: Path, kind: str) -> None:
    """Not from the few rows that the game keeps for a tick."""
    data: dict[str, Any] = {stream: {"path": str(digits)} for stream in STREAMS.get(kind, ("real",))}
    if kind == "pix2pix":
        data["real"] = {"kind": "derived", "of": {"path": str(digits)}, "map": {"kind": "turned", "quarters": 1}}
    run = load(write_config(here / "run.yaml", digits, game=TRANSLATORS[kind], data=data))
    with prepared(run, Alone(), CPU) as setup:
        clock = play(setup.table, setup.clock, Meter())
        with looking(setup.table, clock) as look:
            at_hand = sources_of(look, run.data, 31)
            parts = [at_hand.samples(14), at_hand.samples(17, start=14)]
    with run.data["source" if kind == "cyclegan" else "real"].open(seed=0) as stream:
        batch = stream.read(0, 31).to(CPU)
    pairs = batch.labels[:30].view(15, 2).flip(1).flatten()
    expected = {
        "cyclegan": {"source": batch.images},
        "stargan": {"source": batch.images, "condition": torch.cat([pairs, batch.labels[30:]])},
        "pix2pix": {"source": batch.fields.get("source")},
        "cgan": {"condition": batch.labels},
    }[kind]
    for name, value in expected.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), value), name


def test_sets_that_moved_are_named_and_others_refused(here: Path, digits: Path) -> None:
    Path("real").symlink_to(digits)
    Path("source").symlink_to(digits)
    data = {stream: {"path": stream} for stream in ("real", "source")}
    assert bigan("train", write_config(here / "run.yaml", digits, "cyclegan", data=data)).status == 0
    for stream in data:
        Path(stream).rename(f"moved-{stream}")
    asked = ("evaluate", "runs/run", f"--count={COUNT}")
    refused(bigan(*asked, "--data=moved-real"), "data.source, which samples are made of: source: no such folder")
    assert bigan(*asked, "--data=moved-real", "--data=source=moved-source").status == 0
    pack_digits(here / "source", limit=40)
    refused(
        bigan(*asked, "--data=real=moved-real"),
        "source: is not the data that runs/run was trained on; name it with --data source=PATH",
    )
    refused(bigan(*asked, "--data=a", "--data=real=b"), "--data: names real twice; there is real, source, as NAME=PATH")


def test_a_measurement_that_failed_is_not_made_of_less(here: Path, digits: Path) -> None:
    Path("source").symlink_to(digits)
    data = {"real": {"path": str(digits)}, "source": {"path": "source"}}
    run = load(write_config(here / "run.yaml", digits, "cyclegan", data=data))
    gauge = Gauge(run, RunFolder(run.home), COUNT)
    with prepared(run, Alone(), CPU) as setup:
        clock = play(setup.table, setup.clock, Meter())
        Path("source").unlink()
        for _ in range(2):
            with pytest.raises(ValueError, match=r"data\.source, which samples are made of"):
                gauge.measured(setup.table, clock)
        Path("source").symlink_to(digits)
        found = gauge.measured(setup.table, clock)
        assert found == Gauge(run, RunFolder(run.home), COUNT).measured(setup.table, clock)


def test_every_measurement_has_the_sources(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(here / "run.yaml", digits, "cyclegan")
    seen: list[Look] = []

    def spied(look: Look, *rest: Any) -> Iterator[Tensor]:
        seen.append(look)
        return images(look, *rest)

    monkeypatch.setattr(measure, "images", spied)
    monkeypatch.setattr(evaluation, "images", spied)
    said = bigan("train", here / "run.yaml", *measuring())
    assert said.status == 0, said
    assert bigan("evaluate", "runs/run", f"--count={COUNT}").status == 0
    assert [set(look.feeds) for look in seen] == [{"source"}] * len(seen)
    assert len(seen) > 1


class Painter(nn.Module):
    """Draws from torch itself, and counts its forwards in a buffer, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.forwards = nn.Buffer(torch.zeros(()))

    def forward(self, count: int) -> torch.Tensor:
        self.forwards += 1
        return (torch.randn(count, 1, 16, 16) * self.weight).tanh()


class Player:
    def __init__(self, module: nn.Module) -> None:
        self.module = self.average = module

    def update(self, loss: torch.Tensor, clock: Clock, *, last: bool) -> None: ...

    def gradient_norms(self) -> dict[str, float]:
        return {}

    def follow(self, clock: Clock) -> None: ...


def test_a_game_that_leaves_traces_leaves_none_when_it_is_measured(here: Path, digits: Path) -> None:
    state = nn.Module()
    state.register_buffer("asked", torch.zeros(()))

    def sample(ctx: Any) -> dict[str, torch.Tensor]:
        ctx.state.asked += 1
        return {"images": ctx.players["painter"](ctx.count)}

    painter = Painter()
    move = Move(player="painter", loss=lambda ctx: {}, reads=("real",))
    game = Game(players={"painter": painter}, moves=(move,), sample=sample, state=state)
    run = load(write_config(here / "run.yaml", digits))
    table: Any = Table(
        game=game, players={"painter": Player(painter)}, feeds={}, group=Alone(), micro_batch=8, seed=0, device=CPU
    )  # fmt: skip
    before = torch.get_rng_state()
    gauge = Gauge(run, RunFolder(run.home), COUNT)
    assert gauge.measured(table, Clock(batch=8))["frechet"] > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert (float(painter.forwards), float(state.get_buffer("asked"))) == (0.0, 0.0)
    assert painter.training
    assert painter.weight.requires_grad


def test_the_data_is_read_once(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load(write_config(here / "run.yaml", digits))
    gauge = Gauge(run, RunFolder(run.home), COUNT)
    with prepared(run, Alone(), CPU) as setup:
        first = gauge.measured(setup.table, setup.clock)
        monkeypatch.setattr("bigan.measure.read_data", None)
        assert gauge.measured(setup.table, setup.clock) == first


def measuring(samples: int = COUNT, rounds: int = 2) -> list[str]:
    return [f"evaluation.every_kimg={kimg(rounds)}", f"evaluation.samples={samples}"]


def test_a_run_is_measured_logged_and_its_best_kept(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits)
    said = bigan("train", config, *measuring(), "keep_checkpoints=1")
    assert said.status == 0, said
    events = [json.loads(line) for line in Path("runs/run/events.jsonl").read_text().splitlines()]
    found = {event["round"]: event["frechet"] for event in events if "frechet" in event}
    assert list(found) == [2, 4, 6]
    best = min(found, key=lambda round: found[round])
    about = json.loads(Path("runs/run/checkpoints/best.json").read_text())
    assert (about["round"], about["value"]) == (best, pytest.approx(found[best], rel=1e-6))
    kept = {checkpoint.round_of(path) for path in checkpoint.candidates(Path("runs/run/checkpoints"))}
    assert kept == {best, 6}
    assert bigan("train", config, "name=unmeasured").status == 0
    assert differing(saved(Path("runs/run")), saved(Path("runs/unmeasured"))) == []


def test_what_could_never_be_measured_is_refused_at_the_start(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits)
    refused(bigan("train", config, *measuring(samples=4)), "evaluation.samples: 4 are too few to judge; at least 8")
    assert not Path("runs/run/events.jsonl").exists()


def test_a_measurement_that_fails_ends_no_run(here: Path) -> None:
    config = write_config(here / "run.yaml", pack_digits(here / "few", limit=10))
    said = bigan("train", config, *measuring())
    assert said.status == 0, said
    assert said.out.count("evaluation: ") == 1
    assert saved(Path("runs/run")).clock.round == 6


def test_a_save_comes_before_the_measurement(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed while it is measured has lost nothing."""

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(Gauge, "measured", killed)
    with pytest.raises(RuntimeError, match="killed"):
        bigan("train", write_config(here / "run.yaml", digits, checkpoint_kimg=0), *measuring())
    assert saved(Path("runs/run")).clock.round == 2


@pytest.mark.parametrize(("most", "read"), [(30, 30), (100, 50)])
def test_no_more_data_is_read_than_memory_is_meant_for(
    here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch, most: int, read: int
) -> None:
    run = load(write_config(here / "run.yaml", digits))
    with run.data["real"].open(seed=0) as stream:
        size = sum(tensor[0].nbytes for tensor in stream.read(0, 1).fields.values())
        monkeypatch.setattr(measure, "MAX_BYTES", most * size)
        data = measure.read_data(stream, here / "features", COUNT, CPU)
    assert data.real_images == read
