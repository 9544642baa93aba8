"""Near-copies: copies are always found, estimates keep to their theory, edits are found and strangers are not."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.parts.data.minhash import BANDS, MINIMA, band_keys, groups, jaccard, runs, signatures, whole_runs


def _text(draw: random.Random, words: int) -> list[str]:
    return [f"w{draw.randrange(5000)}" for _ in range(words)]


def _naive(text: str, length: int) -> list[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9_]+", text.lower())
    return [tuple(words[start : start + length]) for start in range(len(words))]


@given(st.lists(st.text(alphabet="abC1_ .,-\n", max_size=60), max_size=6), st.integers(1, 6))
def test_runs_are_those_of_words(texts: list[str], length: int) -> None:
    contents = [text.encode() for text in texts]
    found, whole = runs(contents, length), whole_runs(contents, length)
    hash_of: dict[tuple[str, ...], int] = {}
    for text, hashes, full in zip(texts, found, whole, strict=True):
        expected = _naive(text, length)
        assert len(hashes) == len(expected)
        for run, value in zip(expected, hashes.tolist(), strict=True):
            assert hash_of.setdefault(run, value) == value
        assert full.tolist() == [hash_of[run] for run in expected if len(run) == length]
    assert len(set(hash_of.values())) == len(hash_of)


def test_characters_beyond_ascii() -> None:
    (chinese, accented, mixed) = runs(["我是学生".encode(), "déjà vu".encode(), "a我b".encode()], 2)
    assert (len(chinese), len(accented), len(mixed)) == (4, 2, 3)


def test_long_texts_are_hashed_in_pieces_like_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(_text(random.Random(0), 2000)).encode()
    whole = set(runs([text])[0].tolist())
    monkeypatch.setattr("sw2.parts.data.minhash._PIECE", 1000)
    in_pieces = set(runs([text])[0].tolist())
    assert len(whole & in_pieces) / len(whole | in_pieces) > 0.9


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=8), st.data())
def test_copies_are_always_found(texts: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, len(texts) - 1))
    contents = [text.encode(errors="replace") for text in [*texts, texts[chosen]]]
    found = groups(band_keys(signatures(runs(contents))), lambda one, other: contents[one] == contents[other])
    assert found[-1] == found[chosen]


def test_estimates_keep_to_their_standard_error() -> None:
    draw = random.Random(1)
    errors = []
    for _ in range(150):
        size, common = 400, draw.randrange(40, 400)
        shared = _text(draw, common)
        pair = [" ".join(shared + _text(draw, size - common)).encode() for _ in range(2)]
        hashes = runs(pair)
        exact = jaccard(*hashes)
        one, other = signatures(hashes)
        errors.append(((one == other).mean() - exact) / np.sqrt(exact * (1 - exact) / MINIMA))
    # Standardised errors: mean 0 and variance 1, within four standard errors of 150 draws.
    assert abs(np.mean(errors)) < 4 / np.sqrt(150)
    assert 0.5 < np.var(errors) < 1.6


def test_edits_are_found_and_strangers_are_not() -> None:
    draw = random.Random(2)
    originals = [_text(draw, 400) for _ in range(60)]
    edited = []
    for words in originals:
        changed = list(words)
        for place in draw.sample(range(400), 6):
            changed[place] = "edited"
        edited.append(changed)
    hashes = runs([" ".join(words).encode() for words in originals + edited])
    asked = []

    def alike(one: int, other: int) -> bool:
        asked.append((one, other))
        return jaccard(hashes[one], hashes[other]) >= 0.8

    found = groups(band_keys(signatures(hashes)), alike)
    close = [number for number in range(60) if jaccard(hashes[number], hashes[60 + number]) >= 0.8]
    assert len(close) > 40
    assert [found[60 + number] for number in close] == close
    assert all(found[number] == number for number in range(60))
    assert all(abs(one - other) == 60 for one, other in asked)  # strangers share no band


def test_pairs_are_found_as_often_as_bands_promise() -> None:
    """Signatures that agree in each minimum with probability s share a band with 1 - (1 - s⁶)²⁰."""
    draw = np.random.default_rng(0)
    for likeness in (0.5, 0.7, 0.8):
        one = draw.integers(0, 2**32, (2000, MINIMA), dtype=np.uint32)
        other = np.where(draw.random(one.shape) < likeness, one, one + np.uint32(1))
        found = (band_keys(one) == band_keys(other)).any(axis=1).mean()
        promised = 1 - (1 - likeness ** (MINIMA // BANDS)) ** BANDS
        assert found == pytest.approx(promised, abs=4 * np.sqrt(promised * (1 - promised) / 2000) + 1e-3)


def test_chains_are_one_group() -> None:
    keys = np.arange(5 * BANDS, dtype=np.uint64).reshape(5, BANDS)
    keys[2, 3], keys[4, 7] = keys[0, 3], keys[2, 7]
    assert groups(keys, lambda one, other: True).tolist() == [0, 1, 0, 3, 0]
    assert groups(keys, lambda one, other: False).tolist() == [0, 1, 2, 3, 4]
    assert groups(keys[:0], lambda one, other: True).tolist() == []
