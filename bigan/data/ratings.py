"""Ratings of items by users, from text: a stream of users, each with the items that it likes (Wang et al., IRGAN, 2017)."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigan.batch import DataSpec
from bigan.clock import Draws, digest
from bigan.data.order import Order
from bigan.data.toy import DrawnStream
from bigan.settings import Count, Fraction, settings

MOST = 2**28
"""Users times items, of which four tables of a byte are held."""

_APART = ("::", "\t", ",")
_NUMBER = re.compile("0|[1-9][0-9]{0,17}", re.ASCII)
_LONGEST = 60  # characters of a bad line that an error shows


class _Row(NamedTuple):
    user: str
    item: str
    value: float


@dataclass(frozen=True, eq=False)
class Held:
    """What is known of every user, each table [users, items] bool.

    Attributes:
        users: their names, in the order of their numbers.
        items: theirs.
        rated: what stands in the file of the training, liked or not.
        liked: what the training likes.
        validation: likings of the same file that are kept from the training.
        test: likings of the other file; None where there is none.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    rated: NDArray[np.bool_]
    liked: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    test: NDArray[np.bool_] | None


@settings
class Ratings:
    """Lines of `user item rating`; what follows on a line, such as a time, is not read.

    They are apart by `::` where a line has it, else by tabs, else by commas, else by blanks: `1,Rocky 3,5` rates one item.

    A sample is a user who likes something, once an epoch: its number in "labels", and what it likes in "attributes", [N, items]
    of 0 and 1. Users are the data set's classes, items its attributes' names.

    Attributes:
        path: the file. Of two lines of one user and one item the later counts.
        above: a rating above it is a liking.
        users: how many there are, where they are numbered from 0; those that the files name unless given.
        items: the same of items.
        validation: share of the likings that are kept from the training, to choose an epoch by; a function of the names alone.
        test: a file of ratings to be judged by, beside `path`, or anywhere if its path is absolute.
    """

    kind: Literal["ratings"] = "ratings"
    path: str
    above: float = 3.99
    users: Count | None = None
    items: Count | None = None
    validation: Fraction = 0.0
    test: str | None = None

    @property
    def where(self) -> str:
        """Its file, as an error names it."""
        return self.path

    def open(self, seed: int) -> DrawnStream:
        """Read the files, and open the endless stream: "labels" and "attributes".

        Raises:
            ValueError: naming what is wrong with them.
        """
        held = self.held()
        active = np.flatnonzero(held.liked.any(1))
        if not len(active):
            raise ValueError(f"{self.path}: nobody likes anything: no rating that is trained on is above {self.above:g}")
        tables = [held.liked, held.validation, *([] if held.test is None else [held.test])]
        content: Mapping[str, object] = {
            "kind": self.kind,
            "names": [held.users, held.items],
            "likings": hashlib.sha256(b"".join(np.packbits(table).tobytes() for table in tables)).hexdigest(),
        }
        order = Order([len(active)], seed)

        def draw(draws: Draws) -> dict[str, NDArray]:
            users = active[order.samples_at(draws.start, draws.count)]
            return {"labels": users, "attributes": held.liked[users].astype(np.float32)}

        spec = DataSpec(samples=len(active), classes=held.users, attributes=held.items)
        return DrawnStream(spec, content, seed, draw)

    def held(self) -> Held:
        """All that the files say.

        Raises:
            ValueError: in one line, for what cannot be read.
        """
        train = self._read(Path(self.path))
        test = None if self.test is None else self._read(Path(self.path).parent / self.test)
        whole = [*train, *(test or ())]
        users, items = _names(self.users, [row.user for row in whole]), _names(self.items, [row.item for row in whole])
        if len(users) * len(items) > MOST:
            raise ValueError(
                f"{self.path}: {len(users)} users times {len(items)} items are too many; at most {MOST:,} are held"
            )
        rated, liked = self._tables(train, users, items)
        validation = np.zeros_like(liked)
        for user, item in np.argwhere(liked) if self.validation else ():
            validation[user, item] = digest(("validation", users[user], items[item]), size=8) < self.validation * 2.0**64
        wanted = None if test is None else self._tables(test, users, items)[1]
        return Held(users, items, rated, liked & ~validation, validation, wanted)

    def _tables(
        self, rows: Sequence[_Row], users: tuple[str, ...], items: tuple[str, ...]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What is rated and what is liked, [users, items] each."""
        rated, liked = (np.zeros((len(users), len(items)), dtype=np.bool_) for _ in range(2))
        numbers = [{name: number for number, name in enumerate(names)} for names in (users, items)]
        places = np.array([(numbers[0][row.user], numbers[1][row.item]) for row in rows]).T
        rated[*places] = True
        liked[*places] = [row.value > self.above for row in rows]  # the later of two
        return rated, liked

    def _read(self, path: Path) -> list[_Row]:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except OSError as error:
            raise ValueError(f"{path}: cannot be read as ratings ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: cannot be read as ratings ({error})") from None
        rows, bad = [], []
        for number, line in enumerate(lines, 1):
            if not (stripped := line.strip()):
                continue
            if (row := self._row(_parts(stripped))) is None:
                bad.append((number, stripped))
            else:
                rows.append(row)
        if bad:
            number, line = bad[0]
            shown = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            ranges = [f"{what}s from 0 to {count - 1}" for what, count in self._counts() if count]
            told = f", {' and '.join(ranges)}" if ranges else ""
            raise ValueError(f'{path}:{number}: "{shown}": write user item rating{told}{more}')
        if not rows:
            raise ValueError(f"{path}: holds no ratings; a line is user item rating")
        return rows

    def _row(self, parts: Sequence[str]) -> _Row | None:
        """What a line says, or None where it is a bad one."""
        if len(parts) < 3 or not all(parts[:3]):
            return None
        for part, (_, count) in zip(parts, self._counts(), strict=False):
            if count and not (_NUMBER.fullmatch(part) and int(part) < count):
                return None
        try:
            value = float(parts[2])
        except ValueError:
            return None
        return _Row(parts[0], parts[1], value) if math.isfinite(value) else None

    def _counts(self) -> tuple[tuple[str, int | None], ...]:
        return (("user", self.users), ("item", self.items))


def _parts(line: str) -> list[str]:
    return [part.strip() for part in line.split(next((apart for apart in _APART if apart in line), None))]


def _names(count: int | None, named: Sequence[str]) -> tuple[str, ...]:
    """0 … count - 1, or those that are named: numbers by their size, and before words."""
    if count:
        return tuple(map(str, range(count)))
    return tuple(sorted(set(named), key=lambda name: (0, int(name), name) if _NUMBER.fullmatch(name) else (1, 0, name)))
