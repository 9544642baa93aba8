"""gensim's own files: what gensim saved is read, and nothing in a pickle is ever run.

The files in `tests/golden/words` were saved by gensim 4.4.0 (`benchmarks/vector_files_parity.py --golden`).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError
from sw2.parts.formats.vectors import read

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "words"


@pytest.mark.parametrize("name", ["small.kv", "apart.kv"])
def test_what_gensim_saved_is_read(name: str) -> None:
    found = read(GOLDEN / name)
    assert found.words == ["the", "käse", "寿司"]
    assert np.array_equal(found.matrix, np.arange(9, dtype=np.float32).reshape(3, 3) / 7)
    assert found.counts is not None
    assert found.counts.tolist() == [11, 7, 2]


def test_vectors_that_gensim_trained_are_read() -> None:
    found = read(GOLDEN / "trained.kv")
    assert found.matrix.shape == (len(found.words), 4)
    assert found.counts is not None
    assert found.counts.tolist() == sorted(found.counts.tolist(), reverse=True)


def test_a_whole_model_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match="something else") as caught:
        read(GOLDEN / "whole.model")
    assert caught.value.got == "gensim.models.word2vec.Word2Vec"
    assert "wv.save" in str(caught.value.do)


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, protocol: int) -> None:
    sprung, file = tmp_path / "sprung", tmp_path / "file"
    file.write_bytes(pickle.dumps({"vectors": _Trap(sprung)}, protocol))
    with pytest.raises(DataError):
        read(file)
    assert not sprung.exists()
    pickle.loads(file.read_bytes())
    assert sprung.exists()


def test_a_matrix_that_was_left_behind_is_told(tmp_path: Path) -> None:
    (tmp_path / "apart.kv").write_bytes((GOLDEN / "apart.kv").read_bytes())
    with pytest.raises(DataError, match="not there") as caught:
        read(tmp_path / "apart.kv")
    assert str(caught.value.where).endswith("apart.kv.vectors.npy")


@given(st.data())
def test_damaged_files_give_a_table_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray((GOLDEN / "small.kv").read_bytes())
    for place in data.draw(st.lists(st.integers(1, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "small.kv"
    path.write_bytes(content[: data.draw(st.integers(2, len(content)))])
    try:
        found = read(path)
    except DataError:
        return
    assert len(found.words) == len(found.matrix)
