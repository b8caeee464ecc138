"""The kinds of games that a config can name; a file of the user's own may hold another."""

from typing import Annotated

from bigan.games.autoencoder import Autoencoder
from bigan.games.cgan import CGAN
from bigan.games.edits import Edits
from bigan.games.energy import Energy
from bigan.games.gan import GAN
from bigan.games.vae import VAE
from bigan.games.wgan_gp import WGANGP
from bigan.settings import BY_KIND

BuiltIn = Annotated[GAN | WGANGP | CGAN | Edits | Energy | Autoencoder | VAE, BY_KIND]
