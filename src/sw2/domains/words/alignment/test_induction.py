"""Dictionaries against loops; whether the first one finds a turned language; whether maps learned apart agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sw2.domains.words.alignment import induction
from sw2.domains.words.alignment.data import turned_words
from sw2.domains.words.alignment.geometry import normalised, procrustes, unit
from sw2.domains.words.alignment.induction import Pairs, by_profiles, identical, induced, mutual
from sw2.domains.words.alignment.structure import agreement, criterion
from sw2.domains.words.alignment.test_geometry import naive_csls, rotation, vectors


def test_induced_pairs_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = unit(vectors(19, 5, 1)), unit(vectors(14, 5, 2))
    scores = naive_csls(source.numpy().astype(float), target.numpy().astype(float), 4)
    forward, backward = scores.argmax(axis=1), scores.argmax(axis=0)
    for at_once in (20, 16_000_000):
        monkeypatch.setattr(induction, "_AT_ONCE", at_once)
        found = induced(source, target, 4)
        assert found.pairs.source.tolist() == [*range(19), *backward]
        assert found.pairs.target.tolist() == [*forward, *range(14)]
        cosines = (source @ target.T).numpy()
        near = (cosines.max(axis=1).mean() + cosines.max(axis=0).mean()) / 2
        assert found.nearness == pytest.approx(near, abs=1e-6)
    pairs = mutual(source, target, 4)
    both = [(row, place) for row, place in enumerate(forward) if backward[place] == row]
    assert list(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)) == both


def test_overlooked_candidates_are_drawn_by_seed_and_step() -> None:
    source, target = unit(vectors(60, 5, 1)), unit(vectors(80, 5, 2))
    one, again = (induced(source, target, 5, 0.3, (3, 7)).pairs.target for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, induced(source, target, 5, 0.3, (3, 8)).pairs.target)
    assert not torch.equal(one, induced(source, target, 5, 0.3, (4, 7)).pairs.target)
    # The nearest candidate is seen in as many cases as it should be.
    best = induced(source, target, 5).pairs
    hits = [
        induced(source, target, 5, 0.3, (0, step)).pairs.target[:60] == best.target[:60] for step in range(40)
    ]  # fmt: skip
    assert float(torch.stack(hits).float().mean()) == pytest.approx(0.3, abs=0.04)


def test_words_written_alike() -> None:
    pairs = identical(["a", "taxi", "b", "1990"], ["1990", "c", "taxi"])
    assert pairs.source.tolist() == [1, 3]
    assert pairs.target.tolist() == [2, 0]
    assert len(identical(["a"], ["b"])) == 0


def test_profiles_find_words_of_a_turned_language() -> None:
    languages, dictionary = turned_words()
    source, target = (normalised(torch.from_numpy(each.matrix)) for each in (languages.source, languages.target))
    pairs = by_profiles(source, target, 600, 10)
    right = [
        languages.target.words[place] in dictionary[languages.source.words[row]]
        for row, place in zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)
    ]
    assert len(pairs) == 1200
    assert np.mean(right) > 0.1  # by chance 0.002
    fewer = by_profiles(source, target[:100], 80, 10)
    assert len(fewer) == 160
    assert int(fewer.source.max()) < 80


def test_the_criterion_and_agreement_are_those_of_a_loop() -> None:
    source, target, turn = unit(vectors(15, 5, 1)), unit(vectors(21, 5, 2)), rotation(5, 3)
    scores = naive_csls(source.numpy().astype(float), target.numpy().astype(float), 4)
    wanted = (scores.max(axis=1).mean() + scores.max(axis=0).mean()) / 2
    assert criterion(source, target, 4) == pytest.approx(wanted, abs=1e-5)
    turned = naive_csls((source @ turn).numpy().astype(float), target.numpy().astype(float), 4)
    alike = np.mean(scores.argmax(axis=1) == turned.argmax(axis=1))
    assert agreement(source, source @ turn, target, 4) == pytest.approx(alike)
    assert agreement(source, source, target, 4) == 1


@pytest.mark.parametrize("related", [False, True])
def test_maps_that_were_learned_apart_agree_where_words_do(related: bool) -> None:
    """From two halves of a dictionary that is right in a quarter of its pairs, or in none."""
    random = torch.Generator().manual_seed(1)
    source = normalised(vectors(660, 12, 1))
    target = normalised(source @ rotation(12, 2) + 0.2 * vectors(660, 12, 3) / 12**0.5)
    target = target if related else normalised(vectors(660, 12, 4))
    maps = []
    for _ in range(2):
        rows = torch.randperm(600, generator=random)
        places = rows.clone()
        places[150:] = places[150:][torch.randperm(450, generator=random)]
        pairs = Pairs(rows, places)
        for _ in range(12):
            map_DD = procrustes(source[pairs.source], target[pairs.target])
            pairs = induced(source[:600] @ map_DD, target[:600], 10).pairs
        maps.append(source[600:] @ map_DD)
    alike = agreement(*maps, target, 10)
    assert alike > 0.8 if related else alike < 0.1
