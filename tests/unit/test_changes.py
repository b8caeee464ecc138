"""What of a config may differ when a run is resumed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bigan.changes import MAY_CHANGE, completed, refuse_changes
from bigan.config import assign, dump, parse

from .test_config import FULL, SOURCE, read


def changed(key: str, value: Any) -> None:
    old = dump(parse(FULL, SOURCE))
    new = copy.deepcopy(old)
    assign(new, f"{key}={json.dumps(value)}")
    refuse_changes(json.loads(json.dumps(old)), new, Path("runs/digits"))


@pytest.mark.parametrize("pattern", sorted(MAY_CHANGE))
def test_what_may_change_may(pattern: str) -> None:
    changed(pattern.replace("*", "real"), 12)


@pytest.mark.parametrize(
    "key", ["batch", "seed", "precision", "data.real.flip", "optimizer.lr", "optimizers.critic.lr", "game.penalties.1.weight"]
)
def test_what_may_not_change_is_refused_by_name_with_both_values(key: str) -> None:
    with pytest.raises(ValueError, match=rf"runs/digits: was begun with another config: {key} \(.* → 12\); set them back"):
        changed(key, 12)


def test_a_part_that_comes_or_goes_is_a_change() -> None:
    old, new = {"a": {"path": "x", "flip": True}}, {"b": {"path": "x", "flip": True}}
    with pytest.raises(ValueError, match=r"config: data\.a\.flip \(True → absent\), data\.b\.flip \(absent → True\);"):
        refuse_changes({"data": old}, {"data": new, "length_kimg": 3}, Path("r"))
    with pytest.raises(ValueError, match=r"game\.penalties\.0\.kind \(r1 → absent\)"):
        refuse_changes({"game": {"penalties": [{"kind": "r1"}]}}, {"game": {"penalties": []}}, Path("r"))


def test_what_an_older_bigan_did_not_know_has_its_default() -> None:
    run = read({})
    old = dump(run)
    del old["rollbacks"], old["optimizer"]["schedule"], old["game"]["critic_steps"]
    assert completed(old, run, Path("r")) == dump(run)
    refuse_changes(completed(old, run, Path("r")), dump(run), Path("r"))
    with pytest.raises(ValueError, match=r"seed \(0 → 1\)"):
        refuse_changes(completed(old, run, Path("r")), dump(read({"seed": 1})), Path("r"))
