"""Row 6: mode collapse and PacGAN (Lin et al., 2018); unrolling and minibatch discrimination stand in remedies.py."""

from experiments.points import covered, last_picture
from experiments.row import Figure, Lab, row


@row("6", "PacGAN, packs of two, 8-ring")
def pacgan_ring(lab: Lab) -> list[Figure]:
    return _beside(lab, "ring_pacgan", 8)


@row("6", "PacGAN, packs of two, grid of 25")
def pacgan_grid(lab: Lab) -> list[Figure]:
    return _beside(lab, "grid", 25)


def _beside(lab: Lab, config: str, modes: int) -> list[Figure]:
    packed = lab.run(f"configs/{config}.yaml", "game.pack=2", name="packed")
    last_picture(lab, packed, f"{config}_packed.png")
    plain = lab.run(f"configs/{config}.yaml", "game.pack=1", name="plain")
    return [*covered(packed, modes=modes, high_quality=0.8), *covered(plain, named=" without packs")]
