"""What reading shards costs, against webdataset and ImageFolder under DataLoader: `python benchmarks/data.py [--json]`.

The rows of a format are measured in turns, one short run of each side after the other, and the ratios are medians over the
turns, so that a slow moment of the machine hits all sides. `--save` rewrites benchmarks/results/data.md.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import simplejpeg
import torch

from bigan.data.stream import Shards, ShardStream
from data_loaders import bare, check, image_folder, opencv, ours, pillow, plain_webdataset, rate
from data_sets import make
from rows import Row, at_least, at_most, markdown, show

RESULTS = Path(__file__).with_name("results") / "data.md"
WORKERS, BATCH, TURNS, SECONDS = 2, 64, 7, 1.5
SETS = {"JPEG 256 px": ("jpg", 256, 4000), "PNG 64 px": ("png", 64, 16000)}


def throughput(name: str, folder: Path) -> list[Row]:
    check(folder, BATCH)
    sides: dict[str, Callable] = {
        "bigan": ours,
        "webdataset": plain_webdataset,
        "ImageFolder": image_folder,
        "webdataset, bigan's decoder": lambda *options: plain_webdataset(*options, same_decoder=True),
        "ImageFolder, bigan's decoder": lambda *options: image_folder(*options, same_decoder=True),
        "the decoder alone": bare,
    }
    turns: list[dict[str, float]] = []
    for _ in range(TURNS):
        turn = {}
        for side, loader in sides.items():
            with loader(folder, BATCH, WORKERS) as batches:
                turn[side] = rate(batches, SECONDS)
        turns.append(turn)
    rows = [Row(f"{name}: {side}", round(statistics.median(turn[side] for turn in turns)), "images/s") for side in sides]

    def ratio(*others: str) -> float:
        return statistics.median(turn["bigan"] / max(turn[other] for other in others) for turn in turns)

    better = "times the better of webdataset and ImageFolder"
    rows.append(at_least(f"{name}: bigan", ratio("webdataset", "ImageFolder"), 1.5, better))
    same = ratio("webdataset, bigan's decoder", "ImageFolder, bigan's decoder")
    rows.append(Row(f"{name}: bigan, the same decoder on all sides", round(same, 3), better))
    rows.append(at_least(f"{name}: bigan", ratio("the decoder alone"), 0.9, "of the decoder's own rate"))
    return rows


def decoders(name: str, folder: Path) -> list[Row]:
    """Why bigan decodes with what it decodes with: the candidates alone, in threads."""
    candidates: dict[str, Callable[[bytes], object]] = {"Pillow": pillow, "OpenCV": opencv}
    if name.startswith("JPEG"):
        candidates["simplejpeg"] = lambda content: simplejpeg.decode_jpeg(content, "RGB")
    found: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for _ in range(TURNS):
        for candidate, decode in candidates.items():
            with bare(folder, BATCH, WORKERS, decode) as batches:
                found[candidate].append(rate(batches, 0.5))
    return [Row(f"{name}: {each} alone", round(statistics.median(rates)), "images/s") for each, rates in found.items()]


def first_batch(folder: Path) -> Row:
    """From opening a stream to its first batch, at the beginning of an epoch and at 90 % of it."""
    with Shards(path=str(folder / "shards")).open(0) as stream:
        late = stream.spec.samples * 9 // 10

    def seconds(start: int) -> float:
        began = time.perf_counter()
        with ShardStream(Shards(path=str(folder / "shards")), 0, decoded_bytes=0) as stream:
            stream.read(start, BATCH)
        return time.perf_counter() - began

    pairs = [(seconds(0), seconds(late)) for _ in range(30)]
    ratio = statistics.median(at_90 / at_0 for at_0, at_90 in pairs)
    return at_most("first batch after a resume at 90 % of an epoch", ratio, 1.2, "times the time of one at 0 %")


def memory(folder: Path) -> Row:
    """Resident memory after ten epochs, of what it was after one; in a process of its own."""
    command = [sys.executable, __file__, "--epochs", str(folder)]
    first, last = map(int, subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split())
    return at_most("memory over 10 epochs", last / first - 1, 0.05, "growth of the resident set after the first")


def epochs(folder: Path) -> None:
    with ShardStream(Shards(path=str(folder / "shards")), 0, decoded_bytes=0) as stream:
        samples = stream.spec.samples
        sizes = []
        for epoch in range(10):
            for start in range(epoch * samples, (epoch + 1) * samples - BATCH, BATCH):
                stream.read(start, BATCH)
            sizes.append(resident())
    print(sizes[0], sizes[-1])


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def waiting(folder: Path) -> Row:
    """The loader's share of a training step of the default digits run, in a run of a few thousand images."""
    bigan = [sys.executable, "-m", "bigan"]
    subprocess.run([*bigan, "pack", "digits", str(folder / "digits"), "--size", "32"], check=True, stdout=subprocess.DEVNULL)
    config = Path(__file__).parents[1] / "configs" / "digits.yaml"
    settings = ["name=waiting", f"folder={folder}", f"data.real.path={folder / 'digits'}", "length_kimg=12", "tick_kimg=2"]
    subprocess.run([*bigan, "train", str(config), *settings], check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in (folder / "waiting" / "events.jsonl").read_text().splitlines()]
    share = statistics.mean(event["loader_wait"] for event in events[1:])  # the first tick decodes the set
    return at_most("a training step of the digits run waits for data", share, 0.05, "of its time")


def measure(folder: Path) -> list[Row]:
    cv2.setNumThreads(0)
    rows = []
    for name, (extension, side, count) in SETS.items():
        make(folder / name, extension, side, count)
        rows += throughput(name, folder / name) + decoders(name, folder / name)
    first = folder / next(iter(SETS))
    return [*rows, first_batch(first), memory(first), waiting(folder)]


def table(rows: list[Row]) -> str:
    told = (
        f"Batches of {BATCH} uint8 images of one size with {WORKERS} workers (threads here, processes under DataLoader), the",
        f"files in the page cache; medians over {TURNS} turns of all sides, {SECONDS} s each.",
    )
    return markdown("Reading shards", "python benchmarks/data.py --save", told, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the made images are kept")
    parser.add_argument("--epochs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.epochs is not None:
        epochs(arguments.epochs)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(arguments.folder or Path(scratch))
    show(rows, table(rows), RESULTS, as_json=arguments.json, save=arguments.save)


if __name__ == "__main__":
    main()
