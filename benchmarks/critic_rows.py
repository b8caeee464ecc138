"""A critic's steps with gradient penalties: bigan's against PyTorch's double backward (DCGAN, 64 px, N = 8, channels_last)."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.networks.dcgan import DCGANCritic
from bigan.penalties import R1, R2, GradientPenalty, Penalty, by_autograd, judge, mix, with_gradient
from timing import SLOPE, Row, compare, memory, price

N = 8


def eager_critic(size: int = 64) -> nn.Sequential:
    """DCGAN's critic of PyTorch's own layers, as a textbook writes it; its parameters are ordered as bigan's."""
    widths = [3, *[min(64 << k, 512) for k in range(size.bit_length() - 3)]]
    layers = nn.Sequential()
    for before, after in pairwise(widths):
        layers.extend([nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(SLOPE)])
    layers.extend([nn.Conv2d(widths[-1], 1, 4), nn.Flatten(0)])
    return layers


@torch.no_grad()
def copy_parameters(source: nn.Module, into: nn.Module) -> None:
    for theirs, ours in zip(into.parameters(), source.parameters(), strict=True):
        theirs.copy_(ours)


class Steps:
    """The steps of a critic, by PyTorch and by bigan, from the same weights at the same images."""

    def __init__(self, bf16: bool) -> None:
        self.bf16 = bf16
        self.theirs, self.ours = eager_critic(), DCGANCritic().build((3, 64, 64))
        with torch.no_grad():
            parameters = list(self.ours.parameters())
            for parameter in parameters:
                if parameter.dim() == 1:
                    parameter.normal_(std=0.1)
        copy_parameters(self.ours, self.theirs)
        for critic in (self.theirs, self.ours):
            critic.to(memory_format=torch.channels_last)
        self.real, self.fake = (torch.randn(N, 3, 64, 64).contiguous(memory_format=torch.channels_last) for _ in range(2))
        self.at = torch.rand(N)

    def gradients(self, critic: nn.Module, loss: Callable[[], Tensor]) -> list[Tensor]:
        """One step without its optimizer."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            total = loss()
        return list(torch.autograd.grad(total, list(critic.parameters()), allow_unused=True, materialize_grads=True))

    def judged(self, *penalties: Penalty) -> tuple[dict[str, Tensor], Tensor]:
        """bigan's logits at real and fake images, and the sum of its penalties."""
        points: dict[str, Callable[[Tensor], object]] = {
            "real": lambda out: out.copy_(self.real),
            "fake": lambda out: out.copy_(self.fake),
            "mix": lambda out: mix(self.real, self.fake, self.at, out),
        }
        logits, terms, _ = judge(self.ours, penalties, 0, points, self.real)
        return logits, torch.stack(list(terms.values())).sum()

    def pair(self, name: str) -> tuple[Callable[[], list[Tensor]], Callable[[], list[Tensor]]]:
        """A step by name: PyTorch's, and ours."""
        theirs, ours = getattr(self, f"their_{name}"), getattr(self, f"our_{name}")
        return lambda: self.gradients(self.theirs, theirs), lambda: self.gradients(self.ours, ours)

    def their_penalty(self) -> Tensor:
        points = torch.lerp(self.fake, self.real, self.at.view(-1, 1, 1, 1))
        return 10 * (by_autograd(self.theirs, points)[1].flatten(1).norm(dim=1) - 1).square().mean()

    def our_penalty(self) -> Tensor:
        return GradientPenalty()(with_gradient(self.ours, mix(self.real, self.fake, self.at))[1])

    def their_r1(self) -> Tensor:
        logits, gradient = by_autograd(self.theirs, self.real)
        return F.softplus(-logits).mean() + 5 * gradient.square().sum() / N

    def our_r1(self) -> Tensor:
        logits, gradient = with_gradient(self.ours, self.real)
        return F.softplus(-logits).mean() + R1(weight=10.0)(gradient)

    def their_relativistic(self) -> Tensor:
        (real, at_real), (fake, at_fake) = by_autograd(self.theirs, self.real), by_autograd(self.theirs, self.fake)
        return F.softplus(fake - real).mean() + 5 * (at_real.square().sum() + at_fake.square().sum()) / N

    def our_relativistic(self) -> Tensor:
        logits, penalties = self.judged(R1(weight=10.0), R2(weight=10.0))
        return F.softplus(logits["fake"] - logits["real"]).mean() + penalties

    def their_wgan_gp(self) -> Tensor:
        return self.theirs(self.fake).float().mean() - self.theirs(self.real).float().mean() + self.their_penalty()

    def our_wgan_gp(self) -> Tensor:
        logits, penalty = self.judged(GradientPenalty())
        return logits["fake"].mean() - logits["real"].mean() + penalty

    def without_penalty(self) -> list[Tensor]:
        """PyTorch's step of the real loss alone."""
        return self.gradients(self.theirs, lambda: F.softplus(-self.theirs(self.real).float()).mean())


# Name, step, targets in fp32 and bf16, pairs.
STEPS = (
    ("WGAN-GP penalty alone", "penalty", 1.9, 2.1),
    ("real loss + R1, shared forward", "r1", 1.8, 1.8),
    ("relativistic step with R1 and R2", "relativistic", 1.8, 2.2),
    ("whole WGAN-GP critic step", "wgan_gp", 1.5, 1.9),
)
LIVE = (("real loss + R1, shared forward", "r1", 0.3), ("relativistic step with R1 and R2", "relativistic", 0.45))


def check(theirs: list[Tensor], ours: list[Tensor], tolerance: float) -> None:
    """Gradients are compared together: most biases have none."""
    found, wanted = (torch.cat([g.flatten() for g in gradients]) for gradients in (ours, theirs))
    error = float((found - wanted).norm() / wanted.norm())
    assert error <= tolerance, f"gradients differ by {error:.1e}: not timed"


def critic_rows() -> Iterator[Row]:
    for bf16 in (False, True):
        steps, dtype = Steps(bf16), "bf16" if bf16 else "fp32"
        for name, step, *targets in STEPS:
            theirs, ours = steps.pair(step)
            check(theirs(), ours(), 1e-1 if bf16 else 1e-4)
            yield compare(f"{name}, {dtype}", theirs, ours, targets[bf16])
        for name, step, at_most in LIVE:
            yield memory(f"live bytes of {name}, {dtype}", *steps.pair(step), at_most)
        _, ours = steps.pair("r1")
        unit = "times eager's step without a penalty"
        yield price(f"real loss + R1 against the real loss alone, {dtype}", steps.without_penalty, ours, 1.33, unit=unit)
