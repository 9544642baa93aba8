"""A second chance for answers: several are written and the one that most agree on is taken, or one is reviewed.

    votes     N drafts of a question, drawn with different seeds → the answer that most of them give
    reviews   draft → critique, with instructions, form and passages in sight → the answer written again; so N times

A model cannot take back a token, but it can read what it wrote. Whether that helps depends on the model; on small
ones no gain has been measured (benchmarks/second_chance.py, LOG.md), so both are off unless asked for.

Notable
- Pure in how answers are written: who calls says how conversations are answered, with tools, held to a form or neither.
- Votes compare what can be compared: answers in a form by their value, free ones with a number by their last number,
  others by their words. Drafts that were cut off have no vote where others were not. A tie goes to who came first.
- A critique that begins with OK ends the reviews.

Sources: self-consistency, Wang et al. 2022, https://arxiv.org/abs/2203.11171; Self-Refine, Madaan et al. 2023,
https://arxiv.org/abs/2303.17651.

What it does not do: another model as the reviewer; search over steps of an answer.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

from sw2.base.errors import UsageError
from sw2.base.seed import derive
from sw2.base.store import canonical_json, parse_json

if TYPE_CHECKING:
    from sw2.parts.decoding.sampling import Sampling
    from sw2.parts.decoding.text import Finish

__all__ = [
    "MOST_REVIEWS",
    "MOST_VOTES",
    "WHOLE",
    "WHOLE_FORM",
    "Conversation",
    "Draft",
    "comparable",
    "elect",
    "elect_by_field",
    "elect_by_value",
    "second_chance",
]

MOST_VOTES: Final = 64
MOST_REVIEWS: Final = 8
_WARMTH: Final = 0.7
"""The temperature of drafts that vote, where the usual one takes the likeliest token: equal drafts would be one."""
_CHECK: Final = (
    "Check your answer against everything that was asked, the text that it is about, and the form that it must have. "
    "Say in a few words what is wrong or missing. If nothing is, say only OK."
)
_AGAIN: Final = (
    "A review of your answer says:\n{}\n\nWrite the whole answer again with that put right, in the same form, and "
    "nothing else."
)

WHOLE: Final[Collection[str]] = ("end", "stop")
"""Why a free text ended that is all there."""
WHOLE_FORM: Final[Collection[str]] = ("end",)
"""Why an answer in a form did: a stop string cuts it off."""

Conversation = Sequence[Mapping[str, Any]]
Elect = Callable[[Sequence[str]], tuple[str, float]]


@final
@dataclass(frozen=True, kw_only=True)
class Draft:
    """An answer that was written.

    Args:
        text: the whole of it.
        finished: why it ended.
        tokens: how many were written for it, drafts and critiques included.
        agreed: the share of drafts that gave it; 1 where there was one.
        steps: what was written on the way: drafts of a vote, critiques.
    """

    text: str
    finished: Finish
    tokens: int
    agreed: float = 1.0
    steps: tuple[str, ...] = ()


Write = Callable[[Sequence[Conversation], Sequence["Sampling"], bool], Sequence[Draft]]
"""Answers conversations, each with its sampling; the last argument says whether answers have to have the form that is
wanted (a critique has none)."""


def comparable(text: str) -> str:
    """What two free texts have in common that are one answer.

    >>> comparable('{"b": 1, "a": 2}') == comparable('{"a": 2, "b": 1}')
    True
    >>> comparable("So 3 and 4 make 7.0."), comparable("It is **7**"), comparable(" Yes. ")
    ('7', '7', 'yes')
    """
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if isinstance(value, (dict, list)):
        return canonical_json(value)
    if numbers := re.findall(r"-?\d+(?:,\d{3})*(?:\.\d+)?", text):
        return f"{float(numbers[-1].replace(',', '')):.12g}"
    return _words(text)


def elect(texts: Sequence[str]) -> tuple[str, float]:
    """The first of the free texts that most agree with, and the share that does."""
    place, share = _most([comparable(text) for text in texts])
    return texts[place], share


def elect_by_value(texts: Sequence[str]) -> tuple[str, float]:
    """The same of answers in a form: JSON has one value, whatever its spaces, and another text is what it spells.

    >>> elect_by_value(["over 10", "under 10", "under 10"])[0]
    'under 10'
    """
    place, share = _most([_value(text) for text in texts])
    return texts[place], share


def elect_by_field(texts: Sequence[str]) -> tuple[str, float]:
    """An object of the values that most of the objects have, field by field, and the smallest share of them.

    For objects with the same fields that do not hang together; each value is one that a draft has given. A text is
    compared by its words, in small letters and capitals alike.
    """
    objects = [parse_json(text) for text in texts]
    values, shares = {}, [1.0]
    for name in objects[0]:
        said = [each[name] for each in objects]
        place, share = _most([_words(each) if isinstance(each, str) else canonical_json(each) for each in said])
        values[name] = said[place]
        shares.append(share)
    return json.dumps(values, ensure_ascii=False), min(shares)


def _most(keys: Sequence[str]) -> tuple[int, float]:
    """The place of the first of the keys that most are equal to, and their share."""
    winner, count = Counter(keys).most_common(1)[0]  # of equals the first that came
    return keys.index(winner), count / len(keys)


def _words(text: str) -> str:
    return " ".join(text.split()).casefold().strip(" .!")


def _value(text: str) -> str:
    try:
        return canonical_json(parse_json(text))
    except ValueError:
        return text.strip()


def second_chance(
    write: Write,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    *,
    votes: int = 1,
    reviews: int = 0,
    elect: Elect = elect,
    whole: Collection[str] = WHOLE,
) -> list[Draft]:
    """Answer conversations with votes and reviews; without either, as `write` does.

    Args:
        write: answers conversations, as one batch.
        conversations: messages, the last of which is answered.
        sampling: how tokens are chosen; with votes at a temperature of 0.7 where it would be 0.
        votes: how many drafts, from 1 to 64.
        reviews: how often the answer is reviewed and written again at most, from 0 to 8.
        elect: from the texts of drafts that came to their end to the one that is taken, and the share that agrees.
        whole: why drafts ended that came to their end.

    Raises:
        UsageError: votes or reviews are out of range; and what `write` raises.
    """
    if not 1 <= votes <= MOST_VOTES or not 0 <= reviews <= MOST_REVIEWS:
        raise UsageError(
            "So many chances are not given.",
            wanted=f"1 to {MOST_VOTES} votes, 0 to {MOST_REVIEWS} reviews",
            got=f"{votes} votes, {reviews} reviews",
        )
    if votes == 1:
        drafts = list(write(conversations, [sampling] * len(conversations), True))
    else:
        drafts = _voted(write, conversations, sampling, votes, elect, whole)
    passed: set[int] = set()
    for number in range(reviews):
        warm = replace(sampling, seed=derive(sampling.seed, "review", number))
        _review(write, conversations, warm, drafts, passed, whole)
    return drafts


def _voted(
    write: Write,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    votes: int,
    elect: Elect,
    whole: Collection[str],
) -> list[Draft]:
    warm = sampling if sampling.temperature else replace(sampling, temperature=_WARMTH)
    seeds = [derive(sampling.seed, "vote", number) for number in range(votes)]
    samplings = [replace(warm, seed=seed) for _ in conversations for seed in seeds]
    written = write([each for each in conversations for _ in seeds], samplings, True)
    drafts = []
    for first in range(0, len(written), votes):
        group = written[first : first + votes]
        tokens, steps = sum(each.tokens for each in group), tuple(each.text for each in group)
        voting = [each.text for each in group if each.finished in whole]
        if not voting:
            drafts.append(replace(group[0], tokens=tokens, agreed=0.0, steps=steps))
            continue
        text, agreed = elect(voting)
        drafts.append(Draft(text=text, finished="end", tokens=tokens, agreed=agreed * len(voting) / votes, steps=steps))
    return drafts


def _review(
    write: Write,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    drafts: list[Draft],
    passed: set[int],
    whole: Collection[str],
) -> None:
    """Have all drafts read and written again, in place, but those `passed`, which those that pass now join."""
    open_ = [number for number in range(len(drafts)) if number not in passed]
    if not open_:
        return
    shown = [[*conversations[number], {"role": "assistant", "content": drafts[number].text}] for number in open_]
    asked = [[*each, {"role": "user", "content": _CHECK}] for each in shown]
    said = write(asked, [sampling] * len(asked), False)
    again = []
    for number, critique in zip(open_, said, strict=True):
        old = drafts[number]
        drafts[number] = replace(old, tokens=old.tokens + critique.tokens, steps=(*old.steps, critique.text))
        if _passes(critique.text):
            passed.add(number)
        else:
            again.append(number)
    if not again:
        return
    wanted = [
        [*shown[open_.index(number)], {"role": "user", "content": _AGAIN.format(drafts[number].steps[-1].strip())}]
        for number in again
    ]
    for number, new in zip(again, write(wanted, [sampling] * len(wanted), True), strict=True):
        old = drafts[number]
        tokens, steps = old.tokens + new.tokens, (*old.steps[:-1], old.text, old.steps[-1])
        # What was cut off puts nothing right.
        kept = new if new.finished in whole else old
        drafts[number] = replace(old, text=kept.text, finished=kept.finished, tokens=tokens, steps=steps)


def _passes(critique: str) -> bool:
    return re.match(r"\W*ok\b", critique, re.IGNORECASE) is not None
