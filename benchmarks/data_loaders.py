"""The same shards and files read by bigan, by plain webdataset and by torchvision's ImageFolder: batches of uint8 images.

Each side is an endless iterator of batches [N, 3, H, W] uint8 with `workers` threads (bigan) or processes (DataLoader).
"""

import io
import itertools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
import webdataset
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor

from bigan.data.ahead import Prefetcher
from bigan.data.stream import Shards, ShardStream

Side = Iterator[Iterator[Tensor]]
RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def fast(content: bytes) -> np.ndarray:
    """bigan's decoders by themselves: [H, W, C]."""
    if content[:2] == b"\xff\xd8":
        return simplejpeg.decode_jpeg(content, "RGB")
    pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), RGB)
    assert pixels is not None
    return pixels


def pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def opencv(content: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), RGB)


def fast_file(path: str) -> Tensor:
    return torch.from_numpy(fast(Path(path).read_bytes())).permute(2, 0, 1)


def fast_member(key: str, content: bytes) -> np.ndarray | None:
    return fast(content) if key.rpartition(".")[2] in ("jpg", "png") else None


def to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


@contextmanager
def ours(folder: Path, batch: int, workers: int, *, start: int = 0) -> Side:
    with ShardStream(Shards(path=str(folder / "shards"), workers=workers), 0, decoded_bytes=0) as stream:
        with Prefetcher(stream, start, batch, batch) as ahead:
            yield (ahead.get(start + step * batch, batch).images for step in itertools.count())


@contextmanager
def plain_webdataset(folder: Path, batch: int, workers: int, *, same_decoder: bool = False) -> Side:
    urls = sorted(map(str, (folder / "shards").glob("*.tar")))
    extension = "jpg" if next((folder / "files" / "c").iterdir()).suffix == ".jpg" else "png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(1000).decode(fast_member if same_decoder else "rgb8")  # pyright: ignore
        data = data.repeat().to_tuple(extension).map_tuple(to_tensor).batched(batch)
        loader = webdataset.WebLoader(data, batch_size=None, num_workers=workers)  # pyright: ignore
        yield (pair[0] for pair in iter(loader))


@contextmanager
def image_folder(folder: Path, batch: int, workers: int, *, same_decoder: bool = False) -> Side:
    data = (
        ImageFolder(str(folder / "files"), loader=fast_file)
        if same_decoder
        else ImageFolder(str(folder / "files"), transform=PILToTensor())
    )
    sampler = RandomSampler(data, replacement=True, num_samples=10**9 // batch)
    yield (pair[0] for pair in iter(DataLoader(data, batch_size=batch, sampler=sampler, num_workers=workers)))


@contextmanager
def bare(folder: Path, batch: int, workers: int, decode: Callable[[bytes], object] = fast) -> Side:
    """Only the decoder, over bytes in memory, on as many threads: what no loader can pass."""
    contents = [path.read_bytes() for path in sorted((folder / "files" / "c").iterdir())[:200]]
    turn, stop = threading.Semaphore(0), threading.Event()

    def work() -> None:
        for number in itertools.cycle(range(len(contents))):
            if stop.is_set():
                return
            decode(contents[number])
            turn.release()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()

    def batches() -> Iterator[Tensor]:
        empty = torch.empty(batch, 0)
        while True:
            for _ in range(batch):
                turn.acquire()
            yield empty

    try:
        yield batches()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def rate(side: Iterator[Tensor], seconds: float) -> float:
    """Images/s over some seconds, after a few batches."""
    for _ in range(3):
        next(side)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += len(next(side))
    return count / (time.perf_counter() - began)


def check(folder: Path, batch: int) -> None:
    """Every side gives uint8 batches of one size: else nothing is timed."""
    with Image.open(next((folder / "files" / "c").iterdir())) as image:
        side = image.width
    for loader in (ours, plain_webdataset, image_folder):
        with loader(folder, batch, 1) as batches:
            found = next(batches)
            assert found.dtype == torch.uint8, found.dtype
            assert found.shape == (batch, 3, side, side), found.shape
