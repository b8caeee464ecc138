"""Row 50: IRGAN on MovieLens-100k, from our own pretraining and from the authors' initial weights."""

import numpy as np
import torch

from bigan.build import prepared
from bigan.config import dump, load
from bigan.distributed import checkpoint
from bigan.distributed.group import Alone
from bigan.evaluate import evaluate
from bigan.metrics.ranking import RankingCard
from bigan.train import train
from experiments.row import ROOT, SHARED, Figure, Lab, Missing, Trained, row

CONFIG = "configs/movielens_irgan.yaml"
FOLDER = SHARED / "irgan_ml100k"
SHOWN = ("P@3", "P@5", "P@10", "NDCG@3", "NDCG@5", "NDCG@10", "MAP", "MRR")


@row("50", "IRGAN on MovieLens-100k, from our own dynamic negative sampling")
def irgan(lab: Lab) -> list[Figure]:
    assignments = _data()
    trained = lab.run(CONFIG, *assignments)
    pretraining = f"length_kimg={dump(load(ROOT / CONFIG))['game']['pretrain_kimg']}"
    return [
        *figures(trained, lined=True),
        *figures(lab.run(CONFIG, *assignments, pretraining, name="pretrained"), ", pretraining alone"),
    ]


@row("50", "IRGAN on MovieLens-100k, from the authors' initial weights")
def irgan_from_authors(lab: Lab) -> list[Figure]:
    run = load(
        ROOT / CONFIG,
        [
            *_data(),
            "game.pretrain_kimg=0",
            "game.temperature=0.2",
            *lab.changes,
            f"seed={lab.seed}",
            "name=run",
            f"folder={lab.folder}",
        ],
    )
    weights = np.load(FOLDER / "model_dns_ori.npz")
    with prepared(run, Alone(), torch.device("cpu")) as setup:
        player = setup.players["generator"]
        for factors in (player.module, player.average):
            for name, key in (("users.weight", "user_embedding"), ("items", "item_embedding"), ("bias", "item_bias")):
                factors.get_parameter(name).data.copy_(torch.from_numpy(weights[key]))
        begun = checkpoint.save(lab.folder / "authors", setup.checkpoint(setup.clock), keep=1)
    train(run, str(begun))
    return figures(Trained(run.home), lined=True)


def _data() -> list[str]:
    if not FOLDER.is_dir():
        raise Missing("needs MovieLens-100k in ../shared/data/irgan_ml100k")
    return [f"data.real.path={FOLDER / 'movielens-100k-train.txt'}"]


def figures(trained: Trained, named: str = "", *, lined: bool = False) -> list[Figure]:
    """On the test likings, at the epoch that the validation likings choose."""
    chosen = evaluate(trained.home, count=1, seed=0, at="best")
    assert isinstance(chosen.card, RankingCard)
    lines = {"P@5": "> 0.3474"} if lined else {}
    found = [Figure(f"{name}{named}", chosen.card.run[name], lines.get(name, "")) for name in SHOWN]
    return [*found, Figure(f"chosen epoch{named}", chosen.kimg, unit="kimg")]
