"""Rows in fewer bytes: bounds that follow from the method, and losses that are counted right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sw2.base.errors import DataError
from sw2.parts.formats.compressed import CENTROIDS, EightBits, ProductCodes, eight_bits, loss, product_codes


def _matrix(rows: int = 600, dimensions: int = 10) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(rows, dimensions)).astype(np.float32)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.integers(1, 6)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32).map(lambda each: each if abs(each) > 1e-30 else 0.0),
    )
)
def test_eight_bits_are_never_off_by_more_than_half_a_step(matrix: np.ndarray) -> None:
    found = eight_bits(matrix)
    every = np.arange(len(matrix))
    steps = np.abs(matrix).max(1, initial=0)[:, None].astype(np.float64) / 127
    assert (np.abs(found.rows(every) - matrix.astype(np.float64)) <= steps * 0.5001).all()
    assert found.shape == matrix.shape


def test_rows_that_repeat_256_values_are_kept_by_product_codes() -> None:
    # As many different rows as centroids: k-means has nothing to lose once each has its own, which it starts with.
    values = _matrix(CENTROIDS, 6)
    found = product_codes(values, 3, norms=False)
    assert np.allclose(found.rows(np.arange(CENTROIDS)), values, atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("norms", [True, False])
def test_each_code_is_the_nearest_centroid(width: int, norms: bool) -> None:
    matrix = _matrix()
    found = product_codes(matrix, width, norms=norms, iterations=3)
    parts = -(-10 // width)
    assert found.codes.shape == (600, parts)
    assert found.centroids.shape == (2560,)
    lengths = np.linalg.norm(matrix, axis=1) if norms else np.ones(600)
    rows = found.rows(np.arange(600))
    if norms:
        assert found.norm_codes is not None
        assert found.norm_centroids is not None
        told = found.norm_centroids[found.norm_codes]
        assert np.abs(told - lengths).max() <= np.abs(found.norm_centroids[:, None] - lengths).min(0).max() + 1e-6
        rows /= told[:, None]
    for part in range(parts):
        start, stop = part * width, min(10, part * width + width)
        book = found.centroids[CENTROIDS * start : CENTROIDS * stop].reshape(CENTROIDS, -1)
        numbers = matrix[:, start:stop] / lengths[:, None]
        apart = np.linalg.norm(numbers[:, None] - book, axis=2)
        assert np.abs(np.linalg.norm(rows[:, start:stop] - numbers, axis=1) - apart.min(1)).max() < 1e-4


def test_narrower_parts_lose_less_and_more_iterations_too() -> None:
    matrix = _matrix()
    lost = {}
    for width, iterations in ((1, 5), (2, 5), (5, 5), (2, 0)):
        rows = product_codes(matrix, width, norms=False, iterations=iterations).rows(np.arange(600))
        lost[width, iterations] = float(((rows - matrix) ** 2).mean())
    assert lost[1, 5] < lost[2, 5] < lost[5, 5]
    assert lost[2, 5] < lost[2, 0]


def test_the_same_seed_gives_the_same_codes() -> None:
    one, other, third = (product_codes(_matrix(), 5, iterations=2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(one.centroids, other.centroids)
    assert not np.array_equal(one.centroids, third.centroids)


def test_rows_that_are_alike_do_not_stop_it() -> None:
    matrix = np.zeros((300, 4), np.float32)
    matrix[:2] = 5
    found = product_codes(matrix)
    assert np.isfinite(found.centroids).all()
    assert np.abs(found.rows(np.arange(300)) - matrix).max() < 0.01
    assert np.isfinite(loss(matrix, found, most=50).cosine)


def test_too_few_rows_are_told() -> None:
    with pytest.raises(DataError, match="too few rows"):
        product_codes(_matrix(255))


def test_nothing_is_lost_where_nothing_was_taken() -> None:
    values = np.random.default_rng(1).integers(-127, 128, (90, 8)).astype(np.float32)
    values[:, 0] = 127
    told = loss(values, EightBits(values.astype(np.int8), np.ones(90, np.float32)))
    assert told.cosine == pytest.approx(1, abs=1e-6)
    assert told.overlap == 1
    assert told.smaller == pytest.approx(32 / 12)


def test_neighbours_are_counted_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = _matrix(400, 10)
    found = product_codes(matrix, 5, iterations=2)
    monkeypatch.setattr("sw2.parts.formats.compressed._AT_ONCE", 5000)  # in pieces
    told = loss(matrix, found, 10, most=400)

    def nearest(rows: np.ndarray) -> np.ndarray:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        scores = unit @ unit.T
        np.fill_diagonal(scores, -2)
        return np.argsort(-scores, axis=1)[:, :10]

    rows = found.rows(np.arange(400))
    kept = [len(set(one) & set(other)) for one, other in zip(nearest(matrix).tolist(), nearest(rows).tolist())]
    cosines = (matrix * rows).sum(1) / np.linalg.norm(matrix, axis=1) / np.linalg.norm(rows, axis=1)
    # Two neighbours may be equally near up to rounding.
    assert told.overlap == pytest.approx(np.mean(kept) / 10, abs=0.001)
    assert told.cosine == pytest.approx(cosines.mean(), abs=1e-5)
    assert 0.2 < told.overlap < 0.9


def test_bytes_are_those_of_the_arrays() -> None:
    found = product_codes(_matrix(), 2, iterations=1)
    assert isinstance(found, ProductCodes)
    assert found.nbytes == 600 * 5 + 10 * 256 * 4 + 600 + 256 * 4
    assert eight_bits(_matrix()).nbytes == 600 * 10 + 600 * 4
