"""What stands in the way of a recorded pullback, and how it is said."""

import re

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from bigan.networks.dcgan import DCGANCritic
from bigan.networks.layers import ProjectionCritic, Residual
from bigan.pullback import NoPullbackError, obstacle, record

from .test_pullback_protocol import critic_of, images


@pytest.mark.parametrize(
    ("critic", "reason"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)), r"layer '1' \(InstanceNorm2d\) is not known"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU())), r"layer '0\.1' \(SiLU\)"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "pads with reflect"),
        (nn.Sequential(nn.Conv2d(1, 2, 4, padding="same")), "pads one side more"),
        (nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear")), "interpolates by bilinear"),
        (nn.Sequential(nn.Upsample(size=7)), "no whole scale_factor"),
        (DCGANCritic(width=4, norm="batch").build((1, 16, 16)), r"\(BatchNorm2d\)"),
        (type("Subclass", (nn.Conv2d,), {})(1, 2, 3), r"the critic \(Subclass\)"),
    ],
)
def test_what_stands_in_the_way_is_named(critic: nn.Module, reason: str) -> None:
    found = obstacle(critic)
    assert found is not None
    assert re.search(reason, found), found


def projection(**changes: object) -> nn.Module:
    critic = ProjectionCritic(nn.Flatten(), 4, nn.Embedding(2, 4))
    for name, value in changes.items():
        setattr(critic, name, value)
    return critic


@pytest.mark.parametrize(
    "changes",
    [
        {"head": nn.Sequential(nn.LeakyReLU(), nn.Linear(4, 1))},
        {"head": nn.Conv1d(4, 1, 1)},
    ],
    ids=str,
)
def test_another_head_stands_in_the_way(changes: dict[str, nn.Module]) -> None:
    assert "another head" in str(obstacle(projection(**changes)))
    assert obstacle(projection()) is None


def test_an_affine_layer_with_spectral_norm_stands_in_the_way() -> None:
    assert "is parametrized" in str(obstacle(nn.Sequential(spectral_norm(nn.ConvTranspose2d(3, 4, 3)))))


def hooked() -> nn.Module:
    critic = critic_of()
    critic[1].register_forward_hook(lambda layer, inputs, output: None)
    return critic


def patched() -> nn.Module:
    critic = critic_of()
    critic[1].forward = lambda x: x[:, :5]
    return critic


@pytest.mark.parametrize(("made", "reason"), [(hooked, "has hooks"), (patched, "has a forward of its own")])
def test_hooks_and_patches_stand_in_the_way(made, reason: str) -> None:
    assert obstacle(made()) == f"layer '1' (Linear) {reason}"
    with pytest.raises(NoPullbackError, match=reason):
        record(made(), images().float())


def test_global_hooks_stand_in_the_way() -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda layer, inputs, output: None)
    try:
        assert obstacle(critic_of()) == "there are global hooks"
        with pytest.raises(NoPullbackError, match="global hooks"):
            record(critic_of(), images().float())
    finally:
        handle.remove()


def test_a_layer_that_overwrites_what_a_branch_reads_is_refused() -> None:
    critic = critic_of(Residual(nn.Sequential(nn.Identity(), nn.LeakyReLU(0.2, inplace=True))))
    with pytest.raises(NoPullbackError, match="overwrites what another branch reads"):
        record(critic, images().float())


@pytest.mark.parametrize(
    ("critic", "shape"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3)), (2, 1, 8, 8)),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(0)), (2, 1, 8, 8)),
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(0)), (1, 8, 8)),
        (nn.Sequential(nn.Flatten(0), nn.LeakyReLU()), (3, 1)),
        (nn.Sequential(Residual(nn.Conv2d(1, 3, 1))), (2, 1, 1, 1)),
        (nn.Linear(4, 4), (4,)),
    ],
)
def test_an_input_without_a_pullback_is_refused(critic: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(NoPullbackError):
        record(critic, torch.randn(shape))


def test_a_condition_is_read_or_refused() -> None:
    with pytest.raises(NoPullbackError, match="reads a condition"):
        record(ProjectionCritic(nn.Flatten(), 4, nn.Embedding(2, 4)), torch.randn(2, 4))
    with pytest.raises(ValueError, match="does not read it"):
        record(critic_of(), images().float(), torch.zeros(4))


@pytest.mark.parametrize("held", [-1, 0, 5])
def test_the_number_of_held_samples_is_checked(held: int) -> None:
    with pytest.raises(ValueError, match="must be 1 … 4"):
        record(critic_of(), images().float(), held=held)
