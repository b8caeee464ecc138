"""Images made from those of another stream: pairs that no one has to pack (colourise, super-resolve, inpaint, denoise)."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Annotated, Literal, Self, final

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray

from bigan.batch import Batch, DataSpec, ImageSpec
from bigan.clock import Draws
from bigan.data.contract import Stream
from bigan.data.digits import ColouredDigits
from bigan.data.faults import Faults
from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards
from bigan.data.streamed import Webdataset
from bigan.settings import BY_KIND, Count, NonNegative, Several, settings

VERSION = 1  # of what the maps make; a new one is other data
_CPU = torch.device("cpu")
_GREY = np.array([19595, 38470, 7471], dtype=np.uint32)  # ITU-R 601 in parts of 2^16, as Pillow's convert("L")

Images = NDArray[np.uint8]
"""[N, H, W, C]. The maps are NumPy's alone: a torch operator in a reader's thread would start an OpenMP team."""


@settings
class Grey:
    """The grey of a colour image, in all three channels: to be coloured again."""

    kind: Literal["grey"] = "grey"

    def refusal(self, shape: tuple[int, int, int]) -> str:
        """Why images (C, H, W) have none; "" where they have."""
        return "" if shape[0] == 3 else "the images are grey already"

    def __call__(self, images: Images, draws: Draws) -> Images:
        """Images → the same shape."""
        grey = (images.astype(np.uint32) @ _GREY + 2**15) >> 16
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=3)


@settings
class Smaller:
    """Means of blocks, at the image's own size: to be super-resolved.

    Attributes:
        factor: side of a block in pixels.
    """

    kind: Literal["smaller"] = "smaller"
    factor: Several = 4

    def refusal(self, shape: tuple[int, int, int]) -> str:
        """Why images (C, H, W) have none; "" where they have."""
        height, width = shape[1:]
        fits = height % self.factor == 0 == width % self.factor
        return "" if fits else f"{height}x{width} is not divisible by a factor of {self.factor}"

    def __call__(self, images: Images, draws: Draws) -> Images:
        """Images → the same shape."""
        n, height, width, channels = images.shape
        blocks = images.reshape(n, height // self.factor, self.factor, width // self.factor, self.factor, channels)
        means = _levels(blocks.mean((2, 4)))
        return means.repeat(self.factor, axis=1).repeat(self.factor, axis=2)


@settings
class Hole:
    """A square of middle grey: to be inpainted (Pathak et al., context encoders, 2016).

    Attributes:
        size: its side in pixels.
        anywhere: drawn for each position in the stream; else in the middle.
    """

    kind: Literal["hole"] = "hole"
    size: Count = 12
    anywhere: bool = True

    def refusal(self, shape: tuple[int, int, int]) -> str:
        """Why images (C, H, W) have none; "" where they have."""
        height, width = shape[1:]
        return "" if self.size < min(height, width) else f"a hole of {self.size} leaves nothing of {height}x{width}"

    def __call__(self, images: Images, draws: Draws) -> Images:
        """Images → the same shape."""
        rooms = np.array(images.shape[1:3]) - self.size + 1
        at = draws.uniform("hole", 2).numpy() if self.anywhere else np.full((len(images), 2), 0.5)
        corners = np.minimum((at * rooms).astype(np.int64), rooms - 1)
        made = images.copy()
        for image, (top, left) in zip(made, corners.tolist(), strict=True):
            image[top : top + self.size, left : left + self.size] = 128
        return made


@settings
class Noise:
    """Normal noise on every value, drawn for each position in the stream: to be denoised.

    Attributes:
        std: in levels of 0 … 255, as papers on denoising give σ.
    """

    kind: Literal["noise"] = "noise"
    std: NonNegative = 25.0

    def refusal(self, shape: tuple[int, int, int]) -> str:
        """None: "" for any shape."""
        return ""

    def __call__(self, images: Images, draws: Draws) -> Images:
        """Images → the same shape."""
        return _levels(images + self.std * draws.normal("noise", *images.shape[1:]).numpy())


@settings
class Turned:
    """A map that is known and has an inverse, to hold what an unpaired translator finds against.

    Attributes:
        quarters: turns by 90 degrees, against the clock.
        inverted: light and dark change places.
    """

    kind: Literal["turned"] = "turned"
    quarters: Annotated[int, Ge(0), Le(3)] = 1
    inverted: bool = False

    def refusal(self, shape: tuple[int, int, int]) -> str:
        """Why images (C, H, W) have none; "" where they have."""
        height, width = shape[1:]
        fits = height == width or self.quarters % 2 == 0
        return "" if fits else f"{height}x{width} is no square, and would not keep its shape; set quarters to 0 or 2"

    def __call__(self, images: Images, draws: Draws) -> Images:
        """Images → the same shape."""
        turned = np.rot90(images, self.quarters, axes=(1, 2))
        return np.ascontiguousarray(255 - turned if self.inverted else turned)


Map = Annotated[Grey | Smaller | Hole | Noise | Turned, BY_KIND]
Of = Annotated[Shards | Webdataset | StackedDigits | ColouredDigits, BY_KIND]


@settings
class Derived:
    """A data set, and beside each image what a map makes of it.

    Attributes:
        of: the data set; packed shards unless another kind is named.
        map: what is made of its "images", mirrored and shifted as they are.
        into: the field that it fills; "images" puts it in their place.
    """

    kind: Literal["derived"] = "derived"
    of: Of
    map: Map
    into: str = "source"

    @property
    def where(self) -> str:
        """The data set, as an error names it."""
        return self.of.where

    def open(self, seed: int) -> "DerivedStream":
        """The endless stream in the order of the data set's own; ValueError naming what is wrong."""
        inner = self.of.open(seed)
        try:
            return DerivedStream(self, inner, seed)
        except ValueError:
            inner.close()
            raise


@final
class DerivedStream:
    """The endless stream; each map's draws are of the position, so that ranks and a resumed run agree.

    Attributes:
        spec: the inner stream's, with the field that is filled.
        fingerprint: SHA-256 of the inner stream's, and of the map.
        faults: the inner stream's.
        notes: the same.
    """

    spec: DataSpec
    fingerprint: str
    faults: Faults
    notes: tuple[str, ...]

    def __init__(self, settings: Derived, inner: Stream, seed: int) -> None:
        self._map, self._into, self._inner, self._seed = settings.map, settings.into, inner, seed
        self.spec, self.faults, self.notes = _spec(settings, inner.spec), inner.faults, inner.notes
        content = [VERSION, inner.fingerprint, asdict(settings.map), settings.into]  # pyright: ignore[reportArgumentType]
        self.fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start + count - 1 of the endless stream, on the CPU."""
        batch = self._inner.read(start, count)
        images = batch.images.permute(0, 2, 3, 1).numpy()
        made = self._map(images, Draws((self._seed, "derived"), start, count, _CPU))
        assert made.shape == images.shape, "a map keeps the shape"
        fields = {**batch.fields, self._into: torch.from_numpy(made).permute(0, 3, 1, 2)}
        return Batch(batch.index, fields, batch.pictures | {self._into})

    def close(self) -> None:
        """End threads, close files."""
        self._inner.close()

    def interrupt(self) -> None:
        """End what waits for the network; only to be closed afterwards."""
        self._inner.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _spec(settings: Derived, inner: DataSpec) -> DataSpec:
    if inner.image_shape is None:
        raise ValueError(f"of: {settings.where} has no images, of which something could be derived")
    if reason := settings.map.refusal(inner.image_shape):
        raise ValueError(f"map: {settings.map.kind}: {reason}")
    if settings.into == "images":
        return inner
    if settings.into in inner.image_shapes or settings.into in {array.name for array in inner.arrays}:
        raise ValueError(f"into: {settings.where} has {settings.into!r} already; name another field")
    spec = replace(inner, more_images=(*inner.more_images, ImageSpec(name=settings.into, shape=inner.image_shape)))
    try:
        return DataSpec.of(spec.plain())
    except ValueError as error:
        raise ValueError(f"into: {error}") from None


def _levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """To the nearest of 0 … 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
