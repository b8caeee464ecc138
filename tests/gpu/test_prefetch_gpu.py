"""Batches that are brought to the device on a stream of their own are the ones that were read."""

import pytest
import torch
from torch import Tensor

from bigan.batch import Batch
from bigan.data.ahead import Prefetcher


class Noise:
    """Large batches, so that a copy that was not waited for would be seen."""

    def read(self, start: int, count: int) -> Batch:
        return Batch(torch.arange(start, start + count), {"images": noise(start, count)})


def noise(start: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(start)
    images = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=generator)
    return images.permute(0, 3, 1, 2)


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_batches_arrive_whole() -> None:
    device = torch.device("cuda")
    with Prefetcher(Noise(), 0, 64, 64, device=device) as ahead:
        for step in range(30):
            batch = ahead.get(64 * step, 64)
            busy = torch.randn(2048, 2048, device=device)
            for _ in range(5):
                busy = busy @ busy / 2048
            images = batch.to(device).images
            assert images.is_contiguous(memory_format=torch.channels_last)
            expected = noise(64 * step, 64).float() / 127.5 - 1
            assert torch.allclose(images.cpu(), expected, atol=1e-6)
            del batch, images  # its memory goes back while the kernels of the loop's stream may still run
