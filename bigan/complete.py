"""Fill in what is missing of an image; what is observed of it stays as it is, to the last bit."""

from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps, UnidentifiedImageError
from torch import Tensor

from bigan.data.fit import fitted, only_bombs_are_heard
from bigan.data.sources.base import one_line, open_image
from bigan.images import to_uint8
from bigan.look import Look
from bigan.report.grid import save_image
from bigan.sample import restore
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
        ValueError: if the run cannot be restored or completes nothing, an image cannot be read, or OUT cannot be written.
    """
    if steps < 1:
        raise ValueError(f"--steps {steps}: at least one")
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: must end in .png, which keeps every pixel as it is")
    restored = restore(path, live=live, at=at)
    by = use(restored.game, Completion, "complete images; one of kind bigan does")
    channels, height, width = by.shape
    pixels, was = _read(image, channels, (height, width))
    missing = _missing(mask, image, was, (height, width))
    completed = filled(restored.look, by, pixels, missing, steps=steps, seed=seed)
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
    images = (pixels.float() / 127.5 - 1).to(look.device)
    observed = ~missing.to(look.device)
    made = look.used(lambda ctx: by.complete(ctx, images, observed, steps), len(pixels), "complete", seed=seed)
    return torch.where(missing, to_uint8(torch.where(observed, images, made.float())), pixels)


def _missing(mask: str, image: Path, was: tuple[int, int], size: tuple[int, int]) -> Tensor:
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
    if not Path(mask).exists():
        raise ValueError(f"--mask {mask}: there is no such file; give one, or {', '.join(SIDES)}")
    painted, sides = _read(Path(mask), 1, size)
    if sides not in (was, size):
        raise ValueError(f"--mask {mask}: is {_told(sides)}, and {image} is {_told(was)}; they must be alike")
    return painted >= 128


def _told(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"


def _read(path: Path, channels: int, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """A picture as the run's images are, [1, C, H, W] uint8, and the (height, width) that it had."""
    try:
        with only_bombs_are_heard():
            picture = ImageOps.exif_transpose(open_image(str(path)))
            array = np.asarray(fitted(picture, channels, size))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: is no image") from None
    except Exception as error:  # a broken file raises whatever its decoder does
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise ValueError(f"{path}: cannot be read as an image ({reason})") from None
    return torch.from_numpy(array.copy()).view(1, *size, channels).permute(0, 3, 1, 2), (picture.height, picture.width)
