"""Queries: from what somebody typed to terms of FTS5, in which nothing that they typed is syntax.

A word becomes a quoted term. An identifier (`shutil.copytree`, `max_length`, `ImageClassifier`) becomes several: the
whole, which FTS5 reads as a phrase of its parts, and each part, so that both who knows the whole name and who knows
half of it find it. Terms are joined by OR: the ranking, not a condition, decides. Words that nearly every text has are
left out unless nothing would be left.

Source: FTS5, https://www.sqlite.org/fts5.html, section 3.

Not here: operators for users, spelling, languages written without spaces (FTS5's tokenizer takes such a run of
characters as one word), stop words of languages other than English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from sw2.parts.prep.stop_words import STOP_WORDS

__all__ = ["any_of", "inner_words", "terms"]

_MOST_CHARACTERS: Final = 10_000
_MOST_TERMS: Final = 64
_WORD: Final = re.compile(r"[^\W_]+(?:[-_.:/@'’]+[^\W_]+)*")
_PART: Final = re.compile(r"[^\W_]+")
_INNER: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CAMEL: Final = re.compile(r"[a-z][A-Z]|[A-Z][A-Z][a-z]")


def terms(query: str) -> list[str]:
    """What the query asks for, in order, each once; nothing where it holds no word.

    >>> terms('How do I use shutil.copytree?')
    ['use', 'shutil.copytree', 'shutil', 'copytree']
    >>> terms('" OR NEAR(* ')
    ['near']
    >>> terms('who is he')
    ['who', 'is', 'he']

    Only the first 10,000 characters count, and of the terms the first 64 different ones.
    """
    found = list(dict.fromkeys(term.lower() for term in _terms(query[:_MOST_CHARACTERS])))
    return ([term for term in found if term not in STOP_WORDS] or found)[:_MOST_TERMS]


def any_of(asked: Sequence[str]) -> str:
    """The expression of FTS5 for passages that hold any of the terms."""
    return " OR ".join(f'"{term}"' for term in asked)


def _terms(query: str) -> Iterator[str]:
    for word in _WORD.findall(query):
        parts = _PART.findall(word)
        if len(parts) > 1:
            yield word
        for part in parts:
            yield part
            yield from _inner(part)


def _inner(word: str) -> list[str]:
    """The words inside `ImageClassifier` or `parseHTML`; none in a plain word."""
    return _INNER.findall(word) if _CAMEL.search(word) else []


def inner_words(text: str) -> str:
    """The words inside a text's identifiers that are joined by capitals alone, which FTS5 does not take apart.

    >>> inner_words("An ImageClassifier uses parseHTML.")
    'Image Classifier parse HTML'
    """
    found = dict.fromkeys(word for word in _PART.findall(text) if _CAMEL.search(word))
    return " ".join(part for word in found for part in _inner(word))
