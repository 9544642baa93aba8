"""Judging vectors: folds that keep copies together, and votes and probes that see only other pictures' labels."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError
from sw2.domains.vision.pretraining.probing import folds, labels_of, neighbours, probe


def examples(contents: list[int], labels: list[str]) -> list[dict[str, str]]:
    return [
        {"sha256": hashlib.sha256(str(content).encode()).hexdigest(), "label": label}
        for content, label in zip(contents, labels, strict=True)
    ]


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=2, max_size=60), st.randoms())
@settings(max_examples=60, deadline=None)
def test_folds_keep_copies_together_and_depend_on_content_alone(rows: list[tuple[int, str]], random: object) -> None:
    if len({content for content, _ in rows}) < 2:
        rows = [*rows, (41, "a")]
    unique = dict(reversed(rows))  # copies with one label here
    rows = [(content, unique[content]) for content, _ in rows]
    found = folds(examples(*map(list, zip(*rows, strict=True))))  # type: ignore[arg-type]
    assert len({(content, fold) for (content, _), fold in zip(rows, found, strict=True)}) == len(unique)
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = folds(examples(*map(list, zip(*[rows[i] for i in shuffled], strict=True))))  # type: ignore[arg-type]
    assert again.tolist() == found[shuffled].tolist()
    place = dict(zip((content for content, _ in rows), found.tolist(), strict=True))
    for label in "abc":
        counts = Counter(place[content] for content, its in unique.items() if its == label)
        if sum(counts.values()) >= 5:
            assert max(counts.values()) - min(counts.get(fold, 0) for fold in range(5)) <= 1


def test_a_probe_finds_what_is_in_the_vectors_and_nothing_else() -> None:
    draw = np.random.default_rng(0)
    labels, in_folds = np.arange(300) % 3, np.arange(300) // 3 % 5
    noise = draw.normal(size=(300, 6)).astype(np.float32)
    assert probe(noise, labels, in_folds).mean() < 0.45
    assert probe(noise + 9 * np.eye(3, 6, dtype=np.float32)[labels], labels, in_folds).mean() > 0.98
    # A number that is the same everywhere, and one of another size, do no harm.
    known = np.column_stack((np.ones(300), 1e4 * labels)).astype(np.float32)
    assert probe(known, labels, in_folds).all()


def test_no_picture_is_told_by_its_own_label() -> None:
    """Each is alone with a number of its own: what is learned from the others says nothing of it."""
    labels = np.arange(40) % 2
    assert probe(np.eye(40, dtype=np.float32), labels, np.arange(40) % 5).mean() < 0.6
    assert neighbours(np.eye(40, dtype=np.float32), labels, np.arange(40) // 2 % 5).mean() <= 0.6


def test_neighbours_vote_as_counted_by_hand() -> None:
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels, in_folds = draw.integers(0, 3, 60), np.arange(60) % 5
    wanted = []
    for i in range(60):
        others = sorted((float(vectors[i] @ vectors[k]), k) for k in range(60) if in_folds[k] != in_folds[i])[-10:]
        votes = [sum(np.exp(cosine / 0.07) for cosine, k in others if labels[k] == label) for label in range(3)]
        wanted.append(int(np.argmax(votes)) == labels[i])
    assert neighbours(vectors, labels, in_folds).tolist() == wanted


def test_a_label_that_only_one_fold_has_is_missed_and_no_error() -> None:
    labels, in_folds = np.array([0, 1, 1, 1]), np.array([0, 1, 2, 3])
    vectors = np.eye(4, dtype=np.float32)
    assert not probe(vectors, labels, in_folds)[0]
    assert not neighbours(vectors, labels, in_folds)[0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"sha256": "0"}], "these have none"),
        ([{"sha256": "0", "label": "a"}, {"sha256": "1"}], "these have none"),
        (examples([1, 2], ["a", "a"]), "nothing to tell apart"),
    ],
)
def test_pictures_by_which_nothing_is_judged(rows: list[dict[str, str]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        labels_of(rows)


def test_one_picture_is_too_few() -> None:
    with pytest.raises(DataError, match="told by others"):
        folds(examples([1, 1], ["a", "b"]))
