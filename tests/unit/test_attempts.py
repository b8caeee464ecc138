"""What made a run go back is kept, and no checkpoint is tried for ever."""

from pathlib import Path

import pytest

from bigan.attempts import Attempts, Setback


def setback(attempt: int, begun: int) -> Setback:
    return Setback(attempt=attempt, round=begun + 3, begun=begun, message="round 4, move critic: …")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for name in ("round_00000010", "round_00000020", "round_00000030.mine"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    return tmp_path / "checkpoints"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_started_process_goes_on_with_the_attempt_that_it_was_at(tmp_path: Path, checkpoints: Path) -> None:
    path = tmp_path / "attempts.json"
    assert Attempts(path).number == 0
    assert not path.exists()
    Attempts(path).note(setback(0, 20), checkpoints)
    assert Attempts(path).number == 1
    Attempts(path).note(setback(4, 10), checkpoints)  # a run that began from the checkpoint of one at its fifth attempt
    found = Attempts(path)
    assert found.number == 5
    assert [entry.begun for entry in found.setbacks] == [20, 10]


def test_a_checkpoint_that_fails_twice_is_put_aside_and_the_last_one_is_not(tmp_path: Path, checkpoints: Path) -> None:
    attempts = Attempts(tmp_path / "attempts.json")
    attempts.note(setback(0, 20), checkpoints)
    assert names(checkpoints) == ["round_00000010", "round_00000020", "round_00000030.mine"]
    told = attempts.note(setback(1, 20), checkpoints)
    assert told == "round_00000010, as round_00000020.attempt_1.aside has led there twice"
    aside = ["round_00000010", "round_00000020.attempt_1.aside", "round_00000030.mine"]
    assert names(checkpoints) == aside
    for attempt in (2, 3):
        assert attempts.note(setback(attempt, 10), checkpoints) == "round_00000010"
    assert names(checkpoints) == aside


def test_a_checkpoint_that_is_made_again_is_tried_again_twice(tmp_path: Path, checkpoints: Path) -> None:
    attempts = Attempts(tmp_path / "attempts.json")
    for attempt, begun in enumerate((20, 20, 10)):
        attempts.note(setback(attempt, begun), checkpoints)
        (checkpoints / "round_00000020").mkdir(exist_ok=True)
    attempts.note(setback(3, 20), checkpoints)
    assert "round_00000020" in names(checkpoints)
    attempts.note(setback(4, 20), checkpoints)
    assert [name for name in names(checkpoints) if "00020" in name] == [
        "round_00000020.attempt_1.aside", "round_00000020.attempt_4.aside",
    ]  # fmt: skip


def test_a_checkpoint_that_the_failed_attempt_has_made_is_tried(tmp_path: Path, checkpoints: Path) -> None:
    attempts = Attempts(tmp_path / "attempts.json")
    for attempt in (0, 1):
        attempts.note(setback(attempt, 10), checkpoints)
    assert "round_00000020" in names(checkpoints)


@pytest.mark.parametrize("content", ["", "{", "[{}]", '[{"attempt": 1}]', "3"])
def test_a_damaged_record_is_refused_by_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "attempts.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"attempts\.json: cannot be read"):
        Attempts(path)
