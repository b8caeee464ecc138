"""Rows 40, 41 and 45: pix2pix with and without its critic, four restorations, and a view of an object turned."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from bigan.batch import Batch
from bigan.clock import Draws
from bigan.data.derived import Derived, Hole, Map
from bigan.data.pack import pack
from bigan.data.sources import Item, Source, open_source
from bigan.data.sources.base import fingerprint
from bigan.data.sources.pairs import halves
from bigan.data.stream import Shards
from bigan.images import to_uint8
from bigan.measure import read_data
from bigan.metrics.frechet import frechet_distance, moments
from bigan.networks.patch import PatchCritic
from bigan.report.grid import save_grid
from experiments.row import SHARED, WORK, Figure, Lab, Missing, Trained, row

CPU = torch.device("cpu")
TEST = 1000  # CIFAR images that are restored
SHOWN = 8
HOLE = Hole(size=12)
NO_CRITIC = "game.adversarial=0"


@row("40", "pix2pix on facades, with and without its critic")
def facades(lab: Lab) -> list[Figure]:
    files = open_source(str(_there("facades") / "facades_100.zip"))
    train = _packed(lab, "train", halves(_only(files, lambda item: item.key < "image_4"), "images"), 64)
    held = _packed(lab, "held", halves(_only(files, lambda item: item.key > "image_4"), "images"), 64)
    test = _all(Shards(path=held))
    figures, shown, far = [], [test["source"], test.images], dict[str, float]()
    for name, changes in {"pix2pix": (), "L1 alone": (NO_CRITIC,)}.items():
        trained = lab.run("configs/facades_pix2pix.yaml", f"data.real.path={train}", *changes, name=name.replace(" ", "_"))
        made = trained.translated(test["source"])
        shown.append(made)
        auc = told_apart(test.images, made, lab.seed)
        far[name] = abs(auc - 0.5)
        figures += [
            Figure(f"AUC of a classifier of real and made patches, {name}", auc),
            Figure(f"mean absolute error, {name}", float((made - test.images).abs().mean())),
            Figure(f"sharpness by the data's, {name}", sharpness(made) / sharpness(test.images)),
        ]
    save_grid(torch.cat([images[:SHOWN] for images in shown]), lab.picture("facades_pix2pix.png"), columns=SHOWN)
    return [*figures, Figure("nearer to ½ than L1 alone by", far["L1 alone"] - far["pix2pix"], "> 0")]


def told_apart(real: Tensor, made: Tensor, seed: int, steps: int = 150) -> float:
    """The area under the curve of a classifier of 16-pixel patches that is trained on one half of the images, each in turn."""
    areas = []
    for fold in range(2):
        torch.manual_seed(seed)
        classifier = PatchCritic(width=32, layers=1, norm="none").build(tuple(real.shape[1:]))
        optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
        for step in range(steps):
            losses = []
            for side, label in ((real, 1.0), (made, 0.0)):
                images = side[fold::2].flip(3) if step % 2 else side[fold::2]
                logits = classifier(images)
                losses.append(F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label)))
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
        with torch.no_grad():
            scores = [classifier(side[1 - fold :: 2]).flatten() for side in (real, made)]
        areas.append(area(*scores))
    return sum(areas) / 2


def area(real: Tensor, made: Tensor) -> float:
    """The chance that a real one [N] scores above a made one [M], a tie counting half (Mann and Whitney, 1947)."""
    ranks = rankdata(torch.cat([real, made]))
    return float((ranks[: len(real)].sum() - len(real) * (len(real) + 1) / 2) / (len(real) * len(made)))


@row("41", "colourisation of CIFAR")
def colourised(lab: Lab) -> list[Figure]:
    return _restored(lab, "{kind: grey}", "the grey itself", lambda source, _: source)


@row("41", "super-resolution of CIFAR, four times")
def super_resolved(lab: Lab) -> list[Figure]:
    def bicubic(source: Tensor, _: Tensor) -> Tensor:
        return F.interpolate(source[:, :, ::4, ::4], scale_factor=4, mode="bicubic").clamp(-1, 1)

    return _restored(lab, "{kind: smaller, factor: 4}", "bicubic", bicubic)


@row("41", "inpainting of CIFAR, a hole of 12 pixels")
def inpainted(lab: Lab) -> list[Figure]:
    def composed(source: Tensor, made: Tensor) -> Tensor:
        return torch.where(hole(source), made, source)

    return _restored(lab, f"{{kind: hole, size: {HOLE.size}}}", "the mean of the rest", mean_of_rest, composed)


def mean_of_rest(source: Tensor, _: Tensor) -> Tensor:
    """Each hole filled with the mean of what is around it, by channel."""
    kept = (~hole(source)).float()
    return torch.where(hole(source), (source * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True), source)


def hole(source: Tensor) -> Tensor:
    """Which pixels the first sources [N, C, H, W] of a stream lack, as its map drew them: bool [N, 1, H, W]."""
    blank = np.zeros((len(source), *source.shape[2:], 1), dtype=np.uint8)
    made = torch.from_numpy(HOLE(blank, Draws((0, "derived"), 0, len(source), CPU)) > 0).permute(0, 3, 1, 2)
    assert (to_uint8(source).masked_select(made) == 128).all(), "the map draws its holes elsewhere"
    return made


@row("41", "denoising of CIFAR, σ = 40")
def denoised(lab: Lab) -> list[Figure]:
    def blurred(source: Tensor, images: Tensor) -> Tensor:
        tried = [blur(source, std / 10) for std in range(3, 16)]
        return max(tried, key=lambda made: psnr(made, images))

    return _restored(lab, "{kind: noise, std: 40}", "the best Gaussian blur", blurred)


def _restored(
    lab: Lab,
    map: str,
    named: str,
    baseline: Callable[[Tensor, Tensor], Tensor],
    composed: Callable[[Tensor, Tensor], Tensor] = lambda _, made: made,
) -> list[Figure]:
    """L2 alone and the game, beside what asks for no training; PSNR, sharpness, and distances in a classifier's features.

    Args:
        baseline: from sources and images to what is made without training, under the name.
        composed: from sources and a network's output to what is scored.
    """
    train = _packed(lab, "train", open_source(str(_there("cifar10_jpg") / "train.zip")), 32)
    held = _packed(lab, "held", open_source(str(_there("cifar10_jpg") / "test.zip")), 32)
    game = (f"data.real.of.path={train}", f"data.real.map={map}")
    arms = {
        "L2": lab.run("configs/cifar_colourise.yaml", *game, NO_CRITIC, "game.l1=0", "game.l2=100", name="l2"),
        "GAN": lab.run("configs/cifar_colourise.yaml", *game, name="gan"),
    }
    test = _all(Derived(of=Shards(path=held), map=_map_of(arms["GAN"])), TEST)
    source, images = test["source"], test.images
    made = {named: baseline(source, images)}
    made |= {name: composed(source, trained.translated(source)) for name, trained in arms.items()}
    with Shards(path=train).open(seed=0) as stream:
        classifier = read_data(stream, WORK / "features", TEST, CPU).classifier
    wanted = classifier.read(to_uint8(images)).features

    def found(name: str) -> dict[str, float]:
        features = classifier.read(to_uint8(made[name])).features
        return {
            "PSNR": psnr(made[name], images),
            "PSNR of the mean error": -10 * math.log10(float(((made[name] - images) / 2).square().mean())),
            "sharpness by the data's": sharpness(made[name]) / sharpness(images),
            "distance in features": float((features - wanted).norm(dim=1).mean()),
            "Fréchet distance": frechet_distance(moments(features), moments(wanted)),
        }

    figures = {name: found(name) for name in made}
    rows = torch.cat([each[:SHOWN] for each in (source, *made.values(), images)])
    save_grid(rows, lab.picture(f"{lab.folder.name.rpartition('-')[0] or 'restored'}.png"), columns=SHOWN)
    l2, gan, plain = figures["L2"], figures["GAN"], figures[named]
    return [
        *(Figure(f"{what}, {name}", value) for name, all in figures.items() for what, value in all.items()),
        Figure("PSNR, L2 above GAN", l2["PSNR"] - gan["PSNR"], "> 0", "dB"),
        Figure(f"PSNR, L2 above {named}", l2["PSNR"] - plain["PSNR"], "> 0", "dB"),
        Figure(f"PSNR, GAN above {named}", gan["PSNR"] - plain["PSNR"], "> 0", "dB"),
        Figure("sharpness, GAN by L2", gan["sharpness by the data's"] / l2["sharpness by the data's"], "> 1"),
        Figure("Fréchet distance, GAN by L2", gan["Fréchet distance"] / l2["Fréchet distance"], "< 1"),
    ]


@row("45", "pose change: a view and a turn, COIL-20")
def pose(lab: Lab) -> list[Figure]:
    views = open_source(str(_there("coil20") / "coil20.zip"))
    train = _packed(lab, "train", posed(views, held=False), 32)
    held = _packed(lab, "held", posed(views, held=True), 32)
    trained = lab.run("configs/coil_pose.yaml", f"data.real.path={train}")
    test = _all(Shards(path=held), TEST)
    source, images = test["source"], test.images
    made = torch.empty_like(images)
    for turn in test.attributes.unique(dim=0):
        rows = (test.attributes == turn).all(1)
        made[rows] = trained.translated(source[rows], f"sin={turn[0]},cos={turn[1]}")
    save_grid(torch.cat([each[:16] for each in (source, made, images)]), lab.picture("coil_pose.png"), columns=16)
    error, copied = (float((each - images).abs().mean()) for each in (made, source))
    return [
        Figure("mean absolute error at views that were held out", error),
        Figure("the same of a copy", copied),
        Figure("error by that of a copy", error / copied, "< 1"),
        Figure("sharpness by the data's", sharpness(made) / sharpness(images)),
    ]


STEP = 5.0  # degrees between two views
FARTHEST = 12  # steps of a turn
EACH = 5  # every fifth view is held out: no training pair has it on either side


def posed(views: Source, *, held: bool) -> Source:
    """Pairs of COIL-20's views, the attributes sin and cos of the turn from one to the other.

    Args:
        views: files named OBJECT__NUMBER.png.
        held: whether to take the pairs that lead from a view that is trained on to one that is held out, instead of those
            among views that are trained on.
    """
    objects: dict[str, dict[int, Item]] = {}
    for item in views:
        name, _, number = Path(item.key).stem.partition("__")
        objects.setdefault(name, {})[int(number)] = item
    items = [
        Item(f"{name}__{start}__{end}", target.load, None, _turn(end - start), None, (found[start].load,))
        for name, found in sorted(objects.items())
        for end, target in sorted(found.items())
        for start in range(end - FARTHEST, end + FARTHEST + 1)
        if start in found and start != end and start % EACH and (end % EACH == 0) == held
    ]
    return Source(
        description=f"turns of {views.description}", items=items, classes=(), attributes=("sin", "cos"), more=("source",),
        fingerprint=fingerprint([views.fingerprint, f"turns, held={held}"]),
    )  # fmt: skip


def _turn(steps: int) -> tuple[float, float]:
    angle = math.radians(STEP * steps)
    return math.sin(angle), math.cos(angle)


def psnr(made: Tensor, images: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], the mean over images."""
    errors = ((made - images) / 2).square().flatten(1).mean(1).clamp_min(1e-10)
    return float(-10 * errors.log10().mean())


def sharpness(images: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels."""
    return float(images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()) / 2


def blur(images: Tensor, std: float) -> Tensor:
    """By a Gaussian, mirrored at the border."""
    at = torch.arange(-4, 5).float()
    line = torch.softmax(-(at**2) / (2 * std**2), 0)
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 9, 9)
    return F.conv2d(F.pad(images, (4, 4, 4, 4), mode="reflect"), kernel, groups=images.shape[1])


def _there(name: str) -> Path:
    if not (SHARED / name).is_dir():
        raise Missing(f"needs {name} in ../shared/data")
    return SHARED / name


def _only(source: Source, wanted: Callable[[Item], bool]) -> Source:
    items = [item for item in source.items if wanted(item)]
    return replace(source, items=items, fingerprint=fingerprint([source.fingerprint, *(item.key for item in items)]))


def _packed(lab: Lab, name: str, source: Source, size: int) -> str:
    return str(pack(source, lab.folder / "data" / name, size=size, workers=1).folder)


def _all(data: Shards | Derived, most: int = 10**6) -> Batch:
    """Each sample once, as a game sees it."""
    with data.open(seed=0) as stream:
        return stream.read(0, min(stream.spec.samples, most)).to(CPU)


def _map_of(trained: Trained) -> Map:
    data: Mapping[str, object] = trained.restored.run.data
    real = data["real"]
    assert isinstance(real, Derived)
    return real.map
