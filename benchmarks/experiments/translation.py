"""Rows 42, 43, 44 and 46: translation without pairs, held against a map that is known; and what translations are good for."""

from dataclasses import replace

import torch
from torch import Tensor

from bigan.checkpoints import loaded
from bigan.clock import Draws
from bigan.config import Run, parse
from bigan.data.derived import Map, Turned
from bigan.data.digits import COLOURS, NAMES, ColouredDigits
from bigan.images import from_uint8, to_uint8
from bigan.metrics.fit import cached_classifier, train_classifier
from bigan.report.grid import beside_source, save_grid
from experiments.digits import digits, judge, unseen
from experiments.row import SHARED, WORK, Figure, Lab, Missing, Trained, row

CPU = torch.device("cpu")
MAP, INVERSE = Turned(quarters=1, inverted=True), Turned(quarters=3, inverted=True)
SIZE = 16  # pixels: a linear translator has as many weights as the square of their number
TESTED = 2000
KNOWN = 20_000  # images that a classifier is trained on
PUBLISHED = (
    "game.translator={kind: resnet, width: 16, blocks: 6}", "game.critic={kind: patch, width: 32, layers: 2}",
    "game.objective={kind: least_squares}", "game.cycle=5", "game.penalties=[]", "game.noise=null", "game.pool=50",
    "optimizer={kind: adam, lr: 2.0e-4, betas: [0.5, 0.999]}", "average.half_life_kimg=1", "batch=16", "length_kimg=60",
    "tick_kimg=5",
)  # fmt: skip
LABELLED, TRANSLATED, CHOICES, NEIGHBOURS = 100, 1000, 5, 3  # of row 46


@row("42", "CycleGAN finds a known map without pairs: inverted and turned by 90 degrees")
def cyclegan(lab: Lab) -> list[Figure]:
    found = held(lab, train(lab, "cyclegan", name="run"), "cyclegan")
    without = held(lab, train(lab, "cyclegan", "game.cycle=0", name="alone"), "cyclegan_alone", ", without the cycle")
    return [*found, *without, Figure("error by that without the cycle", found[0].value / without[0].value, "≤ 0.25")]


@row("42", "the same by the networks and losses of the paper: residual translators, patches, least squares, former fakes")
def cyclegan_published(lab: Lab) -> list[Figure]:
    return held(lab, train(lab, "cyclegan", *PUBLISHED, name="run"), "cyclegan_published", ", as published")


@row("43", "DualGAN on the task of CycleGAN: Wasserstein critics, L1 reconstruction")
def dualgan(lab: Lab) -> list[Figure]:
    return held(lab, train(lab, "dualgan", name="run"), "dualgan")


@row("44", "StarGAN: digits in five colours by one translator")
def stargan(lab: Lab) -> list[Figure]:
    if not (SHARED / "mnist").is_dir():
        raise Missing("needs MNIST in ../shared/data/mnist")
    trained = lab.run("configs/coloured_stargan.yaml", f"data.real.path={SHARED / 'mnist'}")
    data = trained.restored.run.data["real"]
    assert isinstance(data, ColouredDigits)
    with data.open(seed=0) as stream:
        batch = stream.read(0, KNOWN)
        labels = {"colour": (batch.labels, tuple(COLOURS)), "digit": (batch.attributes[:, 0].long(), NAMES)}
        readers = {
            name: cached_classifier(WORK / "features", f"{name}{stream.fingerprint}", batch.images, numbers, names, seed=0)
            for name, (numbers, names) in labels.items()
        }
    with unseen(data).open(seed=0) as stream:
        test = stream.read(KNOWN, TESTED)
    images, digits = test.to(CPU).images, test.attributes[:, 0].long()
    made = {name: trained.translated(images, name) for name in COLOURS}
    shown = torch.stack([images[:16], *(each[:16] for each in made.values())], 1).flatten(0, 1)
    save_grid(shown, lab.picture("coloured_stargan.png"), columns=1 + len(COLOURS))
    told = [readers["colour"].read(to_uint8(each)).predictions == number for number, each in enumerate(made.values())]
    kept = [readers["digit"].read(to_uint8(each)).predictions == digits for each in made.values()]
    real = readers["digit"].read(test.images).predictions == digits
    return [
        Figure("translations that are of the colour that was asked for", share(torch.cat(told)), "> 0.95"),
        Figure("translations whose digit is kept", share(torch.cat(kept)), "> 0.9"),
        Figure("digits that are read rightly off real images", share(real)),
    ]


@row("46", "do translated images help a k-NN, and a network? Few labelled images, and many translated ones")
def translations_as_data(lab: Lab) -> list[Figure]:
    trained = earlier_or_new(lab)
    images, labels = digits(lab, SIZE, count=KNOWN)
    test, wanted = digits(lab, SIZE, "t10k", TESTED)
    test = to_uint8(mapped(test))
    gains: dict[str, list[float]] = {"k-NN": [], "network": []}
    for choice in range(CHOICES):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(choice))
        few, more = order[:LABELLED], order[LABELLED : LABELLED + TRANSLATED]
        own = to_uint8(mapped(images[few])), labels[few]
        all_ = torch.cat([own[0], to_uint8(trained.translated(images[more], "real"))]), torch.cat([own[1], labels[more]])
        for name, judged in (("k-NN", neighbours), ("network", network)):
            alone, together = (share(judged(*known, test, choice) == wanted) for known in (own, all_))
            gains[name].append(together - alone)
    return [
        figure
        for name, gain in gains.items()
        for figure in (
            Figure(f"accuracy that translations add, {name}", sum(gain) / len(gain)),
            Figure(f"choices of {CHOICES} in which they add, {name}", sum(value > 0 for value in gain)),
        )
    ]


def train(lab: Lab, config: str, *changes: str, name: str) -> Trained:
    """A run on both sides of the map."""
    return lab.run(*sides(lab, config), *changes, name=name)


def sides(lab: Lab, config: str) -> tuple[str, ...]:
    """A config, and where its digits are."""
    path = lab.mnist(SIZE)
    return f"configs/mnist_{config}.yaml", f"data.source.path={path}", f"data.real.of.path={path}"


def earlier_or_new(lab: Lab) -> Trained:
    """CycleGAN as row 42 trains it: its run of the same seed, if it was left there whole, or one of our own."""
    earlier = Trained(lab.folder.parent / f"cyclegan-{lab.seed}" / "run")
    wanted = lab.loaded(*sides(lab, "cyclegan"))
    return earlier if finished(earlier, wanted) else train(lab, "cyclegan", name="run")


def finished(trained: Trained, wanted: Run) -> bool:
    """Whether a run of these settings was left there whole; where it lies does not matter."""
    try:
        folder, saved = loaded(trained.home)
        run = parse(saved.config, folder.config)
    except ValueError:  # there is none, or it is of other settings than are known now
        return False
    return replace(run, name=wanted.name, folder=wanted.folder) == wanted and saved.clock.images >= wanted.length_kimg * 1000


def held(lab: Lab, trained: Trained, picture: str, of: str = "") -> list[Figure]:
    """The error of both ways, as a share of the range of a pixel, and how many digits are still what they were."""
    images, labels = digits(lab, SIZE, "t10k", TESTED)
    there, back = trained.translated(images, "real"), trained.translated(mapped(images), "source")
    error = ((there - mapped(images)).abs().mean() + (back - images).abs().mean()) / 4
    classifier = judge(lab, SIZE)
    kept = torch.cat([classifier.read(to_uint8(made)).predictions == labels for made in (unmapped(there), back)])
    beside = beside_source({"source": images[:64], "images": there[:64]})
    save_grid(beside, lab.picture(f"mnist_{picture}.png"), columns=8)
    line = "" if of else "> 0.9"
    return [Figure(f"error of a pixel{of}", float(error)), Figure(f"digits whose class is kept{of}", share(kept), line)]


def mapped(images: Tensor) -> Tensor:
    """What the configs' map makes of images [N, 1, H, W] in [-1, 1]: turned against the clock, and inverted."""
    return through(MAP, images)


def unmapped(images: Tensor) -> Tensor:
    """Its inverse."""
    return through(INVERSE, images)


def through(map: Map, images: Tensor) -> Tensor:
    """What a data set's map makes of images [N, C, H, W] in [-1, 1], to the 8 bits that it works on."""
    made = map(to_uint8(images).permute(0, 2, 3, 1).numpy(), Draws((0, "map"), 0, len(images), CPU))
    return from_uint8(torch.from_numpy(made).permute(0, 3, 1, 2).contiguous())


def neighbours(images: Tensor, labels: Tensor, test: Tensor, seed: int) -> Tensor:
    """What the nearest known images are."""
    nearest = torch.cdist(test.flatten(1).float(), images.flatten(1).float()).topk(NEIGHBOURS, largest=False).indices
    return labels[nearest].mode(1).values


def network(images: Tensor, labels: Tensor, test: Tensor, seed: int) -> Tensor:
    """What a small convolutional network says that is trained on the known images."""
    return train_classifier(images, labels, NAMES, seed).read(test).predictions


def share(right: Tensor) -> float:
    """Of what is true."""
    return float(right.double().mean())
