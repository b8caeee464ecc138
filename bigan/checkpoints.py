"""A run's checkpoints from outside: which there are, which of them are whole, and the one that is meant.

The run may be training, and prune what was just listed: what is gone is no damage, and the folder is looked at again.
"""

from pathlib import Path

from bigan.distributed import checkpoint
from bigan.distributed.checkpoint import Checkpoint
from bigan.folder import RunFolder

BEST = "best"
NOTHING = "holds no checkpoint yet; train it first"


def chosen(run: Path, at: str | None = None) -> tuple[RunFolder, Path]:
    """A run's folder, and one of its checkpoints that is whole.

    Args:
        run: the run folder.
        at: "best", the number of a round, or None for the newest.

    Raises:
        ValueError: if there is none such, or it is damaged.
    """
    folder = _folder(run)
    if at is None:
        path = checkpoint.newest(folder.checkpoints)
        if path is None:
            raise ValueError(f"{run}: {NOTHING}")
        return folder, path
    while wrong := checkpoint.problem(path := _named(run, folder, at)):
        if path.is_dir():
            raise ValueError(f"{path}: is damaged: {wrong}")
    return folder, path


def loaded(run: Path, at: str | None = None) -> tuple[RunFolder, Checkpoint]:
    """What `chosen` chooses, read; raises as it does, and as `bigan.distributed.checkpoint.load`."""
    while True:
        folder, path = chosen(run, at)
        try:
            return folder, checkpoint.load(path)
        except ValueError:
            if path.is_dir():
                raise


def _named(run: Path, folder: RunFolder, at: str) -> Path:
    found = {str(checkpoint.round_of(path)): path for path in checkpoint.candidates(folder.checkpoints)}
    if at == BEST:
        path = checkpoint.best(folder.checkpoints)
        if path is None:
            raise ValueError(f"{run}: no checkpoint was measured; train with evaluation.every_kimg, or name a round")
    elif (path := found.get(at.removeprefix("round_").lstrip("0"))) is None:
        there = [*([BEST] if checkpoint.best(folder.checkpoints) else []), *found]
        raise ValueError(f"{run}: has no checkpoint {at}; it has {', '.join(there) or 'none'}")
    return path


def listing(run: Path) -> list[str]:
    """A line a checkpoint, newest first; nothing large is read.

    Raises:
        ValueError: if the path is no run folder.
    """
    folder = _folder(run)
    found = checkpoint.candidates(folder.checkpoints)
    if not found:
        return [f"{run}: {NOTHING}"]
    best = checkpoint.best(folder.checkpoints)
    lines = []
    for path in found:
        try:
            size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
        except FileNotFoundError:
            continue
        about = checkpoint.about(path)
        if about is None and not path.is_dir():
            continue
        remarks = [name for name, named in (("newest", found[0]), (BEST, best)) if named == path]
        if about is None:
            kimg, remarks = "?", [*remarks, "damaged"]
        else:
            kimg = f"{about['clock']['round'] * about['clock']['batch'] / 1000:g}"
            remarks += [f"{name} {value:.4g}" for name, value in about.get("metrics", {}).items()]
        lines.append(f"{path.name}  {kimg:>10s} kimg  {size:10.1f} MB  {', '.join(remarks)}".rstrip())
    return lines or listing(run)


def verify(path: Path) -> list[tuple[Path, str | None]]:
    """What is wrong with a checkpoint, or with each of a run's, newest first; every byte is read.

    Returns:
        checkpoint and problem, which names the file; None where there is none.

    Raises:
        ValueError: if the path is neither, or a newer bigan wrote what is there.
    """
    folder = RunFolder(path)
    if folder.config.is_file():
        found = checkpoint.candidates(folder.checkpoints)
        if not found:
            raise ValueError(f"{path}: {NOTHING}")
    elif path.is_dir():
        found = [path]
    else:
        raise ValueError(f"{path}: is neither a run folder nor a checkpoint")
    told = [(each, checkpoint.problem(each)) for each in found]
    return [(each, wrong) for each, wrong in told if not wrong or each.is_dir()] or verify(path)


def _folder(run: Path) -> RunFolder:
    folder = RunFolder(run)
    if not folder.config.is_file():
        raise ValueError(f"{run}: is no run folder (it has no config.yaml); give the path that `bigan train` printed")
    return folder
