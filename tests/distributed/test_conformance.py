"""1, 2 and 4 ranks under ZeRO 0, 1 and 2 against plain torch on one process, at one global batch; `-s` prints the table."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .cells import CLIP, WIDEST, Cell, cells
from .conftest import launch

BOUND = 1e-6
"""On weights, moments, norms and losses near 1 in float32, after four rounds: sums in another order."""
SEEN = 1e-3
"""What a broken rule must differ by, at least."""

ROOT = Path(__file__).parents[2]
KINDS = ("weights", "moments", "norms", "losses")
Told = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Told]:
    """What a launch on so many ranks told; each is launched once."""
    place, known = tmp_path_factory.mktemp("conformance"), {}

    def of(ranks: int) -> Told:
        if ranks not in known:
            torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}") if ranks > 1 else ()
            out = place / f"{ranks}.json"
            ended = launch([sys.executable, *torchrun, "-m", "tests.distributed.conforming", out], cwd=ROOT)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            known[ranks] = json.loads(out.read_text())
            print("\n" + markdown(known[ranks]))
        return known[ranks]

    return of


def markdown(found: Told) -> str:
    """For a closing note."""
    lines = [f"| {found['ranks']} ranks | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    for name, outcome in (found["cells"] | found["faults"]).items():
        values = [f"{outcome[kind]:.1e}" for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(values) if not outcome['raised'] else outcome['raised'].strip()} |")
    return "\n".join(lines)


@pytest.mark.parametrize("cell", cells(2), ids=lambda cell: cell.name)
def test_two_ranks_are_plain_torch(told: Callable[[int], Told], cell: Cell) -> None:
    check(cell, told(2))


@pytest.mark.parametrize(("ranks", "cell"), [(n, cell) for n in (1, 4) for cell in cells(n)], ids=lambda value: str(value))
def test_as_many_ranks_have_the_same_losses(told: Callable[[int], Told], ranks: int, cell: Cell) -> None:
    check(cell, told(ranks))


def check(cell: Cell, found: Told) -> None:
    outcome = found["cells"][cell.name]
    assert outcome["went"] > 0.02, "a test of weights that stand still would prove nothing"
    assert not cell.clipped or outcome["least_norm"] > CLIP, "a gradient that is not clipped would prove nothing"
    assert (outcome["widest"] == pytest.approx(WIDEST)) == cell.bounded, "weights within the bound would prove nothing"
    assert max(outcome[kind] for kind in KINDS) <= BOUND, outcome
    assert outcome["ranks"] == 0.0


def test_a_broken_rule_is_seen(told: Callable[[int], Told]) -> None:
    faults = told(2)["faults"]
    assert len(faults) == 11
    raised = {name for name, outcome in faults.items() if outcome["raised"]}
    assert raised <= {
        "critic not frozen in the generator's move, ZeRO 2", "plain loss.backward(), ZeRO 1", "plain loss.backward(), ZeRO 2",
    }  # fmt: skip
    unseen = {name: outcome for name, outcome in faults.items() if not outcome["raised"] and outcome["weights"] < SEEN}
    assert unseen == {}


def test_buffers_of_any_layer_stay_in_step(told: Callable[[int], Told]) -> None:
    went, apart = told(2)["buffers"]
    assert went > 0.1
    assert apart == 0.0


def test_what_is_restored_is_what_was_saved(told: Callable[[int], Told]) -> None:
    """Weight decay included, which a step of zeros on the way would apply."""
    assert told(2)["resumed"] == [[], [], []]
