"""Memory that is used again: only when nobody can see it any more."""

import gc

import torch

from bigan.data.buffers import Buffers

SHAPE = (4, 512, 512, 3)


def test_memory_comes_back_when_its_last_tensor_goes() -> None:
    buffers = Buffers()
    first = torch.from_numpy(buffers.take(SHAPE))
    place = first.data_ptr()
    part = first.permute(0, 3, 1, 2)[1:2]
    del first
    gc.collect()
    second = torch.from_numpy(buffers.take(SHAPE))
    assert second.data_ptr() != place  # a view of the first still shows it
    part.fill_(7)
    second.zero_()
    assert (part == 7).all()
    held = part.numpy()
    del part
    gc.collect()
    assert buffers.take(SHAPE).ctypes.data != place
    del held
    gc.collect()
    assert buffers.take(SHAPE).ctypes.data == place


def test_other_sizes_and_small_ones_are_their_own() -> None:
    buffers = Buffers()
    for shape in ((2, 2, 2, 3), (1, 600, 600, 3), (2, 600, 600, 3)):
        assert buffers.take(shape).shape == shape
