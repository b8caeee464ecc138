"""Where a run begins: the checkpoint that every rank can read, what `--resume` asks for, and what it may not be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigan.changes import completed, refuse_changes
from bigan.config import Run, dump
from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import Checkpoint
from bigan.distributed.group import Alone, World, on_first_rank
from bigan.folder import RunFolder

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        saved: the checkpoint; None for the first weights.
        notes: what a run says of it when it starts.
    """

    saved: Checkpoint | None = None
    notes: tuple[str, ...] = ()


def starting_point(run: Run, folder: RunFolder, data: Mapping[str, Any], group: Alone | World, resume: str = AUTO) -> Start:
    """The newest checkpoint that verifies on all ranks, each of which looks for itself; a collective.

    Args:
        run: the run that is to go on.
        folder: its own.
        data: stream → {"spec": …, "sha256": …} as the streams are now.
        group: the ranks.
        resume: "auto": the run's own newest. "none": the run must have none. Else the path of a checkpoint or of a run
            folder, from which a run without checkpoints of its own begins; one that has some goes on with them.

    Raises:
        ValueError: on every rank: there are checkpoints and none is whole, or it is of another config or other data, or
            `resume` asks for what cannot be.
    """
    own = _seen(folder.checkpoints, group)
    wanted = own if resume == AUTO else _asked(resume, folder, own, group)
    if not wanted:
        return Start()
    path, notes = _newest_whole(wanted, group)
    saved = checkpoint.load(path)
    begun = folder.home if wanted is own else path
    refuse_changes(completed(saved.config, run, begun), dump(run), begun)
    if changed := [name for name in data if saved.data[name]["sha256"] != data[name]["sha256"]]:
        raise ValueError(
            f"data.{changed[0]}: {run.data[changed[0]].where} is not the data that {begun} "
            "was begun with; restore it, or give the run another name"
        )
    return Start(saved, notes if wanted is own else (*notes, f"begins where {path} ends"))


def _asked(resume: str, folder: RunFolder, own: list[Path], group: Alone | World) -> list[Path]:
    """The checkpoints among which the newest whole one is taken, newest first; `own` itself where the run goes on."""
    if resume == NONE:
        if own:
            raise ValueError(f"--resume none: {folder.checkpoints} holds checkpoints; set name=, or move them away")
        return []

    def look() -> str:
        path = Path(resume)
        if own:
            _refuse_older(path, folder, own)
            return ""
        found = [path] if (path / checkpoint.MANIFEST).is_file() else checkpoint.candidates(RunFolder(path).checkpoints)
        if not found:
            raise ValueError(
                f"--resume {resume}: is neither a checkpoint nor a run folder that holds one; "
                "give the path of one, or auto, or none"
            )
        return json.dumps([str(path) for path in found])

    told = on_first_rank(group, look)
    return [Path(path) for path in json.loads(told)] if told else own


def _refuse_older(path: Path, folder: RunFolder, own: list[Path]) -> None:
    """Whoever names a checkpoint of the run's own that is not the newest would not get it."""
    place, inside = path.resolve(), folder.checkpoints.resolve()
    if place.is_relative_to(inside) and place not in (inside, own[0].resolve()):
        raise ValueError(
            f"--resume {path}: this run has gone on to {own[0].name}, and goes on from there; "
            "set name= for a run that begins at the older one, or move the newer ones away"
        )


def _seen(folder: Path, group: Alone | World) -> list[Path]:
    """The checkpoints that any rank sees, newest first: the same list on every rank."""
    seen = group.collect(json.dumps([path.name for path in checkpoint.candidates(folder)]))
    names = {name for rank in seen for name in json.loads(rank)}
    return sorted((folder / name for name in names), key=checkpoint.round_of, reverse=True)


def _newest_whole(paths: list[Path], group: Alone | World) -> tuple[Path, tuple[str, ...]]:
    notes: list[str] = []
    for path in paths:
        told = [json.loads(text) for text in group.collect(json.dumps(_judged(path)))]
        if refused := next((refusal for refusal, _ in told if refusal), None):
            raise ValueError(refused)
        wrong = [(rank, damage) for rank, (_, damage) in enumerate(told) if damage]
        if not wrong:
            return path, tuple(notes)
        where = f" (as rank {wrong[0][0]} sees it)" if len(wrong) < group.size else ""
        notes.append(f"{path}: is damaged{where}: {wrong[0][1]}; the one before it is taken")
    first = notes[0].removesuffix("; the one before it is taken")
    shared = "; every host must see the same files" if "as rank" in first else ""
    raise ValueError(
        f"{paths[0].parent}: all {len(paths)} checkpoints are damaged ({first}){shared}; "
        "restore one, or remove it to begin again"
    )


def _judged(path: Path) -> tuple[str, str]:
    """Why a checkpoint is refused, and how it is damaged; both empty where it is whole."""
    try:
        return "", checkpoint.problem(path) or ""
    except ValueError as error:
        return str(error), ""
