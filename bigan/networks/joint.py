"""Networks that see a condition, and critics with two outputs; gradient penalties of each take the recorded pullback."""

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from bigan.networks import Critic
from bigan.networks.layers import LeakyReLU, ProjectionCritic, init_kaiming
from bigan.networks.spectral import normalise_spectrally
from bigan.pullback import Cotangent, Pull, Trace, kind

How = Literal["projection", "concatenation"]
T = TypeVar("T", bound=nn.Module)


def beside(x: Tensor, code: Tensor) -> Tensor:
    """Join along channels: [N, C, …] and [N, K] or [N, K, …] → [N, C + K, …]; a code [N, K] stands at every pixel."""
    return torch.cat([x, _tiled(code, x)], 1)


def _tiled(code: Tensor, x: Tensor) -> Tensor:
    missing = x.ndim - code.ndim
    code = code.to(x.dtype)
    return code.view(*code.shape, *[1] * missing).expand(*code.shape, *x.shape[2:]) if missing else code


class Conditioned(nn.Module):
    """A generator that is given a condition, or a translator: network(beside(x, embed(c))).

    Args:
        network: reads latents or images x, and the condition's code as further channels.
        embed: from the condition to its code [N, K].
    """

    def __init__(self, network: nn.Module, embed: nn.Module) -> None:
        super().__init__()
        self.network, self.embed = network, embed

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: [N, C, …]; condition: [N, …]."""
        return self.network(beside(x, self.embed(condition)))


class JointCritic(nn.Module):
    """A critic of pairs: above(beside(below(x), embed(c))), [N] or a map [N, h, w].

    Where `below` is the identity the pair meets at the input (pix2pix), otherwise at the features (Reed et al., 2016; BiGAN).

    Args:
        below: from samples to features [N, C, …].
        embed: from the condition to a code [N, K], or to an image's channels [N, K, …]; it keeps samples apart.
        above: what judges both.
    """

    def __init__(self, below: nn.Module, embed: nn.Module, above: nn.Module) -> None:
        super().__init__()
        self.below, self.embed, self.above = below, embed, above

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: [N, C, …]; condition: [N, …]."""
        return self.above(beside(self.below(x), self.embed(condition)))


@kind(JointCritic, parts=lambda critic: [("below", critic.below), ("above", critic.above)])
def _joint(critic: JointCritic, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    features, pull_below = trace.run(critic.below, x)
    with trace.recording():
        code = critic.embed(trace.condition)
    both = trace.made(beside(features, code.detach()))
    own, (values, pull_above) = features.shape[1], trace.run(critic.above, both)
    like = both[:, :0]  # its shape alone: the pullback does not keep the features

    def pull(above: Cotangent) -> Cotangent:
        joined = pull_above(above)
        # A code without parameters is added, too: what stands above it has some.
        trace.add(joined.map(lambda g: g[:, own:]), _tiled(code, like))
        return pull_below(joined.map(lambda g: g[:, :own].contiguous()))

    return values, pull


class Headed(nn.Module):
    """Two networks on one trunk (InfoGAN's D and Q, an auxiliary classifier); as a critic it is the first.

    Args:
        trunk: from samples to features [N, F].
        head: from features to logits [N].
        other: from features to further outputs [N, K].
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head, self.other = trunk, head, other

    def forward(self, x: Tensor, *, both: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [N] of samples [N, …]; of both heads, further outputs [N, K] with them, in one pass."""
        features = self.trunk(x)
        return (self.head(features), self.other(features)) if both else self.head(features)


def both(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What both heads say of samples: logits [N] and further outputs [N, K].

    It goes through the module's own call, as that is what `compile` makes faster.
    """
    assert isinstance(critic, Headed)
    return critic(x, both=True)


@kind(Headed, parts=lambda critic: [("trunk", critic.trunk), ("head", critic.head)])
def _headed(critic: Headed, x: Tensor, trace: Trace) -> tuple[Tensor, Pull]:
    return trace.chain((critic.trunk, critic.head), x)


def trunk(critic: Critic, shape: tuple[int, ...], features: int) -> nn.Module:
    """The critic's layers as a trunk: samples [N, *shape] → features [N, features]."""
    return nn.Sequential(critic.build(shape, features), LeakyReLU())


def conditional_critic(
    critic: Critic, shape: tuple[int, ...], embed: nn.Module, code: int, how: How, features: int
) -> nn.Module:
    """A critic of samples [N, *shape] and conditions [N, …] → logits [N].

    Args:
        embed: from conditions to codes [N, code].
        how: "projection" adds ⟨V c, φ(x)⟩ to a linear map of the features (Miyato & Koyama, 2018); "concatenation" lets a
            layer of its own see both.
        features: how many φ has.
    """
    base = trunk(critic, shape, features)
    if how == "projection":
        projected = nn.Linear(code, features, bias=False)
        made = ProjectionCritic(base, features, nn.Sequential(embed, projected))
        return _initialised(critic, made, made.head, projected)
    above = nn.Sequential(nn.Linear(features + code, features), LeakyReLU(), nn.Linear(features, 1), nn.Flatten(0))
    return _initialised(critic, JointCritic(base, embed, above), above)


def headed(critic: Critic, shape: tuple[int, ...], features: int, outputs: int, hidden: int = 0) -> Headed:
    """A critic of samples [N, *shape] → logits [N], with a second head for [N, outputs].

    Args:
        features: of the common trunk.
        hidden: units of a layer that the second head has for itself; 0: none.
    """
    head = nn.Sequential(nn.Linear(features, 1), nn.Flatten(0))
    layers = (
        [nn.Linear(features, hidden), LeakyReLU(), nn.Linear(hidden, outputs)] if hidden else [nn.Linear(features, outputs)]
    )
    other = nn.Sequential(*layers)
    init_kaiming(other)
    return _initialised(critic, Headed(trunk(critic, shape, features), head, other), head)


def _initialised(critic: Critic, made: T, *parts: nn.Module) -> T:
    """Initialise what stands on a trunk, and put it under spectral norm where the trunk is."""
    for part in parts:
        init_kaiming(part)
        if critic.spectral_norm:
            normalise_spectrally(part)
    return made
