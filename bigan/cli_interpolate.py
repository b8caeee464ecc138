"""`bigan interpolate`."""

from pathlib import Path
from typing import Annotated

import typer

from bigan.cli_checkpoint import At, Live, RunPath

app = typer.Typer()


@app.command(name="interpolate")
def interpolate_command(
    path: RunPath,
    out: Annotated[Path, typer.Option(help="Strips (.png), or images that move (.gif).")],
    seed: Annotated[int, typer.Option(help="Of the latents.")] = 0,
    live: Live = False,
    at: At = None,
) -> None:
    """Draw what lies between samples of a trained run."""
    from bigan.interpolate import interpolate

    interpolate(path, out, seed=seed, live=live, at=at)
    print(out)
