"""What makes the train split of `arithmetic.py` rich: stories put together, sums put in words, chat around both.

    told(stories()[3], {"a": "12", "p": "2.40"}, chance)    a question and how it is answered
    phrased("3 * (4 + 5)", chance)                          "hey, 3 x (4 + 5) in the end?"
    spoken("a - b", {"a": "9", "b": "4"}, chance)           "Help me with 4 less than 9, please."

Why: a small model that meets forty stories learns them by heart and writes their expressions where others are asked
for. Here some 170 stories are told in ten thousand ways before any name is drawn: facts, question and answer are drawn
apart, facts change places, stand behind the question or in one sentence with it ("If ..., how many ...?"), a sentence
that does not matter comes in, people are women, men, two, "I" or "we" with the verbs that go with them, things, units
and currencies change, and small numbers are words at times. So what has to be understood is which number does what.

What it does not do: sense. Combinations are drawn, so a bishop may buy forty rusty garlands. Nor does it know of
numbers: which ones fit is `arithmetic.py`'s to say. All words stand in `arithmetic_train.toml`, names are made of the
parts of `records_train.toml`.
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sw2.domains.language.skills import records_varied
from sw2.domains.language.skills.growing import careless, grow, listed, mistyped

__all__ = ["Story", "phrased", "spoken", "spoken_shapes", "stories", "sum_answer", "told"]

# How often a story is told in another way than fact, fact, question, and how often a message is written carelessly.
_QUESTION_FIRST, _CONDITION, _IDLE, _LINES = 0.1, 0.1, 0.2, 0.04
_BEFORE, _AFTER, _FRAME = 0.15, 0.12, 0.05
_TYPO, _LOWER, _UNMARKED = 0.04, 0.07, 0.07
_ADJECTIVE, _AS_WORD, _COMMA, _PLAIN_ANSWER = 0.25, 0.12, 0.2, 0.15

_NUMERALS: Final = ("smallnumbers", "tens")
_TOKEN: Final = re.compile(
    r"\b(?P<who>WHO|SHE|HER|HIM)(?P<other>2?)(?P<of>'S)?\b"
    r"|\[(?P<one>[^|\]]*)\|(?P<many>[^|\]]*)\]"
    r"|\{(?P<money>\$?)(?P<name>[a-z]+)(?P<number>\d?)(?P<plural>\+?)\}"
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """A story whose numbers and words are still to be drawn.

    Args:
        expression: of its letters, in braces.
        numbers: what each letter may be, as in `arithmetic.toml`.
        facts: of each sentence whether it may change places with others, and its wordings.
        questions: wordings of what is asked.
        answers: wordings of the statement.
        one: who does it is never two people.
    """

    expression: str
    numbers: Mapping[str, Any]
    facts: Sequence[tuple[bool, Sequence[str]]]
    questions: Sequence[str]
    answers: Sequence[str]
    one: bool


@functools.cache
def stories() -> Sequence[Story]:
    """All stories of train."""
    return [_story(**each) for each in _lists()["story"]]


def _story(*, expression: str, numbers: Mapping[str, Any], text: str, one: bool = False) -> Story:
    lines = text.strip().splitlines()
    facts = [(line.startswith("~ "), line.removeprefix("~ ").split(" | ")) for line in lines if line[0] not in "?="]
    asked, said = ([line[2:].split(" | ") for line in lines if line[0] == mark] for mark in "?=")
    return Story(expression=expression, numbers=numbers, facts=facts, questions=asked[0], answers=said[0], one=one)


@functools.cache
def _lists() -> Mapping[str, Any]:
    """`arithmetic_train.toml`: texts as lists, `parts` with those of the records."""
    with open(Path(__file__).with_name("arithmetic_train.toml"), "rb") as file:
        read = tomllib.load(file)
    parts = {name: listed(text) for name, text in read["parts"].items()}
    sums = {name: _variants(text) for name, text in read["sums"].items()}
    return {
        **read,
        "nouns": {kind: listed(text) for kind, text in read["nouns"].items()},
        "parts": {**records_varied.wordings()["parts"], **parts},
        "chat": {name: (listed if name in _NUMERALS else _variants)(text) for name, text in read["chat"].items()},
        "sums": sums,
    }


def _variants(value: Any) -> Any:
    """Texts as lists of the wordings that bars part; a space beside a wording counts, for some stand behind others."""
    if isinstance(value, str):
        return [each.replace("\\n", "\n") for each in re.sub(r"\|\n", "| ", value).strip("\n").split(" | ")]
    return {key: _variants(each) for key, each in value.items()} if isinstance(value, dict) else value


# ------------------------------------------------------------------------------------------------------------- stories


def told(
    story: Story, values: Mapping[str, str], chance: random.Random, avoid: Collection[str] = ()
) -> tuple[str, str]:
    """What a user asks, and the answer to it with "{answer}" (or "{expression}") in it.

    Args:
        story: one of `stories()`.
        values: the number of each letter as the expression has it.
        chance: where from to draw.
        avoid: names and things that belong to other splits.
    """
    chat = _lists()["chat"]
    cast = _Cast(values, chance, avoid, two=not story.one)
    facts = [chance.choice(each) for each in _ordered(story.facts, chance)]
    ask = chance.choice(story.questions)
    answer = chance.choice(story.answers)
    if chance.random() < _PLAIN_ANSWER:
        money = "{$answer}" in answer
        answer = chance.choice(chat["answers"])
        answer = answer if money else answer.replace("$", "")
    simple = not any(re.search(r"[.:;?!] ", each) for each in (*facts, ask)) and ask.endswith("?")
    if simple and chance.random() < _CONDITION:
        joined = " and ".join(_lowered(each.rstrip(".")) for each in facts)
        text = chance.choice(chat["conditions"]).format(facts=joined, ask=_lowered(ask), Ask=ask)
    else:
        if chance.random() < _IDLE:
            # Between two facts it would part what belongs together ("It ...").
            idle = [each for each in chat["idle"] if not each.startswith("WHO") or "WHO" in f"{facts} {ask}"]
            facts.insert(chance.choice((0, len(facts))), chance.choice(idle))
        first = chance.random() < _QUESTION_FIRST
        between = "\n" if chance.random() < _LINES else " "
        text = between.join([ask, *facts] if first else [*facts, ask])
    return _chatted(text, cast, chance), _capital(cast.filled(answer, to_user=True))


def _ordered(facts: Sequence[tuple[bool, Sequence[str]]], chance: random.Random) -> Sequence[Sequence[str]]:
    """The wordings of each fact, those that may change places shuffled among themselves."""
    free = [said for moves, said in facts if moves]
    chance.shuffle(free)
    return [free.pop() if moves else said for moves, said in facts]


def _chatted(text: str, cast: _Cast, chance: random.Random) -> str:
    """The message of a user: small talk before or after, a frame, carelessness; then names and numbers."""
    chat = _lists()["chat"]
    if chance.random() < _TYPO:
        text = mistyped(text, chance)
    text = _capital(cast.filled(text))
    text = careless(text, chance, _LOWER, _UNMARKED)
    if chance.random() < _FRAME:
        return str(chance.choice(chat["frames"])).replace("{}", text)
    if chance.random() < _BEFORE:
        text = f"{grow(chance.choice(chat['before']), _lists()['parts'], chance)} {text}"
    if text[-1] in ".?!" and chance.random() < _AFTER:
        text = f"{text} {chance.choice(chat['after'])}"
    return text


def _lowered(text: str) -> str:
    """A sentence as it goes on behind others; names, numbers and "I" stay."""
    return text if re.match(r"[A-Z]{2}|I\b|\W", text) else text[0].lower() + text[1:]


def _capital(text: str) -> str:
    """Large letters where sentences begin, and "an" where a vowel follows."""
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO]|u(?!ni|se))(?!one\b|eu)", r"\1n ", text)
    return re.sub(r"(^|[.?!]\s)([^\W\d_])", lambda found: found[1] + found[2].upper(), text)


@dataclass(frozen=True)
class _Person:
    name: str
    she: str
    her: str
    him: str
    many: bool = False


_I: Final = _Person("I", "I", "my", "me", many=True)
_WE: Final = _Person("we", "we", "our", "us", many=True)
_OBJECTS: Final = {each.name: each.him for each in (_I, _WE)}
_YOU: Final = _Person("you", "you", "your", "you", many=True)


class _Cast:
    """Who and what a story is about, each drawn when it is first spoken of."""

    def __init__(
        self, values: Mapping[str, str], chance: random.Random, avoid: Collection[str], *, two: bool = True
    ) -> None:
        self._values, self._chance, self._avoid = values, chance, avoid
        kind = chance.choices(("she", "he", "I", "we", "they"), (38, 38, 14, 4 * two, 6 * two))[0]
        self._people = [self._person(kind)]
        while (other := self._person(chance.choice(("she", "he")))) in self._people:
            pass
        self._people.append(other)
        self._money = chance.choice(_lists()["chat"]["money"]) if chance.random() < 0.6 else "{}"
        self._shown: dict[tuple[str, bool], str] = {}
        self._nouns: dict[tuple[str, str], tuple[str, str]] = {}

    def filled(self, text: str, *, to_user: bool = False) -> str:
        """`text` with people, things and numbers; said to the user, "I" is "you"."""

        def one(found: re.Match[str]) -> str:
            if found["who"]:
                person = self._addressed(bool(found["other"]), to_user)
                if found["of"]:
                    return person.her if person in (_I, _WE, _YOU) else _of(person)
                return {"WHO": person.name, "SHE": person.she, "HER": person.her, "HIM": person.him}[found["who"]]
            if found["one"] is not None:
                person = self._addressed(False, to_user)
                several = {"are": "am", "were": "was"}.get(found["many"]) if person is _I else None
                return several or found["many" if person.many else "one"]
            name, money = found["name"], bool(found["money"])
            if name in ("answer", "expression"):
                return (self._money if money else "{}").replace("{}", f"{{{name}}}")
            if len(name) == 1:
                return self._number(name, money, to_user)
            return self._noun(name, found["number"])[bool(found["plural"])]

        said = _TOKEN.sub(one, grow(text, _lists()["parts"], self._chance, self._avoid))
        return re.sub(r"\b(to|between|from|of) (I|we)\b", lambda found: f"{found[1]} {_OBJECTS[found[2]]}", said)

    def _addressed(self, other: bool, to_user: bool) -> _Person:
        person = self._people[other]
        return _YOU if to_user and person in (_I, _WE) else person

    def _person(self, kind: str) -> _Person:
        if kind in ("I", "we"):
            return _I if kind == "I" else _WE
        name = grow(f"<{kind}>", _lists()["parts"], self._chance, self._avoid)
        if kind == "they":
            return _Person(name, "they", "their", "them", many=True)
        return _Person(name, "she", "her", "her") if kind == "she" else _Person(name, "he", "his", "him")

    def _number(self, letter: str, money: bool, to_user: bool) -> str:
        """A number as it is said, the same way whenever it comes; an answer has it as it is reckoned with."""
        value = self._values[letter]
        if not to_user:
            if (letter, money) not in self._shown:
                self._shown[letter, money] = _number_said(value, self._chance, money)
            value = self._shown[letter, money]
        return str(self._money).replace("{}", value) if money else value

    def _noun(self, kind: str, number: str) -> tuple[str, str]:
        """Singular and plural, or twice the same word."""
        if (kind, number) not in self._nouns:
            while (drawn := self._noun_of(kind)) in self._nouns.values() or drawn[1] in self._avoid:
                pass
            self._nouns[kind, number] = drawn
        singular, several = self._nouns[kind, number]
        how = self._how(kind, number)
        return how + singular, how + several

    def _how(self, kind: str, number: str) -> str:
        """What kind of a thing it is, often nothing."""
        if kind != "thing":
            return ""
        if ("how", number) not in self._nouns:
            how = grow("<how> ", _lists()["parts"], self._chance, self._avoid)
            self._nouns["how", number] = (how if self._chance.random() < _ADJECTIVE else "", number)
        return self._nouns["how", number][0]

    def _noun_of(self, kind: str) -> tuple[str, str]:
        if kind not in _lists()["nouns"]:
            word = grow(f"<{kind}>", _lists()["parts"], self._chance, self._avoid)
            return word, word
        singular, _, several = self._chance.choice(_lists()["nouns"][kind]).partition(":")
        if not several:
            several = re.sub(r"(?<=[^aeiou])y$", "ie", singular)
            several += "es" if re.search(r"(s|x|ch|sh)$", singular) else "s"
        return singular, several


def _of(person: _Person) -> str:
    return f"{person.name}'" if person.many and person.name.endswith("s") else f"{person.name}'s"


def _number_said(value: str, chance: random.Random, money: bool = False) -> str:
    """As digits, at times with a comma between thousands; a small one that is no money at times as a word."""
    if not value.isdigit():
        return value
    if len(value) > 3:
        return f"{int(value):,}" if chance.random() < _COMMA else value
    return _as_word(value) if not money and int(value) <= 20 and chance.random() < _AS_WORD else value


def _as_word(value: str) -> str:
    """A whole number below a hundred in words."""
    chat, (tens, ones) = _lists()["chat"], divmod(int(value), 10)
    if tens < 2:
        return str(chat["smallnumbers"][int(value)])
    return f"{chat['tens'][tens]}-{chat['smallnumbers'][ones]}" if ones else str(chat["tens"][tens])


# ---------------------------------------------------------------------------------------------------------- plain sums


def spoken_shapes() -> Sequence[str]:
    """The shapes of expressions that `spoken` has words for."""
    return list(_lists()["sums"]["spoken"])


def spoken(shape: str, filled: Mapping[str, str], chance: random.Random) -> str:
    """A sum as people say it, in a question."""
    said = str(chance.choice(_lists()["sums"]["spoken"][shape])).format(**_told_numbers(filled, chance))
    return _asked(said, chance)


def _told_numbers(filled: Mapping[str, str], chance: random.Random) -> Mapping[str, str]:
    if chance.random() < _AS_WORD and all(each.isdigit() and int(each) < 100 for each in filled.values()):
        return {letter: _as_word(value) for letter, value in filled.items()}
    return filled


def phrased(expression: str, chance: random.Random) -> str:
    """A question for the value of an expression, which may be written with other signs, closely or in words."""
    sums, style, shown = _lists()["sums"], chance.random(), expression
    numbers = re.findall(r"[\d.]+", expression)
    if style < 0.25:
        if "(" not in expression:
            if chance.random() < 0.3 and all(each.isdigit() and int(each) < 100 for each in numbers):
                shown = re.sub(r"\d+", lambda found: _as_word(found[0]), shown)
            shown = _resigned(shown, chance.choice(sums["words"]))
    elif style < 0.5:
        shown = _resigned(shown, chance.choice(sums["signs"]))
        if chance.random() < 0.3:
            shown = shown.replace(" ", "")
    elif style < 0.6:
        shown = shown.replace(" ", "")
    elif style < 0.65:
        shown = re.sub(r"(?<![\d.])\d{4,}(?![\d.])", lambda found: f"{int(found[0]):,}", shown)
    return _asked(shown, chance)


def _resigned(text: str, signs: Mapping[str, str]) -> str:
    for sign, other in signs.items():
        text = text.replace(f" {sign} ", f" {other} ")
    return text


def _asked(said: str, chance: random.Random) -> str:
    sums = _lists()["sums"]
    if chance.random() < 0.6:
        text = f"{chance.choice(sums['before'])} {said}{chance.choice(sums['after'])}"
    else:
        text = str(chance.choice(sums["phrasings"])).replace("{}", said)
    text = careless(text, chance, _LOWER, 0)
    chat = _lists()["chat"]
    if chance.random() < _BEFORE / 3:
        text = f"{grow(chance.choice(chat['before']), _lists()['parts'], chance)} {text}"
    if text[-1] in ".?!" and chance.random() < _AFTER / 3:
        text = f"{text} {chance.choice(chat['after'])}"
    return text


def sum_answer(chance: random.Random) -> str:
    """How the value of a plain sum is stated."""
    return str(chance.choice(_lists()["sums"]["answers"]))
