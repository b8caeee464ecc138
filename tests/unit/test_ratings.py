"""Ratings: what is read of text, who is drawn, what is kept from the training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigan.config import dump, parse
from bigan.data.ratings import Ratings
from bigan.spec import DataSpec

LINES = ["ann rose 5", "ann tulip 3", "bob rose 4", "bob lily 5", "cat tulip 1", "dan lily 4.5"]


def write(place: Path, lines: list[str] = LINES, name: str = "ratings.txt") -> str:
    (place / name).write_text("\n".join(lines) + "\n")
    return str(place / name)


def many(place: Path) -> Ratings:
    lines = [f"{user} {item} {1 + (user * 7 + item * 3) % 5}" for user in range(40) for item in range(30)]
    return Ratings(path=write(place, lines), users=40, items=30)


def test_users_with_what_they_like(tmp_path: Path) -> None:
    with Ratings(path=write(tmp_path)).open(0) as stream:
        spec = stream.spec
        assert (spec.samples, spec.classes, spec.attributes) == (3, ("ann", "bob", "cat", "dan"), ("lily", "rose", "tulip"))
        assert DataSpec.of(spec.plain()) == spec
        batch = stream.read(0, 3)
    found = {spec.classes[user]: liked.tolist() for user, liked in zip(batch.labels, batch.attributes, strict=True)}
    assert found == {"ann": [0, 1, 0], "bob": [1, 1, 0], "dan": [1, 0, 0]}  # cat likes nothing, and is not drawn
    assert batch.attributes.dtype == torch.float32


@pytest.mark.parametrize("apart", ["\t", "  ", "::", ",", ", "])
def test_lines_are_written_in_many_ways(tmp_path: Path, apart: str) -> None:
    lines = [apart.join([*line.split(), "881250949"]) for line in LINES]
    held = Ratings(path=write(tmp_path, ["", *lines, "  "])).held()
    assert np.array_equal(held.liked, Ratings(path=write(tmp_path)).held().liked)


@pytest.mark.parametrize("apart", ["\t", "::", ",", ", "])
def test_a_name_may_have_blanks_where_something_else_parts(tmp_path: Path, apart: str) -> None:
    held = Ratings(
        path=write(tmp_path, [apart.join(parts) for parts in (("ann", "Rocky 3", "5"), ("ann", "Alien", "1"))])
    ).held()
    assert held.items == ("Alien", "Rocky 3")
    assert held.liked.tolist() == [[False, True]]


def test_a_name_of_very_many_digits_is_a_name(tmp_path: Path) -> None:
    long = "7" * 5000
    assert Ratings(path=write(tmp_path, [f"{long} 1 5"])).held().users == (long,)
    with pytest.raises(ValueError, match="write user item rating, users from 0 to 2"):
        Ratings(path=write(tmp_path, [f"{long} 1 5"]), users=3).held()


def test_of_two_ratings_the_later_counts(tmp_path: Path) -> None:
    held = Ratings(path=write(tmp_path, ["a x 5", "b x 1", "a y 5", "a x 2", "b x 4"])).held()
    assert held.liked.tolist() == [[False, True], [True, False]]
    assert held.rated.tolist() == [[True, True], [True, False]]


def test_names_that_are_numbers_stand_by_their_size(tmp_path: Path) -> None:
    path = write(tmp_path, ["10 2 5", "9 11 5", "x 1 5"])
    held = Ratings(path=path).held()
    assert (held.users, held.items) == (("9", "10", "x"), ("1", "2", "11"))
    held = Ratings(path=write(tmp_path, ["1 2 5"]), users=3, items=4).held()
    assert (held.users, held.items) == (("0", "1", "2"), ("0", "1", "2", "3"))
    assert np.argwhere(held.liked).tolist() == [[1, 2]]


def test_an_epoch_has_each_user_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    data = many(tmp_path)
    with data.open(5) as stream, data.open(6) as other:
        epochs = [stream.read(start, 40).labels.tolist() for start in (0, 40)]
        assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
        assert epochs[0] != epochs[1] != other.read(0, 40).labels.tolist()
        shares = [data.open(5).read(36 + 4 * rank, 4) for rank in range(3)]
        whole = stream.read(36, 12)
        for name, tensor in whole.fields.items():
            assert torch.equal(torch.cat([share[name] for share in shares]), tensor), name


def test_the_validation_is_kept_from_the_training(tmp_path: Path) -> None:
    data = many(tmp_path)
    whole = data.held()
    held = Ratings(path=data.path, users=40, items=30, validation=0.25).held()
    assert not (held.liked & held.validation).any()
    assert np.array_equal(held.liked | held.validation, whole.liked)
    assert 0.15 < held.validation.sum() / whole.liked.sum() < 0.35
    lines = Path(data.path).read_text().split("\n")
    shuffled = Ratings(path=write(tmp_path, lines[::-1], "shuffled.txt"), users=40, items=30, validation=0.25)
    assert np.array_equal(shuffled.held().validation, held.validation)  # of the names alone
    with shuffled.open(0) as stream:
        batch = stream.read(0, stream.spec.samples)
    assert not (batch.attributes.bool().numpy() & held.validation[batch.labels.numpy()]).any()


def test_the_test_likings_stand_beside(tmp_path: Path) -> None:
    write(tmp_path, ["bob tulip 5", "eve rose 2"], "test.txt")
    data = Ratings(path=write(tmp_path), test="test.txt")
    held = data.held()
    assert held.users == ("ann", "bob", "cat", "dan", "eve")
    assert held.test is not None
    assert np.argwhere(held.test).tolist() == [[1, 2]]
    assert not held.liked[1, 2]
    with data.open(0) as stream:
        assert not stream.read(0, 30).attributes[:, 2].any()
    absolute = Ratings(path=data.path, test=write(tmp_path, ["bob tulip 5"], "other.txt"))
    assert absolute.held().test is not None


def test_other_likings_have_another_fingerprint(tmp_path: Path) -> None:
    path, test = write(tmp_path), write(tmp_path, ["ann lily 5"], "test.txt")
    changes: list[dict[str, Any]] = [{}, {"above": 2}, {"validation": 0.6}, {"test": test}]
    prints = {Ratings(path=path, **change).open(0).fingerprint for change in changes}
    assert len(prints) == len(changes)
    assert Ratings(path=write(tmp_path, LINES[::-1], "again.txt")).open(9).fingerprint in prints


@pytest.mark.parametrize(
    ("lines", "settings", "told"),
    [
        (["a x 5", "a y", "b", "c z good"], {}, r'^PATH:2: "a y": write user item rating \(and 2 more\)$'),
        (["userId,movieId,rating"], {}, r'^PATH:1: "userId,movieId,rating": write user item rating$'),
        (["a x nan"], {}, r'^PATH:1: "a x nan": write user item rating$'),
        (["a,,5"], {}, r'^PATH:1: "a,,5": write'),
        (["3 0 5"], {"users": 3}, r'^PATH:1: "3 0 5": write user item rating, users from 0 to 2$'),
        (["0 -1 5"], {"items": 9}, r'^PATH:1: "0 -1 5": write user item rating, items from 0 to 8$'),
        (["0 01 5"], {"items": 9}, "write user item rating, items from 0 to 8"),
        ([f"a {'x' * 99}"], {}, r'^PATH:1: "a x{58}…": write'),
        (["", " "], {}, "^PATH: holds no ratings"),
        (["a x 1", "b x 2"], {}, "^PATH: nobody likes anything: no rating that is trained on is above 3.99$"),
        (["a x 5"], {"test": "missing.txt"}, "missing.txt: cannot be read as ratings"),
        (["a x 5"], {"users": 2**15, "items": 2**15}, r'^PATH:1: "a x 5": write user item rating, users from 0 to 32767 and'),
        (["0 0 5"], {"users": 2**15, "items": 2**15}, "^PATH: 32768 users times 32768 items are too many"),
    ],
)
def test_a_bad_file_is_one_clear_message(tmp_path: Path, lines: list[str], settings: dict[str, Any], told: str) -> None:
    path = write(tmp_path, lines)
    with pytest.raises(ValueError, match=told.replace("PATH", path)) as caught:
        Ratings(path=path, **settings).open(0)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\xff")
    for path in (tmp_path, tmp_path / "image.txt", tmp_path / "missing"):
        with pytest.raises(ValueError, match=f"^{path}: cannot be read as ratings"):
            Ratings(path=str(path)).open(0)


def test_a_config_names_it(tmp_path: Path) -> None:
    raw = {"name": "a", "game": "irgan", "length_kimg": 1, "data": {"real": {"kind": "ratings", "path": "x", "users": 9}}}
    run = parse(raw, Path("run.yaml"))
    assert run.data["real"] == Ratings(path="x", users=9)
    assert parse(json.loads(json.dumps(dump(run))), Path("run.yaml")) == run
    for change, told in (({"validation": 1}, "data.real.validation: "), ({"users": 0}, "data.real.users: ")):
        with pytest.raises(ValueError, match=told):
            parse({**raw, "data": {"real": {"kind": "ratings", "path": "x", **change}}}, Path("run.yaml"))
