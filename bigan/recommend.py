"""What a trained run recommends to a user: the items that it scores highest, of those that the user has not rated."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bigan.data.ratings import Ratings
from bigan.measure import judged_stream, moved, refuse_other_data
from bigan.sample import restore
from bigan.uses import Recommendation, use


class Recommended(NamedTuple):
    """An item by its name, and its score."""

    item: str
    score: float


def recommend(
    path: Path, user: str, *, count: int, data: Path | None = None, live: bool = False, at: str | None = None
) -> list[Recommended]:
    """Items for a user, the best first; fewer than `count` where the user has rated nearly all.

    Left out are items that the user has rated, and such as nobody has in the ratings of the run (`items: 1683` counts them).

    Args:
        path: the run folder.
        user: as the ratings name it.
        data: the ratings, where they are not where the run found them; newer ones will do, too, or those of this user alone.
        live: take the live weights and not the averages.
        at: which checkpoint, as in `bigan.checkpoints.chosen`.

    Raises:
        ValueError: if the run cannot be restored or recommends nothing, its ratings cannot be read or, without `data`, are not
            those that it was trained on (which is not asked where its test's are gone), or nothing is known of the user.
    """
    if count < 1:
        raise ValueError(f"--count {count}: at least one item")
    restored = restore(path, live=live, at=at)
    look = restored.look
    found = use(look.game, Recommendation, "recommend items")
    if user not in found.users:
        raise ValueError(f"--user {user}: there is no such user; there are {len(found.users)}: {', '.join(found.users[:5])}, …")
    name = judged_stream(restored.run.data)
    source = moved(restored.run.data[name], data)
    assert isinstance(source, Ratings), "users and items come from ratings alone"
    if data is None and (source.test is None or (Path(source.path).parent / source.test).exists()):  # the digest is of both
        with source.open(seed=0) as stream:
            refuse_other_data(stream, source, restored, name)
    held = replace(source, test=None).held()
    likes = user in held.users and held.liked[held.users.index(user)].any()
    if data is None and not likes:
        raise ValueError(f"--user {user}: likes nothing in {source.path}, so that nothing was learned of this user")
    own = np.flatnonzero(held.rated[held.users.index(user)]) if user in held.users else []
    rated = {held.items[item] for item in own}
    known = {held.items[item] for item in np.flatnonzero(held.rated.any(0))} if data is None else set(found.items)
    left = known - rated
    numbers = torch.tensor([found.users.index(user)], device=look.device)
    scores = look.used(lambda ctx: found.scores(ctx, numbers), 1, "scores")[0].float().cpu()
    ranked = [(found.items[item], float(scores[item])) for item in scores.argsort(descending=True, stable=True).tolist()]
    return [Recommended(item, score) for item, score in ranked if item in left][:count]
