"""Looking at players: what is seen, and that nothing of it is left behind."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bigan.clock import Clock, Draws
from bigan.game import Context, Game, Move, Samples, Terms
from bigan.latents import Truncated
from bigan.look import Between, looking, slerp
from bigan.play import Table, sample
from bigan.uses import Chosen, Completion, Recommendation, Translation, Way, use

CLOCK = Clock(batch=8, round=3)
CPU = torch.device("cpu")


class Restless(nn.Module):
    """Draws from torch itself, normalises by its batch, and counts its forwards in a buffer, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.forwards = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Buffer(torch.zeros(()))

    def forward(self, latents: Tensor) -> Tensor:
        self.forwards += 1
        return self.norm(self.linear(latents)) + torch.rand(3)


def loss(ctx: Context) -> Terms:
    return {"loss": ctx.players["critic"](ctx.players["generator"](ctx.normal("z", 3))).mean()}


def draw(ctx: Context) -> Samples:
    return {"points": ctx.players["generator"](ctx.normal("z", 3)), "uniform": ctx.uniform("u", 2), "own": ctx.normal("n", 5)}


def judge(ctx: Context, samples: Tensor) -> Tensor:
    return ctx.players["critic"](samples).squeeze(1)


def restless_game(critique: Callable[[Context, Tensor], Tensor] | None = judge) -> Game:
    critic = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    return Game(
        players={"generator": Restless(), "critic": critic},
        moves=(Move(player="generator", loss=loss),),
        sample=draw,
        critique=critique,
    )


def traces(table: Table) -> list[Tensor]:
    """All that a look could change."""
    modules = [*table.modules.values(), *table.averages.values()]
    tensors = [t.detach().clone() for module in modules for t in (*module.parameters(), *module.buffers())]
    flags = [part.training for module in modules for part in module.modules()]
    asked = [parameter.requires_grad for module in modules for parameter in module.parameters()]
    grads = [parameter.grad is None for module in modules for parameter in module.parameters()]
    return [*tensors, torch.tensor([*flags, *asked, *grads]), torch.get_rng_state()]


def test_a_look_leaves_no_trace(table: Callable[..., Table]) -> None:
    seat = table(restless_game())
    before = traces(seat)
    with looking(seat, CLOCK) as look:
        samples = look.samples(4)["points"]
        look.judged(samples)
        look.between(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]))
        assert not torch.equal(torch.get_rng_state(), before[-1])  # else this test shows nothing
        assert seat.modules["generator"].get_buffer("forwards") > 0
    for was, now in zip(before, traces(seat), strict=True):
        assert torch.equal(was, now)


def test_a_look_that_fails_leaves_no_trace_either(table: Callable[..., Table]) -> None:
    def broken(ctx: Context, samples: Tensor) -> Tensor:
        judge(ctx, samples)
        raise RuntimeError("broken")

    seat = table(restless_game(broken))
    before = traces(seat)
    with pytest.raises(RuntimeError, match="broken"), looking(seat, CLOCK) as look:
        look.judged(look.samples(4)["points"])
    for was, now in zip(before, traces(seat), strict=True):
        assert torch.equal(was, now)


def test_a_look_sees_the_averages_in_eval_mode(table: Callable[..., Table]) -> None:
    seat = table(restless_game())
    seen: list[bool] = []

    def peek(ctx: Context, samples: Tensor) -> Tensor:
        seen.extend(player.training for player in ctx.players.values())
        return judge(ctx, samples)

    seat = replace(seat, game=replace(seat.game, critique=peek))
    with looking(seat, CLOCK) as look:
        whole = look.judged(torch.eye(3))[0]
        torch.testing.assert_close(look.judged(torch.eye(3)[:1])[0], whole[:1])  # running statistics, not the batch's
    assert not any(seen)


def test_the_gradient_is_the_critics(table: Callable[..., Table]) -> None:
    game = replace(restless_game(), critique=lambda ctx, x: (x**3).flatten(1).sum(1))
    with looking(table(game), CLOCK) as look, torch.no_grad():
        points = torch.randn(5, 2, 3)
        values, gradients = look.judged(points)
    torch.testing.assert_close(values, (points**3).sum((1, 2)))
    torch.testing.assert_close(gradients, 3 * points**2)
    assert not values.requires_grad


def test_a_compiled_player_is_asked_as_it_is(table: Callable[..., Table]) -> None:
    """No compilation for each shape that a picture has, and gradients that torch.compile would refuse."""
    seat = table(restless_game())
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        compiled.append(1)
        return graph.forward

    for module in seat.modules.values():
        module.compile(backend=backend)
    with looking(seat, CLOCK) as look:
        look.judged(look.samples(5)["points"])
    assert not compiled


# between samples


def test_the_ends_of_a_way_are_samples(table: Callable[..., Table]) -> None:
    game = replace(restless_game(), sample=lambda ctx: {"z": ctx.normal("z", 3), "u": ctx.draws.within("u").uniform("a", 2)})
    seat = table(game)
    with looking(seat, CLOCK) as look:
        rows = look.between(torch.tensor([0, 0, 0]), torch.tensor([5, 5, 5]), torch.tensor([0.0, 0.5, 1.0]), seed=4)
        plain = look.samples(6, seed=4)
    same = sample(game, seat.averages, CLOCK, 6, device=CPU, seed=4)
    for name in plain:
        assert torch.equal(plain[name], same[name])
        torch.testing.assert_close(rows[name][[0, 2]], plain[name][[0, 5]])
    torch.testing.assert_close(rows["u"][1], plain["u"][[0, 5]].mean(0))


def test_a_name_drawn_twice_is_an_error_on_a_way_too() -> None:
    row = torch.tensor([0])
    draws = Between(Draws((0,), 0, 2, CPU), row, row + 1, torch.tensor([0.5]))
    draws.normal("z", 1)
    with pytest.raises(ValueError, match="'z' is drawn twice"):
        draws.normal("z", 1)
    assert draws.count == 1


def test_slerp_keeps_the_length_and_the_plane() -> None:
    start = torch.nn.functional.normalize(torch.randn(50, 7))
    end = torch.nn.functional.normalize(torch.randn(50, 7))
    at = torch.rand(50)
    between = slerp(start, end, at)
    torch.testing.assert_close(between.norm(dim=1), torch.ones(50), rtol=1e-4, atol=1e-4)
    angle, part = ((a * b).sum(1).clamp(-1, 1).acos() for a, b in ((start, end), (start, between)))
    torch.testing.assert_close(part, at * angle, rtol=1e-3, atol=1e-3)
    assert slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5])).tolist() == [
        [pytest.approx(0.5**0.5), pytest.approx(0.5**0.5)]
    ]


@pytest.mark.parametrize(("end", "middle"), [([2.0, 0.0], 1.5), ([-3.0, 0.0], -1.0), ([1.0, 0.0], 1.0)])
def test_slerp_of_what_is_parallel_is_a_line(end: list[float], middle: float) -> None:
    assert slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([end]), torch.tensor([0.5])).tolist() == [[middle, 0.0]]


def test_a_way_stays_typical_in_every_latent(table: Callable[..., Table]) -> None:
    """Half-way, normal latents are as long as at the ends, uniform ones within their bounds, truncated ones, too."""

    def all_kinds(ctx: Context) -> Samples:
        truncated = Truncated(bound=1.0).draw(ctx, 100)
        return {"normal": ctx.normal("n", 100), "uniform": ctx.uniform("u", 100), "truncated": truncated}

    with looking(table(replace(restless_game(), sample=all_kinds)), CLOCK) as look:
        start = torch.arange(64)
        middle = look.between(start, start + 64, torch.full((64,), 0.5))
    assert middle["normal"].norm(dim=1).mean() == pytest.approx(10, rel=0.03)
    assert middle["truncated"].abs().max() <= 1
    assert torch.equal(middle["uniform"], middle["uniform"].clamp(0, 1))


def test_between_two_choices_there_is_none(table: Callable[..., Table]) -> None:
    game = replace(restless_game(), sample=lambda ctx: {"chosen": ctx.integers("c", 1000), "u": ctx.uniform("u")})
    with looking(table(game), CLOCK) as look:
        ends = look.samples(8)["chosen"]
        start, end = torch.arange(4), torch.arange(4, 8)
        for at, nearer in ((0.0, start), (0.4, start), (0.6, end), (1.0, end)):
            between = look.between(start, end, torch.full((4,), at))["chosen"]
            assert torch.equal(between, ends[nearer])
    assert len(ends.unique()) == 8


def test_a_use_is_found_by_its_type_and_leaves_no_trace(table: Callable[..., Table]) -> None:
    way = Way((1, 2, 2), lambda ctx, images: images + ctx.uniform("noise", 1)[:, :, None, None])
    seated = table(replace(restless_game(), uses=(Translation(to=lambda text: way),)))
    with looking(seated, CLOCK) as look:
        found = use(look.game, Translation, "translate images")
        images = torch.zeros(3, 1, 2, 2)
        one, other = (look.used(lambda ctx: found.to("").run(ctx, images), 3, "translate", seed=seed) for seed in (0, 1))
        assert torch.equal(one, look.used(lambda ctx: found.to("").run(ctx, images), 3, "translate"))
        assert not torch.equal(one, other)
        with pytest.raises(ValueError, match="the run's game cannot recommend items"):
            use(look.game, Recommendation, "recommend items")


def test_what_has_no_signature_is_taken_as_it_is() -> None:
    ways = {"red": draw}
    assert Chosen(ways.__getitem__).given("red") is draw


def test_a_bare_function_is_no_use() -> None:
    with pytest.raises(ValueError, match=r"Game.uses: judge is a bare function; wrap it, such as Translation\(…\)"):
        use(replace(restless_game(), uses=(judge,)), Translation, "translate images")
    said = r"Translation.to: judge must take \(text\): missing a required argument: 'samples'"
    with pytest.raises(ValueError, match=said):
        Translation(to=judge)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"Completion.complete: 3 must take \(context, images, observed, steps\): 3 is not"):
        Completion((1, 2, 2), 3)  # pyright: ignore[reportArgumentType]
