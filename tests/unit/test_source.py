"""What a user has, as `bigan pack` reads it: folders, zips, digits, idx files."""

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigan.data.pack import pack
from bigan.data.sources import open_source

from .idx import write_idx
from .pictures import folder_of, image, raw_samples, written
from .sets import pickled


def test_sub_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "dog/1.png", "cat/2.png", "cat/deep/3.JPG", "cat/1.webp", "bird/x.bmp")
    source = open_source(str(root))
    assert source.classes == ("bird", "cat", "dog")
    listing = [(key, label) for key, _, label, *_ in source]
    assert listing == [("bird/x.bmp", 0), ("cat/1.webp", 1), ("cat/2.png", 1), ("cat/deep/3.JPG", 1), ("dog/1.png", 2)]
    assert source.description == "folder pets"
    assert source.items[2].load().size == (4, 6)


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    for root in (folder_of(tmp_path / "flat", "b.png", "a.png"), folder_of(tmp_path / "wrapped", "all/b.png", "all/a.png")):
        source = open_source(str(root))
        assert source.classes == ()
        assert [Path(key).name for key, _, label, *_ in source if label is None] == ["a.png", "b.png"]


def test_what_operating_systems_add_is_left_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a/1.png", "a/._1.png", "b/2.png", ".thumbs/1.png", "__MACOSX/a/1.png")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    assert [key for key, *_ in open_source(str(root))] == ["a/1.png", "b/2.png"]


def test_files_of_other_suffixes_are_listed(tmp_path: Path) -> None:
    names = ("a/1.png", "a/2.GIF", "b/3.jfif", "b/4.ppm", "b/5.pgm")
    root = folder_of(tmp_path / "set", "a/1.png")
    for name, kind in zip(names[1:], ("GIF", "JPEG", "PPM", "PPM"), strict=True):
        (root / name).parent.mkdir(exist_ok=True)
        image(0).save(root / name, kind, **({"save_all": True, "append_images": [image(1)]} if kind == "GIF" else {}))
    for name in ("a/scan.avif", "b/noext", "readme.md", "b/tab\t.txt", ".hidden", "a/Thumbs.db", "desktop.ini"):
        written(root / name, b"?")
    (root / "b" / "nowhere.txt").symlink_to(root / "nowhere")
    others = ("a/scan.avif", "b/noext", "b/tab\t.txt", "readme.md")
    for path in (root, zip_of(root, tmp_path / "set.zip", skip="nowhere.txt")):
        source = open_source(str(path))
        assert tuple(item.key for item in source) == names
        assert (np.asarray(source.items[1].load().convert("L")) == np.asarray(image(0))).all()  # the first frame
        assert source.others == others
        report = pack(source, tmp_path / f"out-{path.name}", size=4)
        assert (report.manifest.spec.samples, report.manifest.skipped) == (5, 4)
        assert report.skipped == tuple((repr(n) if "\t" in n else n, "suffix not read") for n in others)
        assert pack(source, tmp_path / f"out-{path.name}", size=4).skipped == report.skipped
    before = open_source(str(root)).fingerprint
    written(root / "more.txt", b"?")
    assert open_source(str(root)).fingerprint != before  # or skipped.txt would lack it


def test_a_data_set_below_its_source_is_no_part_of_it(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png")
    pack(open_source(str(root)), root / "packed", size=4)
    assert open_source(str(root)).others == ()
    assert pack(open_source(str(root)), root / "packed", size=4).up_to_date


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a/1.png")
    folder_of(tmp_path / "elsewhere", "2.png")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    assert [key for key, *_ in open_source(str(root))] == ["a/1.png", "b/2.png"]


def zip_of(folder: Path, path: Path, prefix: str = "", skip: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.name == skip:
                continue
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
    packed = pack(source, tmp_path / "digits", size=8, keep_order=True)
    assert packed.manifest.spec.image_shape == (1, 8, 8)
    assert [shard.samples for shard in packed.manifest.shards] == [1000, 797]
    samples = raw_samples(tmp_path / "digits")
    assert [int(sample["cls"]) for sample in samples] == [item.label for item in source]
    assert (np.asarray(Image.open(BytesIO(samples[5]["png"]))) == stack[5]).all()


def idx_files(folder: Path, split: str, count: int = 5, *, zipped: bool = False) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(count).integers(0, 256, (count, 3, 2), dtype=np.uint8)
    write_idx(folder, split, images, (np.arange(count) % 3).astype(np.uint8), zipped=zipped)
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: tmp / "nowhere", "nowhere: no such folder"),
        (lambda tmp: written(tmp / "empty" / "readme.txt", b"").parent, "empty: has no images"),
        (lambda tmp: written(tmp / "avif" / "a.avif", b"").parent, "avif: has no images"),
        (lambda tmp: written(tmp / "notes.txt", b"hello"), "notes.txt: is no folder, zip"),
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


def test_the_digits_and_idx_files_pickle_light(tmp_path: Path) -> None:
    pickled(open_source("digits", limit=20))
    idx_files(tmp_path / "idx", "train")
    pickled(open_source(str(tmp_path / "idx")))
    root = folder_of(tmp_path / "folder", "a.png")
    pickled(open_source(str(root)))
