"""One file of weights to draw samples with: what a run is trained for, without what it is trained by."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from bigan.config import dump
from bigan.files import temporary
from bigan.sample import restore

EXPORT_SCHEMA = 1


def export(run: Path, out: Path, *, live: bool = False, at: str | None = None) -> list[str]:
    """Write the averaged players of a checkpoint into one safetensors file; docs/checkpoints.md says how to read it.

    Args:
        run: the run folder.
        out: the file, which is replaced whole.
        live: take the live weights and not the averages.
        at: which checkpoint, as in `bigan.checkpoints.chosen`.

    Returns:
        the names of the players: the averaged ones, or all where the game averages none.

    Raises:
        ValueError: if there is no such checkpoint, or OUT cannot be written.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: must end in .safetensors")
    restored = restore(run, live=live, at=at)
    players = [name for name in restored.players if name in restored.game.averaged] or list(restored.players)
    about = {
        "schema": EXPORT_SCHEMA, "config": dump(restored.run), "clock": asdict(restored.saved.clock),
        "data": {name: entry["spec"] for name, entry in restored.saved.data.items()},
        "players": players, "weights": "live" if live else "average",
    }  # fmt: skip
    modules = {f"player.{name}": restored.players[name] for name in players} | {"state": restored.game.state}
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    apart = {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary(out) as part:
            save_file(apart, part, metadata={"bigan": json.dumps(about)})
            os.replace(part, out)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{out}: cannot be written ({error})") from None
    return players
