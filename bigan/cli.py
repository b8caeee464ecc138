"""The commands: they parse, call and print. Nothing heavy is imported before a command needs it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

app = typer.Typer(
    help="Train generative adversarial networks, on one process or on many.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, such as runs/digits.")]


@app.command(name="pack")
def pack_command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder (sub-folder = class), zip, idx folder, or `digits`.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    size: Annotated[str, typer.Option(help="Side, or HEIGHTxWIDTH, in pixels.")] = "64",
    grey: Annotated[bool | None, typer.Option("--grey/--rgb", help="Channels; as the images are unless given.")] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1)] = 1000,
    split: Annotated[str | None, typer.Option(help="Which part of an idx set: train or t10k.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N images.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set that stands at OUT.")] = False,
) -> None:
    """Pack images into webdataset shards."""
    from bigan.data.pack import pack
    from bigan.data.source import open_source

    images = open_source(source, split=split, limit=limit)
    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("pack")
        report = pack(
            images,
            out,
            size=_size(size),
            channels=None if grey is None else 1 if grey else 3,
            samples_per_shard=samples_per_shard,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    made = report.manifest
    state = "is up to date" if report.up_to_date else "packed"
    print(f"{report.folder}: {state}: {made.samples} images {list(made.image_shape)} of {len(made.classes)} classes", end="")
    print(f" in {len(made.shards)} shards; {made.skipped} skipped")


@app.command(name="train")
def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as seed=1.")] = None,
) -> None:
    """Train a run, or go on where it stopped."""
    from bigan.config import load

    run = load(config, assignments or [])
    from bigan.train import DivergedError, train

    try:
        train(run)
    except DivergedError as error:
        _fail(f"{run.home}: {error}", 1)


@app.command(name="sample")
def sample_command(
    path: RunPath,
    out: Annotated[Path, typer.Option(help="A grid (.png), an array `images` (.npz), or a folder of PNGs.")],
    count: Annotated[int, typer.Option(help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the latents.")] = 0,
    live: Annotated[bool, typer.Option("--live", help="Take the live weights, not the averaged ones.")] = False,
) -> None:
    """Draw samples of a trained run."""
    from bigan.sample import write_samples

    write_samples(path, out, count=count, seed=seed, live=live)
    print(out)


@app.command(name="evaluate")
def evaluate_command(
    path: RunPath,
    count: Annotated[int, typer.Option(help="How many samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the latents.")] = 0,
    data: Annotated[Path | None, typer.Option(help="The packed data, where it is not where the run found it.")] = None,
) -> None:
    """Measure a trained run: Fréchet distance, precision, recall, class coverage."""
    from bigan.evaluate import evaluate

    for line in evaluate(path, count=count, seed=seed, data=data).lines():
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


def _fail(message: str, status: int) -> None:
    print(f"bigan: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise ValueError(f"--size {text}: give a side such as 64, or HEIGHTxWIDTH such as 48x64")
    return int(sides[0]), int(sides[-1])
