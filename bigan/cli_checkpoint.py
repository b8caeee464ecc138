"""`bigan checkpoint …`: the commands that look at what a run has saved."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List, verify and export what a run has saved.", no_args_is_help=True)

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, such as runs/digits.")]
At = Annotated[str | None, typer.Option("--checkpoint", metavar="ROUND", help="A round, or `best`; else the newest.")]
Live = Annotated[bool, typer.Option("--live", help="Take the live weights, not the averaged ones.")]


@app.command(name="ls")
def ls_command(path: RunPath) -> None:
    """List a run's checkpoints, newest first."""
    from bigan.checkpoints import listing

    print("\n".join(listing(path)))


@app.command(name="verify")
def verify_command(
    path: Annotated[Path, typer.Argument(metavar="RUN|CHECKPOINT", help="A run's folder, or one checkpoint's.")],
) -> None:
    """Read every byte and compare it with what was written; exit status 1 where something is damaged."""
    from bigan.checkpoints import verify

    found = verify(path)
    for each, wrong in found:
        print(f"{each}: {f'is damaged: {wrong}' if wrong else 'is whole'}")
    raise typer.Exit(1 if any(wrong for _, wrong in found) else 0)


@app.command(name="export")
def export_command(
    path: RunPath,
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
    live: Live = False,
    at: At = None,
) -> None:
    """Write the averaged players and the config into one file to draw samples with (docs/checkpoints.md)."""
    from bigan.export import export

    players = export(path, out, live=live, at=at)
    print(f"{out}: {', '.join(players)}")
