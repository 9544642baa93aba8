"""Streaming text: never half a character, nothing beyond a stop string, several requests at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.base.errors import UsageError
from sw2.parts.decoding.engine import Engine
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.decoding.text import StopStrings, TextEngine, TextPiece, TextStream

GREEDY = Sampling(temperature=0)


def byte_stream() -> TextStream:
    return TextStream(lambda token: bytes([token]))


@given(st.text())
def test_pieces_join_to_the_text_and_never_break_a_character(text: str) -> None:
    stream = byte_stream()
    pieces = [stream.push(byte) for byte in text.encode()]
    assert all(len(piece) <= 1 for piece in pieces)
    assert "".join(pieces) + stream.finish() == text


@given(st.binary())
def test_any_bytes_stream_like_they_decode_at_once(data: bytes) -> None:
    stream = byte_stream()
    assert "".join(map(stream.push, data)) + stream.finish() == data.decode("utf-8", errors="replace")


def test_an_unfinished_character_is_held_back() -> None:
    stream = byte_stream()
    assert [stream.push(byte) for byte in "€".encode()] == ["", "", "€"]
    stream.push(0xE2)
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


# ------------------------------------------------------------------------------------------------------- stop strings


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the stop string whose end comes first, the longest of those that end together."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


few = st.text(alphabet="ab€", max_size=30)


@settings(max_examples=300)
@given(st.lists(st.text(alphabet="ab€", max_size=4), max_size=12), st.lists(few.filter(len), max_size=3))
def test_what_goes_through_is_the_text_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
    holder = StopStrings(stops)
    text, through = "", ""
    expected, stopped = before_stop("".join(pieces), stops)
    for piece in pieces:
        text += piece
        through += holder.push(piece)
        assert expected.startswith(through)
        if not holder.found:
            # Nothing is held back without need: what is held is the beginning of a stop string.
            held = text[len(through) :]
            assert not held or any(stop.startswith(held) for stop in stops)
    assert holder.found == stopped
    assert through + ("" if stopped else holder.finish()) == expected


def test_stop_strings_by_hand() -> None:
    holder = StopStrings(["\n\n", "END"])
    assert [holder.push(piece) for piece in ("one\n", "two E", "N", "d E", "ND!", "more")] == [
        "one",
        "\ntwo ",
        "",
        "ENd ",
        "",
        "",
    ]
    assert holder.found
    with pytest.raises(UsageError, match="stop string is empty"):
        StopStrings(["a", ""])


# ------------------------------------------------------------------------------------------------- requests in text


class Bytes:
    """A vocabulary of the 256 bytes and one control token."""

    vocab_size = 257

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""


class Says:
    """A network that says a text over and over, from the place that the prompt's first token names; 256 ends it."""

    def __init__(self, text: str, slots: int = 2, capacity: int = 400) -> None:
        self.data = [*text.encode(), 256]
        self.slots, self.capacity = slots, capacity
        self.first: dict[int, int] = {}

    def __call__(self, tokens: Sequence[Sequence[int]], slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        rows = torch.zeros(len(tokens), 257)
        for row, (new, slot, start) in enumerate(zip(tokens, slots, starts, strict=True)):
            if start == 0:
                self.first[slot] = new[0]
            rows[row, self.data[(self.first[slot] + start + len(new) - 1) % len(self.data)]] = 5.0
        return rows

    def copy(self, source: int, target: int, tokens: int) -> None:
        raise AssertionError("these prompts share nothing that is worth it")

    def refresh(self) -> None:
        raise AssertionError("these weights never change")


def engine(text: str, slots: int = 2) -> TextEngine:
    return TextEngine(Engine(Says(text, slots)), Bytes(), [256])


def written(pieces: Sequence[TextPiece]) -> tuple[str, str | None]:
    assert all(piece.finished is None for piece in pieces[:-1])
    return "".join(piece.text for piece in pieces), pieces[-1].finished


def test_a_text_ends_by_itself_by_length_or_by_a_stop_string() -> None:
    writer = engine("na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve words.\nmore")
    for most, stop, expected in (
        (99, [], ("naïve words.\nmore", "end")),
        (9, [], ("naïve wo", "length")),
        (3, [], ("na\N{REPLACEMENT CHARACTER}", "length")),
        (99, ["\n"], ("naïve words.", "stop")),
        (99, ["s.\nmor", "x"], ("naïve word", "stop")),
        (99, ["more and more"], ("naïve words.\nmore", "end")),
    ):
        request = writer.submit([0], GREEDY, max_tokens=most, stop=stop)
        pieces = [piece for _, piece in writer.stream(request)]
        assert written(pieces) == expected
        assert not writer.busy()
        # Every token is in exactly one piece.
        assert [each.token for piece in pieces for each in piece.tokens] == request.request.tokens


def test_several_texts_come_as_one_batch_each_with_its_number() -> None:
    writer = engine("abcdefghij", slots=2)
    requests = [writer.submit([start], GREEDY, max_tokens=3 + start) for start in range(5)]
    pieces: dict[int, list[TextPiece]] = {}
    for number, piece in writer.stream(*requests):
        pieces.setdefault(number, []).append(piece)
    assert {number: written(each) for number, each in pieces.items()} == {
        0: ("abc", "length"),
        1: ("bcde", "length"),
        2: ("cdefg", "length"),
        3: ("defghi", "length"),
        4: ("efghij", "end"),
    }


def test_streams_that_take_turns_lose_nothing() -> None:
    writer = engine("abcdefghij")
    first, second = (writer.stream(writer.submit([start], GREEDY, max_tokens=6)) for start in (0, 3))
    texts = ["", ""]
    for _ in range(7):
        for which, stream in enumerate((first, second)):
            texts[which] += "".join(piece.text for _, piece in [next(stream, (0, TextPiece("")))])
    assert texts == ["abcdef", "defghi"]


def test_a_stop_string_and_a_cancel_free_the_slot() -> None:
    writer = engine("abcdefghij", slots=1)
    first = writer.submit([0], GREEDY, max_tokens=50, stop=["cd"])
    second = writer.submit([1], GREEDY, max_tokens=50)
    third = writer.submit([2], GREEDY, max_tokens=2)
    while first.finished is None:
        writer.step()
    pieces = list(iter(first.take, None))
    assert [(piece.text, piece.finished) for piece in pieces] == [("ab", "stop")]
    assert [each.bytes for each in pieces[0].tokens] == [b"a", b"b", b"c", b"d"]
    assert first.take() is None
    writer.step()
    writer.cancel(second)
    assert second.finished == "cancelled"
    assert written([piece for _, piece in writer.stream(third)]) == ("cd", "length")
    assert not writer.busy()


def test_leaving_a_stream_cancels_all_of_it() -> None:
    writer = engine("abcdefghij", slots=1)
    requests = [writer.submit([0], GREEDY, max_tokens=50) for _ in range(3)]
    stream = writer.stream(*requests)
    next(stream)
    stream.close()
    assert [request.finished for request in requests] == ["cancelled"] * 3
    assert not writer.busy()


def test_log_probabilities_come_with_the_text() -> None:
    writer = engine("abc")
    request = writer.submit([0], GREEDY, max_tokens=2, logprobs=2)
    tokens = [each for _, piece in writer.stream(request) for each in piece.tokens]
    assert [each.bytes for each in tokens] == [b"a", b"b"]
    # One logit of 5, 256 of 0.
    likeliest = 5 - float(torch.tensor([5.0] + [0.0] * 256).logsumexp(0))
    assert [each.logprob for each in tokens] == pytest.approx([likeliest] * 2, abs=1e-5)
    assert [len(each.top) for each in tokens] == [2, 2]
    assert tokens[1].top[0].bytes == b"b"
    assert tokens[1].top[1].logprob == pytest.approx(likeliest - 5, abs=1e-5)


def test_tokens_that_do_not_exist_are_refused_before_anything_runs() -> None:
    writer = engine("abc")
    for prompt, sampling in (([257], GREEDY), ([-1], GREEDY), ([1], Sampling(logit_bias=((257, 1.0),)))):
        with pytest.raises(UsageError, match="no such token"):
            writer.submit(prompt, sampling, max_tokens=1)
    with pytest.raises(UsageError, match="must ask for a token"):
        writer.submit([1], GREEDY, max_tokens=0)
    with pytest.raises(UsageError, match="stop string"):
        writer.submit([1], GREEDY, max_tokens=1, stop=[""])
    with pytest.raises(UsageError, match="log-probabilities"):
        writer.submit([1], GREEDY, max_tokens=1, logprobs=-1)
    assert not writer.busy()
