"""From the bytes of a shard's members to the rows of a batch. Only what is listed here is ever decoded; nothing is executed.

Why these decoders: benchmarks/results/data.md. simplejpeg decodes straight into the batch, and without the interpreter's
lock, as OpenCV does; both give the pixels that Pillow gives. torchvision's PNG decoder crashes on a flipped bit.
"""

import io
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from bigan.data.faults import SampleError
from bigan.spec import ArraySpec, DataSpec

LABEL, ATTRIBUTES, CAPTION, ARRAY = "cls", "json", "txt", "npy"

Rows = Mapping[str, NDArray]
Shape = tuple[int, int, int]
Shape4 = tuple[int, int, int, int]
Decode = Callable[[bytes, NDArray], None]
Fill = Callable[[bytes, Rows, int], None]

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # it would print a line a bad image, without a name; the error that is raised has one

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_COLOUR_TYPES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_SCAN = re.compile(b"\xff\xda")
_SCANS = 100  # of a progressive JPEG; thousands of them in a small file would keep a worker busy for minutes
_JSON_BYTES = 2**20
_NPY_HEADER = 10_000  # bytes; NumPy's own bound for headers that are not trusted


def empty(spec: DataSpec, count: int, images: Callable[[Shape4], NDArray] | None = None) -> dict[str, NDArray]:
    """Room for `count` samples, as far as the data set has the fields.

    In NumPy: a torch operator in a reader's thread would start an OpenMP team beside the one that trains.

    Args:
        spec: of the data set.
        count: rows.
        images: makes the arrays of images.

    Returns:
        "images" and further images uint8 [count, H, W, C], "labels" int64 [count], "attributes" float32 [count, A],
        "captions" uint8 [count, L], and the further arrays.
    """
    rows: dict[str, NDArray] = {}
    for name, (channels, height, width) in spec.image_shapes.items():
        shape = (count, height, width, channels)
        rows[name] = np.empty(shape, dtype=np.uint8) if images is None else images(shape)
    if spec.classes:
        rows["labels"] = np.empty(count, dtype=np.int64)
    if spec.attributes:
        rows["attributes"] = np.empty((count, len(spec.attributes)), dtype=np.float32)
    if spec.caption_bytes:
        rows["captions"] = np.empty((count, spec.caption_bytes), dtype=np.uint8)
    for array in spec.arrays:
        rows[array.name] = np.empty((count, *array.shape), dtype=array.dtype)
    return rows


@final
class Decoder:
    """Decodes the samples of a data set. Threads may share it.

    Args:
        spec: what the manifest promises of every sample.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._fields = frozenset(empty(spec, 0))
        self._fills: dict[tuple[str, ...], tuple[Fill, ...]] = {}

    def fills(self, kinds: tuple[str, ...]) -> tuple[Fill, ...]:
        """How a sample's members are decoded into the rows of a batch: one `fill(data, into, row)` a member.

        Args:
            kinds: extensions of the sample's members: one image, `cls`, `json`, `txt`, `NAME.png` (or another image),
                `NAME.npy`, as far as the data has them.

        Raises:
            SampleError: one of another kind, a second one of a field, or a missing one.
        """
        found = self._fills.get(kinds)
        return self._planned(kinds) if found is None else found

    def decode(self, members: Mapping[str, bytes], into: Rows, row: int) -> None:
        """Decode one sample, extension → bytes, into row `row` of every array of `into` (from `empty`).

        Raises:
            SampleError: as `fills`, or content that is not what the manifest says; its message goes on after the key.
        """
        for (kind, data), fill in zip(members.items(), self.fills(tuple(members)), strict=True):
            try:
                fill(data, into, row)
            except SampleError as error:
                raise SampleError(error.kind, f".{kind}: {error}") from error

    def _planned(self, kinds: tuple[str, ...]) -> tuple[Fill, ...]:
        names = [_field(kind) for kind in kinds]
        for kind, name in zip(kinds, names, strict=True):
            if name not in self._fields:
                why = "is not read" if name is None else "is not in the manifest"
                raise SampleError("member", f": member .{kind} {why}; a sample has {', '.join(sorted(self._fields))}")
            if names.count(name) > 1:
                raise SampleError("member", f": has {name} more than once, the last time as .{kind}; one is enough")
        if missing := self._fields - set(names):
            raise SampleError("member", f": has no {', '.join(sorted(missing))}, but the manifest says so")
        self._fills[kinds] = tuple(self._fill(str(name), kind) for kind, name in zip(kinds, names, strict=True))
        return self._fills[kinds]

    def _fill(self, name: str, kind: str) -> Fill:
        spec = self._spec
        if name in spec.image_shapes:
            decode = IMAGES[kind.rpartition(".")[2]](spec.image_shapes[name])
            return lambda data, into, row: decode(data, into[name][row])
        if name == "captions":
            return lambda data, into, row: _caption(data, into[name][row])
        if name == "labels":
            return lambda data, into, row: into[name].__setitem__(row, label(data, len(spec.classes)))
        if name == "attributes":
            return lambda data, into, row: into[name].__setitem__(row, attributes(data, spec.attributes))
        promised = next(array for array in spec.arrays if array.name == name)
        return lambda data, into, row: into[name].__setitem__(row, array(data, promised))


def _field(extension: str) -> str | None:
    """The field that a member fills: `png` → images, `target.png` → target, `pose.npy` → pose; None for what is not read."""
    name, _, kind = extension.rpartition(".")
    if kind in IMAGES:
        return name or "images"
    if kind == ARRAY and name:
        return name
    return {LABEL: "labels", ATTRIBUTES: "attributes", CAPTION: "captions"}.get(extension)


# --- images: [H, W, C] uint8 rows; the head is read before any pixel, which is also what refuses a decompression bomb -------


def _jpeg(shape: Shape) -> Decode:
    space = "GRAY" if shape[0] == 1 else "RGB"

    def decode(data: bytes, row: NDArray) -> None:
        try:
            height, width, found, _ = simplejpeg.decode_jpeg_header(data)
            _same_shape({"Gray": "L", "YCbCr": "RGB"}.get(found, found), int(width), int(height), shape)
            if len(_SCAN.findall(data)) > _SCANS:
                raise ValueError(f"has more than {_SCANS} scans")
            # The slow transforms are the exact ones, which Pillow takes, too.
            simplejpeg.decode_jpeg(data, space, fastdct=False, fastupsample=False, buffer=row, strict=True)
        except ValueError as error:
            raise _image_error(error, "JPEG") from error

    return decode


def _png(shape: Shape) -> Decode:
    channels, height, width = shape
    head = _PNG + struct.pack(">IIBB", width, height, 8, 0 if channels == 1 else 2)
    flag = (cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_IGNORE_ORIENTATION

    def decode(data: bytes, row: NDArray) -> None:
        if not data.startswith(head):
            raise _png_error(data, shape)
        try:
            pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flag)
        except cv2.error as error:
            raise _image_error(error, "PNG") from error
        if pixels is None or pixels.shape[:2] != (height, width):
            raise SampleError("image", "is no whole PNG image")
        row[:] = pixels if channels == 3 else pixels.reshape(row.shape)

    return decode


def _png_error(data: bytes, shape: Shape) -> SampleError:
    """What is wrong with a head that is not the expected one."""
    if not data.startswith(_PNG) or len(data) < 26:
        return SampleError("image", "is no PNG image")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    mode = _COLOUR_TYPES.get(colour, f"type {colour}") + ("" if depth == 8 else f";{depth}")
    try:
        _same_shape(mode, width, height, shape)
    except SampleError as error:
        return error
    raise AssertionError("the head was the expected one")


def _webp(shape: Shape) -> Decode:
    def decode(data: bytes, row: NDArray) -> None:
        try:
            # The one format by name: Pillow's guessing would offer its other decoders to hostile bytes.
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                grey = shape[0] == 1 and image.mode == "RGB"  # WebP has no grey; where all three are equal, nothing is lost
                _same_shape("L" if grey else image.mode, image.width, image.height, shape)
                row[:] = np.asarray(image.convert("L") if grey else image).reshape(row.shape)
        except SampleError:
            raise
        except Exception as error:  # Pillow's decoders raise all sorts on broken bytes
            raise _image_error(error, "WebP") from error

    return decode


def _same_shape(mode: str, width: int, height: int, shape: Shape) -> None:
    expected = ("L" if shape[0] == 1 else "RGB", shape[2], shape[1])
    if (mode, width, height) != expected:
        raise SampleError(
            "shape", f"is {mode} {width}x{height} (width x height), the manifest says {expected[0]} {expected[1]}x{expected[2]}"
        )


def _image_error(error: Exception, kind: str) -> SampleError:
    if isinstance(error, SampleError):
        return error
    return SampleError("image", f"is no whole {kind} image ({' '.join(str(error).split())[:120]})")


IMAGES: Mapping[str, Callable[[Shape], Decode]] = {"jpg": _jpeg, "jpeg": _jpeg, "png": _png, "webp": _webp}
"""Extension → the one decoder that may touch it, for images of one (C, H, W)."""


# --- the rest ---------------------------------------------------------------------------------------------------------


def label(data: bytes, classes: int) -> int:
    """A class number written in decimal; SampleError unless it is one of 0 … classes-1."""
    digits = data[:20].strip()
    if not digits.isdigit() or len(digits) > 9 or len(data) > 20:
        raise SampleError("label", f"{digits!r} is no class number")
    if int(digits) >= classes:
        raise SampleError("label", f"class {int(digits)}, but the manifest names {classes} classes")
    return int(digits)


def attributes(data: bytes, names: tuple[str, ...]) -> list[float]:
    """The numbers of a JSON object {name: number} in the order of the names; others are left out.

    Raises:
        SampleError: if it is none, or a name is missing or no finite number.
    """
    try:
        document = json.loads(data) if len(data) <= _JSON_BYTES else None
    except (ValueError, RecursionError) as error:
        raise SampleError("attributes", "is no JSON") from error
    if not isinstance(document, dict):
        raise SampleError("attributes", "is no JSON object")
    values = []
    for name in names:
        value = document.get(name)
        if not isinstance(value, (int, float)) or not abs(value) <= np.finfo(np.float32).max:
            raise SampleError("attributes", f"{name} is {str(value)[:20]}, no finite number")
        values.append(float(value))
    return values


def _caption(data: bytes, row: NDArray) -> None:
    if len(data) > len(row):
        raise SampleError("caption", f"has {len(data)} bytes, the manifest says at most {len(row)}")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SampleError("caption", "is no UTF-8 text") from error
    if 0 in data:
        raise SampleError("caption", "holds a zero byte")
    row[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    row[len(data) :] = 0


def array(data: bytes, spec: ArraySpec) -> NDArray:
    """An array of a .npy member, of exactly this shape and dtype; SampleError otherwise. Objects are never unpickled."""
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file, max_header_size=_NPY_HEADER)
    except Exception as error:  # its header is parsed as a Python literal, which raises all sorts
        raise SampleError("array", "is no array of NumPy's format 1 or 2") from error
    if shape != spec.shape or dtype != np.dtype(spec.dtype) or fortran:
        layout = ", Fortran order" if fortran else ""
        raise SampleError("array", f"is {dtype} {list(shape)}{layout}, the manifest says {spec.dtype} {list(spec.shape)}")
    start = file.tell()
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise SampleError("array", f"has {len(data) - start} bytes for {dtype} {list(shape)}")
    values = np.frombuffer(data, dtype=dtype, offset=start).reshape(shape)
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise SampleError("array", "holds NaN or infinity")
    return values
