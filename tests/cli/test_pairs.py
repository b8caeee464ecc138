"""Pairs: two halves of a file, two sources of one naming; from the packing to the stream."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigan.data.fit import Encoding
from bigan.data.pack import pack
from bigan.data.plan import Plan
from bigan.data.sources import Source, open_source
from bigan.data.stream import Shards

from ..unit.packed import decoded
from ..unit.pictures import folder_of, image, raw_samples, written
from .launch import bigan, refused_and_untouched


def sides(root: Path, count: int = 6, *, height: int = 6, width: int = 8, mode: str = "RGB") -> Path:
    """Files of two halves; the left one is all even levels, the right one odd."""
    for number in range(count):
        pixels = np.asarray(image(number, height, width, mode)) & 0xFE
        pixels[:, width // 2 :] |= 1
        (root / f"{number}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / f"{number}.png")
    return root


def two_folders(root: Path, count: int = 5) -> tuple[Path, Path]:
    photos = folder_of(root / "photos", *(f"{number}.png" for number in range(count)))
    folder_of(root / "maps", *(f"{number}.bmp" for number in reversed(range(count))))
    return photos, root / "maps"


def packed(source: Source, out: Path, size: tuple[int, int] = (6, 4)) -> Path:
    return pack(source, out, size=size, samples_per_shard=4).folder


@pytest.mark.parametrize("left", ["images", "source"])
def test_halves_are_told_apart(tmp_path: Path, left: str) -> None:
    root = sides(tmp_path / "set")
    source = pickle.loads(pickle.dumps(open_source(str(root), halves=left)))  # as a worker is given it
    folder = packed(source, tmp_path / "out")
    assert {kind for sample in raw_samples(folder) for kind in sample if kind[0] != "_"} == {"png", "source.png"}
    keys, rows = decoded(folder)
    assert sorted(keys) == [*range(6)]
    assert (rows["images"] % 2 == (left != "images")).all()
    assert (rows["source"] % 2 == (left != "source")).all()
    for row, key in enumerate(keys):
        whole = np.asarray(Image.open(root / f"{key}.png"))
        parts = ("images", "source") if left == "images" else ("source", "images")
        assert (np.concatenate([rows[part][row] for part in parts], 1) == whole).all()


def test_partners_have_one_name(tmp_path: Path) -> None:
    photos, maps = two_folders(tmp_path)
    folder = packed(open_source(str(photos), partners=str(maps)), tmp_path / "out")
    keys, rows = decoded(folder)
    for row, key in enumerate(keys):
        assert (rows["images"][row, :, :, 0] == np.asarray(Image.open(photos / f"{key}.png"))).all()
        assert (rows["source"][row, :, :, 0] == np.asarray(Image.open(maps / f"{key}.bmp"))).all()


def test_a_stream_gives_both_mirrored_together(tmp_path: Path) -> None:
    """The halves of one image are each other's mirror image, and stay so whether they are mirrored or not."""
    (tmp_path / "set").mkdir()
    for number in range(8):
        half = np.asarray(image(number, 6, 4, "RGB"))
        Image.fromarray(np.concatenate([half, half[:, ::-1]], 1)).save(tmp_path / "set" / f"{number}.png")
    folder = packed(open_source(str(tmp_path / "set"), halves="images"), tmp_path / "out")
    with Shards(path=str(folder), flip=True).open(seed=3) as stream:
        assert stream.spec.image_shapes == {"images": (3, 6, 4), "source": (3, 6, 4)}
        whole = stream.read(0, 40)
        assert torch.equal(whole["images"], whole["source"].flip(3))
        seen = {bytes(row.numpy().tobytes()) for row in whole["images"]}
        assert len(seen) > 8  # some are mirrored, and some not
    with Shards(path=str(folder), flip=True).open(seed=3) as resumed:
        for name in ("images", "source"):
            assert torch.equal(resumed.read(17, 9)[name], whole[name][17:26])
    moved = whole.to(torch.device("cpu"))
    assert moved["source"].dtype == torch.float32
    assert moved["source"].abs().max() <= 1


def test_a_limit_comes_after_the_pairing(tmp_path: Path) -> None:
    photos, maps = two_folders(tmp_path)
    source = open_source(str(photos), partners=str(maps), limit=2)
    assert [item.key for item in source] == ["0.png", "2.png"]
    assert packed(source, tmp_path / "out").is_dir()


def test_colour_on_either_side_counts(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", "0.png")
    folder_of(tmp_path / "maps", "0.png", mode="RGB")
    report = pack(open_source(str(tmp_path / "photos"), partners=str(tmp_path / "maps")), tmp_path / "out", size=4)
    assert report.manifest.spec.image_shapes == {"images": (3, 4, 4), "source": (3, 4, 4)}


def test_what_cannot_be_read_leaves_out_the_pair(tmp_path: Path) -> None:
    photos, maps = two_folders(tmp_path)
    written(maps / "3.bmp", b"nothing")
    report = pack(open_source(str(photos), partners=str(maps)), tmp_path / "out", size=4)
    assert report.skipped == (("3.png", "is no image that Pillow knows"),)
    root = sides(tmp_path / "set")
    image(0, 6, 7, "RGB").save(root / "odd.png")
    report = pack(open_source(str(root), halves="images"), tmp_path / "halves", size=4)
    assert report.skipped == (("odd.png", "is 7 pixels wide, which has no two halves"),)


def test_what_does_not_pair_is_refused(here: Path) -> None:
    photos, maps = two_folders(here)
    (maps / "1.bmp").unlink()
    (maps / "4.bmp").rename(maps / "5.bmp")
    lonely = "1.png: has no partner of that name in folder maps (and 1 more); add it, or take this away"
    refused_and_untouched(here, (lonely,), "pack", photos, "out", "--size", 4, "--source", maps)
    lonely = "1.png: has no partner of that name in folder maps; add it"
    (maps / "5.bmp").rename(maps / "4.bmp")
    refused_and_untouched(here, (lonely,), "pack", photos, "out", "--size", 4, "--source", maps)
    (photos / "1.png").unlink()
    folder_of(maps, "7.bmp")
    lonely = "7.bmp: has no partner of that name in folder photos;"
    refused_and_untouched(here, (lonely,), "pack", photos, "out", "--size", 4, "--source", maps)
    (maps / "7.bmp").rename(maps / "2.png")
    twice = "2.png: has the name of 2.bmp in folder maps, so that neither can be paired"
    refused_and_untouched(here, (twice,), "pack", photos, "out", "--size", 4, "--source", maps)
    refused_and_untouched(here, ("halves: 'left'; say what the left half is: images or source",),
                          "pack", photos, "out", "--halves", "left")  # fmt: skip
    refused_and_untouched(here, ("give --halves or --source",),
                          "pack", photos, "out", "--halves", "images", "--source", maps)  # fmt: skip


def test_odd_widths_alone_are_refused_in_one_line(here: Path) -> None:
    sides(here / "odd", 2, width=7)
    said = "folder odd: none of its 2 images can be read (first 0.png: is 7 pixels wide, which has no two halves)"
    refused_and_untouched(here, (said,), "pack", "odd", "out", "--halves", "images")


def test_the_command_packs_pairs(here: Path) -> None:
    sides(here / "set")
    said = bigan("pack", "set", "out", "--size", "6x4", "--halves", "source", "--workers", 1, "--samples-per-shard", 3)
    assert (said.status, said.out) == (0, "out: packed: 6 pairs of images [3, 6, 4] of 0 classes in 2 shards; 0 skipped\n")
    again = bigan("pack", "set", "out", "--size", "6x4", "--halves", "source", "--workers", 1, "--samples-per-shard", 3)
    assert "is up to date" in again.out
    assert bigan("pack", "out", "--check", "--workers", 1).status == 0
    assert "source: [3, 6, 4]" in bigan("pack", "out", "--stats").out
    refused_and_untouched(here, ("from another source",), "pack", "set", "out", "--size", "6x4", "--samples-per-shard", 3)


def test_what_was_packed_before_there_were_pairs_is_up_to_date(tmp_path: Path) -> None:
    """Requests as they were then, of a folder and of samples with notes."""

    def bmp(level: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4), level, dtype=np.uint8)).save(buffer, "BMP")
        return buffer.getvalue()

    written(tmp_path / "folder" / "x" / "1.bmp", bmp(1))
    written(tmp_path / "folder" / "y" / "2.bmp", bmp(2))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for n in range(3):
            notes = {"json": json.dumps({"age": n}), "txt": f"a {n}", "cls": "1"}
            for kind, content in {"bmp": bmp(n), **{kind: text.encode() for kind, text in notes.items()}}.items():
                info = tarfile.TarInfo(f"{n}.{kind}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    requests = {}
    for name in ("folder", "a.tar"):
        source, encoding = open_source(str(tmp_path / name)), Encoding(size=(4, 4), channels=1)
        plan = Plan(source=source, encoding=encoding, samples_per_shard=2, keep_order=False, part=(0, 1))
        requests[name] = plan.request[:16]
    assert requests == {"folder": "18cbff5cfe1d7309", "a.tar": "84890c23ebfc06e0"}
