"""Samples as webdataset writes them into tars: an image, and beside it KEY.cls, KEY.json and KEY.txt."""

import json
import math
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bigan.data.sources.base import IMAGE_SUFFIXES, Item, Load, Source, complete, fingerprint, numbered

PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # no link, no device, no sparse file

_NOTES = frozenset({"cls", "json", "txt"})
_NOTE_BYTES = 2**20
_LABELS = ("label", "class")
_CAPTIONS = ("caption", "text")
_WORDS = _LABELS + _CAPTIONS


class Sample(NamedTuple):
    """An image: its name (with its tar's before it, where there are several), that in its tar, its bytes, how to load it."""

    name: str
    inner: str
    size: int
    load: Load


def key_of(name: str) -> str:
    """What a sample's members have in common: the name up to the first dot of its last part, as webdataset has it."""
    path = PurePosixPath(name)
    return (path.parent / path.name.partition(".")[0]).as_posix()


def _extension(name: str) -> str:
    return PurePosixPath(name).name.partition(".")[2].lower()


def is_note(name: str) -> bool:
    """Whether a member of this name says something of an image."""
    return _extension(name) in _NOTES


def is_readable_note(member: tarfile.TarInfo) -> bool:
    """Whether a member of a tar is a note, and fit to be read."""
    return is_note(member.name) and member.type in PLAIN and member.size <= _NOTE_BYTES


class Notes:
    """What lies beside one image."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.fault = ""
        self.label: str | None = None
        self.caption: str | None = None
        self.numbers: Mapping[str, float] = {}
        self._words: Mapping[str, str] = {}  # of the JSON

    def read(self, name: str, content: bytes | None) -> None:
        """Take in one member, or that it could not be read. What is wrong with it is this sample's `fault`."""
        extension = _extension(name)
        self.names.append(name)
        try:
            if content is None:
                raise ValueError("is no plain file of at most a megabyte")
            text = content.decode()
            if len(self.names) != len({_extension(each) for each in self.names}):
                raise ValueError("comes twice")
            if extension == "txt":
                self.caption = text.strip()
            elif extension == "cls":
                if not text.strip():
                    raise ValueError("is empty")
                self.label = text.strip()
            else:
                self._read_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            self.fault = f"its .{extension} cannot be read ({error})"

    def _read_json(self, document: object) -> None:
        if not isinstance(document, dict):
            raise ValueError("is no JSON object")
        self.numbers = {
            name: value for name, it in document.items() if name not in _WORDS and (value := _number(it)) is not None
        }
        words = {name: document.get(name) for name in _WORDS}
        self._words = {name: str(word) for name, word in words.items() if isinstance(word, str | int)}
        "".join(self._words.values()).encode()  # JSON can say half of a character, which nothing can write

    def word(self, names: Sequence[str]) -> str | None:
        """What the JSON says under the first of these names that it has."""
        return next((self._words[name] for name in names if name in self._words), None)


def _number(value: object) -> float | None:
    """A finite number or a truth value of a JSON."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def samples(
    root: Path, images: Sequence[Sample], notes: Mapping[str, Notes], others: Sequence[str], classes: tuple[str, ...]
) -> Source:
    """The source of images and what lies beside them, in the order of the images.

    Labels are of KEY.cls, else of "label" or "class" in the JSON; captions of KEY.txt, else of "caption" or "text";
    attributes are the JSON's other numbers that most samples have. A sample that lacks what others have cannot be loaded.

    Args:
        root: the tar, or their folder.
        images: of all tars.
        notes: key → what lies beside the image of that key.
        others: names of the other members.
        classes: names of the classes; where there are none, labels are their own names.

    Raises:
        ValueError: two images have one key, or a label is no label.
    """
    chosen: dict[str, Sample] = {}
    others = list(others)
    for image in images:
        if f".{_extension(image.name)}" not in IMAGE_SUFFIXES:  # KEY.mask.png beside KEY.jpg
            others.append(image.name)
        elif key_of(image.name) in chosen:
            raise ValueError(f"{root}: {image.name} is the second image of its sample; leave one, or rename it to KEY.NAME.png")
        else:
            chosen[key_of(image.name)] = image
    if not chosen:
        raise ValueError(f"{root}: has no images KEY.jpg, KEY.png, … ({images[0].name})")
    beside = [notes.get(key, Notes()) for key in chosen]
    texts = _column([note.label for note in beside]) or _column([note.word(_LABELS) for note in beside])
    captions = _column([note.caption for note in beside]) or _column([note.word(_CAPTIONS) for note in beside])
    names = _common([note.numbers for note in beside if note.numbers])
    classes, labels = _labels(root, texts, classes) if texts else ((), [None] * len(beside))
    items: list[Item] = []
    for row, (image, note) in enumerate(zip(chosen.values(), beside, strict=True)):
        attributes = tuple(note.numbers.get(name, math.nan) for name in names) or None
        item = Item(image.name, image.load, labels[row], attributes, captions[row] if captions else None)
        items.append(complete(item, labels=bool(texts), attributes=names, captions=bool(captions), fault=note.fault))
    marks = [
        str((image.name, image.size, item.label, item.attributes, item.caption))
        for item, image in zip(items, chosen.values(), strict=True)
    ]
    faults = [note.fault for note in beside]
    used = {note.names[0] for note in beside if note.names}
    others += [name for note in notes.values() if note.names[0] not in used for name in note.names]
    others.sort(key=PurePosixPath)
    return Source(
        description=f"tar {root.resolve().name}",
        items=items,
        classes=classes,
        attributes=names,
        fingerprint=fingerprint([*marks, *faults, repr(classes), repr(names), *others]),
        others=tuple(others),
    )


def _column(values: list[str | None]) -> list[str | None]:
    """The values, or nothing where all are None."""
    return values if any(value is not None for value in values) else []


def _common(rows: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """The names that more than half of the rows have, in the order in which they come."""
    have = Counter(name for row in rows for name in row)
    return tuple(name for name, count in have.items() if 2 * count > len(rows))


def _labels(root: Path, texts: Sequence[str | None], classes: tuple[str, ...]) -> tuple[tuple[str, ...], Sequence[int | None]]:
    """(classes, labels); a label is None where there is none, or none of the classes."""
    present = sorted({text for text in texts if text is not None})
    whole = [text for text in present if text.isascii() and text.isdigit()]
    if classes:
        number = {str(label): label for label in range(len(classes))}
    else:
        # Among numbers, a word is damage.
        present = whole if 2 * len(whole) > len(present) else present
        classes, numbers = numbered(root, present)
        number = dict(zip(present, numbers, strict=True))
    return classes, [number.get(text) if text is not None else None for text in texts]
