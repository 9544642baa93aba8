"""Slices: every example in one slice of a column, worst first, quarters of numbers, and what fails a bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import UnknownName, UsageError
from sw2.core.task import Score
from sw2.domains.vision.task import ImageClassification
from sw2.parts.metrics.intervals import wilson
from sw2.verbs.slices import cut, fails


class Plain(ImageClassification):
    """Whose examples' own values are their metadata."""

    def metadata(self, example: Mapping[str, Any]) -> Mapping[str, Any]:
        return example


def accuracy(cases: list[float], **details: Any) -> Score:
    value = sum(cases) / max(1, len(cases))
    return Score(
        name="accuracy", value=value, better="higher", examples=len(cases), details={"cases": cases, **details}
    )


cells = st.sampled_from(["a", "b", "", 1, 2.5, True])


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), cells, st.booleans()), min_size=1, max_size=30))
def test_each_example_is_in_one_slice(rows: list[tuple[float, Any, bool]]) -> None:
    examples = [{"c": cell} if there else {"other": 1} for _, cell, there in rows]
    if not any("c" in each for each in examples):
        return
    parts = cut(Plain(), examples, accuracy([case for case, _, _ in rows]), "c", 0)
    assert sum(part.score.examples for part in parts) == len(rows)
    total = sum(part.score.value * part.score.examples for part in parts)
    assert total == pytest.approx(sum(case for case, _, _ in rows))
    assert [part.score.value for part in parts] == sorted(part.score.value for part in parts)


def test_worst_first_with_wilsons_interval() -> None:
    examples = [{"camera": name} for name in ("old", "new", "old", "old", "new")]
    old, new = cut(Plain(), examples, accuracy([0.0, 1.0, 1.0, 0.0, 1.0]), "camera", 0)
    assert (old.value, old.score.examples, old.score.value) == ("old", 3, pytest.approx(1 / 3))
    assert old.score.interval == (wilson(1, 3).low, wilson(1, 3).high)
    assert (new.value, new.score.value) == ("new", 1.0)


def test_a_loss_has_its_worst_slice_first_too() -> None:
    score = Score(name="loss", value=1.0, better="lower", examples=4, details={"cases": [0.5, 2.5, 0.5, 0.5]})
    parts = cut(Plain(), [{"c": "a"}, {"c": "b"}, {"c": "a"}, {"c": "b"}], score, "c", 0)
    assert [(part.value, part.score.value) for part in parts] == [("b", 1.5), ("a", 0.5)]
    assert parts[0].score.interval == (0.5, 2.5)


def test_many_numbers_become_quarters() -> None:
    examples = [{"year": str(1900 + i)} for i in range(100)] + [{"year": ""}]
    parts = cut(Plain(), examples, accuracy([1.0] * 101), "year", 0)
    assert {part.value: part.score.examples for part in parts} == {
        "below 1924.75": 25,
        "1924.75 to 1949.5": 25,
        "1949.5 to 1974.25": 25,
        "1974.25 and above": 25,
        "(none)": 1,
    }


def test_metadata_means_every_column_that_suits() -> None:
    examples = [{"name": f"picture {i}", "side": "left" if i % 2 else "right", "same": "x"} for i in range(40)]
    assert {part.column for part in cut(Plain(), examples, accuracy([1.0] * 40), "metadata", 0)} == {"side"}


def test_wrong_columns_are_told() -> None:
    examples = [{"name": f"picture {i}"} for i in range(40)]
    with pytest.raises(UsageError, match="too many values") as caught:
        cut(Plain(), examples, accuracy([1.0] * 40), "name", 0)
    assert "40, such as picture 0" in str(caught.value.got)
    with pytest.raises(UnknownName, match="nmae"):
        cut(Plain(), examples, accuracy([1.0] * 40), "nmae", 0)
    with pytest.raises(UsageError, match="cannot be divided"):
        cut(Plain(), examples, accuracy([1.0] * 39), "name", 0)


def test_an_example_judged_several_times_counts_once() -> None:
    examples = [{"c": "a"}, {"c": "b"}]
    score = accuracy([1.0, 0.0, 1.0, 1.0], repeats=[0, 1, 0, 1])
    assert {part.value: (part.score.value, part.score.examples) for part in cut(Plain(), examples, score, "c", 0)} == {
        "a": (1.0, 1),
        "b": (0.5, 1),
    }


def test_a_slice_fails_when_its_whole_interval_does() -> None:
    def share(right: int, of: int, better: str = "higher") -> Score:
        interval = wilson(right, of)
        return Score(name="s", value=right / of, better=better, examples=of, interval=(interval.low, interval.high))

    assert not fails(share(0, 2), 0.6)
    assert fails(share(0, 20), 0.6)
    assert fails(share(20, 20, "lower"), 0.6)
    assert not fails(share(0, 20, "lower"), 0.6)
