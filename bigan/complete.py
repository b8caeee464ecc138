"""Fill in what is missing of an image; what is observed of it stays as it is, to the last bit."""

from pathlib import Path

import torch
from torch import Tensor

from bigan.images import from_uint8, to_uint8
from bigan.look import Look
from bigan.report.grid import save_image
from bigan.sample import restore
from bigan.user_images import read_image
from bigan.uses import Completion, use

SIDES = ("left", "right", "top", "bottom")


def complete(
    path: Path, image: Path, out: Path, *, mask: str, steps: int, seed: int = 0, live: bool = False, at: str | None = None
) -> None:
    """Complete an image by a run's game, and write it as OUT.png.

    Args:
        path: the run folder.
        image: any picture; cropped and resized as `bigan pack` does where it has another size than the run's.
        mask: the half that is missing, of `SIDES`; or a picture of the size of `image`, or of the run's images, that is white
            where something is missing.
        steps: how often what is missing is filled in.
        seed: of the game's draws, if it has any.

    Raises:
        ValueError: if the run cannot be restored or completes nothing, an image cannot be read, or OUT cannot be written or is
            one of those that are read.
    """
    if steps < 1:
        raise ValueError(f"--steps {steps}: at least one")
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: must end in .png, which keeps every pixel as it is")
    for read in (image, *([] if mask in SIDES else [Path(mask)])):
        if out.exists() and read.exists() and out.samefile(read):
            raise ValueError(f"{out}: is an image that is read; name another OUT")
    restored = restore(path, live=live, at=at)
    by = use(restored.game, Completion, "complete images; one of kind bigan does")
    channels, height, width = by.shape
    pixels, was = read_image(image, channels, (height, width))
    missing = missing_by(mask, image, was, (height, width))
    completed = filled(restored.look, by, pixels[None], missing, steps=steps, seed=seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_image(completed[0].permute(1, 2, 0).numpy(), out)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None


def filled(look: Look, by: Completion, pixels: Tensor, missing: Tensor, *, steps: int, seed: int = 0) -> Tensor:
    """Images whose missing pixels a game made; the others are those of `pixels`, whatever it returns there.

    Args:
        pixels: [N, C, H, W] uint8.
        missing: bool [N, 1, H, W].

    Returns:
        [N, C, H, W] uint8, on the CPU.

    Raises:
        ValueError: if the game makes NaN or infinity of what is missing.
    """
    images = from_uint8(pixels).to(look.device)
    observed = ~missing.to(look.device)
    made = look.used(lambda ctx: by.complete(ctx, images, observed, steps), len(pixels), "complete", seed=seed)
    return torch.where(missing, to_uint8(torch.where(observed, images, made.float())), pixels)


def missing_by(mask: str, image: Path, was: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """What is missing, bool [1, 1, H, W]."""
    height, width = size
    missing = torch.zeros(1, 1, height, width, dtype=torch.bool)
    match mask:
        case "left":
            missing[..., : width // 2] = True
        case "right":
            missing[..., width // 2 :] = True
        case "top":
            missing[..., : height // 2, :] = True
        case "bottom":
            missing[..., height // 2 :, :] = True
        case _:
            missing = _painted(mask, image, was, size)
    if not missing.any() or missing.all():
        raise ValueError(f"--mask {mask}: {'all' if missing.any() else 'nothing'} of {image} is missing; paint white what is")
    return missing


def _painted(mask: str, image: Path, was: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """White of a picture; where it is resized as the image is, what is more white than black."""
    if not mask or not Path(mask).exists():
        raise ValueError(f"--mask {mask}: there is no such file; give one, or {', '.join(SIDES)}")
    painted, sides = read_image(Path(mask), 1, size)
    if sides not in (was, size):
        raise ValueError(f"--mask {mask}: is {_told(sides)}, and {image} is {_told(was)}; they must be alike")
    return painted[None] >= 128


def _told(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"
