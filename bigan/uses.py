"""What a game can do besides `sample`, for the commands that ask for it: each is an entry of `Game.uses`, found by its type."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from bigan.game import Context, Game, Samples

Sample = Callable[[Context], Samples]
"""As `Game.sample`."""

T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """Samples of a condition, or a code, that the user chooses: `bigan sample RUN --given TEXT`.

    Attributes:
        given: from the text to what samples it. Its ValueError says what there is.
    """

    given: Callable[[str], Sample]

    def __post_init__(self) -> None:
        _takes("Chosen.given", self.given, "text")


class Way(NamedTuple):
    """One way to translate.

    Attributes:
        shape: (C, H, W) of the images that it takes.
        run: from a context and images [N, C, H, W] in [-1, 1] to images [N, C', H', W'] in [-1, 1]; eval mode, no gradient.
    """

    shape: tuple[int, int, int]
    run: Callable[[Context, Tensor], Tensor]


@dataclass(frozen=True)
class Translation:
    """Images made of images: `bigan translate RUN INPUT OUTPUT --to TEXT`.

    Attributes:
        to: from the text, "" where there is none, to the way there. Its ValueError says what there is.
    """

    to: Callable[[str], Way]

    def __post_init__(self) -> None:
        _takes("Translation.to", self.to, "text")


@dataclass(frozen=True)
class Completion:
    """Images of which a part is missing: `bigan complete RUN IMAGE --mask …`.

    Attributes:
        shape: (C, H, W) of the images.
        complete: from a context, images [N, C, H, W] in [-1, 1], what is observed of them, bool [N, 1, H, W], and how many
            steps, to whole images. The command puts the observed pixels back, whatever is returned there.
    """

    shape: tuple[int, int, int]
    complete: Callable[[Context, Tensor, Tensor, int], Tensor]

    def __post_init__(self) -> None:
        _takes("Completion.complete", self.complete, "context", "images", "observed", "steps")


@dataclass(frozen=True)
class Recommendation:
    """Items for a user: `bigan recommend RUN --user U`.

    Attributes:
        users: their names, in the order of their numbers.
        items: theirs.
        scores: from a context and users' numbers [N] int64 to how much each item suits each of them, [N, items].
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    scores: Callable[[Context, Tensor], Tensor]

    def __post_init__(self) -> None:
        _takes("Recommendation.scores", self.scores, "context", "users")


def use(game: Game, kind: type[T], what: str) -> T:
    """What the game has of a kind.

    Args:
        what: the game would do, as the error says it: "cannot WHAT".

    Raises:
        ValueError: if it has none.
    """
    for found in game.uses:
        if isinstance(found, kind):
            return found
    if bare := next((found for found in game.uses if inspect.isroutine(found)), None):
        raise ValueError(f"Game.uses: {_named(bare)} is a bare function; wrap it, such as {kind.__name__}(…) of bigan.uses")
    raise ValueError(f"the run's game cannot {what}")


def _takes(what: str, function: Callable[..., Any], *given: str) -> None:
    """Refuse, while a game is built, what could not be called when a command asks for it."""
    try:
        inspect.signature(function).bind(*given)
    except TypeError as error:
        raise ValueError(f"{what}: {_named(function)} must take ({', '.join(given)}): {error}") from None
    except ValueError:  # what is written in C has no signature
        pass


def _named(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))
