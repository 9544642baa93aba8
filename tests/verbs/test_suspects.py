"""Labels that are likely wrong: folds, orders and the confident joint by hand, planted ones in real digits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sw2.base.errors import DataError, UsageError
from sw2.catalog import catalog
from sw2.core.labelled import Row
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.vision.data import digits
from sw2.verbs.labels import named, refuse_format, write_table
from sw2.verbs.suspects import RANKS, confident_joint, divide, suspects

Image = pytest.importorskip("PIL.Image")

rows_of = st.lists(st.builds(Row, st.text("ab/.", max_size=3), st.sampled_from("xyz"), st.text("cd", max_size=3)))


@given(rows_of, st.integers(2, 5), st.integers(0, 9))
def test_copies_share_a_fold_and_labels_are_spread(rows: list[Row], folds: int, seed: int) -> None:
    assume(len({row.content for row in rows}) >= folds)
    fold_N = divide(rows, folds, seed)
    assert len(fold_N) == len(rows)
    by_content: dict[str, set[int]] = {}
    for row, fold in zip(rows, fold_N.tolist(), strict=True):
        assert 0 <= fold < folds
        by_content.setdefault(row.content, set()).add(fold)
    assert all(len(at) == 1 for at in by_content.values())
    assert divide(rows, folds, seed).tolist() == fold_N.tolist()
    # Different contents of one label fill the folds evenly.
    labels: dict[str, str] = {}
    for row in rows:
        labels[row.content] = min(row.label, labels.get(row.content, row.label))
    for label in set(labels.values()):
        counts = Counter(min(by_content[content]) for content, of in labels.items() if of == label)
        assert max(counts.values()) - min(counts[fold] for fold in range(folds)) <= 1


def test_one_fold_is_refused() -> None:
    with pytest.raises(UsageError, match="held against"):
        divide([], 1, 0)


def test_more_folds_than_different_examples_are_refused() -> None:
    rows = [Row("a", "x", "1"), Row("b", "x", "2"), Row("c", "x", "2")]
    assert sorted(divide(rows, 2, 0).tolist()) in ([0, 0, 1], [0, 1, 1])
    with pytest.raises(UsageError, match="more folds") as caught:
        divide(rows, 3, 0)
    assert caught.value.wanted == "at most 2"


@given(rows_of)
def test_every_row_has_a_name_of_its_own(rows: list[Row]) -> None:
    made = named(rows)
    assert len({row.name for row in made}) == len(rows)
    assert [(row.label, row.content) for row in made] == [(row.label, row.content) for row in rows]
    firsts = {}
    for row, new in zip(rows, made, strict=True):
        firsts.setdefault(row.name, new.name)
    assert all(name == first for name, first in firsts.items())


P = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3]], np.float32)
GIVEN = np.array([0, 0, 0, 1, 1])


def test_the_confident_joint_by_hand() -> None:
    # t_0 = (0.9 + 0.6 + 0.2) / 3 = 0.567, t_1 = (0.7 + 0.3) / 2 = 0.5
    assert confident_joint(P, GIVEN).tolist() == [[2, 1], [1, 1]]


@pytest.mark.parametrize("rank", RANKS)
def test_orders_by_hand(rank: str) -> None:
    order = np.argsort(RANKS[rank](P, GIVEN), kind="stable").tolist()
    assert order[:2] == [2, 4]
    assert set(order) == set(range(5))


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder of 240 digits, of which eight stand under a wrong label."""
    root = tmp_path_factory.mktemp("digits") / "pictures"
    random = np.random.default_rng(0)
    wrong = set()
    for number, example in enumerate(digits().split("train")[:240]):
        label = example["label"]
        if number % 30 == 7:
            label = str((int(label) + int(random.integers(1, 10))) % 10)
            wrong.add(f"{label}/{number}.png")
        path = root / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(example["image"]).save(path)
    return root, wrong


def test_planted_labels_are_found_first(doubtful: tuple[Path, set[str]]) -> None:
    root, wrong = doubtful
    said: list[str] = []
    found = suspects(
        catalog(),
        str(root),
        Context(say=said.append),
        folds=2,
        budget=Budget(steps=80),
        settings=["learn.gradient.precision=fp32", "learn.augment.mirror=false"],
    )
    assert found.task == "image-classification"
    assert said[0] == "fold 1 of 2: learning from 120 examples"
    assert len(found.ranked) == 240
    first = {each.name for each in found.ranked[:17]}  # 7 %
    assert len(wrong & first) >= 7, [vars(each) for each in found.ranked[:17]]
    assert all(each.label != each.looks_like and 0 <= each.own <= 1 for each in found.ranked)
    assert 4 <= found.wrong <= 40


def test_a_label_with_one_example_is_noted_and_copies_under_two_labels_are_told(tmp_path: Path) -> None:
    for number, label in enumerate(["a", "a", "b", "b", "c"]):
        path = tmp_path / label / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 20 * number, np.uint8)).save(path)
    (tmp_path / "b" / "copy.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    settings = ["learn.gradient.precision=fp32"]
    found = suspects(catalog(), str(tmp_path), Context(), folds=2, budget=Budget(steps=1), settings=settings)
    assert sorted(each.label for each in found.ranked) == ["a", "a", "b", "b", "b"]
    assert found.notes == [
        "the same under several labels: a/0.png (a), b/copy.png (b)",
        "only one example, of which nothing can be said: 'c'",
    ]


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    for number, label in enumerate(["a", "a", "b"]):
        path = tmp_path / label / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 20 * number, np.uint8)).save(path)
    with pytest.raises(DataError, match="nothing to hold these labels against"):
        suspects(catalog(), str(tmp_path), Context())


def test_data_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(UsageError, match="one label each") as caught:
        suspects(catalog(), str(tmp_path / "texts.jsonl"), Context(), task="text-generation")
    assert "image-classification" in str(caught.value.wanted)
    with pytest.raises(DataError, match="no column 'image'"):
        suspects(catalog(), str(tmp_path / "texts.jsonl"), Context())


def test_tables_are_new_files(tmp_path: Path) -> None:
    rows = [{"name": "a,b", "own": 0.5}, {"name": "é", "own": 0.25}]
    write_table(rows, tmp_path / "new" / "t.csv")
    assert (tmp_path / "new" / "t.csv").read_text(encoding="utf-8") == 'name,own\n"a,b",0.5\né,0.25\n'
    write_table(rows, tmp_path / "t.jsonl")
    assert (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()[1] == '{"name": "é", "own": 0.25}'
    with pytest.raises(UsageError, match="there already"):
        refuse_format(tmp_path / "t.jsonl")
    with pytest.raises(UsageError, match="cannot be written"):
        refuse_format(tmp_path / "t.xlsx")
