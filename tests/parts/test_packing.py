"""Rows: every token is a target once, documents stay whole where they fit, and little room is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.parts.data.packing import best_fit, concatenated
from sw2.parts.data.shards import Shard, write_shard

LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=60)


def _borders(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths])


@given(LENGTHS, st.integers(3, 24))
def test_every_token_is_read_once_and_documents_stay_whole(lengths: list[int], length: int) -> None:
    borders = _borders(lengths)
    rows = best_fit(borders, length)
    pieces = sorted(piece for row in range(len(rows)) for piece in rows.pieces(row))
    places = [place for start, size in pieces for place in range(start, start + size)]
    assert places == list(range(borders[-1] - 1))  # the last token has nothing after it
    assert all(0 < sum(size for _, size in rows.pieces(row)) <= length for row in range(len(rows)))
    begins = {start for start, _ in pieces}
    for begin, size in zip(borders[:-1], lengths, strict=True):
        wanted = set(range(begin, begin + size, length)) - {int(borders[-1]) - 1}
        assert wanted == {start for start in begins if begin <= start < begin + size}
    assert rows.padded == pytest.approx(1 - len(places) / (len(rows) * length))


def test_best_fit_is_derived_by_hand() -> None:
    """Documents of 14, 7, 5, 2 and 3 in rows of 8, the example of Ding et al., figure 2; one more ends the shard."""
    rows = best_fit(_borders([14, 7, 5, 2, 3, 2]), 8)
    sizes = [sorted(size for _, size in rows.pieces(row)) for row in range(len(rows))]
    assert sorted(sizes) == [[1, 7], [2, 6], [3, 5], [8]]
    assert rows.padded == 0.0
    plain = concatenated(_borders([14, 7, 5, 2, 3, 2]), 8)
    assert len(plain) == 4
    assert plain.dropped == 0.0
    assert plain.cut == pytest.approx(2 / 6)  # 14 to 21 crosses 16, 21 to 26 crosses 24


@given(LENGTHS, st.integers(3, 24))
def test_concatenated_rows_lose_only_a_rest(lengths: list[int], length: int) -> None:
    borders = _borders(lengths)
    rows = concatenated(borders, length)
    assert len(rows) == (borders[-1] - 1) // length
    assert rows.dropped == pytest.approx(((borders[-1] - 1) % length) / (borders[-1] - 1))


def test_rows_of_a_shard(tmp_path: Path) -> None:
    documents = [np.array([0, *range(10 * n, 10 * n + size)], dtype=np.int32) for n, size in enumerate([3, 2, 4], 1)]
    write_shard(tmp_path / "shard", documents, 1000)
    shard = Shard(tmp_path / "shard", 1000)
    tokens, targets, owners = shard.row([(4, 3), (0, 4)], 9)
    assert tokens.tolist() == [0, 20, 21, 0, 10, 11, 12, 0, 0]
    assert targets.tolist() == [20, 21, 0, 10, 11, 12, 0, -1, -1]
    assert owners.tolist() == [1, 1, 1, 0, 0, 0, 0, -1, -1]
