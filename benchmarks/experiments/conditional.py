"""Rows 30, 31 and 34: what is asked for is what comes; captions that match; edits along an attribute."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, mse_loss, one_hot

from bigan.data.digits import NAMES, CaptionedDigits, caption
from bigan.data.pack import pack
from bigan.data.sources.base import Item, Source, fingerprint
from bigan.data.sources.idx import open_idx
from bigan.images import to_uint8
from bigan.metrics.features import Classifier
from bigan.metrics.fit import cached_classifier
from bigan.networks.dcgan import DCGANGenerator
from bigan.networks.text import Tokenizer
from bigan.report.grid import save_grid
from experiments.digits import digits, judge, unseen
from experiments.row import SHARED, WORK, Figure, Lab, Missing, Trained, row

CPU = torch.device("cpu")
SAMPLES = 5000
KNOWN = 20_000  # images that a classifier of captions is trained on


@row("30", "conditional GAN, and why regression averages")
def conditional(lab: Lab) -> list[Figure]:
    figures, asked = _by_class(lab, "mnist_cgan")
    real, labels = digits(lab, 32, count=KNOWN)
    regressed = regression(real, labels, asked, lab.seed)
    save_grid(
        torch.cat([regressed[asked == digit][:2] for digit in range(10)]), lab.picture("mnist_regression.png"), columns=20
    )
    spread = diversity(regressed, asked) / diversity(real, labels)
    return [*figures, Figure("the same of a regression", spread, "≤ 0.05")]


@row("30", "auxiliary classifier GAN: the critic tells the class instead of being told it")
def auxiliary_classifier(lab: Lab) -> list[Figure]:
    return _by_class(lab, "mnist_acgan")[0]


def _by_class(lab: Lab, config: str) -> tuple[list[Figure], Tensor]:
    """How well and how diversely the generator makes what it is asked for, and the classes that it was asked for [N]."""
    trained = lab.run(f"configs/{config}.yaml", f"data.real.path={lab.mnist(32)}")
    drawn = trained.restored.look.samples(SAMPLES)
    images, asked = drawn["images"], drawn["condition"]
    save_grid(torch.cat([images[asked == digit][:10] for digit in range(10)]), lab.picture(f"{config}.png"), columns=10)
    told = judge(lab, 32).read(to_uint8(images)).predictions
    spread = diversity(images, asked) / diversity(*digits(lab, 32, count=KNOWN))
    figures = [
        Figure("images that are of the class that was asked for", float((told == asked).double().mean()), "> 0.95"),
        Figure("diversity within a class by the data's", spread, "≥ 0.5"),
    ]
    return figures, asked


def diversity(images: Tensor, labels: Tensor) -> float:
    """Mean variance of a pixel over the images of a class."""
    return float(torch.stack([images[labels == digit].var(0).mean() for digit in labels.unique()]).mean())


def regression(real: Tensor, labels: Tensor, asked: Tensor, seed: int) -> Tensor:
    """What a generator of (z, class) makes that is trained by the squared error to images of the class: its mean."""
    torch.manual_seed(seed)
    generator = DCGANGenerator(latent=42, width=24, norm="conditional").build(tuple(real.shape[1:]))
    optimizer = torch.optim.Adam(generator.parameters(), 5e-4)
    for rows in torch.randint(len(real), (2000, 32)):
        optimizer.zero_grad()
        mse_loss(generator(torch.cat([torch.randn(32, 32), one_hot(labels[rows], 10)], 1)), real[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return generator.eval()(torch.cat([torch.randn(len(asked), 32), one_hot(asked, 10)], 1))


@row("31", 'text to image: "is it real?" and "does it match?"')
def captions(lab: Lab) -> list[Figure]:
    return _captioned(lab, "projection", "> 0.9")


@row("31", "the same under a critic that concatenates, as the paper has it")
def captions_concatenated(lab: Lab) -> list[Figure]:
    return _captioned(lab, "concatenation", "")


def _captioned(lab: Lab, how: str, line: str) -> list[Figure]:
    """How often a digit is as its caption says, with and without mismatched pairs."""
    if not (SHARED / "mnist").is_dir():
        raise Missing("needs MNIST in ../shared/data/mnist")
    changes = (f"data.real.path={SHARED / 'mnist'}", f"game.how={how}")
    aware, plain = (
        lab.run("configs/captioned_digits.yaml", *changes, f"game.mismatch={mismatch}", name=f"mismatch-{mismatch}")
        for mismatch in ("true", "false")
    )
    readers = readers_of_captions(aware)
    figures = [Figure("real images that match by the classifiers", matching_of_data(aware, readers))]
    for trained, name, holds in ((aware, "matching-aware", line), (plain, "without mismatched pairs", "")):
        drawn = trained.restored.look.samples(2000)
        share = matching(readers, drawn["images"], facts_of(trained, drawn["condition"]))
        figures.append(Figure(f"images that match their caption, {name}", share, holds))
        if trained is aware and how == "projection":
            save_grid(drawn["images"][:64], lab.picture("captioned_digits.png"), columns=16)
    return figures


def readers_of_captions(trained: Trained) -> tuple[Classifier, Classifier]:
    """Classifiers of the digit, and of all else that a caption says (32 classes)."""
    with opened(trained).open(seed=0) as stream:
        batch = stream.read(0, KNOWN)
        rest = rest_of(batch.attributes.long())
        parts = (("digit", batch.labels, NAMES), ("rest", rest, tuple(map(str, range(32)))))
        first, second = (
            cached_classifier(WORK / "features", f"{part}{stream.fingerprint}", batch.images, labels, names, seed=0)
            for part, labels, names in parts
        )
        return first, second


def opened(trained: Trained) -> CaptionedDigits:
    data = trained.restored.run.data["real"]
    assert isinstance(data, CaptionedDigits)
    return data


def rest_of(facts: Tensor) -> Tensor:
    """two, large, colour, right [N, 4] as one number, 0 … 31."""
    return facts @ torch.tensor([16, 8, 2, 1])


def facts_of(trained: Trained, condition: Tensor) -> Tensor:
    """two, large, colour, digit, right [N, 5] of captions [N, length] as the game reads them."""
    known = [*np.ndindex(2, 2, 4, 10, 2)]
    words = trained.restored.saved.data["real"]["spec"]["words"]
    numbers = Tokenizer(words, 8)([caption(*f) for f in known]).tolist()
    rows = {tuple(row): facts for row, facts in zip(numbers, known, strict=True)}
    return torch.tensor([rows[tuple(row)] for row in condition.tolist()])


def matching(readers: tuple[Classifier, Classifier], images: Tensor, facts: Tensor) -> float:
    """The share of images [N, 3, H, W] that are all that the facts [N, 5] say."""
    digit, rest = (reader.read(to_uint8(images)).predictions for reader in readers)
    right = (digit == facts[:, 3]) & (rest == rest_of(facts[:, [0, 1, 2, 4]]))
    return float(right.double().mean())


def matching_of_data(trained: Trained, readers: tuple[Classifier, Classifier]) -> float:
    """The same of images of digits that the classifiers were not trained on."""
    with unseen(opened(trained)).open(seed=1) as stream:
        batch = stream.read(0, 2000).to(CPU)
    two, large, colour, right = batch.attributes.long().T
    return matching(readers, batch.images, torch.stack([two, large, colour, batch.labels, right], 1))


@row("34", "thin digits made thick by an encoder and a direction")
def edits(lab: Lab) -> list[Figure]:
    folder, line = thick_or_thin(lab)
    trained = lab.run("configs/digits_edits.yaml", f"data.real={{path: {folder}}}")
    classifier, test = judge(lab, 32), digits(lab, 32, "t10k", SAMPLES)
    thin = thickness(test.images) < line
    images, labels = test.images[thin][:1000], test.labels[thin][:1000]
    figures, shown = [], [images[:16]]
    for strength, flipped_line, kept_line in ((0.0, "", ""), (1.0, "", ""), (STRENGTH, "> 0.8", "> 0.8")):
        edited = trained.translated(images, f"thick={strength}")
        flipped = (thickness(edited) >= line).double().mean()
        kept = (classifier.read(to_uint8(edited)).predictions == labels).double().mean()
        figures += [
            Figure(f"thin digits that are thick then, strength {strength:g}", float(flipped), flipped_line),
            Figure(f"digits that stay what they are, strength {strength:g}", float(kept), kept_line),
        ]
        shown.append(edited[:16])
    save_grid(torch.cat(shown), lab.picture("mnist_edits.png"), columns=16)
    return figures


STRENGTH = 2.0  # times the difference of the means, so that nearly all cross the line


def thickness(images: Tensor) -> Tensor:
    """Ink by its outline, of images [N, 1, H, W] in [-1, 1]: [N], about half a stroke's width in pixels."""
    ink = (images + 1) / 2
    inner = (avg_pool2d(ink, 3, 1, 1, count_include_pad=True) * 9 > 8 * ink.amax((2, 3), keepdim=True) * 0.9).float()
    area = ink.sum((1, 2, 3))
    edge = (ink - inner * ink).sum((1, 2, 3))
    return area / edge.clamp_min(1)


def thick_or_thin(lab: Lab) -> tuple[str, float]:
    """MNIST, packed with the attribute "thick", and the thickness that is its median."""
    if not (SHARED / "mnist").is_dir():
        raise Missing("needs MNIST in ../shared/data/mnist")
    source = open_idx(SHARED / "mnist", "train")
    widths = torch.cat([*measured(source)])
    line = float(widths.median())
    items = [
        item._replace(attributes=(float(width >= line),)) for item, width in zip(source.items, widths.tolist(), strict=True)
    ]
    name = fingerprint([source.fingerprint, f"thick at {line:.6f}"])
    folder = lab.folder / "thick"
    pack(replace(source, items=items, attributes=("thick",), fingerprint=name), folder, size=(32, 32), workers=1)
    return str(folder), line


def measured(source: Source) -> Iterator[Tensor]:
    """The thickness of a source's images at 32 px, some at a time."""
    items: Iterator[Item] = iter(source.items)
    while some := [*islice(items, 1000)]:
        pictures = [np.asarray(item.load().resize((32, 32), 1), dtype=np.float32) for item in some]
        yield thickness(torch.from_numpy(np.stack(pictures))[:, None] / 127.5 - 1)
