"""From what a user has to shards: sources, resizing, the same bytes each time, and nothing half-written."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigan.data.pack import pack
from bigan.data.sources import Item, Source, open_source

from .packed import checked
from .pictures import contents, folder_of, image, pixels_of, raw_samples, written


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
    assert report.manifest.spec.image_shape == (channels, 6, 4)
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
    assert pack(open_source(str(grey)), tmp_path / "g", size=4).manifest.spec.image_shape == (1, 4, 4)
    assert pack(open_source(str(colour)), tmp_path / "c", size=4).manifest.spec.image_shape == (3, 4, 4)
    folder_of(grey, *(f"{number:02d}.png" for number in range(20)))
    image(0, mode="RGB").save(grey / "z.png")
    with pytest.raises(ValueError, match=r"z\.png: is in colour.* --grey or --rgb"):
        pack(open_source(str(grey)), tmp_path / "mixed", size=4)
    assert pack(open_source(str(grey)), tmp_path / "mixed", size=4, channels=1).manifest.spec.samples == 23


@pytest.mark.parametrize(("height", "width"), [(6, 4), (12, 8), (3, 2), (7, 3), (2, 9), (1, 1), (40, 5)])
def test_any_height_and_width(tmp_path: Path, height: int, width: int) -> None:
    root = folder_of(tmp_path / "set", "a.png")
    assert pack(open_source(str(root)), tmp_path / "out", size=(height, width)).manifest.spec.image_shape == (1, height, width)
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


def bomb(side: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    return data + struct.pack(">I", zlib.crc32(head)) + struct.pack(">I", 0) + b"IDAT" + bytes(4)


def test_images_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png", "c.png")
    whole = (root / "b.png").read_bytes()
    written(root / "b.png", whole[: len(whole) // 2])
    written(root / "d\n.jpg", b"no image")
    written(root / "e.png", bomb(60_000))
    written(root / "e2.png", bomb(10_000))  # of which Pillow only warns
    (root / "f.png").symlink_to(root / "nowhere")
    report = pack(open_source(str(root)), tmp_path / "out", size=4)
    assert report.manifest.spec.samples == 2
    assert report.manifest.skipped == 5
    assert [key for key, _ in report.skipped] == ["b.png", "'d\\n.jpg'", "e.png", "e2.png", "f.png"]
    assert ["decompression bomb" in why for _, why in report.skipped] == [False, False, True, True, False]
    assert {sample["__key__"] for sample in raw_samples(tmp_path / "out")} == {"00000000", "00000002"}
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
    assert pack(open_source(str(root)), out, size=5, overwrite=True).manifest.spec.samples == 3
    checked(out)
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


def test_a_folder_that_is_taken_away_is_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", "a.png", "b.png", "c.png")

    def vanish(_done: int, _total: int) -> None:
        shutil.rmtree(tmp_path / "out.incomplete", ignore_errors=True)

    with pytest.raises(ValueError, match=r"out: cannot be written \(No such file or directory\)$"):
        pack(open_source(str(root)), tmp_path / "out", size=4, samples_per_shard=1, progress=vanish)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left on device")])
def test_an_error_before_the_first_shard_leaves_nothing_behind(tmp_path: Path, error: Any) -> None:
    root = folder_of(tmp_path / "set", *(f"{number}.png" for number in range(5)))

    def fail(done: int, _: int) -> None:
        if done == 2:
            raise error

    expected = ValueError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        pack(open_source(str(root)), tmp_path / "out", size=4, samples_per_shard=3, progress=fail)
    pack(open_source(str(root)), tmp_path / "old", size=4)
    before = contents(tmp_path / "old")
    with pytest.raises(expected, match="make room, and the same command goes on" if isinstance(error, OSError) else None):
        pack(open_source(str(root)), tmp_path / "old", size=5, samples_per_shard=3, overwrite=True, progress=fail)
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
    assert pack(open_source(str(path)), tmp_path / "out", size=4).manifest.spec.samples == 5
    assert {sample["__key__"] for sample in raw_samples(tmp_path / "out")} == {f"0000000{number}" for number in range(5)}


def test_packing_starts_without_torch() -> None:
    code = "import sys, bigan.data.pack, bigan.data.sources; sys.exit({'torch', 'webdataset', 'cv2'} & {*sys.modules} != set())"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_manifest_is_plain_json(tmp_path: Path) -> None:
    item = Item("x", lambda: image(0), 0)
    pack(Source(description="d", items=[item], classes=("ä\n",), fingerprint="f"), tmp_path / "out", size=(6, 4))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["classes"] == ["ä\n"]
