"""How well scores rank the items that a user goes on to like: precision, NDCG, mean average precision, reciprocal rank.

As IRGAN's authors measure (Wang et al., 2017, section 3.2): a user's candidates are all items but those that the training
likes (and validation likings, where the test is wanted), and every user with something wanted counts alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

AT = (3, 5, 10)
CHOOSING = 5
"""The k of P@k by which a run's epoch is chosen."""


@dataclass(frozen=True)
class RankingCard:
    """What a run ranks, beside the popularity of items in the likings that are no candidates.

    These are the training's; where the test is wanted, the validation's too.

    Attributes:
        split: which likings were wanted, "test" or "validation".
        users: how many users want something.
        run: name → figure, each in [0, 1].
        popular: the same.
    """

    split: str
    users: int
    run: Mapping[str, float]
    popular: Mapping[str, float]

    def lines(self) -> list[str]:
        """As a person reads it."""
        rows = [f"{name:18s}{value:10.4f}{self.popular[name]:10.4f}" for name, value in self.run.items()]
        return [f"{self.users} users with {self.split} likings", f"{'':18s}{'run':>10s}{'popular':>10s}", *rows]


def judge_ranking(scores: Tensor, seen: Tensor, wanted: Tensor, split: str) -> RankingCard:
    """The card of scores [U, I]; `seen` and `wanted` as of `ranking`."""
    popular = seen.sum(0, dtype=scores.dtype).expand_as(scores)
    users = int(wanted.any(1).sum())
    return RankingCard(split, users, ranking(scores, seen, wanted), ranking(popular, seen, wanted))


def ranking(scores: Tensor, seen: Tensor, wanted: Tensor, at: Sequence[int] = AT) -> dict[str, float]:
    """P@k and NDCG@k, MAP and MRR, each a mean over the users who want something.

    NDCG discounts rank r, from 1, by 1/log2(r + 1) and divides by what the best order of the same candidates gives; an
    average precision is a mean over the wanted items among the candidates.

    Args:
        scores: [U, I]; of two that are equal the first item ranks higher.
        seen: [U, I] bool, what is no candidate.
        wanted: [U, I] bool.
        at: the k.

    Raises:
        ValueError: if nobody wants anything.
    """
    rows = wanted.any(1)
    if not rows.any():
        raise ValueError("no user has an item to be found: there is nothing to measure")
    order = scores[rows].double().masked_fill(seen[rows], -torch.inf).argsort(dim=1, descending=True, stable=True)
    hits = (wanted & ~seen)[rows].gather(1, order).double()
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device, dtype=hits.dtype)
    gains, found = hits / (ranks + 1).log2(), hits.sum(1)
    best = torch.cat([ranks.new_zeros(1), (1 / (ranks + 1).log2()).cumsum(0)])
    average = (hits * hits.cumsum(1) / ranks).sum(1) / found.clamp_min(1)
    each = {f"P@{k}": hits[:, :k].sum(1) / k for k in at}
    each |= {f"NDCG@{k}": gains[:, :k].sum(1) / best[found.clamp(1, k).long()] for k in at}
    each |= {"MAP": average, "MRR": (hits / ranks).amax(1)}
    return {name: float(values.mean()) for name, values in each.items()}
