"""Row 6: mode collapse and PacGAN (Lin et al., 2018); unrolling and minibatch discrimination stand in remedies.py."""

from experiments.points import covered
from experiments.row import Figure, Lab, row


@row("6", "PacGAN, packs of two and the plain game")
def pacgan(lab: Lab) -> list[Figure]:
    ring = lab.run("configs/ring_pacgan.yaml", name="ring")
    grid = lab.run("configs/ring_pacgan.yaml", "data.real.kind=grid", name="grid")
    plain = lab.run("configs/ring_pacgan.yaml", "data.real.kind=grid", "game.pack=1", name="plain")
    return [
        *covered(ring, named=", ring", modes=8, high_quality=0.8),
        *covered(grid, named=", grid", modes=25, high_quality=0.8),
        *covered(plain, named=", grid without packs"),
    ]
