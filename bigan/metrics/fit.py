"""Train the classifier whose features judge a data set: a few hundred steps, the same on every call with the same seed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bigan.images import from_uint8
from bigan.metrics.features import VERSION, Classifier, Network, Task, Training, check_images, untrained

MAX_SAMPLES = 20_000  # images trained on at most; the features hardly gain from more in so few steps
FEWEST = 20  # images, so that a tenth is two
BATCH = 64
EPOCHS, MIN_STEPS, MAX_STEPS = 6, 300, 1200
PEAK_RATE, WEIGHT_DECAY = 4e-3, 1e-2
SHIFT = 1 / 16  # of the shorter side: the augmentation

Progress = Callable[[int, int], None]


def train_classifier(
    images: Tensor,
    labels: Tensor | None,
    classes: Sequence[str],
    seed: int,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> Classifier:
    """Train a small classifier; equal arguments (hardware, thread count) give equal weights, and no global state is touched.

    A tenth of the images is held out for the accuracy. Where there are fewer than two classes, the classifier tells by how
    many quarter turns an image was turned (Gidaris et al., "Unsupervised Representation Learning by Predicting Image
    Rotations", ICLR 2018); images that are not square are cropped to their central square for that.

    Args:
        images: [N, C, H, W] uint8, N ≥ 20, H and W ≥ 16, C 1 or 3; at most MAX_SAMPLES of them, drawn by the seed, are used.
        labels: [N] int64, or None where the data has no classes.
        classes: names of the classes, in the order of the labels.
        seed: of the split, the weights, the order and the shifts.
        progress: called with (steps done, steps in all) after each step.
        device: where to train; the CPU by default. The classifier stays there.

    Raises:
        ValueError: too few or too small images, or labels that do not fit.
    """
    check_images(images)
    if len(images) < FEWEST:
        raise ValueError(f"{len(images)} images are too few to train a classifier on; at least {FEWEST} are needed")
    task: Task = "classes" if len(classes) >= 2 else "rotation"
    if task == "classes":
        _check_labels(images, labels, len(classes))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:MAX_SAMPLES]
    held_out, training = chosen.tensor_split([max(2, len(chosen) // 10)])
    dataset = _Dataset(images, labels if task == "classes" else None)
    network = untrained(images.shape[1], len(classes) if task == "classes" else 4, generator)
    network.to(device or torch.device("cpu"))
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        _train(network, dataset, training, generator, progress)
    network.eval().requires_grad_(False)
    _scale_features(network, dataset, training)
    about = Training(
        task=task, classes=tuple(classes), image_shape=(images.shape[1], images.shape[2], images.shape[3]), seed=seed,
        available=len(images), trained_on=len(training), held_out=len(held_out),
        accuracy=_accuracy(network, dataset, held_out),
    )  # fmt: skip
    return Classifier(network, about)


def cached_classifier(
    folder: Path,
    manifest_digest: str,
    images: Tensor,
    labels: Tensor | None,
    classes: Sequence[str],
    seed: int,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> Classifier:
    """The classifier of a packed data set, from the folder if it was trained before, else trained and put there.

    Args:
        folder: where classifiers are kept, made if need be; a file there that is broken or of another version is replaced.
        manifest_digest: identifies the data, as do the images and the labels, which must be the same for the same digest.
        images: as in `train_classifier`, and so are the rest.
        labels: see there.
        classes: see there.
        seed: see there.
        progress: see there; not called where the classifier was there.
        device: see there.
    """
    key = {"data": manifest_digest, "seed": seed, "images": len(images), "classes": list(classes)}
    name = "".join(letter for letter in manifest_digest[:16] if letter.isalnum())
    path = folder / f"classifier-{name}-{seed}-v{VERSION}.safetensors"
    if path.exists():
        try:
            found = Classifier.load(path, key)
            found.network.to(device or torch.device("cpu")).requires_grad_(False)
            return found
        except ValueError:
            pass  # a cache: what cannot be used is made anew
    made = train_classifier(images, labels, classes, seed, progress, device)
    made.save(path, key)
    return made


def _check_labels(images: Tensor, labels: Tensor | None, classes: int) -> None:
    if labels is None or labels.shape != (len(images),):
        found = "none" if labels is None else list(labels.shape)
        raise ValueError(f"labels: {found} for {len(images)} images of {classes} classes")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: {int(labels.min())} … {int(labels.max())}, but there are {classes} classes")


class _Dataset:
    """Images and targets of either task: labels, or None for the four rotations of each image."""

    def __init__(self, images: Tensor, labels: Tensor | None) -> None:
        self.images, self.labels = images, labels

    def batch(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] in [-1, 1] and targets [n]; n is four times the rows for the rotations."""
        images = from_uint8(self.images[rows].to(device))
        if self.labels is not None:
            return images, self.labels[rows].to(device)
        square = _central_square(images)
        turned = [square.rot90(turns, (2, 3)) for turns in range(4)]
        return torch.cat(turned), torch.arange(4, device=device).repeat_interleave(len(rows))

    def rows_a_batch(self) -> int:
        return BATCH if self.labels is not None else BATCH // 4


def _central_square(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]


def _train(network: Network, dataset: _Dataset, rows: Tensor, generator: torch.Generator, progress: Progress | None) -> None:
    size = min(dataset.rows_a_batch(), len(rows))
    steps = min(max(EPOCHS * len(rows) // size, MIN_STEPS), MAX_STEPS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    device = network.scale.device
    network.train()
    order = rows[:0]
    for step in range(steps):
        while len(order) < size:
            order = torch.cat([order, rows[torch.randperm(len(rows), generator=generator)]])
        images, targets = dataset.batch(order[:size], device)
        order = order[size:]
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * _one_cycle((step + 1) / steps)
        loss = F.cross_entropy(network(_shifted(images, generator)), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress(step + 1, steps)


def _one_cycle(done: float, warm: float = 0.15) -> float:
    """Up in a line over the first steps, then down along a cosine to zero."""
    return done / warm if done < warm else 0.5 + 0.5 * math.cos(math.pi * (done - warm) / (1 - warm))


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image by up to SHIFT of the shorter side; what comes in at an edge repeats the edge."""
    count, _, height, width = images.shape
    most = max(1, int(min(height, width) * SHIFT))
    by = torch.randint(-most, most + 1, (2, count, 1), generator=generator).to(images.device)
    rows = (torch.arange(height, device=images.device) + by[0]).clamp_(0, height - 1)
    columns = (torch.arange(width, device=images.device) + by[1]).clamp_(0, width - 1)
    sample = torch.arange(count, device=images.device)
    moved = images.permute(0, 2, 3, 1)[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@torch.no_grad()
def _accuracy(network: Network, dataset: _Dataset, rows: Tensor) -> float:
    right = total = 0
    for chunk in rows.split(dataset.rows_a_batch()):
        images, targets = dataset.batch(chunk, network.scale.device)
        right += int((network(images).argmax(1) == targets).sum())
        total += len(targets)
    return right / total


@torch.no_grad()
def _scale_features(network: Network, dataset: _Dataset, rows: Tensor) -> None:
    """Let the features' mean variance be 1: the scale that training happens to end with should not scale the figures."""
    device = network.scale.device
    chunks = [network.pooled(from_uint8(dataset.images[chunk].to(device))) for chunk in rows.split(BATCH)]
    variance = torch.cat(chunks).double().var(0).mean()
    network.scale.copy_(variance.clamp_min(1e-12).rsqrt())
