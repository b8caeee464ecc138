"""What a sample holds: images in every format, classes, attributes and captions, in an order that is drawn once."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from bigan.data.manifest import Manifest
from bigan.data.pack import pack
from bigan.data.sources import Item, Source, open_source

from .packed import checked, decoded
from .pictures import folder_of, image, raw_samples


def a_source(*items: Item, run: int = 1, classes: tuple[str, ...] = (), attributes: tuple[str, ...] = ()) -> Source:
    return Source(
        description="made up", items=items, classes=classes, attributes=attributes, fingerprint="a print", run=run
    )  # fmt: skip


def smooth(seed: int, mode: str) -> Image.Image:
    """What photographs are like: a JPEG of noise is far from the noise."""
    return image(seed, 3, 2, mode).resize((40, 24), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("format", "quality", "most"), [("png", None, 0), ("webp", None, 0), ("webp", 90, 20), ("jpg", None, 8), ("jpg", 50, 40)]
)
def test_every_format_is_read_back(tmp_path: Path, mode: str, format: str, quality: int | None, most: int) -> None:
    pictures = [smooth(seed, mode) for seed in range(3)]
    source = a_source(*(Item(str(n), picture.copy, None) for n, picture in enumerate(pictures)))
    pack(source, tmp_path / "out", size=(24, 40), format=format, quality=quality)
    keys, rows = decoded(tmp_path / "out")
    expected = np.stack([np.asarray(pictures[key]).reshape(24, 40, -1) for key in keys])
    difference = abs(rows["images"].astype(int) - expected)
    assert difference.max() <= most
    assert (most == 0) == (difference.max() == 0)
    assert {kind for sample in raw_samples(tmp_path / "out") for kind in sample if kind[0] != "_"} == {format}


def test_quality_is_what_it_says(tmp_path: Path) -> None:
    source = a_source(Item("a", partial(image, 0, 64, 64, "RGB"), None))
    sizes = []
    for quality in (10, 50, 90, None, 95, 100):
        out = tmp_path / str(quality)
        pack(source, out, size=64, format="jpg", quality=quality)
        (sample,) = raw_samples(out)
        sizes.append(len(sample["jpg"]))
        chroma = simplejpeg.decode_jpeg_header(sample["jpg"])[3]
        assert chroma == ("444" if quality is None or quality >= 95 else "420")
    assert sizes == sorted(sizes)
    assert sizes[3] == sizes[4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "gif"}, "format: gif; give one of png, jpg, webp"),
        ({"format": "png", "quality": 90}, "quality: 90; a png loses nothing"),
        ({"format": "jpg", "quality": 0}, "quality: 0; give 1 to 100"),
        ({"format": "webp", "quality": 101}, "quality: 101"),
        ({"format": "webp", "size": 16384}, "size: 16384x16384; both sides of a webp must be 1 to 16383"),
        ({"workers": 0}, "workers: 0"),
        ({"samples_per_shard": 0}, "samples_per_shard: 0"),
    ],
)
def test_settings_that_do_not_go(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(a_source(Item("a", partial(image, 0), None)), tmp_path / "out", **{"size": 4, **settings})
    assert list(tmp_path.iterdir()) == []


def test_labels_attributes_and_captions_are_read_back(tmp_path: Path) -> None:
    captions = ["a cat", "zwölf Boxkämpfer", "", "🦊 in\nthe snow\t "]
    numbers = [(1.0, 0.5), (0.0, -2.25), (-1.0, 1e30), (2.0**60, 3.0)]
    source = a_source(
        *(Item(str(n), partial(image, n), n % 2, numbers[n], captions[n]) for n in range(4)),
        classes=("cat", "dog"),
        attributes=("Smiling", "ångström"),
    )
    manifest = pack(source, tmp_path / "out", size=4).manifest
    assert manifest.spec.attributes == ("Smiling", "ångström")
    assert manifest.spec.caption_bytes == len("zwölf Boxkämpfer".encode()) == 18
    keys, rows = decoded(tmp_path / "out")
    assert rows["labels"].tolist() == [key % 2 for key in keys]
    assert (rows["attributes"] == np.array(numbers, dtype=np.float32)[keys]).all()
    assert [bytes(row).rstrip(b"\0").decode() for row in rows["captions"]] == [captions[key] for key in keys]
    for key, sample in zip(keys, raw_samples(tmp_path / "out"), strict=True):
        assert sample["txt"].decode() == captions[key]
        assert json.loads(sample["json"]) == dict(zip(source.attributes, numbers[key], strict=True))
        assert sample["cls"] == str(key % 2).encode()
    assert b'"Smiling": 1,' in raw_samples(tmp_path / "out")[keys.index(0)]["json"]


def test_captions_that_are_all_empty_are_none(tmp_path: Path) -> None:
    source = a_source(Item("a", partial(image, 0), None, caption=""))
    assert pack(source, tmp_path / "out", size=4).manifest.spec.caption_bytes == 0
    assert set(decoded(tmp_path / "out")[1]) == {"images"}


def test_what_does_not_fit_beside_an_image_leaves_it_out(tmp_path: Path) -> None:
    def item(key: str, label: int | None = 0, attributes: tuple[float, ...] | None = (1.0,), caption: str | None = "x") -> Item:
        return Item(key, partial(image, 0), label, attributes, caption)

    source = a_source(
        item("good"), item("no label", label=None), item("label", label=1), item("no attributes", attributes=None),
        item("more attributes", attributes=(1.0, 2.0)), item("nan", attributes=(float("nan"),)),
        item("large", attributes=(1e39,)), item("no caption", caption=None), item("zero", caption="a\0b"),
        item("surrogate", caption="\ud800"), classes=("only",), attributes=("A",),
    )  # fmt: skip
    report = pack(source, tmp_path / "out", size=4, samples_per_shard=3)
    assert report.manifest.spec.samples == 1
    assert report.skipped == (
        ("no label", "its label is None, of 1 classes"), ("label", "its label is 1, of 1 classes"),
        ("no attributes", "has 0 attributes of 1"), ("more attributes", "has 2 attributes of 1"),
        ("nan", "its attribute A is nan, no number that float32 holds"),
        ("large", "its attribute A is 1e+39, no number that float32 holds"), ("no caption", "has no caption"),
        ("zero", "its caption holds a zero byte"), ("surrogate", "its caption is no text that UTF-8 can hold"),
    )  # fmt: skip
    assert decoded(tmp_path / "out")[0] == [0]


def test_names_and_captions_that_no_data_set_can_have_are_refused(tmp_path: Path) -> None:
    item = Item("long one", partial(image, 0), 0, (1.0, 1.0), "ü" * 32769)
    with pytest.raises(ValueError, match="long one: its caption has 65538 bytes, at most 65536 can be; shorten it"):
        pack(a_source(item), tmp_path / "out", size=4)
    item = item._replace(caption=None)
    with pytest.raises(ValueError, match="made up: attributes: must be names, each once"):
        pack(a_source(item, attributes=("A", "A")), tmp_path / "out", size=4)
    assert list(tmp_path.iterdir()) == []


# --- the order --------------------------------------------------------------------------------------------------------


def keys_of(folder: Path) -> list[int]:
    return [int(sample["__key__"]) for sample in raw_samples(folder)]


def test_items_are_dealt_out_at_random_and_alike_in_every_size(tmp_path: Path) -> None:
    source = open_source(str(folder_of(tmp_path / "set", *(f"{n:02d}.png" for n in range(40)))))
    dealt = pack(source, tmp_path / "dealt", size=4, samples_per_shard=7).manifest
    pack(source, tmp_path / "large", size=8, samples_per_shard=7, format="jpg")
    kept = pack(source, tmp_path / "kept", size=4, samples_per_shard=7, keep_order=True).manifest
    assert [entry.samples for entry in dealt.shards] == [entry.samples for entry in kept.shards] == [7] * 5 + [5]
    assert keys_of(tmp_path / "kept") == list(range(40))
    assert keys_of(tmp_path / "dealt") == keys_of(tmp_path / "large") != list(range(40))
    assert sorted(keys_of(tmp_path / "dealt")) == list(range(40))
    assert (dealt.shuffled, kept.shuffled) == (True, False)
    assert dealt.request != kept.request


def test_the_draw_is_the_same_for_good(tmp_path: Path) -> None:
    """A killed packing must go on under any later numpy."""
    pack(a_source(*(Item(str(n), partial(image, n), None) for n in range(12))), tmp_path / "out", size=4)
    assert keys_of(tmp_path / "out") == [2, 0, 9, 1, 10, 11, 7, 3, 4, 8, 6, 5]


def test_items_that_are_cheap_to_read_together_stay_together(tmp_path: Path) -> None:
    source = a_source(*(Item(str(n), partial(image, n), None) for n in range(22)), run=4)
    manifest = pack(source, tmp_path / "out", size=4, samples_per_shard=6).manifest
    assert not manifest.shuffled
    keys = keys_of(tmp_path / "out")
    assert sorted(keys) == list(range(22)) != keys
    starts = [key for place, key in enumerate(keys) if place == 0 or key != keys[place - 1] + 1]
    assert all(start % 4 == 0 for start in starts)


def test_a_shard_without_a_readable_image_is_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", *(f"{n}.png" for n in range(6)))
    for number in (0, 1, 3):
        (root / f"{number}.png").write_bytes(b"broken")
    source = open_source(str(root))
    report = pack(source, tmp_path / "out", size=4, samples_per_shard=2, keep_order=True)
    manifest: Manifest = checked(tmp_path / "out")
    assert [(entry.name, entry.samples) for entry in manifest.shards] == [("shard-000001.tar", 1), ("shard-000002.tar", 2)]
    assert [name for name, _ in report.skipped] == ["0.png", "1.png", "3.png"]
    assert decoded(tmp_path / "out")[0] == [2, 4, 5]
    assert pack(source, tmp_path / "out", size=4, samples_per_shard=2, keep_order=True).up_to_date


def test_skipped_images_are_listed_in_the_order_of_the_source(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", *(f"{n:02d}.png" for n in range(30)))
    broken = [f"{n:02d}.png" for n in range(0, 30, 3)]
    for name in broken:
        (root / name).write_bytes(b"broken")
    report = pack(open_source(str(root)), tmp_path / "out", size=4, samples_per_shard=4)
    assert [name for name, _ in report.skipped] == broken
    lines = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert lines == [f"{name}\tis no image that Pillow knows" for name in broken]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(5, "Input/output error"), r"b\.png: cannot be read \(Input/output error\); try again later"),
        (OSError(116, "Stale file handle"), r"b\.png: cannot be read \(Stale file handle\)"),
        (MemoryError(), r"b\.png: not enough memory to read it; take fewer --workers"),
    ],
)
def test_what_the_machine_lacks_is_not_the_images_fault(tmp_path: Path, error: Exception, expected: str) -> None:
    """Leaving it out would make another data set of the same request."""

    def fail() -> Image.Image:
        raise error

    loads: list[Callable[[], Image.Image]] = [partial(image, 0), fail, partial(image, 2)]
    items = [Item(f"{name}.png", load, None) for name, load in zip("abc", loads, strict=True)]
    with pytest.raises(ValueError, match=expected):
        pack(a_source(*items), tmp_path / "out", size=4, samples_per_shard=1, keep_order=True)
    assert (tmp_path / "out.incomplete" / "shard-000000.done.json").is_file()
    items[1] = Item("b.png", partial(image, 1), None)
    assert pack(a_source(*items), tmp_path / "out", size=4, samples_per_shard=1, keep_order=True).manifest.spec.samples == 3
