"""The tokenizer: bytes come back, control tokens cannot be written, the saved form is whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError, ProgramError, UsageError
from sw2.domains.language.tokenizer import END_OF_TEXT, Tokenizer
from sw2.parts.decoding.text import TextStream

TEXTS = ["def add(a, b):\n    return a + b\n" * 3, "the cat sat on the mat; the café was shut, naïve cats left. 猫" * 3]
TOKENIZER = Tokenizer.train(TEXTS, vocab_size=300)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_bytes_come_back_exactly(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode_bytes(ids) == text.encode()
    assert TOKENIZER.decode(ids) == text
    stream = TextStream(TOKENIZER.token_bytes)
    assert "".join(map(stream.push, ids)) + stream.finish() == text


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=5), st.text(max_size=5))
def test_text_cannot_become_a_control_token(before: str, after: str) -> None:
    text = before + END_OF_TEXT + after
    for tokenizer in (TOKENIZER, Tokenizer(TOKENIZER.to_json())):
        ids = tokenizer.encode(text)
        assert tokenizer.end_of_text not in ids
        assert tokenizer.decode(ids) == text


def test_shape_of_the_vocabulary() -> None:
    assert TOKENIZER.vocab_size == 300
    assert TOKENIZER.end_of_text == 0
    assert TOKENIZER.token_bytes(0) == b""
    everything = [TOKENIZER.token_bytes(token) for token in range(1, 300)]
    assert len(set(everything)) == 299
    assert {bytes([byte]) for byte in range(256)} <= set(everything)
    with pytest.raises(UsageError, match="no such token"):
        TOKENIZER.token_bytes(300)


def test_training_and_saving_are_repeatable() -> None:
    assert Tokenizer.train(iter(TEXTS), vocab_size=300).to_json() == TOKENIZER.to_json()
    again = Tokenizer(TOKENIZER.to_json())
    assert again.to_json() == TOKENIZER.to_json()
    assert again.encode(TEXTS[1]) == TOKENIZER.encode(TEXTS[1])


def test_batches_are_like_single_texts() -> None:
    batch = TOKENIZER.encode_batch([*TEXTS, ""])
    assert [ids.tolist() for ids in batch] == [TOKENIZER.encode(text) for text in (*TEXTS, "")]
    assert all(ids.dtype == np.int32 for ids in batch)
    assert TOKENIZER.encode_batch([]) == []


def test_merges_make_text_shorter() -> None:
    tokens = sum(len(TOKENIZER.encode(text)) for text in TEXTS)
    assert TOKENIZER.bytes_per_token(TEXTS) == sum(len(text.encode()) for text in TEXTS) / tokens
    assert TOKENIZER.bytes_per_token(TEXTS) > 2
    with pytest.raises(DataError, match="no text"):
        TOKENIZER.bytes_per_token([""])


def test_what_cannot_be_encoded_is_named() -> None:
    with pytest.raises(DataError) as caught:
        TOKENIZER.encode_batch(["fine", "half \ud83d"])
    assert (caught.value.where, caught.value.got) == ("text 1, character 5", "half a surrogate pair, U+D83D")


def test_foreign_files_are_refused() -> None:
    with pytest.raises(ProgramError, match="cannot be read"):
        Tokenizer("{}")
    with pytest.raises(ProgramError, match="another kind"):
        Tokenizer(TOKENIZER.to_json().replace(END_OF_TEXT, "<|end|>"))
    with pytest.raises(UsageError, match="too small"):
        Tokenizer.train(TEXTS, vocab_size=256)
