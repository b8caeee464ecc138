"""The description of a run: what is refused and by which name, assignments, users' own games, dump and compare."""

import copy
import json
import re
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bigan.changes import refuse_changes
from bigan.config import assign, dump, game_file, load, parse
from bigan.games.gan import GAN
from bigan.games.wgan_gp import WGANGP
from bigan.objectives import Minimax
from bigan.optimizers import SGD, Adam
from bigan.penalties import R1, R2

SOURCE = Path("run.yaml")
BASE: dict[str, Any] = {"name": "digits", "game": "gan", "data": {"real": {"path": "data/digits"}}, "length_kimg": 100}
FULL: dict[str, Any] = BASE | {
    "game": {"kind": "gan", "objective": {"kind": "minimax"}, "penalties": [{"kind": "r1", "every": 4}, {"kind": "r2"}]},
    "optimizers": {"critic": {"kind": "sgd", "lr": 0.5}},
}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name: "),
    ({"name": "a/b"}, "name: "),
    ({"name": "."}, "name: "),
    ({"name": ".."}, "name: "),
    ({"name": 5}, "name: "),
    ({"batch": 0}, "batch: "),
    ({"batch": "many"}, "batch: "),
    ({"batch": None}, "batch: "),
    ({"batch": 2.5}, "batch: "),
    ({"micro_batch": -1}, "micro_batch: "),
    ({"length_kimg": 0}, "length_kimg: "),
    ({"length_kimg": float("inf")}, "length_kimg: "),
    ({"length_kimg": float("nan")}, "length_kimg: "),
    ({"checkpoint_kimg": -1}, "checkpoint_kimg: "),
    ({"keep_checkpoints": 0}, "keep_checkpoints: "),
    ({"hang_timeout_s": 0.001}, "hang_timeout_s: Input should be greater than or equal to 1 (got 0.001)"),
    ({"precision": "fp16"}, "precision: "),
    ({"zero_stage": 3}, "zero_stage: ZeRO 3 divides the weights, and gradient penalties"),
    ({"learning_rate": 1}, "learning_rate: is no key of this config"),
    ({"average": {"ramp": 0}}, "average.ramp: "),
    ({"average": {"half_life": 1}}, "average.half_life: is no key of this config"),
    ({"optimizer": {"lr": 1}}, "optimizer.kind: is missing"),
    ({"data": {"real": {"path": "x", "classes": -5}}}, "data.real.classes: "),
    ({"data": {"real": {"path": "x", "bad_samples": 1}}}, "data.real.bad_samples: "),
    ({"data": {"real": {"kind": "tars", "path": "x"}}}, "data.real.kind: "),
    ({"data": {"real": {"kind": "webdataset", "path": "x"}}}, "data.real.urls: is missing"),
    ({"optimizer": {"kind": "rmsprop", "betas": [0, 0.9]}}, "optimizer.betas: is no key of rmsprop"),
    ({"optimizer": {"kind": "lion"}}, "optimizer.kind: "),
    ({"optimizer": {"kind": "adam", "lr": -1}}, "optimizer.lr: "),
    ({"optimizer": {"kind": "adam", "betas": [0.5]}}, "optimizer.betas.1: is missing"),
    ({"optimizer": {"kind": "adam", "betas": [0.5, 1]}}, "optimizer.betas.1: "),
    ({"optimizers": {"critic": {"kind": "sgd", "momentum": 1}}}, "optimizers.critic.momentum: "),
    ({"optimizers": {"critic": {"kind": "sgd", "beta": 1}}}, "optimizers.critic.beta: is no key of sgd"),
    ({"data": None}, "data: "),
    ({"data": {"real": "x"}}, "data.real: "),
    ({"data": {"real": {}}}, "data.real.path: is missing"),
    ({"data": {"real": {"path": "x", "crop": 1}}}, "data.real.crop: is no key of shards"),
    ({"data": {"real": {"path": "x", "workers": 0}}}, "data.real.workers: "),
    ({"game": None}, "game.kind: is missing"),
    ({"game": ["gan"]}, "game.kind: is missing"),
    ({"game": "began"}, "game.kind: "),
    ({"game": {"critic_steps": 2}}, "game.kind: is missing"),
    ({"game": {"kind": "gan", "critic_steps": 0}}, "game.critic_steps: "),
    ({"game": {"kind": "gan", "steps": 1}}, "game.steps: is no key of gan"),
    ({"game": {"kind": "gan", 1: 1}}, "game.1: "),
    ({"game": {"kind": "wgan_gp", "objective": {"kind": "minimax"}}}, "game.objective: is no key of wgan_gp"),
    ({"game": {"kind": "gan", "objective": {"kind": "hinged"}}}, "game.objective.kind: 'hinged' is none; there are minimax, "),
    ({"game": {"kind": "gan", "objective": {"kind": "minimax", "k": 1}}}, "game.objective.k: is no key of minimax"),
    ({"game": {"kind": "gan", "critic": {"kind": "dcgan", "widht": 4}}}, "game.critic.widht: is no key of dcgan"),
    ({"game": {"kind": "gan", "penalties": [{"kind": "r1", "wieght": 1}]}}, "game.penalties.0.wieght: is no key of r1"),
    ({"game": {"kind": "gan", "critic": {"kind": "dcgan", "norm": "group"}}}, "game.critic.norm: "),
    ({"game": {"kind": "gan", "critic": {"kind": "resnet"}}}, "game.critic.kind: "),
    ({"game": {"kind": "gan", "critic": "dcgan"}}, "game.critic: must be {key: value, …} (got 'dcgan')"),
    ({"average": 3}, "average: must be {key: value, …} (got 3)"),
    ({"game": {"kind": "gan", "penalties": [{"kind": "r1"}, {"kind": "r2", "weight": -1}]}}, "game.penalties.1.weight: "),
    ({"game": {"kind": "gan", "penalties": [{"weight": 1}]}}, "game.penalties.0.kind: is missing"),
    ({"game": {"kind": "gan", "penalties": [{"kind": "r1"}, {"kind": "r1"}]}}, "game: penalties: "),
]


def read(change: dict[str, Any]) -> Any:
    return parse(copy.deepcopy(BASE) | change, SOURCE)


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[f"{number}-{message}" for number, (_, message) in enumerate(WRONG)])
def test_a_bad_key_is_refused_by_its_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^run\.yaml: ") as caught:
        read(change)
    assert str(caught.value).startswith(f"run.yaml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "game", "data", "length_kimg"])
def test_what_has_no_default_is_asked_for(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^run\.yaml: {key}: is missing"):
        parse({name: value for name, value in BASE.items() if name != key}, SOURCE)


def test_more_than_one_mistake_is_counted() -> None:
    with pytest.raises(ValueError, match=r"batch: .* \(and 2 more\)$"):
        read({"batch": 0, "zero_stage": 5, "precision": "fp8"})


@pytest.mark.parametrize("raw", [BASE, FULL, BASE | {"game": "wgan_gp", "micro_batch": 4, "seed": 2**40}])
def test_a_dump_is_read_again_as_the_same_run(raw: dict[str, Any]) -> None:
    run = parse(raw, SOURCE)
    for there_and_back in (lambda plain: yaml.safe_load(yaml.safe_dump(plain)), lambda plain: json.loads(json.dumps(plain))):
        assert parse(there_and_back(dump(run)), SOURCE) == run
        refuse_changes(there_and_back(dump(run)), dump(run), Path("runs/digits"))


def test_settings_are_of_the_kinds_that_were_asked_for() -> None:
    run = parse(FULL, SOURCE)
    assert isinstance(run.game, GAN)
    assert run.game.objective == Minimax()
    assert run.game.penalties == (R1(every=4), R2())
    assert run.optimizers == {"critic": SGD(lr=0.5)}
    assert run.optimizer == Adam()
    assert isinstance(read({"game": {"kind": "wgan_gp", "weight": 1}}).game, WGANGP)
    assert run.home == Path("runs/digits")


@given(lr=st.floats(1e-12, 1e6), eps=st.floats(1e-30, 1), steps=st.integers(1, 10**6))
def test_numbers_survive_a_dump(lr: float, eps: float, steps: int) -> None:
    run = read({"optimizer": {"kind": "adam", "lr": lr, "eps": eps}, "game": {"kind": "gan", "critic_steps": steps}})
    assert parse(yaml.safe_load(yaml.safe_dump(dump(run))), SOURCE) == run


def test_assignments_reach_into_mappings_and_lists() -> None:
    raw = copy.deepcopy(FULL)
    for assignment in ("batch=16", "game.penalties.1.weight=2.5", "data.real.path=a=b", "average.ramp=1e-2", "game.objective="):
        assign(raw, assignment)
    assign(raw, "game.penalties.0={kind: gradient_penalty}")
    assert raw["game"]["penalties"] == [{"kind": "gradient_penalty"}, {"kind": "r2", "weight": 2.5}]
    assert (raw["batch"], raw["data"]["real"]["path"], raw["game"]["objective"]) == (16, "a=b", None)
    del raw["game"]["objective"]
    assert parse(raw, SOURCE).average.ramp == 0.01


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("batch", "'batch': write key=value"),
        ("=3", "'=3': write key=value"),
        ("batch={", "batch: '{' is no YAML value"),
        ("batch.size=3", "batch.size: what stands before .size has no parts"),
        ("name.a.b=3", "name.a.b: what stands before .a has no parts"),
        ("game.penalties.2={}", "game.penalties.2: '2' is no place in a list of 2"),
        ("game.penalties.-1.weight=1", "'-1' is no place in a list of 2"),
        ("game.penalties.first.weight=1", "'first' is no place in a list of 2"),
    ],
)
def test_a_bad_assignment_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        assign({**copy.deepcopy(FULL), "batch": 8}, assignment)


def test_a_file_is_loaded_with_assignments(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(BASE))
    assert load(path, ["batch=32", "name=other"]).batch == 32
    with pytest.raises(ValueError, match="no_such_key: is no key of this config"):
        load(path, ["no_such_key=1"])


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is no YAML"), ("- a\n", "a config is a mapping"), ("", "a config is a")]
)
def test_a_file_that_is_no_config_is_refused_by_its_path(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_cannot_be_read_is_refused_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(ValueError, match="cannot be read as a config"):
            load(path)


USERS = """
from dataclasses import dataclass, field

@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 3

@dataclass(frozen=True, kw_only=True)
class Mine:
    latent: int = 8
    part: Part = field(default_factory=Part)

    def __post_init__(self):
        if self.latent < 1:
            raise ValueError("latent: must be at least 1")

    def build(self, data):
        raise NotImplementedError

@dataclass(frozen=True, kw_only=True)
class Kinded(Mine):
    kind: str = "own"

@dataclass
class Mutable:
    latent: int = 8

    def build(self, data):
        raise NotImplementedError

class Bare:
    def build(self, data):
        raise NotImplementedError
"""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "my_game.py").write_text(USERS)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "needy.py").write_text("import no_such_module_anywhere\n")
    return tmp_path / "run.yaml"


def test_a_users_own_game_is_read_dumped_and_read_again(users: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = parse(BASE | {"game": {"kind": "my_game.py:Mine", "latent": 4, "part": {"size": 5}}}, users)
    assert is_dataclass(run.game)
    assert dump(run)["game"] == {"kind": "my_game.py:Mine", "latent": 4, "part": {"size": 5}}
    plain = yaml.safe_load(yaml.safe_dump(dump(run)))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert game_file(run) == users.parent / "my_game.py"
    (elsewhere / "my_game.py").write_text(USERS)
    assert dump(parse(plain, elsewhere / "config.yaml")) == dump(run)
    assert dump(parse(BASE | {"game": "my_game.py:Mine"}, users))["game"]["latent"] == 8
    sys.modules.pop("bigan_user_my_game")


def test_a_users_own_kind_does_not_hide_where_its_game_is(users: Path) -> None:
    run = parse(BASE | {"game": "my_game.py:Kinded"}, users)
    assert dump(parse(dump(run), users)) == dump(run)
    assert dump(run)["game"]["kind"].endswith("my_game.py:Kinded")


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ({"kind": "my_game.py:Mine", "latant": 4}, "game.latant: is no key of this config"),
        ({"kind": "my_game.py:Mine", "latent": "x"}, "game.latent: "),
        ({"kind": "my_game.py:Mine", "part": {"sise": 1}}, "game.part.sise: is no key of this config"),
        ({"kind": "my_game.py:Mine", "latent": 0}, "game: latent: must be at least 1"),
        ("my_game.py:Bare", "must define a frozen dataclass Bare with a method build(data)"),
        ("my_game.py:Mutable", "must define a frozen dataclass Mutable with a method build(data)"),
        ("my_game.py:Part", "must define a frozen dataclass Part with a method build(data)"),
        ("my_game.py:Absent", "must define a frozen dataclass Absent with a method build(data)"),
        ("my_game.py:", "must define a frozen dataclass"),
        ("none.py:Mine", "game: there is no file none.py"),
        ("broken.py:Mine", "broken.py cannot be imported: SyntaxError: "),
        ("needy.py:Mine", "needy.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    ],
)
def test_a_users_own_mistake_is_named(users: Path, game: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse(BASE | {"game": game}, users)
    assert str(caught.value).startswith(f"{users}: ")
