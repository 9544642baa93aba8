"""The tokenizer: bytes come back, control tokens cannot be written, the saved form is whole."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

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


SOURCES = [Path(__file__).with_name(f"{name}.py").read_text() for name in ("decoder", "task")]
TRAINED = {single: Tokenizer.train(SOURCES, 600, single_digits=single) for single in (False, True)}
each_rule = pytest.mark.parametrize("single_digits", [False, True])


def fast_and_slow(texts: list[str], single_digits: bool) -> tuple[list[list[int]], list[list[int]]]:
    tokenizer = TRAINED[single_digits]
    assert tokenizer._fast is not None
    slow = tokenizer._inner.encode_batch_fast(texts, add_special_tokens=False)
    return [ids.tolist() for ids in tokenizer.encode_batch(texts)], [each.ids for each in slow]


def test_single_digits_are_tokens_of_their_own() -> None:
    pieces = [TRAINED[True].token_bytes(token) for token in TRAINED[True].encode("(1250.75 - 33)")]
    assert b" ".join(pieces).split() == b"( 1 2 5 0 . 7 5 - 3 3 )".split()


ODD = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\t\r'sdtlvrem0123 abc \u00a0\u2028<|endoftext|>"))
)


@each_rule
@settings(max_examples=200, deadline=None)
@given(text=ODD)
def test_the_fast_way_gives_the_same_ids(text: str, single_digits: bool) -> None:
    fast, slow = fast_and_slow([text], single_digits)
    assert fast == slow


@each_rule
def test_the_fast_way_gives_the_same_ids_on_real_text_and_long_runs(single_digits: bool) -> None:
    runs = [" " * 100_000, "a" * 50_000, "\n" * 5_000 + "x", "x" + " " * 1999 + "y", "1" * 30_000, "é" * 20_000]
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:80]
    texts = [*runs, *(path.read_text(encoding="utf-8") for path in paths), "a <|endoftext|> b"]
    fast, slow = fast_and_slow(texts, single_digits)
    assert fast == slow


def test_no_fast_way_where_the_ids_might_differ() -> None:
    """Ab comes before bc, so that abc, made from (a, bc), is never made; tiktoken would join ab and c to it."""
    document = json.loads(Tokenizer.train(["x"], 257).to_json())
    vocab = document["model"]["vocab"]
    for first, second in (("a", "b"), ("b", "c"), ("a", "bc")):
        vocab[first + second] = len(vocab)
        document["model"]["merges"].append([first, second])
    tokenizer = Tokenizer(json.dumps(document))
    assert tokenizer._fast is None
    assert tokenizer.encode("abc") == [vocab["ab"], vocab["c"]]


@pytest.mark.parametrize("number", [10**6, 2**32 - 2])
def test_ids_far_beyond_the_tokens_are_refused(number: int) -> None:
    """The library would list every id that no token has, and end the process when memory ends."""
    document = json.loads(TOKENIZER.to_json())
    document["model"]["vocab"]["strange"] = number
    with pytest.raises(ProgramError, match="numbers its tokens too high") as caught:
        Tokenizer(json.dumps(document))
    assert f"ids up to {number}" in str(caught.value)


@pytest.mark.parametrize("change", [{"continuing_subword_prefix": "#" * 12}, {"merges": [[END_OF_TEXT, "the"]]}])
def test_what_the_library_would_not_survive_is_refused(change: dict[str, object]) -> None:
    document = json.loads(TOKENIZER.to_json())
    document["model"].update(change)
    with pytest.raises(ProgramError, match="cannot be read"):
        Tokenizer(json.dumps(document))
