"""Captions: a tokenizer, and a small encoder that is trained with the game."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bigan.networks.layers import LeakyReLU
from bigan.words import words_of

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Numbers of what is no word, and of the first word."""


class Tokenizer:
    """From captions to numbers of words.

    Args:
        words: the vocabulary. A word that it has not is UNKNOWN.
        length: how many words are read; a shorter caption ends in PADDING.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self._numbers = {word: FIRST + number for number, word in enumerate(words)}
        self._length = length

    def __call__(self, texts: Iterable[str]) -> Tensor:
        """[N, length] int64."""
        rows = [[self._numbers.get(word, UNKNOWN) for word in words_of(text)[: self._length]] for text in texts]
        padded = [row + [PADDING] * (self._length - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).view(-1, self._length)


class TextEncoder(nn.Module):
    """Words as vectors, two convolutions over neighbouring words, and the mean over the caption: [N, length] → [N, width].

    A convolution is what parts "a red 3 on green" from "a green 3 on red". An empty caption has the code of no word. The code
    is of unit variance over its numbers: one that grew in training would drown z beside it, and a caption have one image.

    Args:
        words: size of the vocabulary.
        width: of vectors and code.
    """

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(FIRST + words, width, padding_idx=PADDING)
        self.neighbours = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.between = LeakyReLU()
        self.code = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width, elementwise_affine=False))

    def forward(self, numbers: Tensor) -> Tensor:
        """numbers: [N, length] int64."""
        there = (numbers != PADDING).to(self.words.weight.dtype)[:, None]
        x = self.words(numbers).transpose(1, 2)
        for convolution in self.neighbours:
            x = self.between(convolution(x)) * there  # so that a caption's length is no part of it
        return self.code(x.sum(2) / there.sum(2).clamp_min(1))
