"""NaN and infinity: named in the round in which they arise, kept, and rolled back from, a budgeted number of times."""

import json
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bigan.distributed import checkpoint

from ..cli.launch import BATCH, ENVIRONMENT, bigan, kimg, saved
from .ranks import LIMIT_S, TORCHRUN

HOME = Path("runs/run")
FOUND = {
    "loss": "round 5, move judge (step 1 of 2): loss term rest is NaN or infinite on rank 0",
    "gradient": ("round 5, move judge (step 2 of 2): the gradient of judge.bias is NaN or infinite, though the loss is finite"),
    "weight": ("round 5, move judge (step 2 of 2): the step made judge.bias NaN or infinite, though its gradient is finite"),
}


def status() -> list[str]:
    return (HOME / "STATUS").read_text().splitlines()


def settings(how: str) -> tuple[str, ...]:
    return (f"game.how={how}", *(["optimizers.judge={kind: sgd, lr: 1.0e25}"] if how == "weight" else []))


@pytest.mark.parametrize("how", FOUND)
def test_a_run_that_diverges_goes_back_to_its_checkpoint_and_draws_anew(fragile: Path, how: str) -> None:
    said = bigan("train", fragile, *settings(how))
    assert said.status == 0, said
    assert FOUND[how] in said.out
    end = saved(HOME)
    assert (end.clock.round, end.clock.attempt) == (6, 1)
    assert all(tensor.isfinite().all() for tensor in end.tensors.values())
    events = [json.loads(line) for line in (HOME / "events.jsonl").read_text().splitlines()]
    assert [event["round"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert status()[0] == "complete"
    assert bigan("train", fragile, *settings(how), "game.round=99", "name=whole", f"length_kimg={kimg(3)}").status == 0
    third = checkpoint.load(next(path for path in checkpoint.candidates(HOME / "checkpoints") if path.name.endswith("3")))
    whole = saved(Path("runs/whole"))
    assert third.clock == whole.clock  # what was saved before stands, of attempt 0


@pytest.mark.parametrize("rollbacks", [0, 2])
def test_a_run_that_diverges_again_and_again_ends(fragile: Path, rollbacks: int) -> None:
    said = bigan("train", fragile, *settings("loss"), "game.attempts=9", f"rollbacks={rollbacks}")
    assert said.status == 1
    (line,) = said.err.splitlines()
    assert FOUND["loss"] in line
    assert status()[0] == "failed"
    assert FOUND["loss"] in status()[1]
    assert saved(HOME).clock.round == 3
    kept = sorted(path.name for path in (HOME / "diverged").glob("*.json"))
    assert kept == [f"round_00000005_attempt_{attempt}_rank_0.json" for attempt in range(rollbacks + 1)]


def test_a_run_that_has_gone_back_often_enough_plays_no_more_unless_it_may(fragile: Path) -> None:
    often = (*settings("loss"), "game.attempts=2")
    assert bigan("train", fragile, *often, "rollbacks=1").status == 1
    before = saved(HOME)
    again = bigan("train", fragile, *often, "rollbacks=1")
    assert again.status == 1
    assert "it may not go back again (rollbacks: 1)" in again.err
    assert again.out == ""
    assert saved(HOME).clock == before.clock
    assert bigan("train", fragile, *often, "rollbacks=2").status == 0
    assert saved(HOME).clock.attempt == 2


def test_two_ranks_go_back_together_and_keep_nothing_of_the_players_that_failed(fragile: Path) -> None:
    """DeepSpeed's hooks would keep the weights, and on a GPU there is no room for two sets of them."""
    settled = ("game.how=loss", "game.attempts=3", "zero_stage=2")
    said = subprocess.run(
        [*TORCHRUN, "-m", "bigan", "train", fragile, *settled],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("0 networks of earlier attempts") == 4, said.stdout
    assert said.stdout.count("; back to round_00000003\n") == 3
    end = saved(HOME)
    assert (end.clock.round, end.clock.attempt) == (6, 3)
    assert status()[0] == "complete"


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_the_batch_is_kept(fragile: Path, how: str) -> None:
    assert bigan("train", fragile, *settings(how), "rollbacks=0", "seed=7").status == 1
    place = HOME / "diverged" / "round_00000005_attempt_0_rank_0"
    about = json.loads(place.with_suffix(".json").read_text())
    tensors = load_file(place.with_suffix(".safetensors"))
    repetition = {"loss": 0, "gradient": 1}[how]
    assert about["fault"] == {
        "round": 5, "move": "judge", "repetition": repetition, "repeat": 2, "what": how, "rank": 0,
        "names": {"loss": ["rest"], "gradient": ["judge.bias"]}[how],
    }  # fmt: skip
    assert (about["seed"], about["attempt"], about["rank"], about["clock"]["round"]) == (7, 0, 0, 4)
    assert [term["name"] for term in about["terms"]] == ["fit", "rest"]
    assert (about["terms"][1]["value"] == "inf") == (how == "loss")
    assert set(about["gradient_norms"]) == {"weight", "bias"}
    first = (4 * 3 + 1 + repetition) * BATCH  # three batches a round, of which the painter reads the first
    assert tensors["real.index"].tolist() == list(range(first, first + BATCH))
    assert tensors["real.images"].shape == (BATCH, 1, 16, 16)
    assert tensors["real.images"].min() == -1.0


def test_a_batch_that_cannot_be_kept_hides_nothing(fragile: Path) -> None:
    HOME.mkdir(parents=True)
    (HOME / "config.yaml").touch()
    (HOME / "diverged").write_text("in the way")
    said = bigan("train", fragile, *settings("loss"), "rollbacks=0")
    assert said.status == 1
    assert FOUND["loss"] in said.err
    assert "the batch cannot be kept" in said.err
