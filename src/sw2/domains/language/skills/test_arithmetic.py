"""Sums: the parser against fractions, the splits, and the checker on right and wrong answers."""

import itertools
import json
import random
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.domains.language.chat.tools import schemas
from sw2.domains.language.skills import arithmetic, arithmetic_train
from sw2.domains.language.skills.basis import CALCULATOR, SPLITS, assistant, call, ends_well, numbers, result
from sw2.domains.language.skills.checking import check_answer, examples
from sw2.domains.language.skills.sums import evaluate, written


def expressions():
    """Pairs of a text and its exact value."""
    number = st.decimals(0, 5000, places=2).map(lambda value: (str(value), Fraction(value)))

    def grown(inner):
        two = st.tuples(inner, st.sampled_from("+-*"), inner)
        return two.map(
            lambda each: (
                f"({each[0][0]}) {each[1]} ({each[2][0]})",
                {"+": each[0][1] + each[2][1], "-": each[0][1] - each[2][1], "*": each[0][1] * each[2][1]}[each[1]],
            )
        )

    return st.recursive(number, grown, max_leaves=4)


def test_the_tool_is_told_of_as_the_engine_tells_of_it():
    assert schemas(["calculator"])[0] == CALCULATOR


@given(expressions())
def test_the_parser_agrees_with_fractions(pair):
    text, value = pair
    assert Fraction(evaluate(text)) == value
    assert Fraction(evaluate(written(evaluate(text)))) == value


@pytest.mark.parametrize(
    ("text", "value"), [("2+3*4", 14), ("10-4-3", 3), ("24/4/2", 3), ("-(2+1)", -3), ("1,200 × 2", 2400), ("2--3", 5)]
)
def test_precedence_and_order(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize("text", ["", "1 +", "(1", "1 2", "a", "1/0", "__import__('os')", "1" * 500])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        evaluate(text)


@given(st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_every_example_is_well_formed_and_passes(seed, split):
    example = examples("arithmetic", split, seed, 1)[0]
    assert ends_well(example["messages"]) is None
    verdict = check_answer(example, example["messages"])
    assert (verdict.passed, verdict.score, verdict.flaws) == (True, 1.0, ())
    assert Decimal(example["check"]["expected"]) == evaluate(example["check"]["expression"])


def test_examples_are_a_function_of_seed_and_number():
    assert list(examples("arithmetic", "train", 3, 50))[:20] == list(examples("arithmetic", "train", 3, 20))
    assert examples("arithmetic", "train", 3, 5)[1] != examples("arithmetic", "train", 4, 5)[1]


def test_splits_share_neither_numbers_nor_wordings():
    made = {split: examples("arithmetic", split, 0, 400) for split in SPLITS}
    held = {split: {arithmetic.matter(example["check"]["expression"]) for example in made[split]} for split in SPLITS}
    assert not held["train"] & (held["test"] | held["validation"])
    assert not held["validation"] & held["test"]
    families = {split: {example["family"] for example in made[split]} for split in SPLITS}
    assert {each for each in families["train"] & families["test"] if not each.startswith("seen shape")} == set()


def test_stories_of_train_tell_every_number_they_need():
    stories = arithmetic_train.stories()
    assert len(stories) >= 150
    for story in stories:
        needed = set(re.findall(r"{(\w)}", story.expression))
        assert needed <= set(story.numbers)
        for said in itertools.product(*(wordings for _, wordings in story.facts), story.questions):
            assert set(re.findall(r"{\$?(\w)}", " ".join(said))) >= needed, said
        assert all("answer}" in answer for answer in story.answers)


def test_stories_of_train_are_whole_with_each_of_their_words():
    numbers = {letter: str(place) for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz", 2)}
    for story, seed in itertools.product(arithmetic_train.stories(), range(4)):
        question, answer = arithmetic_train.told(story, numbers, random.Random(seed), {"glass"})
        assert not re.search(r"[{}<|]|WHO|SHE|HIM|\b[A-Z]{4,}", question), question
        assert re.fullmatch(r"[^{}<|]*({expression} = )?{answer}[^{}<|]*", answer), answer
        assert not re.search(r"WHO|SHE|HIM|\bHER\b", answer), answer


def test_sums_of_train_in_words_have_no_shape_of_the_test():
    shapes = arithmetic_train.spoken_shapes()
    assert not set(shapes) & set(arithmetic._wordings()["shapes"]["test"])
    for shape, seed in itertools.product(shapes, range(8)):
        letters = {letter: str(place) for place, letter in enumerate("abcd", 21) if letter in shape}
        asked = arithmetic_train.spoken(shape, letters, random.Random(seed))
        assert all(value in asked for value in letters.values()) or re.search("twenty-", asked, re.IGNORECASE)


def test_wordings_of_train_are_its_own():
    made = examples("arithmetic", "train", 0, 600)
    asked = [example["messages"][1]["content"] for example in made]
    assert len(set(asked)) > 590
    assert len({example["family"] for example in made}) > 200
    held = [re.escape(each) for each in arithmetic._held_out()]
    found = [match[0] for text in asked if (match := re.search(rf"\b({'|'.join(held)})\b", text))]
    assert not found
    sums = arithmetic_train._lists()["sums"]
    paired = {f"{before} {{}}{after}" for before in sums["before"] for after in sums["after"]}
    for split in ("validation", "test"):
        theirs = arithmetic._wordings()["phrasings"][split]
        assert not _bare({*paired, *sums["phrasings"]}) & _bare(theirs) - {"{}"}


def _bare(phrasings):
    return {re.sub(r"[^\w{} ]", "", each).casefold().strip() for each in phrasings}


def _conversation(expression, answer):
    example = examples("arithmetic", "test", 0, 1)[0]
    example = {**example, "check": {"skill": "arithmetic", "expected": "31.75"}}
    asked = [{"role": "user", "content": "Mia buys 5 mugs at 6.35 each. What does she pay?"}]
    said = [call("calculator", {"expression": expression}), result("31.75"), assistant(answer)]
    return check_answer(example, [*asked, *said])


@pytest.mark.parametrize(
    ("expression", "answer", "flaw"),
    [
        ("5 * 6.35", "She pays 31.75.", None),
        ("6.35*5", "5 mugs at 6.35 make 31.75", None),
        ("5 * 6.35", "She pays 31.57.", "wrong result"),
        ("5 + 6.35", "She pays 31.75.", "wrong expression"),
        ("5 * 6.35", "She pays 31.75, so with tax 34.", "number from nowhere: 34"),
        ("5 * * 6.35", "She pays 31.75.", "unreadable expression"),
        ("5 * 6.35", "She pays -31.75.", "wrong result"),
        ("5 * 6.35", "She pays 317.5", "wrong result"),
    ],
)
def test_planted_flaws(expression, answer, flaw):
    verdict = _conversation(expression, answer)
    assert verdict.passed == (flaw is None)
    assert flaw is None or any(each.startswith(flaw) for each in verdict.flaws)


def test_a_result_without_the_calculator_does_not_pass():
    example = examples("arithmetic", "test", 0, 1)[0]
    said = [message for message in example["messages"] if message["role"] != "tool" and "tool_calls" not in message]
    verdict = check_answer(example, said)
    assert not verdict.passed
    assert verdict.flaws == ("no call of the calculator",)
    broken = [
        *example["messages"][:2],
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "calculator", "arguments": "{"}}]},
    ]
    assert not check_answer(example, broken).passed


def test_numbers_are_read_as_people_read_them():
    assert numbers("3 x 1,250 = 3,750.00 (not 4.)") == [3, 1250, Decimal("3750.00"), 4]
    assert numbers("minus: -2, range 3-4") == [-2, 3, 4]


def test_an_expression_is_json_text_in_the_call():
    message = examples("arithmetic", "train", 0, 1)[0]["messages"][2]
    assert set(json.loads(message["tool_calls"][0]["function"]["arguments"])) == {"expression"}
