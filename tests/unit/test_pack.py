"""From what a user has to shards: sources, resizing, the same bytes each time, and nothing half-written."""

import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigan.data.index import verify
from bigan.data.pack import pack
from bigan.data.source import Item, Source, open_source

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def image(seed: int, height: int = 6, width: int = 4, mode: str = "L") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if bands == 1 else pixels)


def folder_of(root: Path, *names: str, mode: str = "L") -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image(seed, mode=mode).save(root / name)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raw_samples(folder: Path) -> list[dict[str, bytes]]:
    """What plain webdataset reads from the shards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset as wds

        shards = sorted(str(path) for path in folder.glob("*.tar"))
        return list(wds.WebDataset(shards, shardshuffle=False, empty_check=False))  # pyright: ignore


def pixels_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(BytesIO(sample["png"]))) for sample in raw_samples(folder)]


# Sources


def test_sub_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "dog/1.png", "cat/2.png", "cat/deep/3.JPG", "cat/1.webp", "bird/x.bmp")
    source = open_source(str(root))
    assert source.classes == ("bird", "cat", "dog")
    listing = [(key, label) for key, _, label in source]
    assert listing == [("bird/x.bmp", 0), ("cat/1.webp", 1), ("cat/2.png", 1), ("cat/deep/3.JPG", 1), ("dog/1.png", 2)]
    assert source.description == "folder pets"
    assert source.items[2].load().size == (4, 6)


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    for root in (folder_of(tmp_path / "flat", "b.png", "a.png"), folder_of(tmp_path / "wrapped", "all/b.png", "all/a.png")):
        source = open_source(str(root))
        assert source.classes == ()
        assert [Path(key).name for key, _, label in source if label is None] == ["a.png", "b.png"]


def test_what_operating_systems_add_is_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a/1.png", "a/._1.png", "b/2.png", ".thumbs/1.png", "__MACOSX/a/1.png")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    assert [key for key, _, _ in open_source(str(root))] == ["a/1.png", "b/2.png"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a/1.png")
    folder_of(tmp_path / "elsewhere", "2.png")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    assert [key for key, _, _ in open_source(str(root))] == ["a/1.png", "b/2.png"]


def zip_of(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("prefix", ["", "wrapper/"])
def test_a_zip_is_read_as_the_folder_is(tmp_path: Path, prefix: str) -> None:
    root = folder_of(tmp_path / "set", "b/1.png", "a/2.png", "a/1.png", "__MACOSX/a/._1.png")
    path = zip_of(root, tmp_path / "set.zip", prefix)
    from_zip, from_folder = open_source(str(path)), open_source(str(root))
    assert [(item.key.removeprefix(prefix), item.label) for item in from_zip] == [(i.key, i.label) for i in from_folder]
    assert from_zip.classes == ("a", "b")
    for one, other in zip(from_zip, from_folder, strict=True):
        assert (np.asarray(one.load()) == np.asarray(other.load())).all()


def test_the_digits(tmp_path: Path) -> None:
    source = open_source("digits")
    assert len(source) == 1797
    assert source.classes == tuple("0123456789")
    first = np.asarray(source.items[0].load())
    assert first.shape == (8, 8)
    assert first.dtype == np.uint8
    stack = np.stack([np.asarray(item.load()) for item in source])
    assert (stack.min(), stack.max()) == (0, 255)
    assert stack[:, 0, 0].mean() < 10  # the corner is background: black
    packed = pack(source, tmp_path / "digits", size=8)
    assert packed.manifest.image_shape == (1, 8, 8)
    assert [shard.samples for shard in packed.manifest.shards] == [1000, 797]
    samples = raw_samples(tmp_path / "digits")
    assert [int(sample["cls"]) for sample in samples] == [item.label for item in source]
    assert (np.asarray(Image.open(BytesIO(samples[5]["png"]))) == stack[5]).all()


def idx_files(folder: Path, split: str, count: int = 5, *, zipped: bool = False) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(count).integers(0, 256, (count, 3, 2), dtype=np.uint8)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for kind, head, body in (("images-idx3", (2051, count, 3, 2), images), ("labels-idx1", (2049, count), labels)):
        data = struct.pack(f">{len(head)}I", *head) + body.tobytes()
        (folder / f"{split}-{kind}-ubyte{'.gz' if zipped else ''}").write_bytes(gzip.compress(data) if zipped else data)
    return images


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path: Path, zipped: bool) -> None:
    train = idx_files(tmp_path / "set", "train", 7, zipped=zipped)
    test = idx_files(tmp_path / "set", "t10k", 4, zipped=zipped)
    ending = "-images-idx3-ubyte" + (".gz" if zipped else "")
    for source, images in (
        (open_source(str(tmp_path / "set")), train),
        (open_source(str(tmp_path / "set"), split="t10k"), test),
        (open_source(str(tmp_path / "set" / f"t10k{ending}")), test),
    ):
        assert (np.stack([np.asarray(item.load()) for item in source]) == images).all()
        assert source.classes == ("0", "1", "2")
        assert [item.label for item in source] == [row % 3 for row in range(len(images))]


@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST is not at ../shared/data/mnist")
def test_mnist(tmp_path: Path) -> None:
    source = open_source(str(MNIST), split="t10k", limit=300)
    report = pack(source, tmp_path / "mnist", size=32)
    assert report.manifest.image_shape == (1, 32, 32)
    assert report.manifest.classes == tuple("0123456789")
    assert report.manifest.samples == 300
    verify(tmp_path / "mnist", checksums=True)


def test_a_limit_keeps_every_class(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", *(f"{name}/{number}.png" for name in "abc" for number in range(6)))
    source = open_source(str(root), limit=6)
    assert [item.key for item in source] == ["a/0.png", "a/3.png", "b/0.png", "b/3.png", "c/0.png", "c/3.png"]
    assert source.fingerprint != open_source(str(root)).fingerprint == open_source(str(root), limit=99).fingerprint


def damaged_idx(folder: Path) -> Path:
    idx_files(folder, "train")
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    return folder


def unlabelled_idx(folder: Path) -> Path:
    idx_files(folder, "train")
    (folder / "train-labels-idx1-ubyte").unlink()
    return folder


def encrypted_zip(path: Path) -> Path:
    zip_of(folder_of(path.parent / "secret", "a.png"), path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: tmp / "nowhere", "nowhere: no such folder"),
        (lambda tmp: written(tmp / "empty" / "readme.txt", b"").parent, "empty: has no images"),
        (lambda tmp: written(tmp / "notes.txt", b"hello"), "notes.txt: is no folder, zip or idx"),
        (lambda tmp: written(tmp / "broken.zip", b"PK\x03\x04" + bytes(50)), "broken.zip: is no folder, zip"),
        (lambda tmp: zip_of(folder_of(tmp / "x"), tmp / "empty.zip"), "empty.zip: has no images"),
        (lambda tmp: encrypted_zip(tmp / "secret.zip"), "secret.zip: is encrypted"),
        (lambda tmp: folder_of(tmp / "mixed", "a/1.png", "b/2.png", "loose.png"), r"mixed: loose.png lies beside"),
        (lambda tmp: folder_of(tmp / "set", "train/a/1.png", "val/a/1.png"), "set: train and val are splits"),
        (lambda tmp: damaged_idx(tmp / "idx"), "train-images-idx3-ubyte: is damaged"),
        (lambda tmp: unlabelled_idx(tmp / "idx"), "train-labels-idx1-ubyte is not beside it"),
        (lambda tmp: written(tmp / "i" / "train-images-idx3-ubyte.gz", b"no gz").parent, "there|cannot be read|beside"),
        (lambda tmp: written(tmp / "i" / "train-labels-idx1-ubyte", b""), "train-labels-idx1-ubyte: holds labels"),
    ],
)
def test_a_users_mistake_is_one_line_that_names_the_path(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_wrong_split_or_limit_is_refused(tmp_path: Path) -> None:
    idx_files(tmp_path / "idx", "train")
    with pytest.raises(ValueError, match="split 't10k' is not among its idx files; it has train"):
        open_source(str(tmp_path / "idx"), split="t10k")
    with pytest.raises(ValueError, match="split 'train'"):
        open_source("digits", split="train")
    with pytest.raises(ValueError, match="limit: 0"):
        open_source(str(tmp_path / "idx"), limit=0)


# Packing


def test_two_packings_give_the_same_bytes(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", *(f"{name}/{number}.jpg" for name in "ab" for number in range(5)), mode="RGB")
    written(root / "a" / "broken.png", b"nothing")
    pack(open_source(str(root)), tmp_path / "one", size=5, samples_per_shard=4)
    copy = shutil.copytree(root, tmp_path / "elsewhere" / "set", copy_function=shutil.copyfile)
    for file in copy.rglob("*.jpg"):
        os.utime(file, (1, 1))
    pack(open_source(str(copy)), tmp_path / "two", size=5, samples_per_shard=4)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert str(tmp_path).encode() not in b"".join(contents(tmp_path / "one").values())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_any_mode_becomes_grey_or_rgb(tmp_path: Path, mode: str, channels: int) -> None:
    grey = Image.fromarray(np.full((6, 4), 200, dtype=np.uint8))
    pixel = Image.fromarray(np.full((6, 4), 200 * 256, dtype=np.uint16)) if mode == "I;16" else grey.convert(mode)
    (tmp_path / "set").mkdir()
    pixel.save(tmp_path / "set" / "a.tif")
    report = pack(open_source(str(tmp_path / "set")), tmp_path / "out", size=(6, 4), channels=channels)
    assert report.manifest.image_shape == (channels, 6, 4)
    (pixels,) = pixels_of(tmp_path / "out")
    assert pixels.shape == ((6, 4) if channels == 1 else (6, 4, 3))
    assert (abs(pixels.astype(int) - 200) <= 2).all() or mode == "1"


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "set" / "a.png")
    pack(open_source(str(tmp_path / "set")), tmp_path / "out", size=4)
    assert (pixels_of(tmp_path / "out")[0] == 255).all()


def test_channels_follow_the_first_images(tmp_path: Path) -> None:
    grey = folder_of(tmp_path / "grey", "1.png", "2.png")
    colour = folder_of(tmp_path / "colour", "1.png", mode="RGB")
    assert pack(open_source(str(grey)), tmp_path / "g", size=4).manifest.image_shape == (1, 4, 4)
    assert pack(open_source(str(colour)), tmp_path / "c", size=4).manifest.image_shape == (3, 4, 4)
    folder_of(grey, *(f"{number:02d}.png" for number in range(20)))
    image(0, mode="RGB").save(grey / "z.png")
    with pytest.raises(ValueError, match=r"z\.png: is in colour"):
        pack(open_source(str(grey)), tmp_path / "mixed", size=4)
    assert pack(open_source(str(grey)), tmp_path / "mixed", size=4, channels=1).manifest.samples == 23


@pytest.mark.parametrize(("height", "width"), [(6, 4), (12, 8), (3, 2), (7, 3), (2, 9), (1, 1), (40, 5)])
def test_any_height_and_width(tmp_path: Path, height: int, width: int) -> None:
    root = folder_of(tmp_path / "set", "a.png")
    assert pack(open_source(str(root)), tmp_path / "out", size=(height, width)).manifest.image_shape == (1, height, width)
    (pixels,) = pixels_of(tmp_path / "out")
    assert pixels.shape == (height, width)
    if (height, width) == (6, 4):
        assert (pixels == np.asarray(image(0))).all()


def test_the_crop_is_about_the_centre_and_upright(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), dtype=np.uint8)
    pixels[:, 2:6] = 100
    pixels[0, 2:6] = 200
    (tmp_path / "set").mkdir()
    exif = Image.Exif()
    exif[0x112] = 3  # upside down
    Image.fromarray(pixels[::-1, ::-1].copy()).save(tmp_path / "set" / "a.png", exif=exif)
    pack(open_source(str(tmp_path / "set")), tmp_path / "out", size=4)
    assert pixels_of(tmp_path / "out")[0].tolist() == [[200] * 4] + [[100] * 4] * 3


def test_progress_counts_every_image(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png", "c.png")
    seen: list[tuple[int, int]] = []
    pack(open_source(str(root)), tmp_path / "out", size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def bomb() -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    return data + struct.pack(">I", zlib.crc32(head)) + struct.pack(">I", 0) + b"IDAT" + bytes(4)


def test_images_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png", "c.png")
    whole = (root / "b.png").read_bytes()
    written(root / "b.png", whole[: len(whole) // 2])
    written(root / "d\n.jpg", b"no image")
    written(root / "e.png", bomb())
    (root / "f.png").symlink_to(root / "nowhere")
    report = pack(open_source(str(root)), tmp_path / "out", size=4)
    assert report.manifest.samples == 2
    assert report.manifest.skipped == 4
    assert [key for key, _ in report.skipped] == ["b.png", "'d\\n.jpg'", "e.png", "f.png"]
    assert [sample["__key__"] for sample in raw_samples(tmp_path / "out")] == ["00000000", "00000002"]
    assert (tmp_path / "out" / "skipped.txt").read_text().splitlines() == [f"{key}\t{why}" for key, why in report.skipped]
    again = pack(open_source(str(root)), tmp_path / "out", size=4)
    assert again.up_to_date
    assert again.skipped == report.skipped


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    root = written(tmp_path / "set" / "a.png", b"x").parent
    for channels in (None, 3):
        with pytest.raises(ValueError, match=r"set: none of its 1 images can be read \(first a.png: is no image"):
            pack(open_source(str(root)), tmp_path / "out", size=4, channels=channels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


# The folder


def test_a_data_set_that_is_there_is_up_to_date(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png")
    first = pack(open_source(str(root)), tmp_path / "out", size=4)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    second = pack(open_source(str(root)), tmp_path / "out", size=4)
    assert not first.up_to_date
    assert second.up_to_date
    assert second.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_request_is_refused_unless_it_may_overwrite(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png")
    out = tmp_path / "out"
    pack(open_source(str(root)), out, size=4)
    with pytest.raises(ValueError, match="out: was packed from another source or with other settings"):
        pack(open_source(str(root)), out, size=5)
    folder_of(root, "c.png")
    with pytest.raises(ValueError, match="out: was packed from another"):
        pack(open_source(str(root)), out, size=4)
    (out / "shard-000000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"out: holds a damaged data set.*shard-000000\.tar"):
        pack(open_source(str(root)), out, size=4)
    assert pack(open_source(str(root)), out, size=5, overwrite=True).manifest.samples == 3
    verify(out, checksums=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


def test_a_folder_with_anything_else_is_never_replaced(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"set: holds more than a packed data set \(a.png\)"):
            pack(open_source(str(root)), root, size=4, overwrite=overwrite)
    out = tmp_path / "out"
    pack(open_source(str(root)), out, size=4)
    written(out / "notes.txt", b"mine")
    assert pack(open_source(str(root)), out, size=4).up_to_date
    with pytest.raises(ValueError, match=r"holds more than a packed data set \(notes.txt\)"):
        pack(open_source(str(root)), out, size=5, overwrite=True)
    incomplete = written(tmp_path / "new.incomplete" / "thesis.txt", b"mine")
    with pytest.raises(ValueError, match=r"new\.incomplete: is in the way and holds thesis\.txt"):
        pack(open_source(str(root)), tmp_path / "new", size=4)
    assert incomplete.read_bytes() == b"mine"


def test_a_killed_packing_is_swept_up_and_an_empty_folder_taken(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png")
    written(tmp_path / "out.incomplete" / "shard-000000.tar", b"half")
    (tmp_path / "out").mkdir()
    pack(open_source(str(root)), tmp_path / "out", size=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left on device")])
def test_an_error_leaves_nothing_behind(tmp_path: Path, error: type[BaseException] | BaseException) -> None:
    root = folder_of(tmp_path / "set", *(f"{number}.png" for number in range(5)))

    def fail(done: int, _: int) -> None:
        if done == 3:
            raise error

    expected = ValueError if isinstance(error, OSError) else error
    assert isinstance(expected, type)
    with pytest.raises(expected):
        pack(open_source(str(root)), tmp_path / "out", size=4, samples_per_shard=2, progress=fail)
    pack(open_source(str(root)), tmp_path / "old", size=4)
    before = contents(tmp_path / "old")
    with pytest.raises(expected):
        pack(open_source(str(root)), tmp_path / "old", size=5, samples_per_shard=2, overwrite=True, progress=fail)
    assert contents(tmp_path / "old") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "set"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png")
    file = written(tmp_path / "file", b"mine")
    with pytest.raises(ValueError, match="file: is no folder"):
        pack(open_source(str(root)), file, size=4)
    for place in (file / "out", Path("/proc/bigan-out")):
        with pytest.raises(ValueError, match=rf"{place}: cannot be (read|written) \(.+\)$"):
            pack(open_source(str(root)), place, size=4)
    assert file.read_bytes() == b"mine"


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    source = open_source(str(folder_of(tmp_path / "set", "a.png")))
    for size in (0, (4, 0), (-1, 4), 10**6):
        with pytest.raises(ValueError, match="size: "):
            pack(source, tmp_path / "out", size=size)
    with pytest.raises(ValueError, match="channels: 2"):
        pack(source, tmp_path / "out", size=4, channels=2)
    with pytest.raises(ValueError, match="samples_per_shard: 0"):
        pack(source, tmp_path / "out", size=4, samples_per_shard=0)


def zip_of_names(path: Path, *names: str) -> Path:
    buffer = BytesIO()
    image(0).save(buffer, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, buffer.getvalue())
    return path


@pytest.mark.parametrize("name", ["../../x.png", "/etc/x.png", "a/../x.png"])
def test_a_zip_whose_names_lead_out_is_refused(tmp_path: Path, name: str) -> None:
    path = zip_of_names(tmp_path / "hostile.zip", "good.png", name)
    with pytest.raises(ValueError, match=r"hostile\.zip: member '.*x\.png' leads out of the zip"):
        open_source(str(path))


def test_names_of_a_source_reach_no_shard(tmp_path: Path) -> None:
    """A member's key is a number: dots, lengths and case that a tar or webdataset reads otherwise do no harm."""
    path = zip_of_names(tmp_path / "odd.zip", "a.b.c.png", "z" * 300 + ".png", "A.png", "a.png", "ü\u202e.png")
    assert pack(open_source(str(path)), tmp_path / "out", size=4).manifest.samples == 5
    assert [sample["__key__"] for sample in raw_samples(tmp_path / "out")] == [f"0000000{number}" for number in range(5)]


def test_packing_starts_without_torch() -> None:
    code = "import sys, bigan.data.pack, bigan.data.source; sys.exit('torch' in sys.modules or 'webdataset' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_manifest_is_plain_json(tmp_path: Path) -> None:
    item = Item("x", lambda: image(0), 0)
    pack(Source(description="d", items=[item], classes=("ä\n",), fingerprint="f"), tmp_path / "out", size=(6, 4))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["classes"] == ["ä\n"]
