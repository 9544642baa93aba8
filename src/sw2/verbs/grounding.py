"""What stands in a passage, as far as words and vectors show: names, support, sentences, positions.

    names("What is the code of the Marlow vault?")            {"marlow"}: what has to be there for an answer to be
    support("code of the Marlow vault", passage)              the share of what is asked for that the passage has
    sentences(passage)                                        its sentences, each with its line

Support counts the words that carry meaning, a name twice; words are compared without their endings. It is a rule of
thumb and not understanding: what it decides is measured (`benchmarks/document_answers.py`).

What it does not do: languages whose words change at the beginning, or are not divided by spaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from sw2.core.documents import Passage
from sw2.parts.prep.stop_words import STOP_WORDS

__all__ = [
    "Sentence",
    "asks_something",
    "content",
    "facts",
    "has_names",
    "masked",
    "names",
    "names_a_person",
    "overlap",
    "sentences",
    "share",
    "stems",
    "support",
    "topic",
    "where",
    "whole",
]

_WORD: Final = re.compile(r"[^\W_]+(?:[-_.:/'’][^\W_]+)*")
_ASKING: Final = frozenset(
    [
        "tell",
        "name",
        "give",
        "list",
        "show",
        "say",
        "find",
        "explain",
        "describe",
        "please",
        "anybody",
        "anyone",
        "somebody",
        "someone",
        "everybody",
        "know",
        "knows",
        "much",
        "many",
        "long",
        "old",
        "often",
        "according",
        "documents",
        "document",
        "passage",
        "text",
        "notes",
        "files",
        "information",
        "word",
        "words",
    ]
)
_PERSON: Final = re.compile(r"\b([A-Z][^\W\d_]+\.?) [A-Z][^\W\d_]+\b(?! \d)")
_ENDINGS: Final = ("'s", "’s", "ings", "ing", "ies", "ied", "ers", "er", "ed", "es", "s", "e", "y")
_SENTENCE: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]?\s+|\n+")
_ITEM: Final = re.compile(r"\s*(?:[-*+•#>|=~]|(?:\d+|[a-zA-Z])[.)]\s)")
_SHORTEST_WRAPPED: Final = 40
"""A line of fewer characters was not wrapped, it ends: a heading, an entry of a list."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage: its text, and the line (page, paragraph, …) in which it begins."""

    text: str
    position: int


def _stem(word: str) -> str:
    word = word.lower()
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not any(c.isdigit() for c in word):
            return word[: -len(ending)]
    return word


def _words(text: str) -> Iterator[str]:
    """Words, and the parts of those that are put together."""
    for word in _WORD.findall(text):
        yield word
        parts = re.split(r"[-_.:/'’]", word)
        if len(parts) > 1:
            yield from (part for part in parts if part)


def stems(text: str) -> set[str]:
    """The stems of all words."""
    return {_stem(word) for word in _words(text)}


def whole(text: str) -> set[str]:
    """The stems of whole words: of "CL-2715" neither part stands there by itself."""
    return {_stem(word) for word in _WORD.findall(text)}


def names_a_person(text: str, about: Collection[str]) -> bool:
    """Whether two words with capitals stand together, neither of which is in `about`, and no number after them.

    >>> names_a_person("Ines Dolfen looks after the Marlow vault.", {"marlow", "vault"})
    True
    >>> names_a_person("It stands at Ulmer Street 16.", set())
    False
    """
    return any(
        not {_stem(word) for word in found[0].split()} & set(about) and found[1].lower() not in STOP_WORDS
        for found in _PERSON.finditer(text)
    )


def content(text: str) -> set[str]:
    """The stems of the words that carry meaning."""
    return {
        _stem(word) for word in _WORD.findall(text) if word.lower() not in STOP_WORDS and word.lower() not in _ASKING
    }


def names(text: str) -> set[str]:
    """The stems of what is called by name: capitals within a sentence, capitals throughout, digits.

    >>> sorted(names("What is the code of the Marlow vault in room B-12?"))
    ['b-12', 'marlow']
    >>> sorted(names("Tell me about NASA."))
    ['nasa']
    """
    found = set()
    for sentence in re.split(r"(?<=[.!?:])\s+|\n+", text):
        for number, word in enumerate(_WORD.findall(sentence)):
            capital = word[0].isupper() and (number > 0 or (len(word) > 1 and word.isupper()))
            if (capital or any(c.isdigit() for c in word)) and word.lower() not in STOP_WORDS | {"i"}:
                found.add(_stem(word))
    return found


def facts(text: str) -> set[str]:
    """What of an answer must have been read somewhere: numbers, codes, and names."""
    return names(f"x {text}")


def support(question: str, passage: Passage) -> float:
    """The share of what is asked for that the passage, its headings and its path have, from 0 to 1; names count twice.

    A question without a word that carries meaning is supported by nothing.
    """
    asked, called = content(question), names(question)
    has = stems(" ".join((passage.text, *passage.headings, passage.path)))
    weights = {stem: 2.0 if stem in called else 1.0 for stem in asked | called}
    total = sum(weights.values())
    return sum(weight for stem, weight in weights.items() if stem in has) / total if total else 0.0


def topic(question: str, passage: Passage) -> set[str]:
    """What a passage is about anyway: of the question's stems the names, and those in headings or several sentences."""
    counted = Counter(stem for sentence in sentences(passage) for stem in stems(sentence.text))
    above = stems(" ".join(passage.headings))
    called = names(question)
    return called | {stem for stem in content(question) if stem in above or counted[stem] > 1}


def masked(text: str, about: Collection[str]) -> str:
    """A text in which the words of some stems are "it", so that what is said of them remains.

    >>> masked("Which code opens the Marlow vault?", {"marlow", "vault"})
    'Which code opens the it it?'
    """
    return _WORD.sub(lambda word: "it" if _stem(word[0]) in about else word[0], text)


def asks_something(question: str, passages: Collection[Passage]) -> bool:
    """Whether a question asks for something in particular of what the passages are about: a place, a time, a code."""
    about = set[str]().union(*(topic(question, passage) for passage in passages))
    first = next(iter(_WORD.findall(question)), "").lower()
    return bool(content(question) - about) or first in ("where", "when", "how")


def share(asked: Collection[str], text: str) -> float:
    """The share of some stems that a text has, from 0 to 1; 0 of none."""
    return len(set(asked) & stems(text)) / len(asked) if asked else 0.0


def has_names(question: str, passage: Passage) -> bool:
    """Whether everything that the question calls by name is there."""
    return names(question) <= stems(" ".join((passage.text, *passage.headings, passage.path)))


def _ends(text: str) -> Iterator[int]:
    """Where sentences end: behind a full stop, and with a line, unless it was only wrapped there."""
    for match in _SENTENCE.finditer(text):
        before, after = text[: match.start()].rpartition("\n")[2], text[match.end() :].partition("\n")[0]
        wrapped = (
            match[0] == "\n"
            and len(before) >= _SHORTEST_WRAPPED
            and before.rstrip()[-1:] not in (*".!?…:;|", "")
            and not _ITEM.match(after)
            and (after.lstrip()[:1].islower() or len(before) >= 1.5 * _SHORTEST_WRAPPED)
        )
        if not wrapped:
            yield match.start()
    yield len(text)


def sentences(passage: Passage) -> list[Sentence]:
    """The sentences of a passage, each with where it begins; one that is wrapped over lines is one."""
    found = []
    by_line = passage.text.count("\n") <= passage.last - passage.first
    at = 0
    for end in _ends(passage.text):
        text = passage.text[at:end]
        begin = at + len(text) - len(text.lstrip())
        if text.strip() and " ".join(text.split()) not in passage.headings:
            lines = passage.text.count("\n", 0, begin) if by_line and passage.unit == "line" else 0
            found.append(Sentence(" ".join(text.split()), min(passage.first + lines, passage.last)))
        at = end
    return found


def overlap(sentence: str, answer: str) -> float:
    """How much of an answer's content a sentence has, and of its own the answer: their mean (F1), from 0 to 1."""
    said, there = content(answer) | facts(answer), stems(sentence)
    own = content(sentence)
    both = said & there
    if not both:
        return 0.0
    precision, recall = len(both) / len(said), len(own & said) / max(1, len(own))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def quoted(passage: Passage) -> str:
    """A passage for a model to read, below its headings: every line behind "> ", so that no text in it ends that."""
    above = [heading for heading in passage.headings if heading not in passage.text]
    text = "\n".join([*above, passage.text])
    # Whatever a program or a person may take for the end of a line ends one here.
    return "\n".join("> " + " ".join(line.split()) for line in text.splitlines() if line.strip())


def where(passage: Passage, position: int | None = None) -> str:
    """How a place is cited: "notes/a.md:12", "report.pdf, page 3"; control characters in names are left out."""
    path = "".join(c if c.isprintable() else "?" for c in passage.path)
    number = passage.first if position is None else position
    return f"{path}:{number}" if passage.unit == "line" else f"{path}, {passage.unit} {number}"
