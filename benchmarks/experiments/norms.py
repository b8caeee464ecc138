"""Row 9: what the texts say of norms and latents, tried: the same DCGAN with one thing changed at a time."""

import torch
from torch import Tensor

from bigan.data.stream import Shards
from bigan.measure import read_data
from bigan.report.grid import save_grid
from experiments.row import WORK, Figure, Lab, row

SAMPLES = 1000
SHOWN = 24
ARMS = {
    "batch norm, normal z": (),
    "instance norm": ("game.generator.norm=instance", "game.critic.norm=instance"),
    "layer norm": ("game.generator.norm=layer", "game.critic.norm=layer"),
    "uniform z": ("game.latent={kind: uniform}",),
}
SAME = ("game.penalties=[]", "game.critic.norm=batch", "length_kimg=30", "tick_kimg=30")


@row("9", "instance against batch norm, uniform against normal z: DCGAN on digits")
def norms_and_latents(lab: Lab) -> list[Figure]:
    place = lab.digits(16)
    with Shards(path=str(place)).open(seed=0) as stream:
        data = read_data(stream, WORK / "features", SAMPLES, torch.device("cpu"))

    shown: dict[str, Tensor] = {}

    def frechet(name: str, *changes: str) -> float:
        trained = lab.run("configs/digits.yaml", f"data.real.path={place}", *SAME, *changes, name=name.replace(" ", "_"))
        shown[name] = (made := trained.samples(SAMPLES))[:SHOWN]
        return data.figures(made).frechet

    found = {name: frechet(name, *changes) for name, changes in ARMS.items()}
    save_grid(torch.cat([*shown.values()]), lab.picture("norms_and_latents.png"), columns=SHOWN)
    untrained = frechet("untrained", "length_kimg=0.016")
    plain = found["batch norm, normal z"]
    return [
        *(Figure(f"Fréchet distance, {name}", value) for name, value in found.items()),
        Figure("Fréchet distance, untrained", untrained),
        Figure("instance over batch norm", found["instance norm"] / plain),
        Figure("uniform over normal z", found["uniform z"] / plain),
        Figure("the worst over the untrained", max(found.values()) / untrained, "≤ 0.1"),
    ]
