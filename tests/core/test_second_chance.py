"""Votes and reviews, with a writer that says what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sw2.base.errors import UsageError
from sw2.core.second_chance import Draft, Write, comparable, elect_by_field, elect_by_value, second_chance
from sw2.parts.decoding.sampling import Sampling

COLD = Sampling(temperature=0.0)
ASKED = [[{"role": "user", "content": "What is 3 + 4?"}]]


def _writer(
    says: Callable[[Sequence[Mapping[str, Any]], Sampling, bool], str], calls: list[Any], longest: int = 99
) -> Write:
    def write(talks: Sequence[Any], samplings: Sequence[Sampling], formed: bool) -> list[Draft]:
        calls.append((talks, samplings, formed))
        texts = [says(talk, sampling, formed) for talk, sampling in zip(talks, samplings, strict=True)]
        return [
            Draft(text=text[:longest], finished="end" if len(text) <= longest else "length", tokens=len(text[:longest]))
            for text in texts
        ]

    return write


def test_without_either_it_is_written_once() -> None:
    calls: list[Any] = []
    drafts = second_chance(_writer(lambda talk, sampling, formed: "7", calls), ASKED * 2, COLD)
    assert [(each.text, each.tokens, each.agreed, each.steps) for each in drafts] == [("7", 1, 1.0, ())] * 2
    assert calls == [(ASKED * 2, [COLD] * 2, True)]


def test_most_win() -> None:
    answers = iter(["It is 8", "So: 7", "7.0", "9", "it is 7."])
    calls: list[Any] = []
    draft = second_chance(_writer(lambda *_: next(answers), calls), ASKED, COLD, votes=5)[0]
    assert (draft.text, draft.agreed) == ("So: 7", 0.6)
    assert draft.steps == ("It is 8", "So: 7", "7.0", "9", "it is 7.")
    samplings = calls[0][1]
    assert len({each.seed for each in samplings}) == 5, "drafts are drawn differently"
    assert all(each.temperature > 0 for each in samplings)


def test_each_question_has_its_own_vote() -> None:
    def says(talk: Sequence[Mapping[str, Any]], sampling: Sampling, formed: bool) -> str:
        del sampling, formed
        return str(talk[-1]["content"])

    talks = [[{"role": "user", "content": text}] for text in ("one", "two")]
    assert [each.text for each in second_chance(_writer(says, []), talks, COLD, votes=3)] == ["one", "two"]


def test_what_was_cut_off_has_no_vote() -> None:
    answers = iter(["x" * 50, "x" * 50, "7"])
    draft = second_chance(_writer(lambda *_: next(answers), [], longest=20), ASKED, COLD, votes=3)[0]
    assert (draft.text, draft.finished) == ("7", "end")
    assert draft.agreed == pytest.approx(1 / 3)
    none = second_chance(_writer(lambda *_: "x" * 50, [], longest=20), ASKED, COLD, votes=2)[0]
    assert (none.finished, none.agreed, none.tokens) == ("length", 0.0, 40)


def test_fields_are_voted_one_by_one() -> None:
    texts = [json.dumps(each) for each in ({"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 2, "b": "Y"})]
    text, agreed = elect_by_field(texts)
    assert (json.loads(text), agreed) == ({"a": 2, "b": "x"}, 2 / 3)
    assert elect_by_value(texts)[1] == 1 / 3, "no whole answer has two votes"
    names = [json.dumps({"a": each}) for each in ("iPhone 12", "Galaxy 12", "galaxy 12 ")]
    assert json.loads(elect_by_field(names)[0]) == {"a": "Galaxy 12"}, "a number in a name is not the answer"


def test_a_review_is_read_and_the_answer_written_again() -> None:
    def says(talk: Sequence[Mapping[str, Any]], sampling: Sampling, formed: bool) -> str:
        del sampling
        if not formed:
            return "The sum is wrong."
        return "7" if "The sum is wrong." in talk[-1]["content"] else "8"

    calls: list[Any] = []
    draft = second_chance(_writer(says, calls), ASKED, COLD, reviews=1)[0]
    assert (draft.text, draft.steps) == ("7", ("8", "The sum is wrong."))
    assert draft.tokens == len("8" + "The sum is wrong." + "7")
    roles = [each["role"] for each in calls[2][0][0]]
    assert roles == ["user", "assistant", "user"]
    assert [formed for _, _, formed in calls] == [True, False, True], "a critique has no form"


def test_a_draft_that_passes_is_left_alone() -> None:
    calls: list[Any] = []

    def says(talk: Sequence[Mapping[str, Any]], sampling: Sampling, formed: bool) -> str:
        del talk, sampling
        return "7" if formed else "OK."

    draft = second_chance(_writer(says, calls), ASKED, COLD, reviews=3)[0]
    assert (draft.text, draft.steps) == ("7", ("OK.",))
    assert len(calls) == 2, "it is not reviewed again"


def test_an_answer_that_says_ok_is_reviewed_after_a_vote() -> None:
    calls: list[Any] = []
    draft = second_chance(
        _writer(lambda talk, sampling, formed: "OK" if formed else "No.", calls), ASKED, COLD, votes=2, reviews=1
    )[0]
    assert draft.steps == ("OK", "OK", "OK", "No.")
    assert len(calls) == 3


def test_a_form_that_a_stop_string_cut_off_has_no_vote() -> None:
    def write(talks: Sequence[Any], samplings: Sequence[Sampling], formed: bool) -> list[Draft]:
        del samplings, formed
        ends: Any = ["stop", "stop", "end"]
        return [
            Draft(text='{"a": 1}' if end == "end" else '{"a', finished=end, tokens=1) for end, _ in zip(ends, talks)
        ]

    draft = second_chance(write, ASKED, COLD, votes=3, elect=elect_by_field, whole=("end",))[0]
    assert draft.text == '{"a": 1}'


def test_what_is_cut_off_puts_nothing_right() -> None:
    def says(talk: Sequence[Mapping[str, Any]], sampling: Sampling, formed: bool) -> str:
        del sampling
        if not formed:
            return "No."
        return "x" * 50 if len(talk) > 1 else "7"

    assert second_chance(_writer(says, [], longest=20), ASKED, COLD, reviews=1)[0].text == "7"


@pytest.mark.parametrize(("one", "other", "equal"), [
    ("7", "seven", False), ("$1,200.50", "1200.5", True), ('{"a": [1]}', '{"a":[1]}', True),
    ('{"a": 1}', '{"a": 2}', False), ("Yes!", "yes", True), ("-3", "3", False),
])  # fmt: skip
def test_what_is_one_answer(one: str, other: str, equal: bool) -> None:
    assert (comparable(one) == comparable(other)) is equal


@pytest.mark.parametrize("wrong", [{"votes": 0}, {"votes": 65}, {"reviews": -1}, {"reviews": 9}])
def test_so_many_chances_are_not_given(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="chances"):
        second_chance(_writer(lambda *_: "7", []), ASKED, COLD, **wrong)
