"""Decoding: what each kind of member becomes, and that hostile bytes are named and never run, crash or pass for a sample."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bigan.batch import ArraySpec, DataSpec, ImageSpec
from bigan.data.decode import IMAGES, Decoder, array, attributes, empty, label
from bigan.data.faults import SampleError

from .tars import encoded

SHAPE = (3, 6, 4)
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 4, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def decoded(extension: str, content: bytes, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """[H, W, C]"""
    row = np.zeros((shape[1], shape[2], shape[0]), dtype=np.uint8)
    IMAGES[extension](shape)(content, row)
    return row


@pytest.mark.parametrize(("extension", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize(("height", "width"), [(6, 4), (1, 1), (37, 53), (64, 64)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_decoder_gives_the_pixels_that_pillow_gives(
    extension: str, kind: str, height: int, width: int, mode: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height)).convert(mode)
    content = encoded(image, kind, lossless=True) if kind == "WEBP" else encoded(image, kind)
    with Image.open(io.BytesIO(content)) as reread:
        expected = np.asarray(reread.convert(mode)).reshape(height, width, -1)
    found = decoded(extension, content, (expected.shape[2], height, width))
    assert (found == expected).all()
    if kind != "JPEG":
        assert (found == np.asarray(image).reshape(found.shape)).all()


def test_no_decoder_turns_an_image() -> None:
    """Packing has turned it; what a shard says of its orientation is not read again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for extension, kind in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
        assert decoded(extension, encoded(RGB, kind, exif=exif)).shape == (6, 4, 3)


@pytest.mark.parametrize(
    ("extension", "content", "kind", "message"),
    [
        ("png", b"", "image", "is no PNG"),
        ("png", encoded(RGB)[:60], "image", "is no whole PNG"),
        ("png", encoded(RGB, "JPEG"), "image", "is no PNG"),
        ("png", encoded(RGB.resize((6, 4))), "shape", r"is RGB 6x4 .* the manifest says RGB 4x6"),
        ("png", encoded(RGB.convert("L")), "shape", "is L 4x6"),
        ("png", encoded(RGB.convert("RGBA")), "shape", "is RGBA 4x6"),
        ("png", encoded(RGB.convert("P")), "shape", "is P 4x6"),
        ("png", encoded(Image.fromarray(np.zeros((6, 4), np.uint16))), "shape", "is L;16 4x6"),
        ("jpg", b"", "image", "is no whole JPEG"),
        ("jpg", encoded(RGB, "JPEG")[:-200], "image", "is no whole JPEG"),
        ("jpg", encoded(RGB), "image", "is no whole JPEG"),
        ("jpg", encoded(RGB.convert("CMYK"), "JPEG"), "shape", "is CMYK 4x6"),
        ("jpg", encoded(RGB.convert("L"), "JPEG"), "shape", "is L 4x6"),
        ("jpg", encoded(RGB.resize((5, 5)), "JPEG"), "shape", "is RGB 5x5"),
        ("webp", b"", "image", "is no whole WebP"),
        ("webp", encoded(RGB), "image", "is no whole WebP"),
        ("webp", encoded(RGB, "WEBP")[:-20], "image", "is no whole WebP"),
        ("webp", encoded(RGB.resize((6, 4)), "WEBP"), "shape", "is RGB 6x4"),
    ],
)
def test_a_bad_image_is_named(extension: str, content: bytes, kind: str, message: str) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        decoded(extension, content)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def bomb(side: int) -> bytes:
    """A PNG whose head promises side x side pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">II", zlib.crc32(head), 0) + b"IDAT" + bytes(4)


def jpeg_bomb(side: int) -> bytes:
    content = bytearray(encoded(RGB, "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(content)


def webp_bomb(side: int) -> bytes:
    content = bytearray(encoded(RGB, "WEBP"))
    start = content.index(b"\x9d\x01\x2a") + 3
    content[start : start + 4] = struct.pack("<HH", side, side)
    return bytes(content)


@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [
        ("png", bomb(9000), "is RGB 9000x9000"),
        ("png", bomb(2**31 - 1), "is RGB 2147483647x2147483647"),
        ("jpg", jpeg_bomb(60_000), "is RGB 60000x60000"),
        ("webp", webp_bomb(9000), "is RGB 9000x9000"),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(extension: str, content: bytes, message: str) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        decoded(extension, content)
    assert caught.value.kind == "shape"


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    content = encoded(RGB, "JPEG", progressive=True)
    scan = content.index(b"\xff\xda")
    with pytest.raises(SampleError, match="more than 100 scans"):
        decoded("jpg", content[:scan] + content[scan:-2] * 200 + content[-2:])
    assert decoded("jpg", content).shape == (6, 4, 3)


@pytest.mark.parametrize("content", [b"", b"3", b"-1", b"1_0", b"x", b"9" * 5000, "١".encode(), b"1.0"])
def test_a_bad_label_is_named(content: bytes) -> None:
    with pytest.raises(SampleError) as caught:
        label(bytes(content), 3)
    assert caught.value.kind == "label"
    assert label(b" 2\n", 3) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"a": 1}',
        b'{"a": 1, "b": "x"}',
        b'{"a": 1, "b": NaN}',
        b'{"a": 1, "b": 1e999}',
        b"[" * 10**5,
        b"\xff",
    ],
)
def test_bad_attributes_are_named(content: bytes) -> None:
    with pytest.raises(SampleError) as caught:
        attributes(bytes(content), ("a", "b"))
    assert caught.value.kind == "attributes"


def test_attributes_come_in_the_order_of_their_names() -> None:
    assert attributes(b'{"a": 1, "c": "x", "b": -2.5}', ("b", "a")) == [-2.5, 1.0]


FLOATS = ArraySpec(name="pose", shape=(2, 3), dtype="float32")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no array"),
        (npy(np.zeros((2, 3), np.float32))[:-4], "has 20 bytes"),
        (npy(np.zeros((3, 2), np.float32)), r"is float32 \[3, 2\]"),
        (npy(np.zeros((2, 3), np.float64)), "is float64"),
        (npy(np.asfortranarray(np.zeros((2, 3), np.float32))), "Fortran"),
        (npy(np.full((2, 3), np.nan, np.float32)), "NaN"),
        (npy(np.array([[object()] * 3] * 2)), "is object"),
        (npy(np.zeros((2, 3), np.float32)).replace(b"(2, 3)", b"(2**40,3)"), "no array"),
    ],
)
def test_a_bad_array_is_named_and_never_unpickled(content: bytes, message: str) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        array(bytes(content), FLOATS)
    assert caught.value.kind == "array"


SPEC = DataSpec(
    samples=1,
    image_shape=SHAPE,
    classes=("a", "b"),
    attributes=("young", "hat"),
    caption_bytes=12,
    more_images=(ImageSpec(name="target", shape=(1, 2, 2)),),
    arrays=(FLOATS,),
)
MEMBERS = {
    "png": encoded(RGB),
    "cls": b"1",
    "json": json.dumps({"hat": 0, "young": 1}).encode(),
    "txt": "zwei Füße".encode(),
    "target.webp": encoded(Image.new("L", (2, 2), 77).convert("RGB"), "WEBP", lossless=True),
    "pose.npy": npy(np.arange(6, dtype=np.float32).reshape(2, 3)),
}


def sample(**changes: bytes | None) -> dict[str, bytes]:
    members = {**MEMBERS, **{name.replace("_", "."): content for name, content in changes.items()}}
    return {name: content for name, content in members.items() if content is not None}


def test_a_sample_of_everything() -> None:
    rows = {name: np.full_like(values, 9) for name, values in empty(SPEC, 2).items()}
    Decoder(SPEC).decode(sample(), rows, 1)
    assert (rows["images"][1] == PIXELS).all()
    assert rows["labels"].tolist() == [9, 1]
    assert rows["attributes"][1].tolist() == [1.0, 0.0]
    assert bytes(rows["captions"][1]) == "zwei Füße".encode() + b"\0"
    assert (rows["target"][1] == 77).all()
    assert rows["pose"][1].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert all((values[0] == 9).all() for values in rows.values())


@pytest.mark.parametrize(
    ("members", "kind", "message"),
    [
        (sample(cls=None), "member", ": has no labels"),
        (sample(png=None), "member", ": has no images"),
        (sample(jpg=encoded(RGB, "JPEG")), "member", ": has images more than once, the last time as .(jpg|png)"),
        (sample(pyd=b"import os"), "member", r": member \.pyd is not read"),
        (sample(pickle=b"x"), "member", r": member \.pickle is not read"),
        (sample(npy=b"x"), "member", r": member \.npy is not read"),
        (sample(other_npy=b"x"), "member", r": member \.other\.npy is not in the manifest"),
        (sample(labels_npy=b"x"), "member", ": has labels more than once"),
        (sample(cls=b"2"), "label", r"\.cls: class 2, but the manifest names 2 classes"),
        (sample(txt=b"thirteen bytes"), "caption", r"\.txt: has 14 bytes"),
        (sample(txt=b"\xff"), "caption", r"\.txt: is no UTF-8"),
        (sample(txt=b"a\0b"), "caption", r"\.txt: holds a zero"),
        (sample(target_webp=b"x"), "image", r"\.target\.webp: is no whole WebP"),
    ],
)
def test_what_a_sample_may_not_have(members: dict[str, bytes], kind: str, message: str) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        Decoder(SPEC).decode(members, empty(SPEC, 1), 0)
    assert caught.value.kind == kind
