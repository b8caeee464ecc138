"""The kinds of games that a config can name; a file of the user's own may hold another."""

from typing import Annotated

from bigan.games.autoencoder import Autoencoder
from bigan.games.bidirectional import BiGAN
from bigan.games.cgan import CGAN
from bigan.games.cyclegan import CycleGAN
from bigan.games.edits import Edits
from bigan.games.energy import Energy
from bigan.games.gan import GAN
from bigan.games.infogan import InfoGAN
from bigan.games.irgan import IRGAN
from bigan.games.pix2pix import Pix2Pix
from bigan.games.semi import Semi
from bigan.games.stargan import StarGAN
from bigan.games.vae import VAE
from bigan.games.wgan_gp import WGANGP
from bigan.settings import BY_KIND

Plain = GAN | WGANGP | Energy | Autoencoder | VAE
Conditional = CGAN | Edits | InfoGAN | BiGAN | Semi
Translations = Pix2Pix | CycleGAN | StarGAN
BuiltIn = Annotated[Plain | Conditional | Translations | IRGAN, BY_KIND]
