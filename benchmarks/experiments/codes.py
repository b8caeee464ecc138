"""Rows 32 and 33: codes that are read off samples (InfoGAN), and codes of what is given (BiGAN), on MNIST."""

import torch
from torch import Tensor

from bigan.game import Context
from bigan.games.bidirectional import BiGAN
from bigan.images import to_uint8
from bigan.report.grid import save_grid
from bigan.uses import Chosen, Completion, use
from experiments.digits import digits, judge
from experiments.row import Figure, Lab, Trained, row

SIZE = 32
SAMPLES = 5000
HELD_OUT = 2000
FEATURES = 50  # of E(x), where it is asked for features; completion wants so few that E(x) cannot hold halves that do not fit
CHAINS = 16
STEPS = 5
ROWS = 250  # images whose distances to all others are held at a time


def purity(categories: Tensor, classes: Tensor) -> float:
    """The share of samples that are of the commonest class of their category: [N], [N]."""
    table = torch.zeros(int(categories.max()) + 1, int(classes.max()) + 1)
    table.index_put_((categories, classes), torch.ones(len(classes)), accumulate=True)
    return float(table.amax(1).sum() / table.sum())


@row("32", "InfoGAN on MNIST")
def infogan(lab: Lab) -> list[Figure]:
    data, reader = f"data.real.path={lab.mnist(SIZE)}", judge(lab, SIZE)
    runs = {
        name: lab.run("configs/mnist_infogan.yaml", data, f"game.weight={weight}", name=f"weight{weight}")
        for name, weight in (("", 1.0), (", λ = 0", 0.0))
    }
    figures = []
    for name, trained in runs.items():
        parts = [trained.restored.look.samples(500, start=start) for start in range(0, SAMPLES, 500)]
        classes = reader.read(to_uint8(torch.cat([part["images"] for part in parts]))).predictions
        categories = torch.cat([part["categories"] for part in parts])[:, 0]
        mixed = categories[torch.randperm(len(categories), generator=torch.Generator().manual_seed(lab.seed))]
        figures += [
            Figure(f"purity of the categories{name}", purity(categories, classes), "< 0.3" if name else "> 0.85"),
            Figure(f"the same of shuffled categories{name}", purity(mixed, classes)),
        ]
    _picture(lab, runs[""])
    return [*figures, *(Figure(name, runs[""].last(f"generator/{name}")) for name in ("L_I", "code_accuracy", "code_error"))]


def _picture(lab: Lab, trained: Trained) -> None:
    """A category a row; and the first category with each number from one end to the other."""
    given, look = use(trained.restored.game, Chosen, "be given a code").given, trained.restored.look

    def row_of(text: str, count: int) -> Tensor:
        return look.used(given(text), count, "picture")["images"]

    save_grid(torch.cat([row_of(str(category), 12) for category in range(10)]), lab.picture("mnist_infogan.png"), columns=12)
    values = torch.linspace(-1, 1, 12).tolist()
    walks = [row_of(f"0,{code}", 1) for code in (*(f"{v}," for v in values), *(f",{v}" for v in values))]
    save_grid(torch.cat(walks), lab.picture("mnist_infogan_codes.png"), columns=12)


def nearest(of: Tensor, among: Tensor) -> Tensor:
    """The row of `among` that is nearest to each of `of`: [N, …], [M, …] → [N]."""
    among = among.flatten(1)
    return torch.cat([torch.cdist(rows, among).argmin(1) for rows in of.flatten(1).split(ROWS)])


@row("33", "BiGAN: 1-NN on E(x)")
def bigan_codes(lab: Lab) -> list[Figure]:
    train, test = digits(lab, SIZE), digits(lab, SIZE, "t10k", HELD_OUT)
    found = {"pixels": (test.images, train.images)}
    for name, weight in (("E(x)", 10), ("E(x), by pairs alone", 0)):
        changes = (f"game.reconstruction={weight}", f"game.generator.latent={FEATURES}")
        trained = _bigan(lab, *changes, name=f"reconstruction{weight}")
        found[name] = (_encoded(trained, test.images), _encoded(trained, train.images))
    right = {name: train.labels[nearest(*both)] == test.labels for name, both in found.items()}
    return [
        Figure(f"1-NN on {name}", float(hit.float().mean()), "> 0.95" if name == "E(x)" else "") for name, hit in right.items()
    ]


@row("33", "BiGAN: completing half an image")
def bigan_completion(lab: Lab) -> list[Figure]:
    train, test = digits(lab, SIZE).images, digits(lab, SIZE, "t10k", HELD_OUT // 2).images
    trained = _bigan(lab, name="completing")
    observed = torch.ones_like(test, dtype=torch.bool)
    half = test.shape[3] // 2
    observed[..., half:] = False
    by, look = use(trained.restored.game, Completion, "complete images"), trained.restored.look

    def chains(steps: int) -> Tensor:
        """[CHAINS, N, C, H, W]"""
        made = (
            look.used(lambda ctx: by.complete(ctx, test, observed, steps), len(test), "chain", seed=k) for k in range(CHAINS)
        )
        return torch.stack([*made])

    def error(filled: Tensor) -> float:
        return float((filled - test)[..., half:].square().mean())

    gibbs, copied = chains(STEPS), train[nearest(test[..., :half], train[..., :half])]
    shown = [test, torch.where(observed, test, 0.0), *gibbs[:3], gibbs.mean(0), torch.where(observed, test, copied)]
    save_grid(torch.cat([images[:16] for images in shown]), lab.picture("mnist_bigan_completed.png"), columns=16)
    save_grid(trained.samples(64), lab.picture("mnist_bigan.png"), columns=16)
    mean = error(gibbs.mean(0))
    beside = {"the mean image": train.mean(0), "1-NN": copied, "one pass": chains(1).mean(0)}
    return [
        Figure(f"squared error of half an image, mean of {CHAINS} chains", mean),
        Figure("the same, one chain", error(gibbs[0])),
        *(Figure(f"the same by {name}", error(filled)) for name, filled in beside.items()),
        *(Figure(f"the chains' over that by {name}", mean / error(filled), "< 1") for name, filled in beside.items()),
    ]


def _bigan(lab: Lab, *changes: str, name: str) -> Trained:
    return lab.run("configs/mnist_bigan.yaml", f"data.real.path={lab.mnist(SIZE)}", *changes, name=name)


def _encoded(trained: Trained, images: Tensor) -> Tensor:
    game, look = trained.restored.run.game, trained.restored.look
    assert isinstance(game, BiGAN)

    def encode(ctx: Context) -> Tensor:
        return torch.cat([game.encode(ctx, part) for part in images.split(1000)])

    return look.used(encode, len(images), "codes")
