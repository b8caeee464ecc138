"""What is to be packed: which items go into which shard, and how a packing is told from another."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from bigan.data.fit import Encoding
from bigan.data.manifest import VERSION
from bigan.data.order import permutation
from bigan.data.shard_writer import ShardJob
from bigan.data.sources import Source
from bigan.spec import MAX_CAPTION, DataSpec, ImageSpec
from bigan.words import count_words, vocabulary


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """A packing, as it is asked for.

    Attributes:
        source: what is packed.
        encoding: how images are stored.
        samples_per_shard: items of the listing that a shard is made of.
        keep_order: whether shards take them as they are listed, and not at random.
        part: (i, n): only the i-th of every n shards is to be written.

    Raises:
        ValueError: naming what does not go.
    """

    source: Source
    encoding: Encoding
    samples_per_shard: int
    keep_order: bool
    part: tuple[int, int]

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard: {self.samples_per_shard}; at least 1")
        number, count = self.part
        if not 0 <= number < count:
            raise ValueError(f"part: {number}/{count}; give I/N with I from 0 to N-1")

    @property
    def request(self) -> str:
        """SHA-256 over all that decides about the bytes, but for the libraries and the content of the source's files."""
        encoding, source = self.encoding, self.source
        settings = [
            VERSION, source.fingerprint, source.description, source.classes, source.attributes, encoding.size,
            encoding.channels, encoding.format, encoding.quality, self.samples_per_shard, self.keep_order, source.run,
        ]  # fmt: skip
        if source.more:  # or sets that were packed before there was such a thing would not be up to date
            settings.append(source.more)
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    @property
    def shards(self) -> int:
        """How many there are to be, in all parts."""
        return -(-len(self.source) // self.samples_per_shard)

    @property
    def mine(self) -> range:
        """The numbers of this part's shards."""
        return range(self.part[0], self.shards, self.part[1])

    @property
    def shuffled(self) -> bool:
        """Whether each sample's place is a draw of its own."""
        return not self.keep_order and self.source.run == 1

    def spec(self) -> DataSpec:
        """What every sample has, but for the shape of its images, and how many there are if all can be read.

        Raises:
            ValueError: a data set cannot have that.
        """
        longest, words = 0, Counter[str]()
        for item in self.source:
            if item.caption is not None:
                size = len(item.caption.encode("utf-8", "surrogatepass"))
                if size > MAX_CAPTION:
                    raise ValueError(f"{item.key}: its caption has {size} bytes, at most {MAX_CAPTION} can be; shorten it")
                longest = max(longest, size)
                count_words(words, item.caption)
        source = self.source
        spec = DataSpec(
            samples=len(source), image_shape=(1, 1, 1), classes=source.classes, attributes=source.attributes,
            caption_bytes=longest, words=vocabulary(words),
            more_images=tuple(ImageSpec(name=name, shape=(1, 1, 1)) for name in source.more),
        )  # fmt: skip
        try:
            return DataSpec.of(spec.plain())
        except ValueError as error:
            raise ValueError(f"{source.description}: {error}") from error

    def dealt(self) -> NDArray[np.int64]:
        """The items' numbers in the order in which the shards take them: [items] int64."""
        count, run = len(self.source), self.source.run
        if self.keep_order:
            return np.arange(count, dtype=np.int64)
        # Keyed by the listing alone: the same source in another size or format has the same samples at the same places.
        seed = int.from_bytes(hashlib.sha256(self.source.fingerprint.encode()).digest()[:8], "little")
        numbers = (permutation(-(-count // run), seed, 0, 0)[:, None] * run + np.arange(run)).ravel()
        return numbers[numbers < count]

    def jobs(self) -> Iterator[ShardJob]:
        """This part's shards, made as they are asked for."""
        numbers, each = self.dealt(), self.samples_per_shard
        for shard in self.mine:
            rows = numbers[shard * each : (shard + 1) * each].tolist()
            yield ShardJob(shard, [(number, self.source.items[number]) for number in rows])
