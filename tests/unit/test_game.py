"""What a game may not be, and what a move is given to look at."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec, image_shape
from bigan.clock import Clock, Draws
from bigan.game import Context, Game, Move, Round, Samples, always
from bigan.play import Meter, Table, play


def loss(ctx: Context) -> dict[str, Tensor]:
    return {"zero": torch.zeros(())}


def nothing(ctx: Context) -> Samples:
    return {}


def game(players: dict[str, nn.Module], *moves: Move, **rest: Any) -> Game:
    return Game(players=players, moves=moves, sample=nothing, **rest)


def context(count: int = 4, batches: dict[str, Batch] | None = None) -> Context:
    draws = Draws((0,), 0, count, torch.device("cpu"))
    return Context(players={}, batches=batches or {}, draws=draws, clock=Clock(batch=count), state=nn.Module())


def test_a_move_is_named_after_its_player_unless_told_otherwise() -> None:
    assert Move(player="critic", loss=loss).name == "critic"
    assert Move(player="critic", loss=loss, name="pretrain").name == "pretrain"
    assert Move(player="critic", loss=loss).when(Clock(batch=1), nn.Module()) is always(Clock(batch=1), nn.Module()) is True


@pytest.mark.parametrize("repeat", [0, -1])
def test_a_move_is_played_at_least_once(repeat: int) -> None:
    with pytest.raises(ValueError, match=rf"move 'warm': repeat is {repeat}"):
        Move(player="critic", loss=loss, repeat=repeat, name="warm")


def test_a_move_of_a_stranger_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="does not have: encoder, ghost"):
        game({"critic": nn.Linear(1, 1)}, Move(player="ghost", loss=loss), Move(player="encoder", loss=loss))


def test_an_average_of_a_stranger_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="does not have: ghost"):
        game({"critic": nn.Linear(1, 1)}, Move(player="critic", loss=loss), averaged=frozenset({"critic", "ghost"}))


def test_two_moves_of_a_player_need_two_names() -> None:
    players: dict[str, nn.Module] = {"critic": nn.Linear(1, 1)}
    with pytest.raises(ValueError, match="two moves share a name"):
        game(players, Move(player="critic", loss=loss), Move(player="critic", loss=loss))
    assert len(game(players, Move(player="critic", loss=loss), Move(player="critic", loss=loss, name="again")).moves) == 2


def test_players_share_no_parameter() -> None:
    shared = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="players 'a' and 'b' share a parameter"):
        game({"a": shared, "b": nn.Sequential(nn.Linear(2, 2), shared)}, Move(player="a", loss=loss))


def test_a_parameter_may_stand_twice_within_one_player() -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert game({"a": tied, "b": nn.Linear(2, 2)}, Move(player="a", loss=loss)).averaged == frozenset()


def test_a_batch_that_the_move_does_not_read_is_refused_by_name() -> None:
    batch = Batch(torch.arange(4), {"images": torch.zeros(4, 1)})
    assert context(batches={"real": batch}).batch("real") is batch
    with pytest.raises(ValueError, match=r"no batch of 'style'.*reads="):
        context(batches={"real": batch}).batch("style")


def test_what_is_kept_and_observed_leaves_the_graph() -> None:
    ctx, x = context(), torch.ones(4, requires_grad=True)
    ctx.keep("x", 2 * x)
    ctx.observe("x", 2 * x)
    assert not ctx.kept["x"].requires_grad
    assert not ctx.observed[0][1].requires_grad


@pytest.mark.parametrize("rows", [0, 3, 5])
def test_what_is_kept_has_a_row_a_sample(rows: int) -> None:
    with pytest.raises(ValueError, match=rf"keep\('x'\): {rows} rows for 4 samples"):
        context().keep("x", torch.zeros(rows, 2))


def test_a_context_draws_its_own_rows() -> None:
    ctx = context()
    assert ctx.count == 4
    assert torch.equal(ctx.normal("z", 2), Draws((0,), 0, 4, torch.device("cpu")).normal("z", 2))
    with pytest.raises(ValueError, match="drawn twice"):
        ctx.uniform("z")


def test_a_batch_is_named_tensors_of_equally_many_rows() -> None:
    batch = Batch(torch.arange(5), {"user": torch.arange(5) * 10, "item": torch.arange(5) * 100})
    assert len(batch) == 5
    part = batch.rows(1, 3)
    assert (part.index.tolist(), part["user"].tolist(), part["item"].tolist()) == ([1, 2, 3], [10, 20, 30], [100, 200, 300])
    with pytest.raises(ValueError, match="no 'images'; it has user, item"):
        _ = batch.images
    with pytest.raises(AssertionError, match="item: 4 rows"):
        Batch(torch.arange(5), {"item": torch.arange(4)})


def test_images_and_nothing_else_are_scaled() -> None:
    fields = {"images": torch.tensor([0, 255], dtype=torch.uint8).expand(2, 3, 1, 2), "labels": torch.tensor([3, 255])}
    fields["mask"] = torch.tensor([7, 9], dtype=torch.uint8)
    batch = Batch(torch.arange(2), fields).to(torch.device("cpu"))
    assert batch.images.unique().tolist() == [-1.0, 1.0]
    assert batch.images.dtype == torch.float32
    assert batch.labels.tolist() == [3, 255]
    assert batch["mask"].tolist() == [7, 9]
    assert batch.index.tolist() == [0, 1]


def test_a_game_asks_for_images_by_the_key_of_the_config() -> None:
    data = {"real": DataSpec(samples=3, image_shape=(3, 8, 8)), "words": DataSpec(samples=3)}
    assert image_shape(data, "real") == (3, 8, 8)
    with pytest.raises(ValueError, match=r"data\.style: is missing"):
        image_shape(data, "style")
    with pytest.raises(ValueError, match=r"data\.words: has no images"):
        image_shape(data, "words")


class Pool(nn.Module):
    """Translations of earlier rounds, oldest first."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(rows, 3, dtype=torch.float64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    rows: Tensor
    filled: Tensor


class Translation:
    """A game of three players over two unpaired streams, whose critics see fakes of earlier rounds (CycleGAN's image pool)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.rounds: list[Round] = []
        self.pool = Pool(12)

    def build(self) -> Game:
        def linear() -> nn.Linear:
            return nn.Linear(3, 3, dtype=torch.float64)

        return Game(
            players={
                "translators": nn.ModuleDict({"to_painting": linear(), "to_photo": linear()}),
                "painting_critic": nn.Sequential(linear(), nn.Tanh(), nn.Linear(3, 1, dtype=torch.float64), nn.Flatten(0)),
                "photo_critic": nn.Sequential(linear(), nn.Tanh(), nn.Linear(3, 1, dtype=torch.float64), nn.Flatten(0)),
            },
            moves=(
                Move(player="translators", loss=self.translate, reads=("painting", "photo")),
                Move(player="painting_critic", loss=self.judge_paintings, reads=("painting", "photo"), repeat=2),
                Move(player="photo_critic", loss=self.judge_photos, reads=("photo",), when=lambda clock, pool: clock.round > 0),
            ),
            sample=nothing,
            state=self.pool,
            after=self.remember,
        )

    def to(self, ctx: Context, style: str, images: Tensor) -> Tensor:
        translators = ctx.players["translators"]
        assert isinstance(translators, nn.ModuleDict)
        return translators[f"to_{style}"](images)

    def translate(self, ctx: Context) -> dict[str, Tensor]:
        photo, painting = ctx.batch("photo").images, ctx.batch("painting").images
        there, back = self.to(ctx, "painting", photo), self.to(ctx, "photo", painting)
        cycle = (self.to(ctx, "photo", there) - photo).abs().mean() + (self.to(ctx, "painting", back) - painting).abs().mean()
        fooled = (ctx.players["painting_critic"](there) - 1).square().mean()
        return {"cycle": 10 * cycle, "fooled": fooled + (ctx.players["photo_critic"](back) - 1).square().mean()}

    def judge_paintings(self, ctx: Context) -> dict[str, Tensor]:
        pool = ctx.state
        assert isinstance(pool, Pool)
        self.seen.append((str(pool.rows.sum().item()), int(pool.filled)))
        fresh = self.to(ctx, "painting", ctx.batch("photo").images)
        fakes = fresh
        if pool.filled:
            place = (ctx.uniform("place").double() * pool.filled).long().clamp(max=int(pool.filled) - 1)
            fakes = torch.where(ctx.uniform("coin")[:, None] < 0.5, fresh, pool.rows[place])
        ctx.keep("fakes", fresh)
        ctx.observe("pooled", (fakes != fresh).any(1))
        critic = ctx.players["painting_critic"]
        return {"square": (critic(ctx.batch("painting").images) - 1).square().mean() + critic(fakes).square().mean()}

    def judge_photos(self, ctx: Context) -> dict[str, Tensor]:
        return {"real": (ctx.players["photo_critic"](ctx.batch("photo").images) - 1).square().mean()}

    def remember(self, round: Round) -> None:
        self.rounds.append(round)
        fresh = round.kept["painting_critic/fakes"]
        rows = torch.cat([self.pool.rows[: int(self.pool.filled)], fresh])[-12:]
        self.pool.rows[: len(rows)] = rows
        self.pool.filled.fill_(len(rows))


def translated(table: Callable[..., Table], rounds: int, micro_batch: int) -> tuple[Translation, Table, Clock]:
    torch.manual_seed(2)
    rules, clock = Translation(), Clock(batch=8)
    seats = table(rules.build(), micro_batch=micro_batch)
    for _ in range(rounds):
        clock = play(seats, clock, Meter())
    return rules, seats, clock


def test_a_game_of_two_streams_and_a_pool_is_played(table: Callable[..., Table]) -> None:
    rules, seats, clock = translated(table, 3, micro_batch=8)
    assert clock.positions == {"painting": 3 * 24, "photo": 3 * 24 + 2 * 8}
    assert clock.steps == {"translators": 3, "painting_critic": 6, "photo_critic": 2}
    kept = torch.cat([r.kept["painting_critic/fakes"] for r in rules.rounds])
    assert kept.shape == (48, 3)
    assert torch.equal(rules.pool.rows, kept[-12:])
    assert [r.stats["painting_critic/pooled"] > 0 for r in rules.rounds] == [False, True, True]
    assert seats.feeds["photo"].reads[:4] == [(0, 8), (8, 8), (16, 8), (24, 8)]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_state_stands_still_within_a_round(table: Callable[..., Table]) -> None:
    rules, _, _ = translated(table, 3, micro_batch=2)
    assert len(rules.seen) == 3 * 2 * 4
    by_round = [set(rules.seen[first : first + 8]) for first in (0, 8, 16)]
    assert [len(states) for states in by_round] == [1, 1, 1]
    assert len(set.union(*by_round)) == 3
    assert rules.seen[0] == ("0.0", 0)


def test_the_division_into_micro_batches_changes_no_pool(table: Callable[..., Table]) -> None:
    (whole, one, _), (parts, other, _) = (translated(table, 4, micro_batch) for micro_batch in (8, 2))
    torch.testing.assert_close(parts.pool.rows, whole.pool.rows, rtol=1e-10, atol=1e-12)
    for name, module in one.modules.items():
        torch.testing.assert_close(other.modules[name].state_dict(), module.state_dict(), rtol=1e-10, atol=1e-12)


def test_a_game_goes_on_from_its_players_its_state_and_its_clock(table: Callable[..., Table]) -> None:
    """Nothing else is remembered."""
    straight, seats, _ = translated(table, 4, micro_batch=4)
    begun, half, clock = translated(table, 2, micro_batch=4)
    rules = Translation()
    resumed = table(rules.build(), micro_batch=4)
    rules.pool.load_state_dict(copy.deepcopy(begun.pool.state_dict()))
    for name, module in half.modules.items():
        resumed.modules[name].load_state_dict(copy.deepcopy(module.state_dict()))
    for _ in range(2):
        clock = play(resumed, clock, Meter())
    assert torch.equal(rules.pool.rows, straight.pool.rows)
    for name, module in seats.modules.items():
        torch.testing.assert_close(resumed.modules[name].state_dict(), module.state_dict(), rtol=0, atol=0)
