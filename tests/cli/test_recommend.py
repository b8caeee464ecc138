"""A run on ratings by the commands: trained, measured, resumed, judged, and asked what it recommends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from bigan.data.ratings import Ratings
from bigan.distributed import checkpoint
from bigan.measure import scores_of
from bigan.sample import restore

from .launch import BATCH, bigan, differing, kimg, refused, refused_and_untouched, saved

LINES = [f"u{user} i{item} {1 + (user * 3 + item) % 5}" for user in range(12) for item in range(20) if (user + item) % 4]
TEST = [f"u{user} i{item} {1 + (user * 3 + item) % 5}" for user in range(12) for item in range(20) if not (user + item) % 4]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ratings, and a config that takes each move to its turn."""
    monkeypatch.chdir(tmp_path)
    Path("ratings.txt").write_text("\n".join(LINES))
    Path("test.txt").write_text("\n".join(TEST))
    write()
    return tmp_path


def write(**data: Any) -> None:
    ratings = {"kind": "ratings", "path": "ratings.txt", "test": "test.txt", "validation": 0.5, **data}
    raw = {
        "name": "run",
        "data": {"real": ratings},
        "game": {"kind": "irgan", "draws": 8, "pretrain_kimg": kimg(2), "phase_kimg": [kimg(1), kimg(1)]},
        "optimizer": {"kind": "sgd", "lr": 1.0},
        "batch": BATCH,
        "length_kimg": kimg(6),
        "tick_kimg": kimg(2),
        "evaluation": {"every_kimg": kimg(2)},
        "keep_checkpoints": 1,
    }
    Path("run.yaml").write_text(yaml.safe_dump(raw))


def test_a_run_from_its_ratings_to_its_recommendations(here: Path) -> None:
    said = bigan("train", "run.yaml")
    assert (said.status, said.err) == (0, ""), said
    events = [json.loads(line) for line in Path("runs/run/events.jsonl").read_text().splitlines()]
    found = {event["round"]: event for event in events if "miss" in event}
    assert [*found] == [2, 4, 6]
    best = min(found, key=lambda round: found[round]["miss"])
    assert found[best]["miss"] == pytest.approx(1 - found[best]["P@5"], abs=1e-5)
    about = json.loads(Path("runs/run/checkpoints/best.json").read_text())
    assert (about["round"], about["metric"]) == (best, "miss")
    kept = {checkpoint.round_of(path) for path in checkpoint.candidates(Path("runs/run/checkpoints"))}
    assert kept == {best, 6}

    said = bigan("evaluate", "runs/run", "--checkpoint=best")
    assert said.status == 0, said
    assert said.out.startswith(f"{best * BATCH / 1000:g} kimg; 12 users with test likings\n")
    card = json.loads(Path("runs/run/evaluation.json").read_text())
    assert (card["split"], card["round"]) == ("test", best)
    assert card["run"].keys() == card["popular"].keys() == {name for name in found[best] if "@" in name} | {"MAP", "MRR"}

    held = Ratings(path="ratings.txt", test="test.txt", validation=0.5).held()
    scores = scores_of(restore(Path("runs/run"), at="best").look, len(held.users)).numpy()
    assert held.test is not None
    assert found[best]["MRR"] == pytest.approx(reciprocal_rank(scores, held.liked, held.validation), abs=1e-5)
    assert card["run"]["MRR"] == pytest.approx(reciprocal_rank(scores, held.liked | held.validation, held.test), abs=1e-5)

    said = bigan("recommend", "runs/run", "--user=u3", "--checkpoint=best")
    assert said.status == 0, said
    rows = [line.split("\t") for line in said.out.splitlines()]
    unrated = {line.split()[1] for line in TEST if line.startswith("u3 ")}
    assert {item for item, _ in rows} == unrated  # all five, as the count is ten
    assert [float(score) for _, score in rows] == sorted((float(score) for _, score in rows), reverse=True)
    said = bigan("recommend", "runs/run", "--user=u3", "--checkpoint=best", "--count=2")
    assert [line.split("\t") for line in said.out.splitlines()] == rows[:2]

    Path("ratings.txt").rename("moved.txt")
    refused(bigan("recommend", "runs/run", "--user=u3"), "ratings.txt: cannot be read as ratings")
    assert bigan("recommend", "runs/run", "--user=u3", "--checkpoint=best", "--count=2", "--data=moved.txt").out == said.out
    assert bigan("evaluate", "runs/run", "--data=moved.txt").status == 0
    Path("moved.txt").write_text("\n".join([*LINES, f"u3 {rows[0][0]} 5"]))
    said = bigan("recommend", "runs/run", "--user=u3", "--checkpoint=best", "--count=1", "--data=moved.txt")
    assert said.out.split("\t")[0] == rows[1][0]  # what has been rated since is not recommended any more
    refused(bigan("evaluate", "runs/run", "--data=moved.txt"), "moved.txt: is not the data that")
    refused(
        bigan("recommend", "runs/run", "--user=eve", "--data=moved.txt"), "--user eve: there is no such user; there are 12: u0"
    )
    refused(bigan("recommend", "runs/run", "--user=u3", "--count=0"), "--count 0")
    assert bigan("sample", "runs/run", "--out=a.npz", "--count=7").status == 0
    assert {name: array.shape for name, array in np.load("a.npz").items()} == {"users": (7,), "items": (7,)}
    refused(bigan("sample", "runs/run", "--out=a.png"), "the game samples users, items, no images")


def reciprocal_rank(scores: NDArray, known: NDArray, wanted: NDArray) -> float:
    """The mean over users who want something of 1 over the rank of the best that is wanted, among what is not known."""
    best = np.where(wanted, scores, -np.inf).max(1, keepdims=True)
    ranks = 1 + ((scores > best) & ~known).sum(1)
    return float((1 / ranks[wanted.any(1)]).mean())


def test_nothing_is_said_of_whom_or_what_nothing_is_known(here: Path) -> None:
    lines = [*LINES, "shy i1 1", "shy i2 3"]
    Path("ratings.txt").write_text("\n".join(lines))
    Path("test.txt").write_text("\n".join([*TEST, "u1 unseen 5"]))
    assert bigan("train", "run.yaml", f"length_kimg={kimg(1)}").status == 0
    refused(
        bigan("recommend", "runs/run", "--user=shy"), "--user shy: likes nothing in ratings.txt, so that nothing was learned"
    )
    said = bigan("recommend", "runs/run", "--user=u3", "--count=99")
    assert {line.split("\t")[0] for line in said.out.splitlines()} == {f"i{item}" for item in range(20) if not (3 + item) % 4}
    Path("elsewhere").mkdir()  # without the test, of which nothing is asked
    Path("elsewhere/own.txt").write_text("shy i1 5\nshy i3 5")
    said = bigan("recommend", "runs/run", "--user=shy", "--count=99", "--data=elsewhere/own.txt")
    assert len(said.out.splitlines()) == 19, said


def test_a_resumed_run_ends_as_one_that_was_not_stopped(here: Path) -> None:
    assert bigan("train", "run.yaml", "name=whole").status == 0
    for rounds in (3, 6):
        assert bigan("train", "run.yaml", f"length_kimg={kimg(rounds)}").status == 0
    assert differing(saved(Path("runs/run")), saved(Path("runs/whole"))) == []
    Path("ratings.txt").write_text("\n".join([*LINES, "u0 i1 5"]))
    refused(bigan("train", "run.yaml", f"length_kimg={kimg(7)}"), "data.real: ratings.txt is not the data that")
    refused(bigan("evaluate", "runs/run"), "ratings.txt: is not the data that runs/run was trained on; name it with --data")
    refused(bigan("recommend", "runs/run", "--user=u0"), "ratings.txt: is not the data that runs/run was trained on")
    said = bigan("recommend", "runs/run", "--user=u0", "--data=ratings.txt")
    assert (said.status, said.err) == (0, "")
    Path("test.txt").unlink()  # of which nothing is asked
    said = bigan("recommend", "runs/run", "--user=u3")
    assert (said.status, said.err) == (0, "")


def test_bad_lines_are_one_message(here: Path) -> None:
    Path("ratings.txt").write_text("\n".join([*LINES[:3], "u1 i2", *LINES[3:], "what?"]))
    refused_and_untouched(
        here, ('data.real: ratings.txt:4: "u1 i2": write user item rating (and 1 more)',), "train", "run.yaml"
    )


def test_what_can_never_be_measured_is_refused_at_the_start(here: Path) -> None:
    write(validation=0)
    refused(bigan("train", "run.yaml"), "evaluation.every_kimg: nothing is kept to choose by; set data.real.validation")
    write(validation=0, test=None)
    assert bigan("train", "run.yaml", "evaluation.every_kimg=0").status == 0
    refused(bigan("evaluate", "runs/run"), "data.real: has neither test nor validation likings")
    refused(bigan("evaluate", "runs/run", "--checkpoint=best"), "no checkpoint was measured")


def test_the_validation_judges_where_there_is_no_test(here: Path) -> None:
    write(test=None)
    assert bigan("train", "run.yaml").status == 0
    assert "users with validation likings" in bigan("evaluate", "runs/run").out


def test_a_run_on_anything_else_recommends_nothing(here: Path) -> None:
    game = "{kind: gan, generator: {kind: mlp, latent: 2, width: 4}, critic: {kind: mlp, width: 4}}"
    rest = ["evaluation.every_kimg=0", f"length_kimg={kimg(1)}", "data.real={kind: ring}"]
    assert bigan("train", "run.yaml", f"game={game}", *rest).status == 0
    refused(bigan("recommend", "runs/run", "--user=0"), "the run's game cannot recommend items")
