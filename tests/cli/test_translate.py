"""`bigan translate`: images and folders, by runs that were stopped and went on; and what it says of what is none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigan import translate as translation
from bigan.sample import restore
from bigan.uses import Translation, Way, use

from .launch import bigan, differing, kimg, pack_digits, refused_and_untouched, saved, write_config

RESNET = {"kind": "resnet", "width": 4, "blocks": 1}
CYCLEGAN = {
    "kind": "cyclegan",
    "translator": RESNET,
    "critic": {"kind": "patch", "width": 4, "layers": 2},
    "pool": 12,
}
STARGAN = {
    "kind": "stargan",
    "generator": RESNET,
    "critic": {"kind": "patch", "width": 4, "layers": 2, "norm": "none"},
    "features": 8,
    "critic_steps": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Both games, each in one go and in two; CycleGAN's sets differ in their length."""
    place = tmp_path_factory.mktemp("translating")
    other = pack_digits(place / "other", limit=30)
    runs = {
        "cyclegan": {"game": CYCLEGAN, "data": {"real": {"path": str(digits)}, "source": {"path": str(other)}}},
        "stargan": {"game": STARGAN, "data": {"real": {"kind": "coloured_digits", "size": 16}}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, changes in runs.items():
            for length, run in ((6, name), (3, f"{name}-halved"), (6, f"{name}-halved")):
                config = write_config(place / "run.yaml", digits, name=run, length_kimg=kimg(length), **changes)
                said = bigan("train", config)
                assert said.status == 0, said
    return place


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, in which to write; the current one holds runs/."""
    monkeypatch.chdir(place)
    return tmp_path


def picture(path: Path, size: tuple[int, int] = (16, 16), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(path.name)).integers(0, 255, (*size, len(mode)), dtype=np.uint8)
    Image.fromarray(values.squeeze()).save(path)
    return path


@pytest.mark.parametrize("name", ["cyclegan", "stargan"])
def test_a_run_that_stopped_and_went_on_is_the_run(there: Path, name: str) -> None:
    one, other = saved(Path("runs") / name), saved(Path("runs") / f"{name}-halved")
    assert one.clock == other.clock
    assert differing(one, other) == []
    kept = [key for key in one.tensors if key.startswith("state.")]
    assert kept
    assert all(one.tensors[key].any() for key in kept)


@pytest.mark.parametrize("name", ["cyclegan", "stargan"])
def test_samples_stand_beside_their_sources(there: Path, name: str) -> None:
    assert bigan("sample", f"runs/{name}", f"--out={there / 's.npz'}", "--count=5").status == 0
    drawn = np.load(there / "s.npz")
    assert drawn["images"].shape[:3] == (5, 16, 16)
    assert len(drawn["source"]) == 5
    assert sorted(path.name for path in (Path("runs") / name / "interpolation").glob("*")) == []
    with Image.open(sorted((Path("runs") / name / "grids").glob("*.png"))[-1]) as grid:
        assert grid.width > 1.8 * grid.height


def test_an_image_is_translated_by_the_network_of_its_way(there: Path) -> None:
    source = picture(there / "a.png")
    restored = restore(Path("runs/cyclegan"))
    with Image.open(source) as image:
        values = torch.from_numpy(np.asarray(image).copy())[None, None].float() / 127.5 - 1
    network = restored.players["translators"].eval()
    for to, name in (("", "real"), ("--to=real", "real"), ("--to=source", "source")):
        out = there / f"{name}.png"
        assert bigan("translate", "runs/cyclegan", source, out, *filter(None, [to])).status == 0
        expected = ((network.get_submodule(name)(values) + 1) * 127.5).round().clamp(0, 255)
        with Image.open(out) as made:
            assert np.abs(np.asarray(made).astype(int) - expected[0, 0].numpy()).max() <= 1
    assert (there / "real.png").read_bytes() != (there / "source.png").read_bytes()


def test_folders_go_to_folders_by_name_and_sizes_are_fitted(there: Path) -> None:
    for name, size, mode in (("a.png", (16, 16), "L"), ("deep/b.jpg", (40, 31), "RGB"), ("c.webp", (9, 12), "RGB")):
        picture(there / "in" / name, size, mode)
    (there / "in" / "notes.txt").write_text("no image")
    said = bigan("translate", "runs/stargan", there / "in", there / "out", "--to=red")
    assert (said.status, said.err) == (0, "")
    made = sorted(path.relative_to(there / "out").as_posix() for path in (there / "out").rglob("*.*"))
    assert made == ["a.png", "c.png", "deep/b.png"]
    for name in made:
        with Image.open(there / "out" / name) as image:
            assert (image.size, image.mode) == ((16, 16), "RGB")
    # One by one they come out as they do together; the class makes a difference.
    assert bigan("translate", "runs/stargan", there / "in" / "a.png", there / "one.png", "--to=red").status == 0
    assert bigan("translate", "runs/stargan", there / "in" / "a.png", there / "two.png", "--to=blue").status == 0
    alone, together, other = (np.asarray(Image.open(there / name)).astype(int) for name in ("one.png", "out/a.png", "two.png"))
    assert np.abs(alone - together).max() <= 1
    assert (alone != other).any()


def test_a_broken_image_keeps_no_other_of_its_folder(there: Path) -> None:
    for name in ("a", "c"):
        picture(there / "in" / f"{name}.png")
    (there / "in" / "b.png").write_text("no image")
    said = bigan("translate", "runs/cyclegan", there / "in", there / "out")
    assert said.status == 2
    assert said.err.strip().endswith("in/b.png: is no image")
    assert sorted(path.name for path in (there / "out").iterdir()) == ["a.png", "c.png"]
    (there / "in" / "d.png").write_text("no image")
    said = bigan("translate", "runs/cyclegan", there / "in", there / "out")
    assert "b.png: is no image (and 1 more, of 4 images)" in said.err


def test_what_a_translator_draws_is_another_for_each_image(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its place in the folder and the seed, however many are translated at a time and whatever else cannot be read."""
    for name in "abcde":
        picture(there / "in" / f"{name}.png")
    restored = restore(Path("runs/cyclegan"))
    noise = Translation(lambda text: Way((1, 16, 16), lambda ctx, images: 0 * images + 2 * ctx.uniform("style", 1, 1, 1) - 1))
    restored = replace(restored, game=replace(restored.game, uses=(noise,)))
    monkeypatch.setattr(translation, "restore", lambda *_, **__: restored)

    def made(out: str, chunk: int, *, seed: int = 0) -> dict[str, int]:
        monkeypatch.setattr(translation, "CHUNK", chunk)
        bigan("translate", "runs/cyclegan", there / "in", there / out, f"--seed={seed}")
        return {path.stem: int(np.asarray(Image.open(path)).max()) for path in sorted((there / out).iterdir())}

    first = made("a", 2)
    assert len(set(first.values())) == 5
    assert made("b", 16) == first
    assert not set(first.values()) & set(made("c", 2, seed=1).values())
    (there / "in" / "b.png").write_text("no image")
    assert made("d", 16) == {name: value for name, value in first.items() if name != "b"}


def test_a_class_can_be_asked_of_samples(there: Path) -> None:
    for to in ("red", "4"):
        assert bigan("sample", "runs/stargan", f"--out={there / to}.npz", "--count=3", f"--given={to}").status == 0
    assert np.load(there / "red.npz")["condition"].tolist() == [0, 0, 0]
    assert np.load(there / "4.npz")["condition"].tolist() == [4, 4, 4]


def test_what_cannot_be_is_one_line(there: Path) -> None:
    good, broken = picture(there / "in" / "good.png"), there / "broken.png"
    broken.write_text("no image")
    picture(there / "twice" / "a.png")
    picture(there / "twice" / "a.jpg")
    (there / "empty").mkdir()
    for names, *arguments in (
        (
            ("--to", "'crimson'", "no class", "red, green, blue, yellow, white"),
            "runs/stargan",
            good,
            there / "o.png",
            "--to=crimson",
        ),
        (("--to: is missing (", "there is red, green"), "runs/stargan", good, there / "o.png"),
        (("--to", "'paris'", "real and source"), "runs/cyclegan", good, there / "o.png", "--to=paris"),
        (("broken.png: is no image",), "runs/cyclegan", broken, there / "o.png"),
        (("nowhere.png: no such image",), "runs/cyclegan", there / "nowhere.png", there / "o.png"),
        (("empty: has no images",), "runs/cyclegan", there / "empty", there / "o"),
        (("both become a.png",), "runs/cyclegan", there / "twice", there / "o"),
        (("o.txt: ends in .png",), "runs/cyclegan", good, there / "o.txt"),
        (("good.png: is the image that is read",), "runs/cyclegan", good, good),
        (("lies in",), "runs/cyclegan", there / "in", there / "in" / "out"),
        (("broken.png: is a file",), "runs/cyclegan", there / "in", broken),
        (("cannot be written",), "runs/cyclegan", good, broken / "o.png"),
        (("is no run folder",), "runs/none", good, there / "o.png"),
    ):
        refused_and_untouched(there, names, "translate", *arguments)


def test_a_run_that_does_not_translate_says_so(run: Path) -> None:
    source = picture(Path("a.png"))
    refused_and_untouched(Path(), ("the run's game cannot translate",), "translate", run, source, "o.png")


def test_translations_have_no_way_between_them(there: Path) -> None:
    said = bigan("interpolate", "runs/cyclegan", f"--out={there / 'a.png'}")
    assert said.status == 2
    assert "nothing lies between two of them" in said.err


def test_sets_of_unlike_sizes_are_named(there: Path, digits: Path) -> None:
    other = pack_digits(there / "larger", size=32)
    data = {"real": {"path": str(digits)}, "source": {"path": str(other)}}
    config = write_config(there / "run.yaml", digits, name="no", folder=str(there), game=CYCLEGAN, data=data)
    refused_and_untouched(there, ("data.real has 16x16, data.source has 32x32", "--size"), "train", config)


def test_the_use_is_found_by_its_type(there: Path) -> None:
    game = restore(Path("runs/stargan")).game
    assert use(game, Translation, "translate").to("white").shape == (3, 16, 16)
