"""Row 6: what is done against mode collapse, each beside the same game without it; stacked digits stand in images.py."""

from experiments.points import covered, last_picture
from experiments.row import Figure, Lab, row

PLAIN, UNPACKED = " in the plain game", " without packs"


@row("6", "unrolled critic, 8-ring")
def unrolled(lab: Lab) -> list[Figure]:
    return _beside(lab, "ring_unrolled", without="game.unroll=null", named=PLAIN)


@row("6", "minibatch discrimination, 8-ring")
def minibatch_discrimination(lab: Lab) -> list[Figure]:
    return _beside(lab, "ring_minibatch", without="game.critic.minibatch=null", named=PLAIN)


@row("6", "PacGAN, packs of two, 8-ring")
def pacgan_ring(lab: Lab) -> list[Figure]:
    return _beside(lab, "ring_pacgan", without="game.pack=1", named=UNPACKED)


@row("6", "PacGAN, packs of two, grid of 25")
def pacgan_grid(lab: Lab) -> list[Figure]:
    return _beside(lab, "grid", "game.pack=2", without="game.pack=1", named=UNPACKED, modes=25)


def _beside(lab: Lab, config: str, *remedy: str, without: str, named: str, modes: int = 8) -> list[Figure]:
    remedied = lab.run(f"configs/{config}.yaml", *remedy)
    plain = lab.run(f"configs/{config}.yaml", without, name="plain")
    last_picture(lab, remedied, f"remedy_{config}.png")
    return [*covered(remedied, modes=modes, high_quality=0.8), *covered(plain, named=named)]
