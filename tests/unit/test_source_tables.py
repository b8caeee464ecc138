"""Lists of images and parquet files as sources."""

import json
import math
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bigan.data.sources import open_source

from .pictures import folder_of, written
from .sets import is_picture, pickled, pixels, png

# CSV


def table(folder: Path, text: str, name: str = "list.csv") -> Path:
    folder_of(folder, "im/0.png", "im/1.png", "im/2.png")
    return written(folder / name, text.encode())


def test_a_table_gives_labels_attributes_and_captions(tmp_path: Path) -> None:
    text = 'path,Smiling,label,caption,age\nim/2.png,1,dog,"a dog, sitting",3.5\nim/0.png,0,cat,,-1e3\n\nim/1.png,0,dog,é,7\n'
    source = pickled(open_source(str(table(tmp_path, text))))
    assert source.description == "table list.csv"
    assert [item.key for item in source] == ["im/2.png", "im/0.png", "im/1.png"]
    assert all(is_picture(item, seed) for item, seed in zip(source, (2, 0, 1), strict=True))
    assert source.classes == ("cat", "dog")
    assert [item.label for item in source] == [1, 0, 1]
    assert source.attributes == ("Smiling", "age")
    assert [item.attributes for item in source] == [(1, 3.5), (0, -1000), (0, 7)]
    assert [item.caption for item in source] == ["a dog, sitting", "", "é"]


@pytest.mark.parametrize("name", ["file", "filename", "Path", "file_name"])
def test_a_table_may_be_tabs_and_paths_alone(tmp_path: Path, name: str) -> None:
    source = open_source(str(table(tmp_path, f"\ufeff{name}\r\nim/0.png\r\nim/1.png\r\n", "list.tsv")))
    assert (source.classes, source.attributes) == ((), ())
    assert [(item.key, *item[2:5]) for item in source] == [("im/0.png", None, None, None), ("im/1.png", None, None, None)]
    source = open_source(str(table(tmp_path, f"{name}\tclass\ttext\nim/0.png\t3\ta, b\nim/1.png\t0\tc\n", "list.tsv")))
    assert source.classes == ("0", "1", "2", "3")
    assert [item[2:5] for item in source] == [(3, None, "a, b"), (0, None, "c")]


def test_a_tables_missing_image_fails_alone_and_a_changed_cell_is_another_source(tmp_path: Path) -> None:
    one = open_source(str(table(tmp_path, "path,label\nim/0.png,a\nim/nowhere.png,b\nim/1.png,a\n")))
    assert is_picture(one.items[2], 1)
    with pytest.raises(FileNotFoundError):
        one.items[1].load()
    two = open_source(str(table(tmp_path, "path,label\nim/0.png,a\nim/nowhere.png,b\nim/1.png,b\n")))
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a row of column names"),
        ("path\n", "needs a row of column names"),
        ("label\n1\n", "has no column path or file"),
        ("path,label\nim/0.png,1\nim/1.png\n", "row 3 has 1 cells, the first row 2"),
        ("path,label\nim/0.png,1,2\n", "row 2 has 3 cells, the first row 2"),
        ("path,age\nim/0.png,1\nim/1.png,old\n", "row 3: age is 'old'"),
        ("path,age\nim/0.png,\n", "row 2: age is ''"),
        ("path,age\nim/0.png,nan\n", "row 2: age is 'nan'"),
        ("path,age\nim/0.png,1e999\n", "row 2: age is '1e999'"),
        ("path,label\nim/0.png,\n", "row 2: has no label"),
        ("path,label\nim/0.png,99999999999999999999\n", "label 9+ is above"),
        ("path\n../im/0.png\n", r"row 2: '\.\./im/0\.png' leads out"),
        ("path\nim/0.png\n/etc/passwd\n", "row 3: '/etc/passwd' leads out"),
        ("path\nim/../../x.png\n", "row 2: .* leads out"),
        ('path,age\n"",1\n', "row 2: '' leads out"),
        ("path,file\nim/0.png,im/1.png\n", "has the columns path and file, which mean the same"),
        ("path,age,age\nim/0.png,1,1\n", r"names no column, or one twice \('age'\)"),
        ("path,\nim/0.png,1\n", r"names no column, or one twice \(''\)"),
        ("path\nx.png\ny.png\n", "none of its 2 images is there"),
        ('path\n"im/0.png\n', "cannot be read as a table"),
        ("path\nim/\ud8000.png\n", "cannot be read as a table"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    folder_of(tmp_path, "im/0.png", "im/1.png")
    path = written(tmp_path / "list.csv", text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=rf"list\.csv: .*{message}") as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)


# Parquet


def parquet(path: Path, *, rows: Sequence[int] = range(5), names: Sequence[str] = ("cat", "dog"), **columns: Any) -> Path:
    """Rows as Hugging Face writes them, in row groups of two; `columns` replace some of them, or leave them out (None)."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, the extra `parquet`, is not installed")
    writer = pytest.importorskip("pyarrow.parquet")
    base = {
        "image": [{"bytes": png(row), "path": f"{row}.png"} for row in rows],
        "label": [row % 2 for row in rows],
        "caption": [f"number {row}" for row in rows],
        "Smiling": [row % 3 == 0 for row in rows],
        "age": [row / 2 for row in rows],
        "url": ["https://"] * len(rows),
    }
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
    made = pyarrow.table({name: column for name, column in (base | columns).items() if column is not None})
    made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(made, path, row_group_size=2)
    return path


def test_parquet_files_of_hugging_face(tmp_path: Path) -> None:
    for shard in range(2):
        name = f"data/train-{shard:05d}-of-00002.parquet"
        parquet(tmp_path / "set" / name, rows=range(5 * shard, 5 * shard + 5))
    parquet(tmp_path / "set" / "data" / "validation-00000-of-00001.parquet", rows=[20, 21])
    written(tmp_path / "set" / "README.md", b"x")
    source = pickled(open_source(str(tmp_path / "set")))
    assert source.classes == ("cat", "dog")
    assert source.attributes == ("Smiling", "age")
    assert source.items[7].key == "data/train-00001-of-00002.parquet/000002"
    for row, item in enumerate(source):
        assert is_picture(item, row)
        assert item[2:5] == (row % 2, (row % 3 == 0, row / 2), f"number {row}")
    for item in reversed(source.items):
        assert is_picture(item, source.items.index(item))
    for split in ("validation", "val"):
        assert [is_picture(item, 20 + row) for row, item in enumerate(open_source(str(tmp_path / "set"), split=split))] == [
            True,
            True,
        ]
    with pytest.raises(ValueError, match="split 'test' is not among its parquet files; it has train, validation"):
        open_source(str(tmp_path / "set"), split="test")


def test_one_parquet_file_and_bare_bytes(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", image=[png(row) for row in range(5)], label=["b", "a", "c", "a", "b"], age=None)
    source = pickled(open_source(str(path)))
    assert source.classes == ("a", "b", "c")
    assert [item.label for item in source] == [1, 0, 2, 0, 1]
    assert source.attributes == ("Smiling",)
    with pytest.raises(ValueError, match="is one file; give its folder"):
        open_source(str(path), split="train")
    unknown = open_source(str(parquet(tmp_path / "y.parquet", label=[-1] * 5, caption=None, Smiling=None, age=None)))
    assert (unknown.classes, unknown.attributes) == ((), ())
    assert [item[2:5] for item in unknown] == [(None, None, None)] * 5
    bare = open_source(str(parquet(tmp_path / "z.parquet", label=None, caption=None, Smiling=None, age=None)))
    assert [item[2:5] for item in bare] == [(None, None, None)] * 5


def test_only_the_wanted_row_group_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(parquet(tmp_path / "x.parquet")))
    import pyarrow.parquet

    read: list[tuple[int, object]] = []
    plain = pyarrow.parquet.ParquetFile.read_row_group

    def noted(self: Any, group: int, columns: object = None, **options: Any) -> Any:
        read.append((group, columns))
        return plain(self, group, columns=columns, **options)  # pyright: ignore

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", noted)
    for row in (4, 2, 3, 2):
        assert is_picture(source.items[row], row)
    assert read == [(2, ["image"]), (1, ["image"])]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"label": [0, 1, 2, 0, 1]}, "has no label, or one that is none of the classes"),
        ({"label": [0, 1, None, 0, 1]}, "has no label"),
        ({"caption": ["a", "b", None, "c", "d"]}, "has no caption"),
        ({"age": [0.0, 1.0, None, 2.0, 3.0]}, "has no number 'age'"),
        ({"age": [0.0, 1.0, math.inf, 2.0, 3.0]}, "has no number 'age'"),
        ({"image": [png(0), png(1), None, png(3), png(4)]}, "has no bytes"),
        ({"image": [png(0), png(1), b"no image", png(3), png(4)]}, "cannot identify"),
    ],
)
def test_a_row_that_lacks_something_fails_alone(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    source = open_source(str(parquet(tmp_path / "x.parquet", **columns)))
    for row, item in enumerate(source):
        if row == 2:
            with pytest.raises((ValueError, OSError), match=reason):
                item.load()
        else:
            assert is_picture(item, row)


def damaged(path: Path, start: int, stop: int) -> Path:
    content = bytearray(path.read_bytes())
    content[start:stop] = b"\xff" * len(content[start:stop])
    return written(path, bytes(content))


def two_kinds(root: Path) -> Path:
    parquet(root / "train-00000-of-00002.parquet")
    parquet(root / "train-00001-of-00002.parquet", age=None)
    return root


def two_sets(root: Path) -> Path:
    parquet(root / "data" / "train.parquet")
    parquet(root / "more" / "train.parquet")
    return root


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: parquet(tmp / "x.parquet", image=None), r"x\.parquet: .*no column of images"),
        (lambda tmp: parquet(tmp / "x.parquet", image=None, a=[b"x"] * 5, b=[b"y"] * 5), r"several columns of images \(a, b\)"),
        (lambda tmp: written(tmp / "x.parquet", b"no parquet"), r"x\.parquet: cannot be read as parquet"),
        (lambda tmp: damaged(parquet(tmp / "x.parquet"), -200, -10), r"x\.parquet: cannot be read as parquet"),
        (lambda tmp: parquet(tmp / "x.parquet", rows=[]), r"x\.parquet: "),
        (lambda tmp: two_kinds(tmp / "set"), "00001-of-00002.parquet: has other columns"),
        (lambda tmp: two_sets(tmp / "set"), "set: has parquet files in data and more"),
    ],
)
def test_a_wrong_parquet_is_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_without_pyarrow_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.parquet", b"PAR1")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pyarrow, which is not installed; pip install 'bigan\[parquet\]'"):
        open_source(str(path))


def test_parquet_loads_in_a_spawned_process(tmp_path: Path) -> None:
    items = open_source(str(parquet(tmp_path / "x.parquet"))).items
    here = [pixels(item).tobytes() for item in items]  # with the file open here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert [pool.submit(item.load).result().tobytes() for item in items] == here
