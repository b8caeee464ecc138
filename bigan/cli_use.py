"""The commands for what some games can do besides samples: `bigan translate`, `bigan complete`, `bigan recommend`."""

from pathlib import Path
from typing import Annotated

import typer

from bigan.cli_checkpoint import At, Live, RunPath

app = typer.Typer()


@app.command(name="translate")
def translate_command(
    path: RunPath,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The image to write, or the folder.")],
    to: Annotated[
        str, typer.Option(metavar="TEXT", help="Where to: a stream's name, a class, NAME=NUMBER, …; the game's own.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of what the game draws, if it does.")] = 0,
    live: Live = False,
    at: At = None,
) -> None:
    """Translate images by a trained run."""
    from bigan.translate import translate

    written = translate(path, source, out, to=to, seed=seed, live=live, at=at)
    print(written[0] if len(written) == 1 else f"{out}: {len(written)} images")


@app.command(name="complete")
def complete_command(
    path: RunPath,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image of which a part is missing.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The whole image.")],
    mask: Annotated[str, typer.Option(help="What is missing: left, right, top, bottom, or a picture, white where it is.")],
    steps: Annotated[int, typer.Option(help="How often the missing part is filled in, each time from the last.")] = 10,
    seed: Annotated[int, typer.Option(help="Of what the game draws, if it does.")] = 0,
    live: Live = False,
    at: At = None,
) -> None:
    """Fill in what is missing of an image; what is not missing stays as it is."""
    from bigan.complete import complete

    complete(path, image, out, mask=mask, steps=steps, seed=seed, live=live, at=at)
    print(out)


@app.command(name="recommend")
def recommend_command(
    path: RunPath,
    user: Annotated[str, typer.Option(metavar="U", help="The user, as the ratings name it.")],
    count: Annotated[int, typer.Option(help="How many items.")] = 10,
    data: Annotated[Path | None, typer.Option(help="The ratings, where they are not where the run found them.")] = None,
    live: Live = False,
    at: At = None,
) -> None:
    """List the items that suit a user best, of those that the user has not rated, with their scores."""
    from bigan.recommend import recommend

    for item, score in recommend(path, user, count=count, data=data, live=live, at=at):
        print(f"{item}\t{score:.4f}")
