"""What the user can mend in a config is one line that names the key, exit status 2, and nothing half-written."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bigan.distributed.group import Alone

from .launch import BIGAN, ENVIRONMENT, Said, refused, refused_and_untouched, tree, write_config

CHANGES = [
    ({"lenght_kimg": 1}, "lenght_kimg: is no key"),
    ({"game__critic__widht": 4}, "game.critic.widht: is no key"),
    ({"data__real__shuffle": True}, "data.real.shuffle: is no key"),
    ({"game__penalties__0__wieght": 1}, "wieght: is no key"),
    ({"batch": "many"}, "batch: "),
    ({"batch": 0}, "batch: "),
    ({"length_kimg": -1}, "length_kimg: "),
    ({"length_kimg": float("inf")}, "length_kimg: "),
    ({"seed": 1.5}, "seed: "),
    ({"game__generator__width": [4]}, "generator.width: "),
    ({"optimizer__kind": "lion"}, "optimizer.kind: "),
    ({"optimizer": {"lr": 0.1}}, "optimizer.kind: is missing"),
    ({"game__kind": "stylegan"}, "game.kind: "),
    ({"name": "a/b"}, "name: 'a/b'"),
    ({"data__real__path": "nowhere"}, "nowhere: no such folder"),
    ({"data__real__workers": 0}, "data.real.workers"),
    ({"data": {}}, "data.real: is missing"),
    ({"optimizers": {"painter": {"kind": "sgd"}}}, "optimizers.painter: is no player"),
    (
        {"game__critic__spectral_norm": True, "optimizers": {"critic": {"kind": "sgd", "clip_weights": 0.1}}},
        "optimizers.critic.clip_weights: would clip what spectral norm divides",
    ),
    ({"game__critic__norm": "batch"}, "critic.norm: a gradient penalty needs"),
    ({"micro_batch": 3}, "micro_batch: 3 does not divide"),
    ({"batch": True}, "batch: "),
    ({"data__real__classes": 3}, "data.real: classes: the config says 3, "),
    ({"seed": 2**64}, "seed: "),
    ({"micro_batch": 4}, "micro_batch: 4 of 8 would split"),
    ({"game__kind": "mine.py:Mine"}, "there is no file mine.py"),
]


@pytest.mark.parametrize(("changes", "names"), CHANGES, ids=[names for _, names in CHANGES])
def test_a_config_is_refused_by_its_key(here: Path, digits: Path, changes: dict[str, Any], names: str) -> None:
    config = write_config(here / "run.yaml", digits, **changes)
    refused_and_untouched(here, (names,), "train", config)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (None, "No such file"),
        ("- a\n- b\n", "a config is a mapping"),
        ("", "a config is a mapping"),
        ("a: [1\nb: 2\n", "is no YAML"),
        ("name: x\n", "game: is missing"),
        ("name: x\ngame: gan\nlength_kimg: 1\n", "data: is missing"),
        (b"name: \xff\xfe\n", "cannot be read as a config"),
    ],
    ids=["missing", "a list", "empty", "no YAML", "no game", "no data", "no text"],
)
def test_a_file_that_is_no_config(here: Path, content: str | bytes | None, names: str) -> None:
    if content is not None:
        (here / "run.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    refused_and_untouched(here, ("run.yaml", names), "train", "run.yaml")


@pytest.mark.parametrize(
    ("assignment", "names"),
    [
        ("batch", "'batch': write key=value"),
        ("=4", "write key=value"),
        ("batch=[1", "batch: '[1' is no YAML"),
        ("game.penalties.7.weight=1", "game.penalties.7.weight: '7' is no place"),
        ("batch.size=1", "batch.size: what stands before .size"),
        ("batch=", "batch: "),
    ],
)
def test_a_malformed_assignment(here: Path, digits: Path, assignment: str, names: str) -> None:
    config = write_config(here / "run.yaml", digits)
    refused_and_untouched(here, (names,), "train", config, assignment)


def test_a_batch_that_the_ranks_cannot_divide(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Three(Alone):
        size = 3

    @contextmanager
    def joined(device: object, timeout_s: float) -> Iterator[Alone]:
        yield Three()

    monkeypatch.setattr("bigan.train.joined", joined)
    monkeypatch.setattr("bigan.train.Watchdog.meet", lambda watchdog, group: None)
    config = write_config(here / "run.yaml", digits)
    refused_and_untouched(here, ("batch: 8 is not divisible by 3 ranks",), "train", config)


# --- a user's own game ------------------------------------------------------------------------------------------------

FILES = [
    ("def (:", "mine.py"),
    ("import nothing_of_that_name", "nothing_of_that_name"),
    ("raise RuntimeError('oh')", "mine.py"),
    ("x = 1 / 0", "mine.py"),
    ("class Other: pass", "a frozen dataclass Mine"),
    ("Mine = 3", "a frozen dataclass Mine"),
    ("class Mine: pass", "a frozen dataclass Mine"),
    ("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    a: int = 1", "a method build"),
]


@pytest.mark.parametrize(("text", "names"), FILES, ids=[text[:20] for text, _ in FILES])
def test_a_game_file_that_is_broken(here: Path, digits: Path, text: str, names: str) -> None:
    (here / "mine.py").write_text(text)
    config = write_config(here / "run.yaml", digits, game__kind="mine.py:Mine")
    refused_and_untouched(here, ("game: ", names), "train", config)


# --- as a process -----------------------------------------------------------------------------------------------------


def test_a_process_ends_with_status_2(here: Path, digits: Path) -> None:
    config = write_config(here / "run.yaml", digits, game__critic__widht=4)
    before = tree(here)
    for arguments, names in (
        (["train", str(config)], "game.critic.widht: is no key"),
        (["pack", "nowhere", "out"], "nowhere: no such folder"),
    ):
        ended = subprocess.run([*BIGAN, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        refused(Said(ended.returncode, ended.stdout, ended.stderr), names)
    assert tree(here) == before
