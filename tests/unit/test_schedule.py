"""The learning rate as a function of images."""

import math
from typing import Any

import pytest

from bigan.clock import Clock
from bigan.schedule import Schedule

LINEAR = {"decay": "linear", "from_kimg": 1.0, "to_kimg": 3.0}
COSINE = {"decay": "cosine", "from_kimg": 1.0, "to_kimg": 3.0}


def factor(settings: dict[str, Any], images: int, batch: int = 100) -> float:
    return Schedule(**settings).factor(Clock(batch=batch, round=images // batch))


@pytest.mark.parametrize(
    ("settings", "images", "expected"),
    [
        ({}, 0, 1.0),
        ({}, 10**9, 1.0),
        ({"warmup_kimg": 1.0}, 0, 0.1),
        ({"warmup_kimg": 1.0}, 400, 0.5),
        ({"warmup_kimg": 1.0}, 900, 1.0),
        ({"warmup_kimg": 1.0}, 5000, 1.0),
        (LINEAR, 0, 1.0),
        (LINEAR, 1000, 1.0),
        (LINEAR, 1500, 0.75),
        (LINEAR, 3000, 0.0),
        (LINEAR, 9000, 0.0),
        (LINEAR | {"floor": 0.2}, 2000, 0.6),
        (LINEAR | {"floor": 0.2}, 9000, 0.2),
        (COSINE, 1500, (1 + math.cos(math.pi / 4)) / 2),
        (COSINE, 2000, 0.5),
        (COSINE | {"floor": 0.5}, 2000, 0.75),
        (LINEAR | {"warmup_kimg": 4.0}, 1900, 0.5 * 0.55),
    ],
)
def test_the_factor(settings: dict[str, Any], images: int, expected: float) -> None:
    assert factor(settings, images) == pytest.approx(expected, abs=1e-12)


def test_batches_do_not_bend_the_decay() -> None:
    assert factor(COSINE, 1600, batch=100) == factor(COSINE, 1600, batch=800)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "linear"}, "to_kimg: is missing"),
        ({"decay": "cosine", "from_kimg": 2.0, "to_kimg": 2.0}, "to_kimg: 2 must lie behind from_kimg, 2"),
        ({"to_kimg": 2.0}, "set linear or cosine"),
        ({"floor": 0.5}, "set linear or cosine"),
    ],
)
def test_what_says_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)
