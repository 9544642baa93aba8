"""Arithmetic with a calculator: sums and short stories; the model writes the expression, the tool finds the value.

    user       Mia buys 3 notebooks at 2.40 each. What does she pay?
    assistant  calls calculator {"expression": "3 * 2.40"}
    tool       7.2
    assistant  She pays 7.2.

Right is: one call whose expression has the expected value, then a statement with that value and with no number that
is neither it nor in the question nor in the expression nor the value of a part of it.

The splits are apart twice. Numbers: the *set* of numbers of an example decides its split by hash, so no example of the
test has the numbers of one in train, in whatever order. Wordings: stories, phrasings and shapes of expressions each
belong to one split (`arithmetic.toml`); a third of the test's sums have the shapes of train with held-out numbers.
How train is worded is `arithmetic_train.py`'s.
"""

from __future__ import annotations

import functools
import random
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sw2.domains.language.skills import arithmetic_train
from sw2.domains.language.skills.basis import (
    CALCULATOR,
    Example,
    Made,
    Message,
    Split,
    Verdict,
    answer_of,
    assistant,
    call,
    calls_of,
    draw,
    numbers,
    result,
    since_user,
    split_of,
    user,
)
from sw2.domains.language.skills.sums import evaluate, steps, written

__all__ = ["check", "examples", "matter"]

SYSTEM: Final = "You are a helpful assistant. Use the calculator for every sum, then say the result."
_LEAST, _MOST = Decimal("0.01"), Decimal(10**7)
_MOST_PLACES: Final = 20
"""A model may write hundreds, and rounding to those is an error of the library."""
_SHORT: Final = 0.3
_SPOKEN: Final = 0.2
"""How many stories of train have 2.5 for 2.50, and how many of its sums are put in words ("twice 40 plus 3")."""
_WORDS: Final = {"*": "times", "/": "divided by", "+": "plus", "-": "minus"}
_SIGNS: Final = {"*": "×", "/": "÷"}


def examples(split: Split, seed: int, count: int) -> Sequence[Example]:
    """The first `count` examples of a split."""
    return Made(lambda number: _example(split, seed, number), count)


def matter(expression: str) -> str:
    """What decides the split of an expression: its different numbers, in order of size."""
    return " ".join(map(written, sorted(set(numbers(expression)))))


def check(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge the calls and the statement that follow the last message of the user."""
    expected = Decimal(example["check"]["expected"])
    said = since_user(messages)
    calls = [arguments for name, arguments in calls_of(said) if name == "calculator"]
    flaws, values, used = [], [], list[Decimal]()
    for arguments in calls:
        expression = str((arguments or {}).get("expression", ""))
        used += numbers(expression)
        try:
            found = steps(expression)
            values.append(found[-1])
            used += map(abs, found)
        except ValueError as error:
            flaws.append(f"unreadable expression: {error}")
    right = any(_equal(value, expected) for value in values)
    if not calls:
        flaws.append("no call of the calculator")
    elif not right:
        flaws.append("wrong expression")
    answer = answer_of(messages)
    stated = numbers(answer)
    states = any(_shown(value, expected) for value in stated)
    if not answer:
        flaws.append("no answer")
    elif not states:
        flaws.append("wrong result")
    question = [
        abs(value) for message in messages if message["role"] == "user" for value in numbers(message["content"])
    ]
    known = [*question, *map(abs, used), *map(abs, values)] if right else question
    foreign = [value for value in stated if not _shown(value, expected) and abs(value) not in known]
    if states and foreign:
        flaws.append(f"number from nowhere: {foreign[0]}")
    passed = right and states and not foreign
    score = (right + (states and not foreign)) / 2
    return Verdict(passed, score, tuple(flaws), {"values": [written(value) for value in values]})


def _equal(value: Decimal, expected: Decimal) -> bool:
    return abs(value - expected) <= abs(expected) * Decimal("1e-9")


def _shown(value: Decimal, expected: Decimal) -> bool:
    """Equal, or the expected value rounded to at least two places."""
    places = -int(value.as_tuple().exponent)
    return _equal(value, expected) or (2 <= places <= _MOST_PLACES and value == round(expected, places))


def _example(split: Split, seed: int, number: int) -> Example:
    for attempt in range(10_000):
        chance = draw(seed, "arithmetic", split, number, attempt)
        made = _story(split, chance) if chance.random() < 0.5 else _plain(split, chance)
        if made is not None:
            question, expression, answer, family = made
            break
    else:
        raise AssertionError("no numbers fit")
    value = evaluate(expression)
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            user(question),
            call("calculator", {"expression": expression}),
            result(written(value)),
            assistant(answer.format(answer=written(value), expression=expression)),
        ],
        "tools": [CALCULATOR],
        "check": {"skill": "arithmetic", "expected": written(value), "expression": expression},
        "skill": "arithmetic",
        "family": family,
        "where": f"arithmetic/{split}/{number}",
    }


_Drawn = tuple[str, str, str, str]


def _story(split: Split, chance: random.Random) -> _Drawn | None:
    if split == "train":
        return _varied_story(chance)
    stories = [story for story in _wordings()["story"] if story["split"] == split]
    number = chance.randrange(len(stories))
    story = stories[number]
    filled = _values(story["numbers"], chance)
    expression = story["expression"].format(**filled)
    if not _fits(split, expression):
        return None
    words = _wordings()["words"][split]
    named = {"name": chance.choice(words["names"]), "things": chance.choice(words["things"])}
    text = story["text"].format(**filled, **named)
    return text[0].upper() + text[1:], expression, story["answer"], f"story {split} {number}"


def _varied_story(chance: random.Random) -> _Drawn | None:
    stories = arithmetic_train.stories()
    number = chance.randrange(len(stories))
    filled = _values(stories[number].numbers, chance)
    if chance.random() < _SHORT:
        filled = {letter: written(Decimal(value)) for letter, value in filled.items()}
    expression = stories[number].expression.format(**filled)
    if not _fits("train", expression):
        return None
    question, answer = arithmetic_train.told(stories[number], filled, chance, _held_out())
    return question, expression, answer, f"story train {number}"


@functools.cache
def _held_out() -> frozenset[str]:
    """Names and things that train does without."""
    return frozenset(each for words in _wordings()["words"].values() for named in words.values() for each in named)


def _plain(split: Split, chance: random.Random) -> _Drawn | None:
    if split == "train":
        return _varied_sum(chance)
    wordings = _wordings()
    seen = split != "test" or chance.random() < 1 / 3
    shape = chance.choice(wordings["shapes"]["train" if seen else "test"])
    expression, _ = _numbered(shape, chance)
    if not _fits(split, expression):
        return None
    shown = expression
    style = chance.randrange(4)
    if style == 1 and "(" not in shape:
        for sign, word in _WORDS.items():
            shown = shown.replace(f" {sign} ", f" {word} ")
    elif style == 2:
        for sign, other in _SIGNS.items():
            shown = shown.replace(sign, other)
    phrasing = chance.choice(wordings["phrasings"][split])
    return (
        phrasing.format(shown),
        expression,
        "{expression} = {answer}",
        f"{'seen' if seen else 'held-out'} shape {shape}",
    )


def _varied_sum(chance: random.Random) -> _Drawn | None:
    kind = chance.random()
    if kind < _SPOKEN:
        shape = chance.choice(arithmetic_train.spoken_shapes())
    else:
        shape = _any_shape(chance) if kind < _SPOKEN + 0.5 else chance.choice(_wordings()["shapes"]["train"])
    expression, filled = _numbered(shape, chance)
    if not _fits("train", expression):
        return None
    if kind < _SPOKEN:
        question = arithmetic_train.spoken(shape, filled, chance)
    else:
        question = arithmetic_train.phrased(expression, chance)
    return question, expression, arithmetic_train.sum_answer(chance), f"seen shape {shape}"


def _numbered(shape: str, chance: random.Random) -> tuple[str, Mapping[str, str]]:
    """An expression of a shape, and the number of each letter."""
    filled = {letter: _number(chance) for letter in "abcd" if letter in shape}
    if "/" in shape:
        filled |= _whole_quotients(shape, filled, chance)
    return "".join(filled.get(character, character) for character in shape), filled


def _any_shape(chance: random.Random) -> str:
    """Two to four letters between signs, perhaps a part of them in parentheses: any shape but those of the test."""
    while True:
        parts = list("abcd")[: chance.choices((2, 3, 4), (2, 3, 3))[0]]
        if len(parts) > 2 and chance.random() < 0.5:
            first = chance.randrange(len(parts) - 1)
            last = chance.randrange(first + 1, len(parts) if first else len(parts) - 1)
            parts[first], parts[last] = "(" + parts[first], parts[last] + ")"
        shape = parts[0]
        for part in parts[1:]:
            shape += f" {chance.choice('+-*' if '/' in shape or '(' in part else '+-*/')} {part}"
        if shape not in _wordings()["shapes"]["test"]:
            return shape


def _fits(split: Split, expression: str) -> bool:
    """Whether the numbers belong to the split, and the value is positive with at most four places."""
    if split_of(matter(expression)) != split:
        return False
    value = evaluate(expression)
    places = -int(value.normalize().as_tuple().exponent)
    return _LEAST <= value <= _MOST and places <= 4


def _number(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.45:
        return str(chance.randrange(2, 100))
    if kind < 0.7:
        return str(chance.randrange(100, 5000))
    return f"{chance.randrange(11, 9999) / 100:.{chance.choice((1, 2))}f}"


def _whole_quotients(shape: str, filled: Mapping[str, str], chance: random.Random) -> Mapping[str, str]:
    """Numbers whose quotients end: what is divided is a multiple of the divisor."""
    over, under = shape[shape.index("/") - 2], shape[shape.index("/") + 2]
    if over not in filled or under not in filled:
        return {under: chance.choice(("2", "4", "5", "8", "10"))} if under in filled else {}
    divisor = str(chance.randrange(2, 40))
    return {under: divisor, over: str(int(divisor) * chance.randrange(2, 120))}


def _values(kinds: Mapping[str, Any], chance: random.Random) -> dict[str, str]:
    """One number for each letter of a story: [least, most] whole, [least, most, step], or an expression of others."""
    values: dict[str, str] = {}
    for letter, kind in kinds.items():
        if isinstance(kind, str):
            values[letter] = written(evaluate(kind.format(**values)))
        elif len(kind) == 2:
            values[letter] = str(chance.randint(*kind))
        else:
            least, most, step = (Decimal(str(each)) for each in kind)
            value = least + step * chance.randint(0, int((most - least) / step))
            values[letter] = f"{value:.2f}" if step < 1 else written(value)
    return values


@functools.cache
def _wordings() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("arithmetic.toml"), "rb") as file:
        return tomllib.load(file)
