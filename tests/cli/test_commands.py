"""From images to samples by the commands alone, with a game of bigan's and with a user's own."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from .launch import BIGAN, ENVIRONMENT, bigan, differing, kimg, refused, saved, tree, write_config

MY_GAME = '''
"""The game of docs/writing-a-game.md, with networks of its own and a rate that it adapts in its state."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from bigan.batch import DataSpec
from bigan.game import Context, Game, Move, Round, Samples, Terms
from bigan.penalties import squared_norm, with_gradient


@dataclass(frozen=True, kw_only=True)
class MyGame:
    latent: int = 3
    penalty: float = 1.0

    def build(self, data: Mapping[str, DataSpec]) -> Game:
        shape = data["real"].image_shape
        if shape is None:
            raise ValueError("my game wants images")
        size = shape[0] * shape[1] * shape[2]
        state = nn.Module()
        state.register_buffer("seen", torch.zeros(()))
        state.register_buffer("first", torch.zeros(shape))

        def after(end: Round) -> None:
            state.seen.add_(end.stats["critic/D(fake)"])
            state.first.copy_(end.kept["critic/fake"][0])

        return Game(
            players={
                "generator": nn.Sequential(nn.Linear(self.latent, size), nn.Tanh(), nn.Unflatten(1, shape)),
                "critic": nn.Sequential(nn.Flatten(1), nn.Linear(size, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0)),
            },
            averaged=frozenset({"generator"}),
            moves=(
                Move(player="critic", loss=self.critic_loss, reads=("real",)),
                Move(player="generator", loss=self.generator_loss),
            ),
            state=state,
            after=after,
            sample=self.sample,
        )

    def critic_loss(self, ctx: Context) -> Terms:
        logits, gradient = with_gradient(ctx.players["critic"], ctx.batch("real").images)
        images = self.generate(ctx).detach()
        fake = ctx.players["critic"](images)
        ctx.observe("D(fake)", fake.sigmoid())
        ctx.keep("fake", images)
        adversarial = softplus(-logits).mean() + softplus(fake).mean()
        return {"adversarial": adversarial, "R1": self.penalty / 2 * squared_norm(gradient).mean()}

    def generator_loss(self, ctx: Context) -> Terms:
        return {"adversarial": softplus(-ctx.players["critic"](self.generate(ctx))).mean()}

    def generate(self, ctx: Context) -> Tensor:
        return ctx.players["generator"](ctx.normal("latent", self.latent))

    def sample(self, ctx: Context) -> Samples:
        return {"images": self.generate(ctx)}
'''


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys; sys.argv = ['bigan', *sys.argv[1:]]\n"
        "from bigan.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('heavy:', sorted({'torch', 'numpy', 'deepspeed'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["train", "--help"]):
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        assert "heavy: []" in ended.stdout
        assert "train" in ended.stdout.lower()


def test_from_images_to_samples(here: Path) -> None:
    """In processes of their own, as a user types them: pack, train, sample."""
    rng = np.random.default_rng(0)
    for number in range(24):
        folder = here / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{number}.png")
    config = write_config(here / "run.yaml", Path("packed"))

    def process(*arguments: str) -> str:
        ended = subprocess.run([*BIGAN, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    assert "packed: packed: 24 images [3, 16, 16] of 2 classes in 3 shards" in process(
        "pack", "images", "packed", "--size=16", "--samples-per-shard=10"
    )
    assert "finished; samples: runs/run/grids/kimg_00000.048.png" in process("train", str(config))
    process("sample", "runs/run", "--out=deep/down/a.npz", "--count=5")
    assert np.load("deep/down/a.npz")["images"].shape == (5, 16, 16, 3)


def test_packing_again_is_no_work(here: Path) -> None:
    pack = ("pack", "digits", "data", "--size=8x12", "--limit=30", "--rgb")
    first = bigan(*pack)
    assert (first.status, first.err) == (0, "")
    assert "30 images [3, 8, 12] of 10 classes" in first.out
    before = tree(here)
    assert "is up to date" in bigan(*pack).out
    assert tree(here) == before
    assert "20 images" in bigan(*pack[:4], "--limit=20", "--overwrite").out


def test_what_a_run_leaves(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock", "STATUS", "checkpoints", "config.yaml", "environment.json", "events.jsonl", "grids", "interpolation",
    ]  # fmt: skip
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["round_00000003", "round_00000006"]
    assert len(list((run / "grids").iterdir())) == 6
    assert len(list((run / "interpolation").iterdir())) == 6
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == importlib.metadata.version("torch")
    assert environment["ranks"] == 1
    assert environment["machine"]["device"]
    assert environment["kernels"]
    assert (run / "STATUS").read_text() == "complete\n0.048 kimg\n"


def test_a_tick_is_a_line_of_numbers(run: Path) -> None:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["round"] for event in events] == [1, 2, 3, 4, 5, 6]
    for event in events:
        assert event["kimg"] == kimg(event["round"])
        assert event["images/s"] * event["s/kimg"] == pytest.approx(1000, rel=1e-3)
        assert 0 <= event["loader_wait"] <= 1
        assert 0 < event["critic/D(real)"] < 1
        assert 0 < event["critic/D(fake)"] < 1
        assert np.isfinite([event["critic/adversarial"], event["generator/adversarial"]]).all()
    assert [event["round"] for event in events if event.get("critic/r1", 0) > 0] == [1, 5]  # every: 4


def test_a_finished_run_says_so_and_touches_nothing(run: Path) -> None:
    before = tree(Path.cwd())
    said = bigan("train", "run.yaml")
    assert (said.status, said.err) == (0, "")
    assert "runs/run: finished at 0.048 kimg; raise length_kimg" in said.out
    assert tree(Path.cwd()) == before


def test_a_run_goes_on_under_another_name_and_place(run: Path) -> None:
    (run.parent.parent / "elsewhere").mkdir()
    run.rename("elsewhere/moved")
    said = bigan("train", "run.yaml", "name=moved", "folder=elsewhere", f"length_kimg={kimg(7)}", "keep_checkpoints=1")
    assert (said.status, said.err) == (0, "")
    assert "elsewhere/moved: compiled" in said.out or "elsewhere/moved: " in said.out
    assert "from 0.048 kimg" in said.out
    assert [path.name for path in Path("elsewhere/moved/checkpoints").iterdir()] == ["round_00000007"]
    assert not Path("runs/run").exists()


def test_samples_of_every_kind(run: Path) -> None:
    for out in ("a.png", "a.npz", "folder"):
        said = bigan("sample", run, f"--out={out}", "--count=5", "--seed=1")
        assert (said.status, said.out, said.err) == (0, f"{out}\n", "")
    images = np.load("a.npz")["images"]
    assert (images.shape, images.dtype) == ((5, 16, 16, 1), np.uint8)
    assert len(np.unique(images)) > 10
    files = sorted(Path("folder").iterdir())
    assert [file.name for file in files] == [f"{number:06d}.png" for number in range(5)]
    assert all((np.asarray(Image.open(file)) == image[..., 0]).all() for file, image in zip(files, images, strict=True))
    grid = np.asarray(Image.open("a.png"))
    assert grid.shape == (2 * 18 + 2, 3 * 18 + 2)
    assert (grid[2:18, 20:36] == images[1, ..., 0]).all()


def test_samples_are_a_function_of_seed_and_place(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*arguments: str) -> np.ndarray:
        assert bigan("sample", run, "--out=a.npz", *arguments).status == 0
        return np.load("a.npz")["images"]

    five = draw("--count=5")
    assert (draw("--count=5") == five).all()
    assert (draw("--count=9")[:5] == five).all()
    assert not (draw("--count=5", "--seed=1") == five).all()
    assert not (draw("--count=5", "--live") == five).all()
    monkeypatch.setattr("bigan.sample.CHUNK", 2)  # the chunks leave no trace either
    chunked = draw("--count=5")
    assert np.abs(chunked.astype(int) - five).max() <= 1


def test_a_damaged_checkpoint_yields_to_the_one_before(run: Path) -> None:
    whole = saved(run)
    tensors = run / "checkpoints" / "round_00000006" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    said = bigan("train", "run.yaml")
    assert "from 0.024 kimg" in said.out
    assert differing(saved(run), whole) == []


def test_a_users_own_game(here: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is trained, resumed and sampled as ours are; its state is saved; its keys are checked."""
    (here / "games").mkdir()
    (here / "games" / "my_game.py").write_text(MY_GAME)
    config = write_config(here / "games" / "run.yaml", digits, game={"kind": "my_game.py:MyGame", "latent": 5})
    whole = bigan("train", config, "name=whole", "game.penalty=0.5")
    assert (whole.status, whole.err) == (0, "")
    assert re.search(r"critic/R1 \d", whole.out)
    for rounds in (4, 6):
        assert bigan("train", config, "game.penalty=0.5", f"length_kimg={kimg(rounds)}").status == 0
    one, other = saved(Path("runs/run")), saved(Path("runs/whole"))
    assert differing(one, other) == []
    assert one.tensors["state.seen"] > 0
    assert one.tensors["state.first"].any()
    (here / "games" / "my_game.py").write_text(MY_GAME + "# changed\n")
    changed = "games/my_game.py is not what this run was played by so far: runs/run/my_game.py differs, and is replaced by it"
    for rounds, said_so in ((7, 1), (8, 0)):
        said = bigan("train", config, "game.penalty=0.5", f"length_kimg={kimg(rounds)}")
        assert (said.status, said.out.count(changed)) == (0, said_so)
    assert (here / "runs" / "run" / "my_game.py").read_text().endswith("# changed\n")
    (here / "games").rename(here / "moved")  # a run keeps its game
    assert bigan("sample", "runs/run", "--out=a.npz", "--count=3").status == 0
    assert np.load("a.npz")["images"].shape == (3, 16, 16, 1)
    config = here / "moved" / "run.yaml"
    for assignment, names in (("game.latnet=1", "game.latnet: is no key"), ("game.penalty=high", "game.penalty: ")):
        said = bigan("train", config, assignment)
        assert (said.status, len(said.err.splitlines())) == (2, 1)
        assert names in said.err


def test_the_game_of_the_documentation(here: Path, digits: Path) -> None:
    """The block in docs/writing-a-game.md is trained and sampled as it is printed there."""
    page = (Path(__file__).parents[2] / "docs" / "writing-a-game.md").read_text()
    (here / "my_game.py").write_text(page.split("```python\n")[1].split("```")[0])
    said = bigan("train", write_config(here / "run.yaml", digits, game="my_game.py:MyGame"))
    assert (said.status, said.err) == (0, "")
    assert saved(Path("runs/run")).tensors["player.generator.average.to_image.bias"].isfinite().all()


def test_the_translator_of_the_documentation(here: Path, digits: Path) -> None:
    """The second block and the game of its config are trained and translate as they are printed there."""
    page = (Path(__file__).parents[2] / "docs" / "writing-a-game.md").read_text()
    (here / "my_translator.py").write_text(page.split("```python\n")[2].split("```")[0])
    printed = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    printed["data"]["real"]["of"]["path"] = str(digits)
    said = bigan("train", write_config(here / "run.yaml", digits, **printed))
    assert (said.status, said.err) == (0, "")
    kept = saved(Path("runs/run"))
    assert kept.tensors["state.given"].any()
    assert bigan("sample", "runs/run", "--out=drawn", "--count=2").status == 0
    said = bigan("translate", "runs/run", "drawn", "made")
    assert (said.status, said.out, said.err) == (0, "made: 2 images\n", "")
    refused(bigan("translate", "runs/run", "drawn", "made", "--to=x"), "--to: 'x': this game translates one way")
    copy = Path("runs/run/my_translator.py")
    copy.write_text(copy.read_text().replace("Translation(to)", "Translation(lambda text: self.translate)"))
    refused(bigan("translate", "runs/run", "drawn", "made"), "returned a method; it must return a Way of bigan.uses")
