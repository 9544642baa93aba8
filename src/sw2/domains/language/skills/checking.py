"""The skills by name: their examples, their checkers, and how far apart their splits are.

    examples("orderbot", "test", seed=0, count=200)     the same 200 on every machine
    check_answer(example, messages)                     what is right and wrong about what a model said
    overlap(train, test)                                four-grams of the test that train holds too
    dataset("assistant", DatasetOptions())              splits to train and judge on

"assistant" is all skills mixed by shares; "preferences" are pairs (`preferences.py`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sw2.base.errors import UsageError
from sw2.base.names import pick, unknown
from sw2.domains.language.four_grams import four_grams, shared
from sw2.domains.language.skills import arithmetic, documentation, documentation_check, preferences, records
from sw2.domains.language.skills.basis import (
    SPLITS,
    TOGETHER,
    Example,
    Made,
    Message,
    Split,
    Verdict,
    draw,
    known_split,
)
from sw2.domains.language.skills.documentation_passages import PYTHON
from sw2.domains.language.skills.orderbot import checker, talks

__all__ = ["SKILLS", "DatasetOptions", "Overlap", "Skill", "check_answer", "dataset", "examples", "overlap"]


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One thing that an assistant can do.

    Args:
        summary: one line.
        make: `(split, seed, count)` to examples.
        check: `(example, messages)` to a verdict.
    """

    summary: str
    make: Callable[[Split, int, int], Sequence[Example]]
    check: Callable[[Example, Sequence[Message]], Verdict]


SKILLS: Final[Mapping[str, Skill]] = {
    "arithmetic": Skill(
        summary="Sums and short stories, with a calculator.", make=arithmetic.examples, check=arithmetic.check
    ),
    "documentation": Skill(
        summary="Questions about a passage of documentation.",
        make=documentation.examples,
        check=documentation_check.check,
    ),
    "records": Skill(summary="Read a text and return JSON.", make=records.examples, check=records.check),
    "orderbot": Skill(summary="Orders in many turns over random menus.", make=talks.examples, check=checker.check),
}
_TAUGHT: Final[Mapping[str, float]] = {"arithmetic": 1, "documentation": 9, "records": 10, "orderbot": 4}
"""What "assistant" is taught with: orders have five times the words of others, and are more than half of what is read
even so."""
_RUN: Final = math.lcm(TOGETHER, talks.TO_A_MENU, talks.TO_A_SMALL_MENU)
"""So many conversations to learn from are of one skill, one after the other, so that those about one text or menu, two,
three or six that follow each other, stay together."""
_COUNTS: Final[Mapping[Split, int]] = {"train": 4000, "validation": 200, "test": 400}


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How much of a named data set.

    Args:
        train: examples to learn from.
        skip: so many of the first of these are left out, and as many later ones taken.
        validation: examples to watch while learning.
        test: examples that are judged.
        seed: another number, other examples of the same splits.
        shares: what "assistant" is mixed of, by skill; empty for equal parts, except to learn from, where there are
            fewer orders, for they are long. Of "preferences", only whose answers.
        documents: where questions about documentation come from: "python", an installed package, a folder of Markdown.
    """

    train: int = _COUNTS["train"]
    skip: int = 0
    validation: int = _COUNTS["validation"]
    test: int = _COUNTS["test"]
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    documents: str = PYTHON


def examples(skill: str, split: str, seed: int, count: int | None = None) -> Sequence[Example]:
    """The first `count` examples of a split of a skill.

    Raises:
        UnknownName: there is no such skill.
        UsageError: there is no such split.
    """
    known = known_split(split)
    return pick("skill", skill, SKILLS).make(known, seed, _COUNTS[known] if count is None else count)


def check_answer(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge `messages`, the whole conversation as it went, by the checker of the example's skill."""
    return pick("skill", example["check"]["skill"], SKILLS).check(example, messages)


def dataset(name: str, options: DatasetOptions) -> Mapping[str, Sequence[Example]]:
    """The splits of a skill's data set, of "assistant", which mixes all skills, or of "preferences" (pairs).

    Raises:
        UnknownName: there is no such data set.
    """
    counts = {"train": options.train, "validation": options.validation, "test": options.test}
    if name == "assistant":
        make = functools.partial(_mixed, options)
    elif name == "preferences":
        make = functools.partial(_pairs, options)
    elif name in SKILLS:
        make = functools.partial(_alone, options, name)
    else:
        raise unknown("data set", name, [*SKILLS, "assistant", "preferences"])
    made: dict[str, Sequence[Example]] = {split: make(split, counts[split]) for split in SPLITS if counts[split]}
    if options.skip and options.train:
        later = make("train", options.skip + options.train)
        made["train"] = Made(lambda number: later[options.skip + number], options.train)
    return made


def _alone(options: DatasetOptions, name: str, split: Split, count: int) -> Sequence[Example]:
    if name == "documentation":
        return documentation.examples_from(options.documents, split, options.seed, count)
    return examples(name, split, options.seed, count)


def _pairs(options: DatasetOptions, split: Split, count: int) -> Sequence[Example]:
    skills = [skill for skill, share in _known(options.shares).items() if share]
    return preferences.pairs(split, options.seed, count, skills)


def _mixed(options: DatasetOptions, split: Split, count: int) -> Sequence[Example]:
    shares = _known(options.shares) or (_TAUGHT if split == "train" else dict.fromkeys(SKILLS, 1.0))
    parts = {skill: _alone(options, skill, split, count) for skill in shares}
    run = _RUN if split == "train" else 1

    def make(number: int) -> Example:
        skill = draw(options.seed, "assistant", split, number // run).choices(list(shares), list(shares.values()))[0]
        return parts[skill][number % len(parts[skill])]

    return Made(make, count)


def _known(shares: Mapping[str, float]) -> Mapping[str, float]:
    for skill, share in shares.items():
        pick("skill", skill, SKILLS)
        if share < 0:
            raise UsageError("A share is below zero.", where=f"data.shares.{skill}", wanted="0 or more", got=share)
    if shares and not sum(shares.values()):
        raise UsageError("Every share is zero.", where="data.shares", wanted="at least one above 0", got=dict(shares))
    return shares


@dataclass(frozen=True)
class Overlap:
    """How much of a test stands in train too.

    Args:
        asked: the share of the four-grams of system and user that train holds.
        answered: the share of the four-grams of the assistant that train holds.
        equal: conversations that train holds whole.
        examples: conversations in the test.
    """

    asked: float
    answered: float
    equal: int
    examples: int

    def __str__(self) -> str:
        return (
            f"four-grams of the test that train holds too: {self.asked:.1%} of what is asked, "
            f"{self.answered:.1%} of what is answered; {self.equal} of {self.examples} conversations are equal"
        )


def overlap(train: Sequence[Example], test: Sequence[Example]) -> Overlap:
    """The share of different four-grams of `test`, words and numbers in lower case, that also stand in `train`."""
    whole, known = set(map(_text, train)), four_grams(_texts(train))
    asked, answered = (four_grams(_texts(test, ours)) for ours in (False, True))
    equal = sum(_text(example) in whole for example in test)
    return Overlap(shared(asked, known), shared(answered, known), equal, len(test))


def _text(example: Example) -> str:
    return "\n".join(str(message["content"]) + str(message.get("tool_calls", "")) for message in example["messages"])


def _texts(examples: Sequence[Example], ours: bool | None = None) -> Iterator[str]:
    """What is said and called, message by message: all of it, or by the assistant, or by everybody else."""
    for example in examples:
        for message in example["messages"]:
            if ours in (None, message["role"] == "assistant"):
                calls = [each["function"]["arguments"] for each in message.get("tool_calls") or ()]
                yield " ".join([str(message["content"]), *calls])
