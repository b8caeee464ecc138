"""Row 6: unrolled critics and minibatch discrimination against mode collapse, each beside the same game without it."""

from experiments.points import covered, last_picture
from experiments.row import Figure, Lab, row


@row("6", "unrolled critic, 8-ring")
def unrolled(lab: Lab) -> list[Figure]:
    return _beside(lab, "ring_unrolled", "game.unroll=null")


@row("6", "minibatch discrimination, 8-ring")
def minibatch_discrimination(lab: Lab) -> list[Figure]:
    return _beside(lab, "ring_minibatch", "game.critic.minibatch=null")


def _beside(lab: Lab, config: str, *without: str) -> list[Figure]:
    remedied = lab.run(f"configs/{config}.yaml")
    plain = lab.run(f"configs/{config}.yaml", *without, name="plain")
    last_picture(lab, remedied, f"{config}.png")
    return [*covered(remedied, modes=8, high_quality=0.8), *covered(plain, named=" in the plain game")]
