"""What a data set is. Imports the standard library alone, so that packing starts without torch."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

MAX_SIDE = 16384  # pixels; a data set that promises more is broken or hostile
_MAX_BYTES = 2**28  # of one sample, for the same reason
_MAX_DIMENSIONS = 32
MAX_CAPTION = 2**16
_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = frozenset({"images", "labels", "attributes", "captions"})
_DTYPES = ("bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """A further image of every sample (the other side of a pair, a segmentation): field name and (C, H, W)."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """An array that every sample has: field name, shape without the batch, and dtype as NumPy and torch both call it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a game may know of a stream when it is built.

    Attributes:
        samples: how many samples one epoch has.
        image_shape: (C, H, W) of its images, or None where the samples are no images.
        classes: names of the classes, in the order of the labels; empty where there are none.
        attributes: names of the numbers in "attributes", in their order; empty where there are none.
        caption_bytes: width of "captions", the longest caption in UTF-8; 0 where there are none.
        more_images: further images of a sample, mirrored together with "images".
        arrays: further fields, such as voxels, sounds or poses.
        words: what the captions are made of, in the order of their numbers; empty where nobody has looked.
    """

    samples: int
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    caption_bytes: int = 0
    more_images: tuple[ImageSpec, ...] = ()
    arrays: tuple[ArraySpec, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Every field of images and its (C, H, W)."""
        first = {} if self.image_shape is None else {"images": self.image_shape}
        return first | {image.name: image.shape for image in self.more_images}

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; `of` reads it back."""
        whole = json.loads(json.dumps(asdict(self)))
        if not self.words:  # as the manifests have it that were written before there were any
            del whole["words"]
        return whole

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "DataSpec":
        """Read what `plain` gave; it may come from anyone, so every value is checked.

        Raises:
            ValueError: naming the key that is missing or wrong.
        """
        shape = plain.get("image_shape")
        for key in ("classes", "attributes", "words"):
            names = plain.get(key, [])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
                raise ValueError(f"{key}: must be names, each once")
        samples, caption_bytes = plain.get("samples"), plain.get("caption_bytes", 0)
        if type(samples) is not int or samples < 1:
            raise ValueError(f"samples: {samples!r}")
        if type(caption_bytes) is not int or not 0 <= caption_bytes <= MAX_CAPTION:
            raise ValueError(f"caption_bytes: {caption_bytes!r}")
        spec = cls(
            samples=samples, image_shape=None if shape is None else _image_shape(shape), caption_bytes=caption_bytes,
            classes=tuple(plain.get("classes", [])), attributes=tuple(plain.get("attributes", [])),
            more_images=tuple(
                ImageSpec(name=row["name"], shape=_image_shape(row.get("shape"))) for row in _named(plain, "more_images")
            ),
            arrays=tuple(_array(row) for row in _named(plain, "arrays")), words=tuple(plain.get("words", [])),
        )  # fmt: skip
        pixels = sum(math.prod(shape) for shape in spec.image_shapes.values())
        if pixels + sum(math.prod(array.shape) * 8 for array in spec.arrays) > _MAX_BYTES:
            raise ValueError(f"image_shape: a sample of more than {_MAX_BYTES} bytes")
        names = [*(image.name for image in spec.more_images), *(array.name for array in spec.arrays)]
        if len({*names}) < len(names):
            raise ValueError("arrays: a name comes twice")
        if not (spec.image_shapes or spec.classes or spec.attributes or spec.arrays or spec.caption_bytes):
            raise ValueError("image_shape: is missing, and there is nothing else")
        return spec


def _named(plain: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = plain.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{key}: {rows!r}")
    for row in rows:
        name = row.get("name")
        if not isinstance(name, str) or not _FIELD.fullmatch(name) or name in _TAKEN:
            raise ValueError(f"{key}: {name!r} is no name of lower-case letters, or one that is taken")
    return rows


def _image_shape(shape: Any) -> tuple[int, int, int]:
    if not _ints(shape, 3, MAX_SIDE) or shape[0] not in (1, 3):
        raise ValueError(f"image_shape: {shape}")
    return (shape[0], shape[1], shape[2])


def _array(row: Mapping[str, Any]) -> ArraySpec:
    shape = row.get("shape")
    if (
        row.get("dtype") not in _DTYPES
        or not _ints(shape, None, _MAX_BYTES)
        or len(shape) > _MAX_DIMENSIONS
        or math.prod(shape) * 8 > _MAX_BYTES
    ):
        raise ValueError(f"arrays: {row!r}; the dtype must be one of {', '.join(_DTYPES)}, the shape a list of sizes")
    return ArraySpec(name=row["name"], shape=tuple(shape), dtype=row["dtype"])


def _ints(value: Any, length: int | None, most: int) -> TypeGuard[list[int]]:
    sized = isinstance(value, list) and (length is None or len(value) == length)
    return sized and all(type(side) is int and 1 <= side <= most for side in value)


def modelled(data: Mapping[str, DataSpec], stream: str) -> tuple[str, tuple[int, ...]]:
    """What a game without conditions models of a stream: the field's name and the shape of a sample.

    That is the images, or the one array of numbers that a data set without images has.

    Raises:
        ValueError: if there is no such stream, or it has neither.
    """
    if stream not in data:
        raise ValueError(f"data.{stream}: is missing; the game reads it")
    spec = data[stream]
    if spec.image_shape is not None:
        return "images", spec.image_shape
    numbers = [array for array in spec.arrays if array.dtype in ("float16", "float32", "float64")]
    if len(spec.arrays) != 1 or not numbers or not numbers[0].shape:
        raise ValueError(f"data.{stream}: has neither images nor one array of numbers; the game models one of them")
    return numbers[0].name, numbers[0].shape


def image_shape(data: Mapping[str, DataSpec], stream: str) -> tuple[int, int, int]:
    """The (C, H, W) of a stream that a game reads.

    Raises:
        ValueError: if there is no such stream, or it has no images.
    """
    if stream not in data:
        raise ValueError(f"data.{stream}: is missing; the game reads it")
    shape = data[stream].image_shape
    if shape is None:
        raise ValueError(f"data.{stream}: has no images; the game reads them")
    return shape
