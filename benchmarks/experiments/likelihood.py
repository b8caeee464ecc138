"""Rows 12 and 13: autoencoders beside a GAN, on digits, and on data that are discrete."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, one_hot, pad

from bigan.data.pack import pack
from bigan.data.sources import open_source
from bigan.data.stream import Shards
from bigan.likelihoods import Categorical
from bigan.measure import read_data
from bigan.networks.dcgan import DCGANCritic, DCGANGenerator
from bigan.report.grid import pixels, save_grid, save_image
from experiments.row import Figure, Lab, Trained, row

SAMPLES = 1000
LEVELS = 4
KIMG = 60
LAPLACIAN = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]])


def sharpness(images: Tensor) -> float:
    """Mean variance of an image's Laplacian: [N, 1, H, W]."""
    return float(conv2d(images, LAPLACIAN).flatten(1).var(1).mean())


def digits(lab: Lab, config: str, *changes: str, name: str) -> Trained:
    """A run of a config on digits of 16 px, where it takes a minute or so."""
    return lab.run(f"configs/{config}.yaml", f"data.real.path={lab.digits(16)}", f"length_kimg={KIMG}", *changes, name=name)


def real_images(lab: Lab) -> Tensor:
    with Shards(path=str(lab.digits(16))).open(seed=0) as stream:
        return stream.read(0, stream.spec.samples).to(torch.device("cpu")).images.contiguous()


@row("12", "Autoencoder < VAE < GAN")
def autoencoders(lab: Lab) -> list[Figure]:
    runs = {
        "AE": digits(lab, "digits_autoencoder", name="autoencoder"),
        "VAE": digits(lab, "digits_vae", name="vae"),
        "GAN": digits(lab, "digits", name="gan"),
    }
    with Shards(path=str(lab.digits(16))).open(seed=0) as stream:
        halves = read_data(stream, lab.folder, SAMPLES, torch.device("cpu"))
    samples = {name: trained.samples(SAMPLES, lab.seed) for name, trained in runs.items()}
    samples["AE, z like its codes"] = like_codes(runs["AE"], real_images(lab), lab.seed)
    for name, images in samples.items():
        save_grid(images[:32], lab.picture(f"digits_{name.split(',')[0].lower()}{'_codes' if ',' in name else ''}.png"))
    precision = {name: halves.figures(images).precision for name, images in samples.items()}
    crisp = {name: sharpness(images) for name, images in [*samples.items(), ("real", real_images(lab))]}
    return [
        *(Figure(f"precision, {name}", value) for name, value in precision.items()),
        Figure("precision, VAE over AE", precision["VAE"] - precision["AE"], "> 0"),
        Figure("precision, GAN over VAE", precision["GAN"] - precision["VAE"], "> 0"),
        *(Figure(f"sharpness, {name}", value) for name, value in crisp.items()),
        Figure("sharpness, VAE by GAN", crisp["VAE"] / crisp["GAN"], "< 1"),
    ]


@torch.no_grad()
def like_codes(trained: Trained, images: Tensor, seed: int) -> Tensor:
    """What the decoder makes of normal numbers with the mean and the covariance of all codes."""
    network = trained.restored.players["autoencoder"].eval()
    codes = network.get_submodule("encoder")(images)
    noise = torch.randn(SAMPLES, codes.shape[1], generator=torch.Generator().manual_seed(seed))
    return network.get_submodule("decoder")(codes.mean(0) + noise @ torch.linalg.cholesky(codes.T.cov()).T)


@row("12", "What a distance between pixels prefers, and what a critic prefers")
def pixel_losses(lab: Lab) -> list[Figure]:
    """Six odd pixels against a digit that lies one pixel to the side, where the data's digits lie anywhere."""
    folder, images = scattered(lab)
    gan = lab.run("configs/digits.yaml", f"data.real={{path: {folder}}}", f"length_kimg={KIMG}", "game.generator.latent=12")
    critic = gan.restored.players["critic"].eval()
    images = images[images[..., -1].amax((1, 2)) < -0.9]  # which nothing is cut off of when they move
    odd, aside = with_odd_pixels(images, 6, lab.seed), moved(images)
    save_grid(torch.cat([images[:8], odd[:8], aside[:8]]), lab.picture("digits_odd_and_aside.png"), columns=8)
    nearer = (odd - images).square().sum((1, 2, 3)) < (aside - images).square().sum((1, 2, 3))
    with torch.no_grad():
        six, one = (critic(aside) > critic(with_odd_pixels(images, count, lab.seed)) for count in (6, 1))
    return [
        Figure("L2 prefers six odd pixels", float(nearer.double().mean()), "≥ 0.95"),
        Figure("D prefers the digit one pixel aside", float(six.double().mean()), "≥ 0.8"),
        Figure("D prefers it to one odd pixel", float(one.double().mean())),
    ]


def scattered(lab: Lab) -> tuple[Path, Tensor]:
    """Digits of 12 px that lie anywhere in 16, each at three places: packed, and one place of each [N, 1, 16, 16]."""
    generator = torch.Generator().manual_seed(lab.seed)
    digits, _ = load_digits(return_X_y=True)
    small = interpolate(torch.from_numpy(digits).float().view(-1, 1, 8, 8) / 8 - 1, size=(12, 12), mode="bicubic").clamp(-1, 1)
    images = torch.full((3 * len(small), 1, 16, 16), -1.0)
    for image, digit in zip(images, small.repeat(3, 1, 1, 1), strict=True):
        y, x = torch.randint(0, 5, (2,), generator=generator).tolist()
        image[:, y : y + 12, x : x + 12] = digit
    source, packed = lab.folder / "scattered", lab.folder / "packed"
    source.mkdir()
    for number, image in enumerate(pixels(images)):
        save_image(image, source / f"{number:06d}.png")
    pack(open_source(str(source)), packed, size=(16, 16), workers=1)
    return packed, images[: len(small)]


def with_odd_pixels(images: Tensor, count: int, seed: int) -> Tensor:
    """So many pixels of the background, two or more away from all ink, made white: [N, 1, H, W]."""
    away = max_pool2d(images, 5, 1, 2).flatten(1) < -0.9
    chance = torch.rand(away.shape, generator=torch.Generator().manual_seed(seed)) * away
    return images.flatten(1).scatter(1, chance.topk(count, 1).indices, 1.0).view_as(images)


def moved(images: Tensor) -> Tensor:
    """One pixel to the right, black where nothing was."""
    return pad(images, (1, 0, 0, 0), value=-1.0)[..., :-1]


@row("13", "Discrete data: a VAE takes them, a plain GAN gets no gradient")
def discrete(lab: Lab) -> list[Figure]:
    likelihood = f"{{kind: categorical, levels: {LEVELS}}}"
    vae = digits(lab, "digits_vae", f"game.likelihood={likelihood}", name="vae")
    save_grid(vae.samples(32, lab.seed), lab.picture("digits_categorical.png"))
    independent = entropy(real_images(lab))
    rounding = digits(lab, "digits", f"game={Path(__file__).with_name('rounding.py')}:Rounding", "length_kimg=2", name="gan")
    return [
        Figure("negative ELBO of the VAE over the entropy of independent pixels", -vae.last("vae/ELBO") / independent, "< 0.8"),
        Figure("gradient of the VAE, least of all ticks", min(e["vae/gradient_norm"] for e in vae.events), "> 0"),
        Figure("gradient of a generator through argmax", through_argmax(lab.seed), "= 0"),
        Figure("gradient of a generator that rounds, most", max(e["generator/gradient_norm"] for e in rounding.events), "= 0"),
        Figure("gradient of its critic, least", min(e["critic/gradient_norm"] for e in rounding.events), "> 0"),
    ]


def entropy(images: Tensor) -> float:
    """Nats of an image whose pixels are drawn each for itself, from its own histogram over the data."""
    levels = ((images + 1) / 2 * (LEVELS - 1)).round().long()
    shares = one_hot(levels, LEVELS).double().mean(0)
    return float(torch.special.entr(shares).sum())


def through_argmax(seed: int) -> float:
    """Norm of a generator's gradient, where the critic sees the most probable level of each pixel."""
    torch.manual_seed(seed)
    likelihood, shape = Categorical(levels=LEVELS), (1, 16, 16)
    generator = DCGANGenerator(latent=6, width=8).build(likelihood.output(shape), bounded=False)
    images = likelihood.centre(generator(torch.randn(8, 6)))
    loss = -DCGANCritic(width=8).build(shape)(images.requires_grad_()).mean()
    weights = [*generator.parameters()]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return float(torch.stack([g.norm() for g in gradients]).norm())
