"""Read a pickle of dicts, lists, numbers, text and arrays of bytes, and of nothing else.

A pickle names functions, and unpickling calls them with arguments of its choice. Here every name that CIFAR's files have
stands for a function of this module, every other name is refused, and numpy sees no more than a buffer and a shape.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from bigan.data.sources.base import one_line

_MOST_MEMOS = 2**22  # the C unpickler sets memory aside up to the highest number


def unpickled(content: bytes) -> dict[str, Any]:
    """The dict of a pickle, its keys as text; what Python 2 wrote as text are bytes.

    Raises:
        ValueError: it is cut or damaged, is no dict, or wants anything but what is said above.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if "PUT" in opcode.name and isinstance(argument, int) and argument > _MOST_MEMOS:
                raise pickle.UnpicklingError(f"memo {argument}")
        document = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises all sorts
        raise ValueError(f"is no pickle of arrays: {one_line(error)}") from error
    if not isinstance(document, dict):
        raise ValueError("is a pickle of no dict")
    return {_text(key): _plain(value) for key, value in document.items()}


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _plain(value: object) -> object:
    return value.array if isinstance(value, _Array) else value


@final
class _Callable:
    """What a name in the pickle stands for; it takes no state, so that no pickle changes it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a function is given a state")


@final
class _Dtype:
    """Stands for numpy's dtype."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        if _text(code) not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError(f"an array of {code!r}, not of bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: a byte has none."""


@final
class _Array:
    """Stands for an array of numpy, which is filled by its state."""

    array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that is not of bytes")
        self.array = np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


_ARRAY, _BYTES = _Callable(lambda *_: _Array()), _Callable(lambda: b"")
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): _Callable(lambda *_: None),  # an argument of _reconstruct
    ("numpy", "dtype"): _Callable(_Dtype),
    ("_codecs", "encode"): _Callable(_encode),  # how Python 3 writes bytes for Python 2
    ("__builtin__", "bytes"): _BYTES,
    ("builtins", "bytes"): _BYTES,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is refused")
        return _NAMES[module, name]
