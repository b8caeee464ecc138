"""Conditions: what is read of a batch, what a user may write, and what is said of what is not there."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bigan.batch import ArraySpec, Batch, DataSpec
from bigan.conditions import Array, Attributes, Caption, Given, Label, swapped
from bigan.networks.text import TextEncoder, Tokenizer
from bigan.words import count_words, vocabulary, words_of

SPEC = DataSpec(
    samples=4,
    image_shape=(1, 8, 8),
    classes=("cat", "dog", "7"),
    attributes=("Male", "Smiling", "Young"),
    caption_bytes=12,
    words=("blue", "left", "red", "two"),
    arrays=(ArraySpec(name="pose", shape=(2,), dtype="float32"), ArraySpec(name="age", shape=(), dtype="int64")),
)
ALL = [Label(), Attributes(), Attributes(names=("Young",)), Array(name="pose"), Array(name="age"), Caption(width=6, length=3)]


def fitted(condition: Any, spec: DataSpec = SPEC) -> Given:
    return condition.fit({"real": spec}, "real")


def text(*captions: str, width: int = 16) -> Tensor:
    return torch.tensor([list(caption.encode().ljust(width, b"\0")) for caption in captions], dtype=torch.uint8)


def batch() -> Batch:
    fields = {
        "labels": torch.tensor([2, 0]),
        "attributes": torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        "pose": torch.tensor([[0.5, -1.0], [0.0, 2.0]], dtype=torch.float64),
        "age": torch.tensor([30, 4]),
        "captions": text("Two reds, left!", "blue"),
    }
    return Batch(torch.arange(2), fields)


@pytest.mark.parametrize("condition", ALL, ids=str)
def test_what_is_read_and_what_is_written_have_one_shape(condition: Any) -> None:
    given = fitted(condition)
    raw = given.read(batch())
    assert raw.shape == (2, *given.blank.shape)
    assert raw.dtype == given.blank.dtype
    assert given.encoder()(raw).shape == (2, given.size)
    assert given.encoder()(given.blank[None]).isfinite().all()
    if given.loss is not None and given.right is not None:
        outputs = torch.randn(2, given.size)
        assert given.loss(outputs, raw).shape == given.right(outputs, raw).shape == (2,)


@pytest.mark.parametrize(
    ("condition", "said", "raw"),
    [
        (Label(), "dog", 1),
        (Label(), "7", 2),
        (Attributes(), "Young=1, Male=0.5", [0.5, 0.0, 1.0]),
        (Array(name="pose"), "0.5,-2", [0.5, -2.0]),
        (Caption(length=4), "Two RED left", [5, 4, 3, 0]),
    ],
)
def test_a_user_writes_a_condition(condition: Any, said: str, raw: object) -> None:
    given = fitted(condition)
    parsed = given.parse(said)
    assert parsed.tolist() == raw
    assert parsed.dtype == given.blank.dtype
    assert parsed.shape == given.blank.shape


@pytest.mark.parametrize(
    ("condition", "said", "message"),
    [
        (Label(), "cow", "there is no class 'cow'; there is cat, dog, 7"),
        (Label(), "0", "there is no class '0'"),  # nor is it the first: "7" is a name, and no place
        (Attributes(), "Smilling=1", "there is no attribute 'Smilling'; there is Smiling"),
        (Attributes(), "Smiling", "write NAME=NUMBER"),
        (Attributes(names=("Male",)), "Young=1", "there is no attribute 'Young'"),
        (Attributes(), "Male=yes", "'yes' is no number"),
        (Attributes(), "Male=nan", "'nan' is no number"),
        (Attributes(), "Male=1,Male=0", "names Male twice"),
        (Array(name="pose"), "1,1e39", "'1e39' is no number"),  # float32 has it not
        (Array(name="pose"), "1", "pose has 2 numbers"),
        (Caption(), "to red", "there is no word 'to'; there is two"),
        (Caption(), " !", "has no words"),
        (Caption(length=2), "two red left", "has 3 words; at most 2 are read: shorten it"),
    ],
)
def test_what_is_not_there_is_said(condition: Any, said: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(condition).parse(said)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (Label(), "has no classes"),
        (Attributes(), "has no attributes"),
        (Attributes(names=("Old",)), "has no attributes"),
        (Array(name="pose"), "has no arrays"),
        (Caption(), "has no captions"),
    ],
)
def test_a_stream_without_the_condition_is_refused(condition: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(condition, DataSpec(samples=1, image_shape=(1, 8, 8)))
    with pytest.raises(ValueError, match=r"data\.real: is missing"):
        condition.fit({}, "real")


def test_classes_without_numbers_for_names_go_by_their_places_too() -> None:
    parse = fitted(Label(), replace(SPEC, classes=("cat", "dog"))).parse
    assert [parse("1").item(), parse("dog").item()] == [1, 1]
    for text in ("2", "1" * 5000):
        with pytest.raises(ValueError, match="there are 2 classes, from 0"):
            parse(text)


def test_captions_whose_words_nobody_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="pack it again"):
        fitted(Caption(), DataSpec(samples=1, caption_bytes=5))


def test_the_classifiers_losses_are_least_for_what_is_right() -> None:
    label, attributes = fitted(Label()), fitted(Attributes())
    assert label.loss is not None
    assert attributes.loss is not None
    sure = torch.tensor([[-9.0, 9.0, -9.0]])
    assert label.loss(sure, torch.tensor([1])) < 1e-3 < label.loss(sure, torch.tensor([0]))
    assert (
        attributes.loss(sure, torch.tensor([[0.0, 1.0, 0.0]])) < 1e-3 < attributes.loss(sure, torch.tensor([[1.0, 1.0, 0.0]]))
    )
    nine, one = (attributes.loss(sure, torch.tensor([[0.0, number, 0.0]])) for number in (9.0, 1.0))
    assert nine == one  # or the loss of numbers above 1 would have no bound below
    assert attributes.right is not None
    assert attributes.right(sure, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == pytest.approx([2 / 3])


def test_words_are_parted_and_numbered() -> None:
    assert words_of("Two small red 5s, left_") == ["two", "small", "red", "5s", "left"]
    assert Tokenizer(("blue", "red"), 3)(["red cow", ""]).tolist() == [[3, 1, 0], [0, 0, 0]]
    assert Tokenizer(("red",), 2)(["red red red red"]).tolist() == [[2, 2]]
    assert Tokenizer(("red",), 2)([]).shape == (0, 2)


def test_a_vocabulary_is_the_most_frequent_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    counts: Counter[str] = Counter()
    for caption in ("b a", "b c", "c b d"):
        count_words(counts, caption)
    assert vocabulary(counts) == ("a", "b", "c", "d")
    monkeypatch.setattr("bigan.words.MAX_WORDS", 2)
    assert vocabulary(counts) == ("b", "c")
    monkeypatch.setattr("bigan.words._MOST_COUNTED", 4)
    count_words(counts, "e")
    assert set(counts) == {"b", "c"}


def test_an_encoder_sees_order_and_not_padding() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(4, 6)
    one, other = torch.tensor([[2, 3, 4]]), torch.tensor([[4, 3, 2]])
    assert not torch.allclose(encoder(one), encoder(other), atol=1e-4)
    torch.testing.assert_close(encoder(torch.tensor([[2, 3, 0, 0]])), encoder(torch.tensor([[2, 3]])))
    assert encoder(torch.zeros(1, 3, dtype=torch.int64)).isfinite().all()


def test_a_code_is_as_large_as_z_whatever_its_weights() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(9, 32)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.mul_(5)
    codes = encoder(torch.randint(2, 11, (50, 6)))
    torch.testing.assert_close(codes.square().mean(1), torch.ones(50), atol=1e-2, rtol=0)
    assert codes.std(0).mean() > 0.1


def test_neighbours_change_places() -> None:
    assert swapped(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    assert swapped(torch.tensor([[0, 1], [2, 3]])).tolist() == [[2, 3], [0, 1]]
    assert swapped(torch.arange(5)).tolist() == [1, 0, 3, 2, 4]
    assert swapped(torch.arange(1)).tolist() == [0]


def test_a_manifest_without_words_is_as_it_was() -> None:
    without = DataSpec(samples=1, classes=("a",))
    assert "words" not in without.plain()
    assert DataSpec.of(without.plain()) == without
    assert DataSpec.of(SPEC.plain()) == SPEC
    with pytest.raises(ValueError, match="words: must be names"):
        DataSpec.of({**SPEC.plain(), "words": ["a", "a"]})
