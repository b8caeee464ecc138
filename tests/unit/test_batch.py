"""What a game is told of its data, and what it is given."""

import numpy as np
import pytest
import torch

from bigan.batch import ArraySpec, Batch, DataSpec, ImageSpec

SPEC = DataSpec(
    samples=7,
    image_shape=(3, 4, 5),
    classes=("a",),
    attributes=("hat", "young"),
    caption_bytes=9,
    more_images=(ImageSpec(name="target", shape=(1, 2, 2)),),
    arrays=(ArraySpec(name="voxels", shape=(2, 2, 2), dtype="uint8"),),
)


def test_a_spec_survives_json() -> None:
    assert DataSpec.of(SPEC.plain()) == SPEC
    assert DataSpec.of(DataSpec(samples=1, classes=("x",)).plain()) == DataSpec(samples=1, classes=("x",))


def batch() -> Batch:
    fields = {
        "images": torch.full((2, 3, 4, 5), 255, dtype=torch.uint8),
        "target": torch.zeros((2, 1, 2, 2), dtype=torch.uint8),
        "voxels": torch.ones((2, 2, 2, 2), dtype=torch.uint8),
        "captions": torch.from_numpy(np.frombuffer("zwei é\0\0three\0\0\0\0".encode(), dtype=np.uint8).reshape(2, 9).copy()),
        "attributes": torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
    }
    return Batch(torch.arange(2), fields, frozenset(SPEC.image_shapes))


def test_pictures_are_scaled_and_other_bytes_are_not() -> None:
    """Voxels are uint8 of four dimensions, too."""
    moved = batch().to(torch.device("cpu"))
    assert moved.images.dtype == torch.float32
    assert (moved.images == 1.0).all()
    assert moved.images.is_contiguous(memory_format=torch.channels_last)
    assert (moved["target"] == -1.0).all()
    assert moved["voxels"].dtype == torch.uint8
    assert (moved["voxels"] == 1).all()
    assert (moved.to(torch.device("cpu")).images == 1.0).all()


def test_every_slice_and_map_keeps_the_pictures() -> None:
    part = batch().rows(1, 1).map(lambda tensor: tensor.clone())
    assert part.pictures == {"images", "target"}
    assert len(part) == 1
    assert part.attributes.tolist() == [[1.0, 1.0]]


def test_captions_are_text_again() -> None:
    assert batch().texts() == ["zwei é", "three"]
    moved = batch().to(torch.device("meta"))  # as on a GPU, whom reading text would keep waiting
    assert {name: tensor.device.type for name, tensor in moved.fields.items() if tensor.device.type != "meta"} == {
        "captions": "cpu"
    }
    assert moved.texts() == batch().texts()
    with pytest.raises(ValueError, match="no 'labels'; it has images, target"):
        _ = batch().labels
