"""Where a run begins: what every rank can read, and what `--resume` asks for. Two ranks are two threads."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigan.config import Run, dump, parse
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import save
from bigan.distributed.group import Alone
from bigan.folder import RunFolder
from bigan.resume import Start, starting_point

from .saved import DAMAGES, FILES, flip, made, truncate

DATA = {"real": {"spec": {}, "sha256": "0"}}


class Pair:
    """What two threads, each a rank, need of a group."""

    size = 2

    def __init__(self, rank: int, board: list[str], barrier: threading.Barrier) -> None:
        self.rank, self._board, self._barrier = rank, board, barrier

    def collect(self, value: str) -> list[str]:
        self._board[self.rank] = value
        self._barrier.wait(60)
        told = list(self._board)
        self._barrier.wait(60)
        return told

    def agree(self, value: str) -> str:
        return self.collect(value)[0]


def on_two_ranks(act: Callable[[Any], Any]) -> list[Any]:
    """What each rank returned, or the ValueError that it raised."""
    board, barrier = ["", ""], threading.Barrier(2)

    def played(rank: int) -> Any:
        try:
            return act(Pair(rank, board, barrier))
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(played, range(2)))


def run(place: Path, name: str = "run", **changes: Any) -> Run:
    raw = {"name": name, "folder": str(place / "runs"), "data": {"real": {"path": "x"}}, "game": "gan", "length_kimg": 1}
    return parse(raw | changes, place / "run.yaml")


def begun(run: Run, *rounds: int) -> Path:
    """The run's folder, with checkpoints of these rounds."""
    run.home.mkdir(parents=True, exist_ok=True)
    (run.home / "config.yaml").touch()
    for round in rounds:
        save(run.home / "checkpoints", replace(made(round), config=dump(run), data=DATA), keep=9)
    return run.home


def start(run: Run, resume: str = "auto", home: Path | None = None, group: Any = None) -> Start:
    return starting_point(run, RunFolder(home or run.home), DATA, group or Alone(), resume)


def round_of(found: Start) -> int:
    assert found.saved is not None
    return found.saved.clock.round


@pytest.mark.parametrize("resume", ["auto", "none"])
def test_a_run_without_checkpoints_begins(tmp_path: Path, resume: str) -> None:
    assert start(run(tmp_path), resume) == Start()
    begun(run(tmp_path))
    assert start(run(tmp_path), resume) == Start()


def test_the_newest_is_taken(tmp_path: Path) -> None:
    begun(run(tmp_path), 1, 2, 3)
    found = start(run(tmp_path))
    assert (round_of(found), found.notes) == (3, ())


def test_none_never_begins_over_what_was_saved(tmp_path: Path) -> None:
    begun(run(tmp_path), 1)
    with pytest.raises(ValueError, match=r"--resume none: .*checkpoints holds checkpoints; set name="):
        start(run(tmp_path), "none")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("seen_by", [(0,), (1,), (0, 1)], ids=["rank 0 sees it", "rank 1 sees it", "both see it"])
def test_all_ranks_agree_on_the_one_before(
    tmp_path: Path, file: str, damage: Callable[[Path], None], seen_by: tuple[int, ...]
) -> None:
    """Each rank looks at a folder of its own: a damaged disk of one host, or the same damaged file."""
    homes = [begun(run(tmp_path / str(rank)), 1, 2) for rank in range(2)]
    for rank in seen_by:
        damage(homes[rank] / "checkpoints/round_00000002" / file)
    same = run(tmp_path / "0")
    found = on_two_ranks(lambda group: start(same, home=homes[group.rank], group=group))
    assert [round_of(each) for each in found] == [1, 1]
    for each in found:
        (note,) = each.notes
        assert "round_00000002: is damaged" in note
        assert (f"(as rank {seen_by[0]} sees it)" in note) == (len(seen_by) == 1)


@pytest.mark.parametrize("damaged", [((1, 2), (1, 2)), ((1, 2), ()), ((1,), (2,))], ids=["both", "one", "each another"])
def test_where_all_are_damaged_every_rank_refuses(tmp_path: Path, damaged: tuple[tuple[int, ...], ...]) -> None:
    homes = [begun(run(tmp_path / str(rank)), 1, 2) for rank in range(2)]
    for rank, rounds in enumerate(damaged):
        for round in rounds:
            truncate(homes[rank] / f"checkpoints/round_{round:08d}" / "tensors.safetensors")
    same = run(tmp_path / "0")
    for told in on_two_ranks(lambda group: start(same, home=homes[group.rank], group=group)):
        assert "all 2 checkpoints are damaged" in told
        assert "tensors.safetensors has" in told


@pytest.mark.parametrize("blind", [0, 1])
def test_a_rank_that_sees_no_checkpoints_does_not_begin_anew(tmp_path: Path, blind: int) -> None:
    """The run folder of one host is not that of the other: no rank may begin while another one goes on."""
    homes = [run(tmp_path / str(rank)).home for rank in range(2)]
    begun(run(tmp_path / str(1 - blind)), 1)
    same = run(tmp_path / "0")
    for told in on_two_ranks(lambda group: start(same, home=homes[group.rank], group=group)):
        assert f"is damaged (as rank {blind} sees it): manifest.json is missing" in told
        assert "every host must see the same files" in told


def test_a_newer_schema_stops_every_rank(tmp_path: Path) -> None:
    home = begun(run(tmp_path), 1, 2)
    path = home / "checkpoints/round_00000002"
    state = json.loads((path / "state.json").read_text()) | {"schema": 9}
    (path / "state.json").write_text(json.dumps(state))
    files = {"state.json": checkpoint._seal(path / "state.json")}
    (path / "manifest.json").write_text(json.dumps({"schema": 9, "files": files}))
    for told in on_two_ranks(lambda group: start(run(tmp_path), group=group)):
        assert "was written by a newer bigan (schema 9; this one reads 1)" in told


@pytest.mark.parametrize("named", ["runs/other", "runs/other/checkpoints/round_00000002"])
def test_a_run_begins_where_another_one_stands(tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun(run(Path(), "other"), 1, 2)
    new = run(Path(), "new")
    for found in on_two_ranks(lambda group: start(new, named, group=group)):
        assert round_of(found) == 2
        assert found.notes == ("begins where runs/other/checkpoints/round_00000002 ends",)
    begun(new, 7)
    found = start(new, named)  # the same command again, as a job that was requeued gives it
    assert (round_of(found), found.notes) == (7, ())


def test_a_copy_under_any_name_will_do(tmp_path: Path) -> None:
    home = begun(run(tmp_path, "other"), 1)
    shutil.copytree(home / "checkpoints/round_00000001", tmp_path / "good one")
    assert round_of(start(run(tmp_path), str(tmp_path / "good one"))) == 1


def test_another_runs_damaged_one_yields_to_the_one_before(tmp_path: Path) -> None:
    home = begun(run(tmp_path, "other"), 1, 2)
    flip(home / "checkpoints/round_00000002/tensors.safetensors")
    found = start(run(tmp_path), str(home))
    assert round_of(found) == 1
    assert "round_00000002: is damaged: tensors.safetensors is not what was written" in found.notes[0]
    with pytest.raises(ValueError, match=r"damaged .*tensors.safetensors is not what was written"):
        start(run(tmp_path), str(home / "checkpoints/round_00000002"))


def test_an_older_one_of_its_own_is_refused_with_the_way_out(tmp_path: Path) -> None:
    home = begun(run(tmp_path), 1, 2)
    with pytest.raises(ValueError, match=r"has gone on to round_00000002.*set name="):
        start(run(tmp_path), str(home / "checkpoints/round_00000001"))
    for own in (home, home / "checkpoints", home / "checkpoints/round_00000002"):
        assert round_of(start(run(tmp_path), str(own))) == 2
    assert round_of(start(run(tmp_path, "branch"), str(home / "checkpoints/round_00000001"))) == 1


@pytest.mark.parametrize("named", ["missing", ".", "runs/empty"])
def test_a_path_where_nothing_is_saved_is_refused(tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun(run(Path(), "empty"))
    for told in on_two_ranks(lambda group: start(run(Path()), named, group=group)):
        assert told.startswith(f"--resume {named}: is neither a checkpoint nor a run folder that holds one")


def test_another_config_or_other_data_is_refused(tmp_path: Path) -> None:
    home = begun(run(tmp_path, "other"), 1)
    for resume, name in (("auto", "other"), (str(home), "new")):
        with pytest.raises(ValueError, match=r"was begun with another config: seed \(0 → 1\)"):
            start(run(tmp_path, name, seed=1), resume)
        with pytest.raises(ValueError, match=r"data.real: x is not the data that .*other"):
            starting_point(run(tmp_path, name), RunFolder(run(tmp_path, name).home), {"real": {"sha256": "1"}}, Alone(), resume)
