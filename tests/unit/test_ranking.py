"""Rankings by hand, and by the figures of IRGAN's authors."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bigan.data.ratings import Ratings
from bigan.metrics.ranking import judge_ranking, ranking

MOVIES = Path(__file__).parents[3] / "shared" / "data" / "irgan_ml100k"
AUTHORS = {
    "P@3": 0.3845, "P@5": 0.3474, "P@10": 0.2967, "NDCG@3": 0.3986, "NDCG@5": 0.3749, "NDCG@10": 0.3518,
    "MAP": 0.2222, "MRR": 0.5798,
}  # fmt: skip
POPULAR = {
    "P@3": 0.2624, "P@5": 0.2338, "P@10": 0.2050, "NDCG@3": 0.2793, "NDCG@5": 0.2568, "NDCG@10": 0.2403,
    "MAP": 0.1516, "MRR": 0.4657,
}  # fmt: skip


def flags(*rows: str) -> Tensor:
    return torch.tensor([[mark == "x" for mark in row] for row in rows])


def test_a_ranking_by_hand() -> None:
    """Items rank 5 4 3 2 1 0 by the first user's scores; item 4 is seen, so that 3 and 0 are found at ranks 2 and 5."""
    scores = torch.tensor([[0.0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 0, 0, 0, 0, 9]])
    found = ranking(scores, flags("....x.", "......", "......"), flags("x..x..", "xx....", "......"), at=(1, 2, 3))
    dcg = 1 / math.log2(3)
    assert found == pytest.approx(
        {
            "P@1": (0 + 1) / 2,
            "P@2": (1 / 2 + 1) / 2,
            "P@3": (1 / 3 + 2 / 3) / 2,
            "NDCG@1": (0 + 1) / 2,
            "NDCG@2": (dcg / (1 + dcg) + 1) / 2,
            "NDCG@3": (dcg / (1 + dcg) + 1) / 2,
            "MAP": ((1 / 2 + 2 / 5) / 2 + 1) / 2,
            "MRR": (1 / 2 + 1) / 2,
        }
    )


def test_what_is_seen_is_not_found() -> None:
    """Nor is it missed: a user whose wanted items are all seen counts, at 0."""
    found = ranking(torch.tensor([[3.0, 2, 1]]), flags("x.."), flags("x.."), at=(1,))
    assert found == {"P@1": 0, "NDCG@1": 0, "MAP": 0, "MRR": 0}


def test_what_is_wanted_and_seen_is_no_part_of_a_mean() -> None:
    """Of the wanted items 0 and 2 the first is seen; the other is found at rank 2 of 2 candidates."""
    found = ranking(torch.tensor([[3.0, 2, 1]]), flags("x.."), flags("x.x"), at=(2,))
    assert found == pytest.approx({"P@2": 1 / 2, "NDCG@2": 1 / math.log2(3), "MAP": 1 / 2, "MRR": 1 / 2})


def test_of_equals_the_first_ranks_higher() -> None:
    assert ranking(torch.zeros(1, 100), torch.zeros(1, 100, dtype=torch.bool), flags("." * 9 + "x" + "." * 90))["MRR"] == 0.1


def test_without_anything_wanted_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no user has an item to be found"):
        ranking(torch.zeros(2, 3), flags("...", "..."), flags("...", "..."))


@pytest.mark.skipif(not MOVIES.is_dir(), reason="shared/data/irgan_ml100k is not there")
def test_the_figures_of_the_authors() -> None:
    """Their generator's initial weights, and popularity, on their split, to four digits."""
    held = Ratings(path=str(MOVIES / "movielens-100k-train.txt"), test="movielens-100k-test.txt", users=943, items=1683).held()
    weights = np.load(MOVIES / "model_dns_ori.npz")
    scores = torch.from_numpy(weights["user_embedding"] @ weights["item_embedding"].T + weights["item_bias"])
    assert held.test is not None
    card = judge_ranking(scores, torch.from_numpy(held.liked), torch.from_numpy(held.test), "test")
    assert {name: round(value, 4) for name, value in card.run.items()} == AUTHORS
    assert {name: round(value, 4) for name, value in card.popular.items()} == POPULAR
    assert card.users == 456
    assert card.lines()[3].split() == ["P@5", "0.3474", "0.2338"]
