"""Shards that others wrote: by webdataset and by tar, indexed and read here; and ours, read by plain webdataset."""

import io
import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigan.data.check import check
from bigan.data.foreign import index_shards
from bigan.data.stream import Shards

from .tars import encoded, write_tar

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 6, 4, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(pixels) for pixels in PIXELS]


def by_webdataset(folder: Path, samples: list[dict[str, Any]], each: int = 5) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset as wds

        folder.mkdir()
        for number, start in enumerate(range(0, len(samples), each)):
            with wds.TarWriter(str(folder / f"train-{number:03d}.tar")) as writer:  # pyright: ignore
                for sample in samples[start : start + each]:
                    writer.write(sample)
    return folder


def read(folder: Path) -> dict[str, np.ndarray]:
    """Field → values, in the order of the shards."""
    with Shards(path=str(folder)).open(0) as stream:
        batch = stream.read(0, stream.spec.samples)
        order = stream._order.samples_at(0, stream.spec.samples)  # pyright: ignore[reportPrivateUsage]
    return {name: tensor.numpy()[np.argsort(order)] for name, tensor in batch.fields.items()}


def test_what_webdataset_wrote(tmp_path: Path) -> None:
    samples = [
        {
            "__key__": f"sub/{number:04d}",
            "png": encoded(image),
            "cls": number % 3,
            "txt": f"picture {number} é",
            "json": {"x": number, "y": 0.5, "name": "n"},
            "mask.png": encoded(image.convert("L")),
            "pose.npy": np.full((2, 2), number, np.float32),
        }
        for number, image in enumerate(IMAGES)
    ]
    folder = by_webdataset(tmp_path / "wds", samples)
    manifest, notes = index_shards(folder, attribute_names=("y", "x"), classes=("a", "b", "c"))
    assert notes == []
    assert [entry.samples for entry in manifest.shards] == [5, 5, 2]
    assert manifest.spec.classes == ("a", "b", "c")
    assert check(folder)[1] == []
    fields = read(folder)
    assert (fields["images"].transpose(0, 2, 3, 1) == PIXELS).all()
    assert fields["labels"].tolist() == [number % 3 for number in range(12)]
    assert fields["attributes"].tolist() == [[0.5, number] for number in range(12)]
    assert bytes(fields["captions"][3]).rstrip(b"\0").decode() == "picture 3 é"
    assert (fields["mask"][:, 0] == np.stack([np.asarray(image.convert("L")) for image in IMAGES])).all()
    assert fields["pose"][7].tolist() == [[7, 7], [7, 7]]


def test_what_tar_wrote(tmp_path: Path) -> None:
    for number, image in enumerate(IMAGES):
        (tmp_path / "set" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "deep" / f"{number:02d}.jpg").write_bytes(encoded(image, "JPEG"))
    (tmp_path / "out").mkdir()
    for kind in ("ustar", "gnu", "pax"):
        subprocess.run(
            ["tar", "-C", str(tmp_path), f"--format={kind}", "-cf", f"out/{kind}.tar", "set"], cwd=tmp_path, check=True
        )
    manifest, _ = index_shards(tmp_path / "out")
    assert manifest.spec.samples == 36
    assert manifest.spec.image_shape == (3, 6, 4)
    assert manifest.spec.classes == ()
    images = read(tmp_path / "out")["images"]
    assert (images[:12] == images[12:24]).all()
    assert (images[:12] == images[24:]).all()


def test_json_of_others_is_left_alone_unless_it_is_asked_for(tmp_path: Path) -> None:
    samples = [{"__key__": str(n), "jpg": encoded(image, "JPEG"), "json": {"url": "x"}} for n, image in enumerate(IMAGES)]
    folder = by_webdataset(tmp_path / "wds", samples)
    with pytest.raises(ValueError, match=r"train-000\.tar: 0\.json: width is None, no finite number; name the attributes"):
        index_shards(folder, attribute_names=("width",))
    manifest, _ = index_shards(folder)
    assert manifest.ignored == ("json",)
    assert set(read(folder)) == {"images"}
    assert check(folder)[1] == []


def test_members_that_are_not_read_have_to_be_named(tmp_path: Path) -> None:
    members = [("a.png", encoded(IMAGES[0])), ("a.pyd", b"import os"), ("b.png", encoded(IMAGES[1])), ("b.pyd", b"")]
    write_tar(tmp_path / "s.tar", members)
    with pytest.raises(ValueError, match=r"s\.tar: a\.pyd: a member \.pyd is not read; name it with --ignore pyd"):
        index_shards(tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    assert index_shards(tmp_path, ignore=["pyd"])[0].ignored == ("pyd",)
    assert len(read(tmp_path)["images"]) == 2


def test_samples_unlike_the_others_are_told(tmp_path: Path) -> None:
    members = [(f"{n}.png", encoded(image if n else image.resize((9, 9)))) for n, image in enumerate(IMAGES)]
    write_tar(tmp_path / "s.tar", [*members, ("x.cls", b"4")])
    manifest, notes = index_shards(tmp_path)
    assert notes == [
        "2 of 13 samples have no images of [3, 6, 4], and will count as bad",
        "12 of 13 samples have no labels, and will count as bad",
        "the labels go up to 4, but only 1 of them occur; name the --classes",
    ]
    assert manifest.spec.classes == ("0", "1", "2", "3", "4")
    assert len(check(tmp_path)[1]) == 13


def test_labels_that_are_none_are_told(tmp_path: Path) -> None:
    """One absurd number must not make a thousand million classes."""
    members = [member for n, image in enumerate(IMAGES) for member in ((f"{n}.png", encoded(image)), (f"{n}.cls", b"1"))]
    members[-1], members[-3] = ("11.cls", b"999999999"), ("10.cls", b"cat")
    write_tar(tmp_path / "s.tar", members)
    manifest, notes = index_shards(tmp_path)
    assert manifest.spec.classes == ("0", "1")
    assert len(notes) == 1
    assert notes[0].startswith("2 of 12 samples have a .cls that is no class number, and will count as bad (")


def test_the_sample_that_is_named_is_the_one(tmp_path: Path) -> None:
    members = [(f"{n:02d}.png", encoded(image)) for n, image in enumerate(IMAGES)]
    members.insert(8, ("07.json", b'{"x": "y"}'))
    write_tar(tmp_path / "s.tar", members)
    with pytest.raises(ValueError, match=r"s\.tar: 07\.json: x is y, no finite number"):
        index_shards(tmp_path, attribute_names=("x",))


def test_a_file_of_the_users_is_not_overwritten(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", [("a.png", encoded(IMAGES[0]))])
    (tmp_path / "s.index.json").write_text("mine")
    with pytest.raises(ValueError, match=r"s\.index\.json: is in the way"):
        index_shards(tmp_path)
    assert (tmp_path / "s.index.json").read_text() == "mine"


def test_two_processes_find_the_same(tmp_path: Path) -> None:
    samples: list[dict[str, Any]] = [{"__key__": str(n), "png": encoded(image), "cls": n} for n, image in enumerate(IMAGES)]
    one, two = by_webdataset(tmp_path / "set", samples), by_webdataset(tmp_path / "two", samples)
    ticks: list[tuple[int, int]] = []
    assert index_shards(one, progress=lambda *done: ticks.append(done))[0].spec == index_shards(two, workers=2)[0].spec
    assert ticks == [(1, 3), (2, 3), (3, 3)]
    for path in one.glob("*.index.json"):
        assert path.read_bytes() == (two / path.name).read_bytes()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.tif", b"x")], r"a member \.tif is not read"),
        ([("a.png", b"x")], "none of its images is grey or RGB"),
        ([("a.png", encoded(IMAGES[0].convert("RGBA")))], "none of its images is grey or RGB"),
        ([("../a.png", b"x")], "is no name of the form"),
        ([("a.Labels.npy", b"x")], "none of its labels is"),
        ([("a.cls", b"cat")], r"a\.cls b'cat': is no class number"),
        ([("a.txt", b"")], "image_shape: is missing"),
    ],
)
def test_what_cannot_be_indexed_is_named(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "s.tar", members)
    with pytest.raises(ValueError, match=message):
        index_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["s.tar"]


def test_a_folder_that_is_none_or_is_indexed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder with"):
        index_shards(tmp_path / "none")
    with pytest.raises(ValueError, match="is no folder with"):
        index_shards(tmp_path)
    write_tar(tmp_path / "s.tar", [("a.png", encoded(IMAGES[0]))])
    index_shards(tmp_path)
    with pytest.raises(ValueError, match=r"has a manifest\.json already"):
        index_shards(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["source"] == f"shards {tmp_path.name}"
    assert io.BytesIO((tmp_path / "s.index.json").read_bytes()).read(1) == b"{"
