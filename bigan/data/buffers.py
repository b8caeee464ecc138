"""Memory for batches of images that is used again: the system would clear fresh pages for each, a tenth of the decoding."""

import weakref
from collections import defaultdict
from typing import final

import numpy as np
from numpy.typing import NDArray

_LEAST = 2**20  # bytes; smaller arrays malloc keeps by itself


@final
class Buffers:
    """Arrays of bytes that come back when nobody holds them any more. Threads may share it."""

    def __init__(self) -> None:
        self._free: defaultdict[tuple[int, ...], list[NDArray[np.uint8]]] = defaultdict(list)

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array with anything in it. Hand on the array itself, or a tensor of it: a slice of it does not hold it."""
        free = self._free[shape]
        try:
            owner = free.pop()
        except IndexError:
            owner = np.empty(shape, dtype=np.uint8)
        if owner.nbytes < _LEAST:
            return owner
        array = owner[...]
        weakref.finalize(array, free.append, owner).atexit = False
        return array
