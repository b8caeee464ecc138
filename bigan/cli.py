"""The commands: they parse, call and print. Nothing heavy is imported before a command needs it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from bigan import cli_checkpoint, cli_interpolate, cli_use
from bigan.cli_checkpoint import At, Live, RunPath

app = typer.Typer(
    help="Train generative adversarial networks, on one process or on many.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(cli_checkpoint.app, name="checkpoint")
app.add_typer(cli_interpolate.app)
app.add_typer(cli_use.app)


@app.command(name="pack")
def pack_command(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Folder, zip, tar (sub-folder = class), CSV, published set, or `digits`."),
    ],
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="The folder to make.")] = None,
    size: Annotated[str, typer.Option(help="Side, or HEIGHTxWIDTH, in pixels.")] = "64",
    grey: Annotated[bool | None, typer.Option("--grey/--rgb", help="Channels; as the images are unless given.")] = None,
    format: Annotated[str, typer.Option(help="How images are stored: png, jpg or webp.")] = "png",
    quality: Annotated[
        int | None, typer.Option(help="1 to 100; of jpg (95 unless given) and webp (no loss unless given).")
    ] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1)] = 1000,
    keep_order: Annotated[bool, typer.Option("--keep-order", help="Do not shuffle the samples.")] = False,
    split: Annotated[str | None, typer.Option(help="Which part of a published set: train, test, t10k, ….")] = None,
    halves: Annotated[
        str | None, typer.Option(metavar="images|source", help="Each image is a pair, side by side; what the left half is.")
    ] = None,
    other: Annotated[
        str | None, typer.Option("--source", metavar="OTHER", help="Where each image's partner lies, under the same name.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only N images, spread over the source.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; as many as there are cores unless given.")] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Write every N-th shard, from shard I on (0 is the first).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set that stands at OUT.")] = False,
    check: Annotated[bool, typer.Option("--check", help="SOURCE is a packed set: list all that is wrong with it.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="SOURCE is a packed set: say what it holds.")] = False,
) -> None:
    """Pack images into webdataset shards. The same command goes on where one that was ended stopped."""
    cores = len(os.sched_getaffinity(0)) if workers is None else workers
    if check or stats:
        if out is not None:
            raise ValueError(f"{out}: --check and --stats read SOURCE and make nothing; leave OUT away")
        _examine(source, check, stats, cores)
        return
    if out is None:
        raise ValueError("OUT: is missing; name the folder to make (or --check or --stats, if SOURCE is a packed set)")
    from bigan.data.pack import pack
    from bigan.data.sources import open_source

    images = open_source(source, split=split, limit=limit, halves=halves, partners=other)
    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("pack")
        report = pack(
            images,
            out,
            size=_size(size),
            channels=None if grey is None else 1 if grey else 3,
            format=format,
            quality=quality,
            samples_per_shard=samples_per_shard,
            keep_order=keep_order,
            overwrite=overwrite,
            workers=cores,
            part=None if part is None else _part(part),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if report.published is None:
        print(
            f"{report.folder}: {report.finished} of {report.shards} shards are there, among them all of part {part}; ", end=""
        )
        print("the last part to end puts the data set there, or the same command without --part")
        return
    made = report.published
    state = "is up to date" if report.up_to_date else "packed"
    spec = made.spec
    print(
        f"{report.folder}: {state}: {spec.samples} {'pairs of ' if spec.more_images else ''}images "
        f"{list(spec.image_shape or ())} of {len(spec.classes)} classes",
        end="",
    )
    print(f" in {len(made.shards)} shards; {made.skipped} skipped")


def _examine(folder: str, check: bool, stats: bool, workers: int) -> None:
    """Say what a packed set holds and what is wrong with it; exit status 1 where something is."""
    if stats:
        from bigan.data import stats as figures

        print("\n".join(figures.stats(folder)))
    if check:
        from bigan.data import check as whole

        if "://" in folder:
            raise ValueError(f"{folder}: --check reads a folder; what comes from a URL is checked when it is fetched")
        manifest, findings = whole.check(Path(folder), workers=workers)
        for finding in findings:
            print(finding)
        found = f"{len(findings)} findings" if findings else "all is well"
        print(f"{folder}: {manifest.spec.samples} samples in {len(manifest.shards)} shards read: {found}")
        raise typer.Exit(1 if findings else 0)


@app.command(name="index")
def index_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with *.tar files.")],
    classes: Annotated[Path | None, typer.Option(help="A file with the classes' names, a line each.")] = None,
    attributes: Annotated[
        str, typer.Option(help="Numbers that every .json has, such as age,smiling; else it is not read.")
    ] = "",
    ignore: Annotated[str, typer.Option(help="Extensions of members that are not to be read, such as id,url.txt.")] = "",
    shuffled: Annotated[bool, typer.Option("--shuffled", help="The samples lie in the shards at random.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Index webdataset shards that others wrote, where they lie, so that they are streamed exactly."""
    from bigan.data.foreign import index_shards, read_names

    manifest, notes = index_shards(
        folder,
        classes=None if classes is None else read_names(classes),
        attribute_names=_names(attributes),
        ignore=_names(ignore),
        shuffled=shuffled,
        workers=workers,
    )
    for note in notes:
        print(note, file=sys.stderr)
    print(f"{folder}: indexed: {manifest.spec.samples} samples in {len(manifest.shards)} shards")


@app.command(name="train")
def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as seed=1.")] = None,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|none|PATH",
            help="auto: go on from the run's newest checkpoint. none: refuse to, if it has one. "
            "PATH: where a run that has none begins: a checkpoint, or another run's folder.",
        ),
    ] = "auto",
) -> None:
    """Train a run, or go on where it stopped."""
    from bigan.distributed.preemption import listening

    with listening() as stop:  # before the seconds of importing torch, in which a signal is a wish, too
        from bigan.config import load

        run = load(config, assignments or [])
        from bigan.attempts import DivergedError
        from bigan.distributed.lease import FencedError
        from bigan.distributed.watchdog import LostRankError
        from bigan.train import train

        try:
            train(run, resume, stop)
        except LostRankError as error:
            _fail(f"{run.home}: {error}", 1, alone=True)
        except (DivergedError, FencedError) as error:
            _fail(f"{run.home}: {error}", 1)


@app.command(name="sample")
def sample_command(
    path: RunPath,
    out: Annotated[Path, typer.Option(help="A picture (.png), arrays by name (.npz), or a folder of PNGs.")],
    count: Annotated[int, typer.Option(help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the latents.")] = 0,
    live: Live = False,
    at: At = None,
    given: Annotated[str | None, typer.Option(metavar="TEXT", help="Of a conditional game: the class, the words, ….")] = None,
) -> None:
    """Draw samples of a trained run."""
    from bigan.sample import write_samples

    write_samples(path, out, count=count, seed=seed, live=live, at=at, given=given)
    print(out)


@app.command(name="evaluate")
def evaluate_command(
    path: RunPath,
    count: Annotated[int, typer.Option(help="How many samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of what the game draws, if it does.")] = 0,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="[STREAM=]PATH", help="The data, where they are not where the run found them; repeat for more."),
    ] = None,
    at: At = None,
) -> None:
    """Measure a run: Fréchet distance, precision, recall, class coverage; modes and distance of points; ranking of ratings."""
    from bigan.evaluate import evaluate

    for line in evaluate(path, count=count, seed=seed, data=data or (), at=at).lines():
        print(line)


@app.command(name="doctor")
def doctor_command() -> None:
    """Say what is installed, built and missing; exit status 1 where something needed is missing."""
    from bigan.doctor import diagnose, exit_status

    findings = diagnose()
    for finding in findings:
        print(f"{'ok ' if finding.ok else 'NO '} {finding.name}: {finding.value}")
        if finding.way_out:
            print(f"      {finding.way_out}")
    raise typer.Exit(exit_status(findings))


def main() -> None:
    """Run a command; what the user can mend is one line and exit status 2."""
    try:
        app()
    except ValueError as error:
        if not _ours(error):
            raise
        _fail(str(error), 2)


def _ours(error: ValueError) -> bool:
    """Whether bigan itself raised it; what a user's game or a library raises keeps its traceback, which says where."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and Path(frame.tb_frame.f_code.co_filename).is_relative_to(Path(__file__).parent)


def _fail(message: str, status: int, *, alone: bool = False) -> None:
    """Say it once: rank 0 knows what all have met, and what another one ended with; not what is said `alone`."""
    if alone or os.environ.get("RANK", "0") == "0":
        print(f"bigan: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ValueError(f"--part {text}: give I/N, such as 0/4 for the first of four")
    return int(number), int(count)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"--size {text}: give a side such as 64, or HEIGHTxWIDTH such as 48x64")
    return int(sides[0]), int(sides[-1])
