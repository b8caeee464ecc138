"""Networks, one file an architecture: settings that `build` a module for the shape of a sample."""

from typing import Annotated

from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.networks.mlp import MLPCritic, MLPGenerator
from bigan.settings import BY_KIND

Generator = Annotated[DCGANGenerator | MLPGenerator, BY_KIND]
Critic = Annotated[DCGANCritic | MLPCritic, BY_KIND]

__all__ = ["Critic", "Generator"]
