"""`Run`: the typed description of a run. Load YAML, apply key=value, validate, dump, compare."""

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import SkipValidation

from bigan.average import Average
from bigan.data.kinds import Data
from bigan.game import GameSettings
from bigan.games.kinds import BuiltIn
from bigan.optimizers import Adam, Optimizer
from bigan.settings import CONFIG, Count, CountFrom0, NonNegative, Positive, Seed, Timeout, ZeroStage, settings
from bigan.validation import validate

USER_MODULE = "bigan_user_"
"""Prefix of the names under which users' game files are imported."""


@settings
class Evaluation:
    """Judging the run while it trains, as `bigan evaluate` does.

    Attributes:
        every_kimg: how often, at a checkpoint; the one of the least Fréchet distance is kept beside the newest. 0: never.
        samples: how many are drawn.
    """

    every_kimg: NonNegative = 0.0
    samples: Count = 1000


@settings
class Run:
    """A run, as its YAML file tells it. "kimg" are thousands of images: rounds times batch / 1000.

    Attributes:
        name: of the run's folder.
        game: what is played; a `kind` of bigan's, or FILE.py:CLASS.
        data: stream → packed data set, or shards that are only streamed (`kind: webdataset`), or toy data (docs/toy-data.md);
            the game says which streams it reads.
        length_kimg: when the run is finished.
        batch: samples of a move over all ranks.
        micro_batch: samples of one forward on one rank; batch / ranks unless given, in which case gradients accumulate.
        seed: of weights, latents and data order.
        optimizer: of every player.
        optimizers: player → its own optimizer, instead.
        average: the moving average of the players that the game averages.
        precision: "bf16" runs convolutions and products under autocast; norms, losses and penalties stay in fp32.
        zero_stage: DeepSpeed's ZeRO stage on more than one rank: 0; 1 divides the optimizer's state; 2 the gradients too.
        compile: torch.compile of the players' forwards; "reduce-overhead" uses CUDA graphs where there is a GPU.
        tick_kimg: how often a line is logged and a grid drawn.
        checkpoint_kimg: how often the run is saved.
        keep_checkpoints: how many are kept.
        evaluation: how often the run is judged while it trains.
        rollbacks: how often in its life a run goes back to its last checkpoint, to other random numbers, because a loss, a
            gradient or a weight was no longer a number.
        hang_timeout_s: after so long without progress a rank counts as hung, and the run is ended; at least 1.
        folder: where run folders lie.
    """

    name: str
    game: Annotated[GameSettings, SkipValidation]
    data: Mapping[str, Data]
    length_kimg: Positive
    batch: Count = 64
    micro_batch: Count | None = None
    seed: Seed = 0
    optimizer: Optimizer = field(default_factory=Adam)
    optimizers: Mapping[str, Optimizer] = field(default_factory=dict)
    average: Average = field(default_factory=Average)
    precision: Literal["fp32", "bf16"] = "fp32"
    zero_stage: ZeroStage = 0
    compile: Literal["none", "default", "reduce-overhead"] = "none"
    tick_kimg: Positive = 4.0
    checkpoint_kimg: NonNegative = 20.0
    keep_checkpoints: Count = 2
    evaluation: Evaluation = field(default_factory=Evaluation)
    rollbacks: CountFrom0 = 3
    hang_timeout_s: Timeout = 600.0
    folder: str = "runs"

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name == "..":
            raise ValueError(f"name: {self.name!r} must be a plain folder name")

    @property
    def home(self) -> Path:
        """The run's folder."""
        return Path(self.folder) / self.name


def load(path: Path, assignments: Sequence[str] = ()) -> Run:
    """Read a run's YAML file and apply `key.sub=value` assignments, values in YAML.

    Raises:
        ValueError: one line that names the key and what is wrong with it.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a config ({error})") from None
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: a config is a mapping of keys; the first is `name:`")
    if isinstance(raw.get("game"), str):
        raw["game"] = {"kind": raw["game"]}
    for assignment in assignments:
        assign(raw, assignment)
    return parse(raw, path)


def assign(raw: dict[str, Any], assignment: str) -> None:
    """Set one dotted key, in place: `game.penalties.0.weight=2`."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ValueError(f"{assignment!r}: write key=value, such as length_kimg=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{key}: {text!r} is no YAML value") from None
    *parents, last = key.split(".")
    node: Any = raw
    for part in parents:
        node = _child(node, part, key)
    if isinstance(node, list):
        _child(node, last, key)
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ValueError(f"{key}: what stands before .{last} has no parts")


def _child(node: Any, part: str, key: str) -> Any:
    if isinstance(node, dict):
        return node.setdefault(part, {})
    if isinstance(node, list):
        if not part.isdigit() or int(part) >= len(node):
            raise ValueError(f"{key}: {part!r} is no place in a list of {len(node)}")
        return node[int(part)]
    raise ValueError(f"{key}: what stands before .{part} has no parts")


def parse(raw: Mapping[str, Any], source: Path) -> Run:
    """Validate a config's mapping; `source` is the file it is from, beside which a game's own file is looked up.

    Raises:
        ValueError: one line that names the key.
    """
    if "game" not in raw:
        raise ValueError(f"{source}: game: is missing; say what is played, such as `game: {{kind: gan}}`")
    game = _read_game(raw["game"], source)
    data = raw.get("data")
    if isinstance(data, Mapping):  # packed shards, unless another kind is named
        data = {name: _shards_by_default(entry) for name, entry in data.items()}
        raw = {**raw, "data": data}
    return validate(Run, {**raw, "game": game}, source, "")


def _shards_by_default(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    entry = {"kind": "shards", **entry}
    return {**entry, "of": _shards_by_default(entry["of"])} if entry["kind"] == "derived" and "of" in entry else entry


def _read_game(raw: Any, source: Path) -> GameSettings:
    options = {"kind": raw} if isinstance(raw, str) else dict(raw) if isinstance(raw, Mapping) else {}
    kind = str(options.get("kind", ""))
    if ":" not in kind:
        return validate(BuiltIn, options, source, "game.")
    file, _, name = kind.rpartition(":")
    cls = _users_class(Path(file), name, source)
    return validate(cls, {key: value for key, value in options.items() if key != "kind"}, source, "game.")


def _users_class(file: Path, name: str, source: Path) -> type:
    """Load a user's settings class from its file, beside the config or where the command runs."""
    places = [source.parent / file, file]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(f"{source}: game: there is no file {file}, neither beside the config nor in the current folder")
    module_name = f"{USER_MODULE}{found.stem}"
    spec = importlib.util.spec_from_file_location(module_name, found.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        raise ValueError(f"{source}: game: {found} cannot be imported: {type(error).__name__}: {error}") from error
    cls = getattr(module, name, None)
    if not isinstance(cls, type) or not _is_frozen(cls) or not callable(getattr(cls, "build", None)):
        raise ValueError(f"{source}: game: {found} must define a frozen dataclass {name} with a method build(data)")
    if "__pydantic_config__" not in cls.__dict__:
        cls.__pydantic_config__ = CONFIG  # pyright: ignore[reportAttributeAccessIssue]
    return cls


def _is_frozen(cls: type) -> bool:
    return is_dataclass(cls) and cls.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]


def dump(run: Run) -> dict[str, Any]:
    """The resolved config: every key with its value, as YAML and JSON can hold it, and as `parse` reads it again."""
    raw = _plain(asdict(run))
    file = game_file(run)
    if file is not None:
        raw["game"].pop("kind", None)  # a field of its own by that name
        raw["game"] = {"kind": f"{file.name}:{type(run.game).__name__}", **raw["game"]}
    return raw


def game_file(run: Run) -> Path | None:
    """The user's file that the run's game is from; None for a game of bigan's."""
    cls = type(run.game)
    return Path(inspect.getfile(cls)) if cls.__module__.startswith(USER_MODULE) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
