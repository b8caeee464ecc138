"""A small classifier of the packed data, whose penultimate layer is the space in which generated images are judged.

Figures of two data sets, or of two classifiers, cannot be compared with one another, nor with a published FID, whose features
are Inception's: compare figures that carry the same `features` hash.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from bigan.images import from_uint8

VERSION = 1  # of the network and of its training; a new one makes every cached classifier anew
FEATURES = 64
LONGEST_SHORT_SIDE = 64  # pixels; larger images are averaged down to it, as the work grows with their area
SMALLEST_SIDE = 16  # pixels

Task = Literal["classes", "rotation"]


class Reading(NamedTuple):
    """What a classifier says of N images: `features` [N, FEATURES] float32 and `predictions` [N] int64, both on the CPU."""

    features: Tensor
    predictions: Tensor


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a classifier came to be.

    Attributes:
        task: "classes", or "rotation" (Gidaris et al., 2018) where the data has fewer than two classes.
        classes: names of the data's classes, in the order of the labels; empty where there are none.
        image_shape: (C, H, W) of the images.
        seed: of the training.
        available: images there were.
        trained_on: images trained on, fewer than there were above a cap.
        held_out: images, never trained on, that gave the accuracy.
        accuracy: share of the held-out images (of their four rotations) that is classified rightly.
    """

    task: Task
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    seed: int
    available: int
    trained_on: int
    held_out: int
    accuracy: float


class Network(nn.Module):
    """Four convolutions and a global average, for images [N, C, H, W] in [-1, 1] of any height and width from 16 on.

    Args:
        channels: C.
        outputs: how many logits.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        widths, strides = (channels, 32, FEATURES, FEATURES, FEATURES), (2, 2, 1, 2)
        self.layers = nn.Sequential()
        for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            self.layers.extend([nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()])
        self.head = nn.Linear(FEATURES, outputs)
        self.scale = nn.Buffer(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] → logits [N, outputs]."""
        return self.head(self.pooled(images))

    def pooled(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] → features [N, FEATURES], not scaled yet."""
        shrink = min(1.0, LONGEST_SHORT_SIDE / min(images.shape[2:]))
        if shrink < 1.0:  # the area filter: each pixel of the smaller image is a mean, so nothing aliases
            height, width = (round(side * shrink) for side in images.shape[2:])
            images = F.adaptive_avg_pool2d(images, (height, width))
        return self.layers(images).mean((2, 3))


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network, in eval mode, and how it was trained."""

    network: Network
    training: Training

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over the weights and the version: figures with equal digests were made by equal features."""
        state = hashlib.sha256(f"bigan features {VERSION} {self.training.task}".encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            state.update(name.encode())
            state.update(tensor.cpu().contiguous().numpy().tobytes())
        return state.hexdigest()[:16]

    @torch.no_grad()
    def read(self, images: Tensor, batch: int = 256) -> Reading:
        """Features and predictions of images.

        Args:
            images: [N, C, H, W] uint8, of the shape that the classifier was trained on.
            batch: how many at once; the result does not depend on it but for rounding.

        Returns:
            the features are scaled so that the training images' have variance 1, averaged over the features.
        """
        check_images(images, self.training.image_shape)
        device = self.network.scale.device
        features, predictions = [], []
        for chunk in images.split(batch):
            pooled = self.network.pooled(from_uint8(chunk.to(device)))
            features.append((pooled * self.network.scale).cpu())
            predictions.append(self.network.head(pooled).argmax(1).cpu())
        return Reading(torch.cat(features), torch.cat(predictions))

    def save(self, path: Path, key: Mapping[str, Any]) -> None:
        """Write a safetensors file that `load` gives back for the same key; never leaves half a file."""
        header = json.dumps({"version": VERSION, "key": dict(key), "training": asdict(self.training)}, sort_keys=True)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            save_file(tensors, part, metadata={"bigan": header})
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, key: Mapping[str, Any]) -> "Classifier":
        """Read what `save` wrote; ValueError naming the file where it is broken, of another version or for another key."""
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["bigan"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if (header["version"], header["key"]) != (VERSION, dict(key)):
                raise ValueError(f"is version {header['version']} for {header['key']}")
            found = header["training"]
            training = Training(**{**found, "classes": tuple(found["classes"]), "image_shape": tuple(found["image_shape"])})
            network = untrained(training.image_shape[0], outputs(training), torch.Generator())
            network.load_state_dict(tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: is no classifier that can be used ({error}); delete it and it is made anew") from error
        return cls(network.eval(), training)


def outputs(training: Training) -> int:
    """How many logits the task needs."""
    return len(training.classes) if training.task == "classes" else 4


def untrained(channels: int, logits: int, generator: torch.Generator) -> Network:
    """A network whose weights are a function of the generator alone (He et al., 2015); the global one is left as it was."""
    with torch.random.fork_rng(devices=[]):  # the layers' own initialisation draws from it
        network = Network(channels, logits)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, FEATURES**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
    return network.to(memory_format=torch.channels_last)


def check_images(images: Tensor, shape: tuple[int, int, int] | None = None) -> None:
    """ValueError unless the images are [N, C, H, W] uint8 that a classifier takes, of this (C, H, W) where one is given."""
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be uint8 [N, C, H, W], at least one; got {images.dtype} {list(images.shape)}")
    if shape is not None and tuple(images.shape[1:]) != shape:
        raise ValueError(f"images are {list(images.shape[1:])} (C, H, W), the classifier was trained on {list(shape)}")
    if images.shape[1] not in (1, 3) or min(images.shape[2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"images of (C, H, W) {list(images.shape[1:])} cannot be judged: they need 1 or 3 channels and "
            f"{SMALLEST_SIDE} pixels a side; pack the data with a larger --size"
        )
