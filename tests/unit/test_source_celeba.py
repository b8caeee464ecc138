"""CelebA and CelebA-HQ in their published layouts."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bigan.data.pack import pack
from bigan.data.sources import open_source

from .pictures import raw_samples, written
from .sets import Wants, attribute_list, celeba, celeba_hq, is_picture, pickled, same_image


def test_celeba_as_published(tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba")
    source = pickled(open_source(str(root)))
    assert source.description == "CelebA"
    assert source.classes == ()
    assert source.attributes == ("Bald", "Smiling", "Young")
    assert [item.key for item in source] == [f"{number:06d}.jpg" for number in range(1, 7)]
    for number, item in enumerate(source):
        assert is_picture(item, number, "RGB")
        assert item[2:5] == (None, tuple(float(number >> bit & 1) for bit in range(3)), None)
    for split, keys in (("train", ["1", "2", "3", "4"]), ("val", ["5"]), ("test", ["6"])):
        part = open_source(str(root), split=split)
        assert [item.key.strip("0").removesuffix(".jpg") for item in part] == keys
        assert part.fingerprint != source.fingerprint
    packed = pack(source, tmp_path / "out", size=(6, 4))
    assert packed.manifest.spec.samples == 6
    assert len(raw_samples(tmp_path / "out")) == 6


def test_celeba_in_its_folders_and_its_zip(tmp_path: Path) -> None:
    root, plain = tmp_path / "CelebA", celeba(tmp_path / "plain")
    for file, folder in (("list_attr_celeba.txt", "Anno"), ("list_eval_partition.txt", "Eval")):
        written(root / folder / file, (plain / file).read_bytes())
    (root / "Img").mkdir()
    with zipfile.ZipFile(root / "Img" / "img_align_celeba.zip", "w") as archive:
        for file in sorted((plain / "img_align_celeba").iterdir(), reverse=True):
            archive.write(file, f"img_align_celeba/{file.name}")
    for split in (None, "val"):
        source, expected = open_source(str(root), split=split), open_source(str(plain), split=split)
        assert [item[:1] + item[2:5] for item in pickled(source)] == [item[:1] + item[2:5] for item in expected]
        assert (np.asarray(source.items[0].load()) == np.asarray(expected.items[0].load())).all()


def test_celeba_hq_with_attributes(tmp_path: Path) -> None:
    source = pickled(open_source(str(celeba_hq(tmp_path / "CelebAMask-HQ"))))
    assert [item.key for item in source] == [f"{number}.jpg" for number in range(12)]  # not 0, 1, 10, 11
    for number, item in enumerate(source):
        assert is_picture(item, number, "RGB")
        assert item.attributes == tuple(float(number >> bit & 1) for bit in range(3))
    with pytest.raises(ValueError, match="CelebAMask-HQ: has no split 'train'; CelebA-HQ has none"):
        open_source(str(tmp_path / "CelebAMask-HQ"), split="train")


def without(root: Path, name: str) -> Path:
    path = root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return root


def listed(root: Path, content: bytes) -> Path:
    written(root / "list_attr_celeba.txt", content)
    return root


def parted(root: Path, content: bytes) -> Path:
    written(root / "list_eval_partition.txt", content)
    return root


NAMES = [f"{number + 1:06d}.jpg" for number in range(6)]


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (lambda root: without(root, "img_align_celeba"), None, "has list_attr_celeba.txt and no img_align_celeba"),
        (
            lambda root: without(root, "img_align_celeba/000003.jpg"),
            None,
            r"list_attr_celeba.txt: has 1 names .*\(000003.jpg\)",
        ),
        (lambda root: listed(root, attribute_list(NAMES[:4])), None, r"img_align_celeba: has 2 names .*\(000005.jpg\)"),
        (lambda root: listed(root, attribute_list(NAMES)[:-20]), None, "list_attr_celeba.txt: line 8 is not"),
        (lambda root: listed(root, attribute_list(NAMES).replace(b"-1", b"2")), None, "line 3 is not a new image and 3 times"),
        (lambda root: listed(root, attribute_list(NAMES).replace(b"6\n", b"7\n")), None, "does not begin with the count"),
        (lambda root: listed(root, attribute_list(NAMES).replace(b"Young", b"Bald")), None, "does not begin with the count"),
        (lambda root: listed(root, attribute_list([*NAMES[:5], NAMES[0]])), None, "line 8 is not a new image"),
        (lambda root: listed(root, b"\xff\xfe"), None, "list_attr_celeba.txt: cannot be read"),
        (lambda root: listed(root, b""), None, "does not begin with the count"),
        (lambda root: without(root, "list_eval_partition.txt"), "val", "no split 'val'; CelebA needs list_eval_partition.txt"),
        (lambda root: root, "t10k", "no split 't10k'; CelebA needs list_eval_partition.txt for train, val, test"),
        (lambda root: parted(root, b"000001.jpg 3\n"), "val", "list_eval_partition.txt: line 1 is not"),
        (lambda root: parted(root, b"000001.jpg 1\n"), "val", "list_eval_partition.txt: has no 000002.jpg"),
        (lambda root: parted(root, "".join(f"{n} 0\n" for n in NAMES).encode()), "val", "has no images of split 'val'"),
    ],
)
def test_lists_and_images_that_do_not_match_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], split: str | None, message: str
) -> None:
    root = make(celeba(tmp_path / "celeba"))
    with pytest.raises(ValueError, match=message) as caught:
        open_source(str(root), split=split)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_celeba_hq_as_arrays(tmp_path: Path) -> None:
    pictures = [np.random.default_rng(seed).integers(0, 256, (3, 6, 4), dtype=np.uint8) for seed in range(3)]
    for number, array in enumerate([pictures[0][None], pictures[1], np.asfortranarray(pictures[2])]):
        np.save(tmp_path / f"imgHQ{number:05d}.npy", array)
    written(tmp_path / "image_list.txt", b"x")
    source = pickled(open_source(str(tmp_path)))
    assert [item.key for item in source] == [f"imgHQ{number:05d}.npy" for number in range(3)]
    assert all(same_image(item, array.transpose(1, 2, 0)) for item, array in zip(source, pictures, strict=True))
    assert source.others == ("image_list.txt",)


def test_an_array_that_is_no_image_fails_alone(tmp_path: Path) -> None:
    good = np.zeros((3, 2, 2), np.uint8)
    np.save(tmp_path / "imgHQ00000.npy", good)
    wrong = [
        np.array([Wants(os.system, f"touch {tmp_path / 'ran'}")], dtype=object),
        good.astype(np.float32),
        good[:1],
        np.zeros((2, 3, 2, 2), np.uint8),
        np.zeros((3, 0, 2), np.uint8),
    ]
    for number, array in enumerate(wrong, 1):
        np.save(tmp_path / f"imgHQ{number:05d}.npy", array, allow_pickle=True)
    whole = (tmp_path / "imgHQ00000.npy").read_bytes()
    (tmp_path / "imgHQ00010.npy").symlink_to(tmp_path / "nowhere")
    more = [whole[:-1], whole.replace(b"(3, 2, 2)", b"(3, 99999999, 99999)"), b"", pickle.dumps(good)]
    for number, content in enumerate(more, 1 + len(wrong)):
        written(tmp_path / f"imgHQ{number:05d}.npy", content)
    first, *others = open_source(str(tmp_path))
    assert first.load().size == (2, 2)
    assert len(others) == 10
    for item in others:
        with pytest.raises((ValueError, OSError)):
            item.load()
    assert not (tmp_path / "ran").exists()
