"""A user's images, translated by a trained run."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch

from bigan.data.sources.tree import list_folder
from bigan.images import from_uint8
from bigan.look import Look
from bigan.report.grid import pixels, save_image
from bigan.sample import restore
from bigan.user_images import read_image
from bigan.uses import Translation, Way, use

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CHUNK = 16


def translate(
    path: Path, source: Path, out: Path, *, to: str = "", seed: int = 0, live: bool = False, at: str | None = None
) -> tuple[Path, ...]:
    """Translate an image to OUT, or every image of a folder to one in the folder OUT, of its own name as .png.

    A folder's images that cannot be read are left out; those that can are translated before the error is raised.

    Images of another size are cropped about their centre and resized, as `bigan pack` does it.

    Args:
        path: the run folder.
        source: an image, or a folder of images.
        out: a file, or a folder.
        to: where to, as the user writes it.
        seed: of what the translator draws, if it draws anything, for each image by its place among them.
        live: take the live weights and not the averages.
        at: which checkpoint, as in `bigan.checkpoints.chosen`.

    Returns:
        the files that were written.

    Raises:
        ValueError: if the run cannot be restored or does not translate, there is no such way, an image cannot be read, or OUT
            cannot be written.
    """
    files = _files(source, out)
    restored = restore(path, live=live, at=at)
    translation = use(restored.game, Translation, "translate")
    try:
        way = translation.to(to)
    except ValueError as error:
        raise ValueError(f"--to: {error}" if to else f"--to: is missing ({str(error).removeprefix(': ')})") from None
    if not isinstance(way, Way):
        raise ValueError(f"Translation.to of the game returned a {type(way).__name__}; it must return a Way of bigan.uses")
    broken: list[str] = []
    for start in range(0, len(files), CHUNK):
        broken += _translate(restored.look, way, files[start : start + CHUNK], start, seed)
    if broken:
        more = f" (and {len(broken) - 1} more, of {len(files)} images)" if len(broken) > 1 else ""
        raise ValueError(broken[0] + more)
    return tuple(target for _, target in files)


def _files(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Which image becomes which."""
    if not os.path.exists(source):
        raise ValueError(f"{source}: no such image, and no such folder")
    if not source.is_dir():
        target = out / f"{source.stem}.png" if out.is_dir() else out
        if target.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{out}: ends in {', '.join(SUFFIXES)}, or is a folder that is there")
        if target.exists() and target.samefile(source):
            raise ValueError(f"{target}: is the image that is read; name another OUTPUT")
        return [(source, target)]
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{out}: lies in {source}, whose images are read; give a folder outside")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; {source} is a folder, whose images are translated into a folder")
    names = list_folder(source).names
    if not names:
        raise ValueError(f"{source}: has no images")
    targets: dict[str, str] = {}
    for name in names:
        target = PurePosixPath(name).with_suffix(".png").as_posix()
        if (other := targets.setdefault(target, name)) != name:
            raise ValueError(f"{source}: {other} and {name} would both become {target}; rename one")
    return [(source / name, out / target) for target, name in targets.items()]


def _translate(look: Look, way: Way, files: Sequence[tuple[Path, Path]], start: int, seed: int) -> list[str]:
    """What is wrong with those that cannot be read; in their places stand black images, so that no other's draws change."""
    channels, *size = way.shape
    images = torch.zeros(len(files), *way.shape, dtype=torch.uint8)
    broken: dict[int, str] = {}
    for row, (source, _) in enumerate(files):
        try:
            images[row] = read_image(source, channels, (size[0], size[1]))[0]
        except ValueError as error:
            broken[row] = str(error)
    given = from_uint8(images).to(look.device)
    made = look.used(lambda ctx: way.run(ctx, given), len(files), "translate", start=start, seed=seed)
    for row, ((_, target), image) in enumerate(zip(files, pixels(made), strict=True)):
        if row in broken:
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            save_image(image, target)
        except OSError as error:
            raise ValueError(f"{target}: cannot be written ({error.strerror or error})") from None
    return [*broken.values()]
