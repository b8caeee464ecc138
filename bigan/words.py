"""What a caption is made of. Imports the standard library alone, so that packing starts without torch."""

import re
from collections import Counter
from collections.abc import Mapping

MAX_WORDS = 8192  # of a vocabulary; a data set of more has misspellings in their place
_MOST_COUNTED = 2**18  # at once; beyond it the rarest half is forgotten, so that any number of captions can be counted

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """A caption's words, in lower case: letters and digits; all else parts them."""
    return _WORD.findall(text.lower())


def vocabulary(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The words that are counted, in alphabetical order; of too many, the most frequent."""
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:MAX_WORDS]
    return tuple(sorted(frequent))


def count_words(counts: Counter[str], text: str) -> None:
    """Add a caption's words to those that were counted."""
    counts.update(words_of(text))
    if len(counts) > _MOST_COUNTED:
        for word, _ in counts.most_common()[_MOST_COUNTED // 2 :]:
            del counts[word]
