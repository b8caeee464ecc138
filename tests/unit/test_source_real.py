"""Real data sets as sources, in the form in which they were got."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bigan.data.manifest import verify
from bigan.data.pack import pack
from bigan.data.sources import open_source

from .sets import pickled, pixels

DATA = Path(__file__).parents[3] / "shared" / "data"


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not at ../shared/data")
    return path


def test_mnist(tmp_path: Path) -> None:
    source = pickled(open_source(str(real("mnist")), split="t10k", limit=300), 2000)
    report = pack(source, tmp_path / "mnist", size=32)
    assert report.manifest.spec.image_shape == (1, 32, 32)
    assert report.manifest.spec.classes == tuple("0123456789")
    assert report.manifest.spec.samples == 300
    verify(tmp_path / "mnist")
    assert len(open_source(str(DATA / "mnist"))) == 60_000
    assert [item.label for item in open_source(str(DATA / "mnist")).items[:5]] == [5, 0, 4, 1, 9]


def test_cifar_10_as_jpeg() -> None:
    source = open_source(str(real("cifar10_jpg/test.zip")))
    assert len(source) == 1000
    assert source.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert np.bincount([item.label or 0 for item in source]).tolist() == [100] * 10
    assert {pixels(item).shape for item in source.items[::100]} == {(32, 32, 3)}
    pickled(open_source(str(DATA / "cifar10_jpg/test.zip"), limit=20))


def test_omniglots_alphabets_are_its_classes() -> None:
    source = open_source(str(real("omniglot/images_background_small1.zip")))
    assert len(source) == 2720
    assert len(source.classes) == 5
    assert "Balinese" in source.classes
    assert pixels(source.items[1000]).shape == (105, 105)


def test_orl_faces_and_their_readme() -> None:
    source = open_source(str(real("orl_faces/orl_faces.zip")))
    assert (len(source), len(source.classes)) == (400, 40)
    assert source.others == ("README",)
    assert pixels(source.items[0]).shape == (28, 23)


def test_coil_20_is_flat() -> None:
    source = open_source(str(real("coil20/coil20.zip")))
    assert (len(source), source.classes) == (1000, ())
    assert pixels(source.items[0]).shape == (32, 32)


def test_bsds500_comes_in_splits() -> None:
    with pytest.raises(ValueError, match="test and train are splits, not classes; give one of these folders"):
        open_source(str(real("bsds500")))
    source = open_source(str(DATA / "bsds500" / "train"))
    assert (len(source), source.classes) == (45, ())
    assert {item.load().size for item in source.items[:5]} <= {(481, 321), (321, 481)}


def test_a_real_set_is_the_same_from_folder_zip_and_tar(tmp_path: Path) -> None:
    with zipfile.ZipFile(real("orl_faces/orl_faces.zip")) as archive:
        archive.extractall(tmp_path / "orl_faces")
    shutil.make_archive(str(tmp_path / "orl_faces"), "gztar", tmp_path / "orl_faces")
    from_zip = open_source(str(DATA / "orl_faces" / "orl_faces.zip"), limit=40)
    for path in (tmp_path / "orl_faces", tmp_path / "orl_faces.tar.gz"):
        source = open_source(str(path), limit=40)
        assert [(item.key, item.label) for item in source] == [(item.key, item.label) for item in from_zip]
        for item, other in zip(source, from_zip, strict=True):
            assert (pixels(item) == pixels(other)).all()
