"""What a run asks of a data set: settings (`Data`) that open an endless stream (`Stream`)."""

from typing import Protocol, Self

from bigan.batch import Batch, DataSpec
from bigan.data.faults import Faults


class Stream(Protocol):
    """An endless stream of samples, read by position; threads may share it."""

    @property
    def spec(self) -> DataSpec:
        """What every sample has."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the data, for a checkpoint to know it again."""
        ...

    @property
    def faults(self) -> Faults:
        """The bad samples that were met."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run says when it starts."""
        ...

    def read(self, start: int, count: int) -> Batch:
        """The samples at positions start … start + count - 1, on the CPU."""
        ...

    def close(self) -> None:
        """End threads, close files."""
        ...

    def interrupt(self) -> None:
        """End what waits for the network; only to be closed afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Data(Protocol):
    """What a config's `data:` holds of one stream."""

    @property
    def where(self) -> str:
        """What it is, as an error names it."""
        ...

    def open(self, seed: int) -> Stream:
        """The endless stream that this seed orders; ValueError naming what is wrong."""
        ...
