"""Conditions: what a sample is asked to be, by one path for labels, attributes, arrays and captions."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigan.batch import Batch, DataSpec
from bigan.networks.text import TextEncoder, Tokenizer
from bigan.precision import wide
from bigan.settings import BY_KIND, Count, settings
from bigan.words import words_of

_DIGITS = 18  # of a number that counts something


@dataclass(frozen=True, kw_only=True)
class Given:
    """A condition, fitted to a stream. "Raw" is what a batch holds of it, [N, …].

    Attributes:
        field: as errors and samples name it.
        size: of a code.
        blank: one raw condition, for its shape and type.
        read: from a batch to raw conditions.
        encoder: makes a module from raw to codes [N, size]; each player has its own.
        loss: from outputs [N, size] of a classifier and raw to [N]; None where there is none to be asked.
        right: from the same to the share that is classified rightly, [N] in [0, 1].
        parse: from a user's text to one raw condition. Its ValueError says what there is.
    """

    field: str
    size: int
    blank: Tensor
    read: Callable[[Batch], Tensor]
    encoder: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    right: Callable[[Tensor, Tensor], Tensor] | None = None
    parse: Callable[[str], Tensor]


@settings
class Label:
    """The class."""

    kind: Literal["label"] = "label"

    def fit(self, data: Mapping[str, DataSpec], stream: str) -> Given:
        """Raise ValueError where the stream has no classes."""
        classes = _spec(data, stream).classes
        if not classes:
            raise ValueError(f"data.{stream}: has no classes, which the condition is; name another condition.kind")

        def parse(text: str) -> Tensor:
            named = text in classes or any(name.isdecimal() for name in classes)  # "1" is no place among "1", "2", "3"
            by_place = text.isdecimal() and not named
            return torch.tensor(whole(text, len(classes), "classes") if by_place else position(text, classes, "class", text))

        return Given(
            field="labels",
            size=len(classes),
            blank=torch.tensor(0),
            read=lambda batch: batch.labels,
            encoder=lambda: OneHot(len(classes)),
            loss=lambda outputs, raw: F.cross_entropy(wide(outputs), raw, reduction="none"),
            right=lambda outputs, raw: (outputs.argmax(1) == raw).float(),
            parse=parse,
        )


@settings
class Attributes:
    """Numbers of "attributes"; to a classifier each is had or not: had where it is above ½.

    Attributes:
        names: which; all unless given.
    """

    kind: Literal["attributes"] = "attributes"
    names: tuple[str, ...] = ()

    def fit(self, data: Mapping[str, DataSpec], stream: str) -> Given:
        """Raise ValueError where the stream has no such attributes."""
        there = _spec(data, stream).attributes
        if not there:
            raise ValueError(f"data.{stream}: has no attributes, which the condition is; name another condition.kind")
        names = self.names or there
        columns = [position(name, there, "attribute", f"data.{stream}: condition.names") for name in names]

        return Given(
            field="attributes",
            size=len(names),
            blank=torch.zeros(len(names)),
            read=lambda batch: batch.attributes[:, columns],
            encoder=nn.Identity,
            loss=lambda outputs, raw: F.binary_cross_entropy_with_logits(
                wide(outputs), (raw > 0.5).float(), reduction="none"
            ).sum(1),
            right=lambda outputs, raw: ((outputs > 0) == (raw > 0.5)).float().mean(1),
            parse=lambda text: torch.tensor(_assigned(text, names)),
        )


@settings
class Array:
    """An array of numbers, such as a pose.

    Attributes:
        name: of the field.
    """

    kind: Literal["array"] = "array"
    name: str

    def fit(self, data: Mapping[str, DataSpec], stream: str) -> Given:
        """Raise ValueError where the stream has no such array."""
        arrays = {array.name: array for array in _spec(data, stream).arrays}
        if not arrays:
            raise ValueError(f"data.{stream}: has no arrays, one of which the condition is; name another condition.kind")
        position(self.name, tuple(arrays), "array", f"data.{stream}: condition.name")
        blank = torch.zeros(arrays[self.name].shape)

        def parse(text: str) -> Tensor:
            values = [number(part, text) for part in text.split(",")]
            if len(values) != blank.numel():
                raise ValueError(f"{text!r}: {self.name} has {blank.numel()} numbers, with commas between them")
            return torch.tensor(values).view(blank.shape)

        return Given(
            field=self.name,
            size=blank.numel(),
            blank=blank,
            read=lambda batch: batch[self.name].float(),
            encoder=lambda: nn.Flatten() if blank.ndim else nn.Unflatten(0, (-1, 1)),
            parse=parse,
        )


@settings
class Caption:
    """A sentence, as a small encoder reads it that is trained with the game.

    Attributes:
        width: of word vectors and code.
        length: how many words are read; of a caption of the data that is longer, the first ones.
    """

    kind: Literal["caption"] = "caption"
    width: Count = 64
    length: Count = 16

    def fit(self, data: Mapping[str, DataSpec], stream: str) -> Given:
        """Raise ValueError where the stream has no captions, or does not say their words."""
        spec = _spec(data, stream)
        if not spec.caption_bytes:
            raise ValueError(f"data.{stream}: has no captions, which the condition is; name another condition.kind")
        if not spec.words:
            raise ValueError(f"data.{stream}: does not say the words of its captions; pack it again, with --overwrite")

        tokens = Tokenizer(spec.words, self.length)

        def parse(text: str) -> Tensor:
            said = words_of(text)
            if not said:
                raise ValueError(f"{text!r}: has no words")
            for word in said:
                position(word, spec.words, "word", text)
            if len(said) > self.length:
                raise ValueError(
                    f"{text!r}: has {len(said)} words; at most {self.length} are read: shorten it, or train with a larger "
                    "condition.length"
                )
            return tokens([text])[0]

        return Given(
            field="captions",
            size=self.width,
            blank=torch.zeros(self.length, dtype=torch.int64),
            read=lambda batch: tokens(batch.texts()).to(batch.index.device),
            encoder=lambda: TextEncoder(len(spec.words), self.width),
            parse=parse,
        )


Condition = Annotated[Label | Attributes | Array | Caption, BY_KIND]
Plain = Annotated[Label | Attributes | Array, BY_KIND]
"""Conditions whose codes have no parameters, so that a game may put them beside an image outside of its players."""


class OneHot(nn.Module):
    """Labels [N] int64 → [N, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("like", torch.empty(0), persistent=False)  # of the type of the module

    def forward(self, labels: Tensor) -> Tensor:
        """1 in the label's column, else 0."""
        return F.one_hot(labels, self.classes).to(self.get_buffer("like").dtype)


def swapped(raw: Tensor) -> Tensor:
    """Each two that lie side by side change places, [N, …]: others' conditions, in a move of `group=2`.

    The last of an odd number, as a measurement may have, stays where it is.
    """
    pairs = len(raw) // 2
    return torch.cat([raw[: 2 * pairs].view(pairs, 2, *raw.shape[1:]).flip(1).flatten(0, 1), raw[2 * pairs :]])


def _spec(data: Mapping[str, DataSpec], stream: str) -> DataSpec:
    if stream not in data:
        raise ValueError(f"data.{stream}: is missing; the game reads it")
    return data[stream]


def position(name: str, names: Iterable[str], what: str, where: str) -> int:
    """Where a name stands among those that there are; ValueError, after `where`, with the nearest ones."""
    names = tuple(names)
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, 3, 0.4) or names[:10]
    raise ValueError(
        f"{where}: there is no {what} {name!r}; there is {', '.join(near)}{', …' if len(near) < len(names) else ''}"
    )


def _assigned(text: str, names: tuple[str, ...]) -> list[float]:
    """`Male=1,Smiling=0`; what is not named is 0."""
    values: dict[int, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: write NAME=NUMBER, with commas between them; there is {', '.join(names)}")
        place = position(name.strip(), names, "attribute", text)
        if place in values:
            raise ValueError(f"{text!r}: names {names[place]} twice")
        values[place] = number(value, text)
    return [values.get(place, 0.0) for place in range(len(names))]


def whole(part: str, count: int, what: str) -> int:
    """A number from 0 to count - 1 that a user wrote; ValueError for what is none."""
    if not (part.isdecimal() and len(part) <= _DIGITS and int(part) < count):
        raise ValueError(f"{part!r}: there are {count} {what}, from 0")
    return int(part)


def number(part: str, where: str) -> float:
    """A number that a user wrote and float32 holds; ValueError, after `where`, for what is none."""
    try:
        value = float(part)
    except ValueError:
        value = float("nan")
    if not abs(value) <= torch.finfo(torch.float32).max:
        raise ValueError(f"{where!r}: {part!r} is no number")
    return value
