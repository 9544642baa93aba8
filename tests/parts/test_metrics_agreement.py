"""Agreement of people: scikit-learn's kappa, the published example of alpha, and pairs counted one by one."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError
from sw2.parts.metrics import cohen_kappa, krippendorff_alpha

metrics = pytest.importorskip("sklearn.metrics")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where kappa is not defined
        expected = metrics.cohen_kappa_score(one, other)
    assert cohen_kappa(one, other) == pytest.approx(expected, abs=1e-12, nan_ok=True)


# Krippendorff (2011), section C: four observers, twelve units, five values; 0 where an observer said nothing.
PUBLISHED = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
])  # fmt: skip


def test_alpha_is_the_published_one() -> None:
    counts_NK = np.stack([np.equal(PUBLISHED, value).sum(0) for value in range(1, 6)], 1)
    assert krippendorff_alpha(counts_NK) == pytest.approx(0.743, abs=5e-4)


@given(st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=4), min_size=1, max_size=8))
def test_alpha_is_that_of_pairs_counted_one_by_one(examples: list[list[int]]) -> None:
    paired = [labels for labels in examples if len(labels) > 1]
    counts_NK = np.array([[labels.count(k) for k in range(3)] for labels in examples])
    if not paired:
        with pytest.raises(DataError):
            krippendorff_alpha(counts_NK)
        return
    everything = [label for labels in paired for label in labels]
    observed = sum(
        sum(a != b for a, b in itertools.permutations(labels, 2)) / (len(labels) - 1) for labels in paired
    ) / len(everything)
    pairs = list(itertools.permutations(everything, 2))
    expected = sum(a != b for a, b in pairs) / len(pairs)
    found = krippendorff_alpha(counts_NK)
    if expected == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(1 - observed / expected, abs=1e-12)


def test_two_people_who_labelled_nothing_in_common_have_no_kappa() -> None:
    with pytest.raises(DataError):
        cohen_kappa([], [])
    with pytest.raises(DataError):
        cohen_kappa([0, 1], [0])
