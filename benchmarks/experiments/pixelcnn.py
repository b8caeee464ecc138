"""Row 14: what is drawn value by value, inverted or settled by a chain, beside a generator's one pass; on 8×8 digits."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from bigan.likelihoods import Categorical
from bigan.networks.mlp import MLPGenerator
from bigan.report.grid import save_grid
from experiments.row import Figure, Lab, row

SIDE = 8
LEVELS = Categorical(levels=4)
HELD_OUT = 297
BATCH, STEPS = 64, 2000
DRAWN = 64
GIBBS = 200


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees the pixels above and to the left alone, and its own where `own` (van den Oord et al., 2016)."""

    mask: Tensor

    def __init__(self, before: int, after: int, size: int, *, own: bool) -> None:
        super().__init__(before, after, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + own :] = 0
        mask[size // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


def pixelcnn(width: int = 32, depth: int = 4) -> nn.Sequential:
    """Images [N, 1, H, W] → logits of each pixel's levels, given those before it: [N, levels, H, W]."""
    layers = nn.Sequential(MaskedConv2d(1, width, 5, own=False), nn.ReLU())
    for _ in range(depth):
        layers.extend([MaskedConv2d(width, width, 3, own=True), nn.ReLU()])
    return layers.append(nn.Conv2d(width, LEVELS.levels, 1))


@torch.no_grad()
def draw_pixels(network: nn.Module, count: int, generator: torch.Generator) -> Tensor:
    """Pixel by pixel, as each is a function of those before it: a pass of the network each."""
    images = torch.zeros(count, 1, SIDE, SIDE)
    for y, x in itertools.product(range(SIDE), repeat=2):
        shares = network(images)[:, :, y, x].softmax(1)
        images[:, 0, y, x] = torch.multinomial(shares, 1, generator=generator)[:, 0] * (2 / (LEVELS.levels - 1)) - 1
    return images


class Coupling(nn.Module):
    """RealNVP's affine coupling: half the values scale and shift the others (Dinh et al., 2017, equations 4 and 5)."""

    mask: Tensor

    def __init__(self, size: int, parity: int, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("mask", ((torch.arange(size) + torch.arange(size) // SIDE) % 2 == parity).float())
        last = nn.Linear(width, 2 * size)
        nn.init.zeros_(last.weight)
        self.network = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the latent: [N, D] → [N, D], and log |det| [N]."""
        scale, shift = self.at(x)
        return x * scale.exp() + shift, scale.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        scale, shift = self.at(z)  # a function of the half that stays
        return (z - shift) * scale.neg().exp()

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.network(x * self.mask).chunk(2, 1)
        return scale.tanh() * (1 - self.mask), shift * (1 - self.mask)


class RealNVP(nn.Module):
    """A normal latent through couplings, on images [N, D]."""

    def __init__(self, size: int, depth: int = 6) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(size, k % 2) for k in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """-log p(x) in nats, [N]; a density."""
        log_det = torch.zeros(len(x))
        for coupling in self.couplings:
            x, more = coupling(x)
            log_det = log_det + more
        return x.square().sum(1) / 2 + x.shape[1] / 2 * math.log(2 * math.pi) - log_det

    @torch.no_grad()
    def draw(self, z: Tensor) -> Tensor:
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Coupling)
            z = coupling.inverse(z)
        return z


class RBM(nn.Module):
    """A restricted Boltzmann machine of zeros and ones, trained by persistent contrastive divergence (Tieleman, 2008)."""

    def __init__(self, visible: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(visible, hidden, generator=generator))
        self.a, self.b = nn.Parameter(torch.zeros(visible)), nn.Parameter(torch.zeros(hidden))
        self.generator = generator

    def forward(self, v: Tensor) -> Tensor:
        """Free energy [N]."""
        return -(v @ self.a) - F.softplus(v @ self.weight + self.b).sum(1)

    @torch.no_grad()
    def surprise(self, v: Tensor) -> Tensor:
        """-Σ log p(v_i | the others) in nats, [N]: a likelihood that needs no partition function (Besag, 1975)."""
        flipped = (v[:, None] - torch.eye(v.shape[1])).abs()
        return F.softplus(self(v)[:, None] - self(flipped.flatten(0, 1)).view(v.shape)).sum(1)

    @torch.no_grad()
    def gibbs(self, v: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            h = torch.bernoulli((v @ self.weight + self.b).sigmoid(), generator=self.generator)
            v = torch.bernoulli((h @ self.weight.T + self.a).sigmoid(), generator=self.generator)
        return v


@dataclass(frozen=True)
class Drawn:
    """Samples, how long they took, and how often the network was passed."""

    images: Tensor
    seconds: float
    passes: int


@torch.no_grad()
def seconds(network: nn.Module, draw: Callable[[], Tensor]) -> Drawn:
    """Draw five times; the time is the least."""
    passes, times = 0, []

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    images = draw()
    with network.register_forward_hook(count):
        for _ in range(5):
            began = time.perf_counter()
            images = draw()
            times.append(time.perf_counter() - began)
    return Drawn(images, min(times), passes // 5)


@dataclass(frozen=True)
class Digits:
    """Digits [N, 1, 8, 8] in [-1, 1], and what is random about a baseline."""

    training: Tensor
    held_out: Tensor
    generator: torch.Generator

    def batch(self) -> Tensor:
        return self.training[torch.randint(len(self.training), (BATCH,), generator=self.generator)]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def descend(
        self,
        name: str,
        network: nn.Module,
        loss: Callable[[Tensor], Tensor],
        measured: Callable[[Tensor], Tensor] | None = None,
    ) -> list[Figure]:
        """Train on the mean of a loss [N] of images. Returns it, or what is measured instead, on those held out."""
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        measured = measured or loss
        with torch.no_grad():
            before = float(measured(self.held_out).mean())
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(self.batch()).mean().backward()
            optimizer.step()
        with torch.no_grad():
            after = float(measured(self.held_out).mean())
        return [
            Figure(f"{name}, before training", before, "", "nats"),
            Figure(f"{name}, after", after, "", "nats"),
            Figure(f"{name}, fall", before - after, "> 10", "nats"),
        ]


@row("14", "Beside PixelCNN, RealNVP and RBM: what a sample takes")
def baselines(lab: Lab) -> list[Figure]:
    torch.manual_seed(lab.seed)
    generator = torch.Generator().manual_seed(lab.seed)
    images, _ = load_digits(return_X_y=True)
    shuffled = (
        torch.from_numpy(images).float().view(-1, 1, SIDE, SIDE)[torch.randperm(len(images), generator=generator)] / 8 - 1
    )
    data = Digits(shuffled[HELD_OUT:], shuffled[:HELD_OUT], generator)
    gan = MLPGenerator(latent=16, width=256).build((1, SIDE, SIDE))
    one = seconds(gan, lambda: gan(data.normal(DRAWN, 16)))
    return [*autoregressive(lab, data, one), *flow(lab, data, one), *chain(lab, data, one)]


def autoregressive(lab: Lab, data: Digits, one: Drawn) -> list[Figure]:
    network = pixelcnn()
    fall = data.descend("PixelCNN: negative log-likelihood", network, lambda x: LEVELS.nll(network(x), x))
    drawn = seconds(network, lambda: draw_pixels(network, DRAWN, data.generator))
    save_grid(drawn.images, lab.picture("digits_pixelcnn.png"))
    return [
        *fall,
        Figure("PixelCNN: passes a sample", drawn.passes, f"= {SIDE**2}"),
        Figure("generator: passes a sample", one.passes, "= 1"),
        Figure("PixelCNN: time of a sample, times a generator's", drawn.seconds / one.seconds, "> 10"),
    ]


def flow(lab: Lab, data: Digits, one: Drawn) -> list[Figure]:
    network = RealNVP(SIDE**2)

    def nll(x: Tensor) -> Tensor:
        """Of images to which uniform noise of one grey level is added, so that a density cannot grow without end."""
        return network((x + torch.rand(x.shape, generator=data.generator) / 8).flatten(1))

    fall = data.descend("RealNVP: negative log-density", network, nll)
    drawn = seconds(network, lambda: network.draw(data.normal(DRAWN, SIDE**2)).view(-1, 1, SIDE, SIDE))
    save_grid(drawn.images.clamp(-1, 1), lab.picture("digits_realnvp.png"))
    return [*fall, Figure("RealNVP: time of a sample, times a generator's", drawn.seconds / one.seconds)]


def chain(lab: Lab, data: Digits, one: Drawn) -> list[Figure]:
    network = RBM(SIDE**2, 128, data.generator)
    held = torch.bernoulli(torch.full((BATCH, SIDE**2), 0.5), generator=data.generator)

    def contrast(x: Tensor) -> Tensor:
        """Free energy of the data less that of the chains."""
        held.copy_(network.gibbs(held, 1))
        return network(ink(x)) - network(held).mean()

    name = "RBM: negative log pseudo-likelihood"
    fall = data.descend(name, network, contrast, lambda x: network.surprise(ink(x)))
    noise = torch.bernoulli(torch.full((DRAWN, SIDE**2), 0.5), generator=data.generator)
    drawn = seconds(network, lambda: network.gibbs(noise, GIBBS).view(-1, 1, SIDE, SIDE))
    save_grid(drawn.images * 2 - 1, lab.picture("digits_rbm.png"))
    return [
        *fall,
        Figure(f"RBM: time of a sample ({GIBBS} Gibbs steps), times a generator's", drawn.seconds / one.seconds, "> 10"),
    ]


def ink(images: Tensor) -> Tensor:
    """Where there is any: zeros and ones [N, D]."""
    return (images > 0).float().flatten(1)
