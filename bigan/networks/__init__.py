"""Networks, one file an architecture: settings that `build` a module for the shape of a sample."""

from typing import Annotated

from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.mlp import MLPCritic, MLPGenerator, MLPTranslator
from bigan.networks.patch import PatchCritic
from bigan.networks.resnet import ResNetTranslator
from bigan.networks.unet import UNet
from bigan.settings import BY_KIND

Generator = Annotated[DCGANGenerator | MLPGenerator, BY_KIND]
Critic = Annotated[DCGANCritic | MLPCritic | PatchCritic, BY_KIND]
Translator = Annotated[UNet | ResNetTranslator | MLPTranslator, BY_KIND]


def judges_alone(critic: Critic, what: str) -> None:
    """Refuse a critic whose output for a sample depends on the other samples of the batch.

    Args:
        what: that needs one, as the error names it.
    """
    for name, coupling, alone in (
        ("norm", critic.norm == "batch", "none"),
        ("minibatch", critic.minibatch is not None, "null"),
    ):
        if coupling:
            raise ValueError(f"critic.{name}: {what} needs a critic that judges each sample alone; set it to {alone}")


def sees_alone(network: Critic, key: str, what: str) -> None:
    """Refuse minibatch discrimination in what is to see a user's image by itself.

    Args:
        key: of the network in the game's settings.
        what: it does then, as the error says.
    """
    if network.minibatch is not None:
        raise ValueError(f"{key}.minibatch: {what} of one image by itself; set it to null")


def group(critic: Critic) -> int:
    """How many samples side by side the critic ties together: `Move.group`."""
    return 1 if critic.minibatch is None else critic.minibatch.group


__all__ = ["Critic", "Generator", "Translator", "group", "judges_alone", "sees_alone"]
