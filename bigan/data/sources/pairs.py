"""Pairs of images: two halves of one file, or two sources whose images have the same names. A pair is one sample."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Literal, get_args

from PIL import Image, ImageOps

from bigan.data.sources.base import Item, Load, Source, fingerprint

FIELD = "source"
"""What the second image of a pair is called in a batch: what a translator is given; "images" are what it is to make of it."""

Side = Literal["images", "source"]


def halves(source: Source, left: str) -> Source:
    """Each image cut in two, as pix2pix's data sets are published: the left half and the right half of one file.

    An image whose width is odd has no halves; the packing leaves it out and says so.

    Args:
        source: of the files.
        left: what the left half is, "images" or "source".

    Raises:
        ValueError: for another `left`.
    """
    if left not in get_args(Side):
        raise ValueError(f"halves: {left!r}; say what the left half is: {' or '.join(get_args(Side))}")
    right = left != "images"  # whether "images" are the right half
    return replace(
        source,
        items=[
            item._replace(load=partial(_half, item.load, right), more=(partial(_half, item.load, not right),))
            for item in source.items
        ],
        more=(FIELD,),
        fingerprint=fingerprint([source.fingerprint, "halves", left]),
    )


def paired(images: Source, sources: Source) -> Source:
    """Two sources as one, where each image has its partner of the same name; the suffix does not count.

    Args:
        images: which say the order, the classes and the attributes.
        sources: their partners, in any order.

    Raises:
        ValueError: naming the first image of either that has no partner, or two of one name.
    """
    ours, theirs = _by_name(images), _by_name(sources)
    for mine, others, where in ((ours, theirs, sources), (theirs, ours, images)):
        lonely = [item.key for name, item in mine.items() if name not in others]
        if lonely:
            rest = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            raise ValueError(
                f"{lonely[0]}: has no partner of that name in {where.description}{rest}; add it, or take this away"
            )
    return replace(
        images,
        description=f"{images.description} with {sources.description}",
        items=[item._replace(more=(theirs[name].load,)) for name, item in ours.items()],
        more=(FIELD,),
        others=(*images.others, *sources.others),
        fingerprint=fingerprint([images.fingerprint, "paired", sources.fingerprint]),
    )


def _by_name(source: Source) -> Mapping[str, Item]:
    found: dict[str, Item] = {}
    for item in source.items:
        name = PurePosixPath(item.key).with_suffix("").as_posix()
        if (other := found.setdefault(name, item)) is not item:
            raise ValueError(f"{item.key}: has the name of {other.key} in {source.description}, so that neither can be paired")
    return found


def _half(load: Load, right: bool) -> Image.Image:
    image = ImageOps.exif_transpose(load())
    if image.width % 2:
        raise ValueError(f"is {image.width} pixels wide, which has no two halves")
    middle = image.width // 2
    return image.crop((middle, 0, image.width, image.height) if right else (0, 0, middle, image.height))
