"""What becomes of a text: the rows of its words, its n-grams of characters, and its n-grams of words.

The rows are fastText's (`parts.formats.fasttext` has the rules). N-grams that were not seen in training are left out,
where fastText takes a random row of its two million: a program is as large as what it has learned.

    "Free money!!"    free money ! ! </s>    and    free money, money !, ! !, ! </s>

Texts are cut and hashed by `kernels.cpp`; without a compiler by `FastTextModel.text_rows`, which takes far longer.
Texts of ASCII are made plain there too, by two tables that are drawn from the rule here; others here, since Python
knows their letters.

What it does not do: stemming, stop words, other separators than white space and punctuation.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges, from_dict, to_dict
from sw2.base.errors import DataError, ProgramError
from sw2.core.task import Prep, PrepState
from sw2.domains.texts import native
from sw2.domains.texts.bags import Bags
from sw2.domains.texts.native import Counts, Dictionary, Plain
from sw2.parts.formats.fasttext import END_OF_LINE, LABEL, Arguments, FastTextModel, tokens

__all__ = ["PrepConfig", "TextPrep", "fit"]

_APART: Final = re.compile(r"[^\w\s]")


@functools.cache
def _stands_alone(letter: str) -> bool:
    """Whether a character is a token by itself in plain texts."""
    return _APART.fullmatch(letter) is not None


_NONE: Final = np.zeros(0, np.int64)
_ASCII: Final = "".join(map(chr, range(128)))
_PLAIN: Final = Plain(lowered=_ASCII.lower().encode(), alone=bytes(map(_stands_alone, _ASCII)))


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """What of a text is looked at.

    Args:
        plain: whether texts are taken in lower case, with punctuation apart; otherwise as they are.
        word_ngrams: the longest n-gram of words, from 1.
        min_n, max_n: characters of the n-grams of a word; 0 for none.
        min_count: words that are rarer in training have no row of their own.
        buckets: what hashes of n-grams are taken modulo, from 1.
    """

    plain: bool = True
    word_ngrams: int = 2
    min_n: int = 0
    max_n: int = 0
    min_count: int = 1
    buckets: int = 2_000_000

    def __post_init__(self) -> None:
        allowed = {
            "word_ngrams": (1 <= self.word_ngrams <= 10, "a whole number from 1 to 10"),
            "min_n": (0 <= self.min_n <= max(self.max_n, 0), "a whole number from 0 to prep.max_n"),
            "max_n": (0 <= self.max_n <= 20, "a whole number from 0 to 20"),
            "min_count": (self.min_count >= 1, "a whole number of at least 1"),
            "buckets": (1 <= self.buckets < 2**31, "a whole number from 1 to 2147483647"),
        }
        check_ranges("prep", self, allowed)


@final
class Kept(Mapping[int, int]):
    """The row, from 0, of each bucket that is left; a dictionary is made of it only if Python asks for a bucket.

    Args:
        buckets: int64, distinct, in the order of their rows.
    """

    def __init__(self, buckets: NDArray[np.int64]) -> None:
        self.buckets = buckets

    @cached_property
    def _rows(self) -> Mapping[int, int]:
        return {bucket: row for row, bucket in enumerate(self.buckets.tolist())}

    def __getitem__(self, bucket: int) -> int:
        return self._rows[bucket]

    def __contains__(self, bucket: object) -> bool:
        return bucket in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.buckets.tolist())

    def __len__(self) -> int:
        return len(self.buckets)


@final
class TextPrep(Prep):
    """The fitted preprocessing.

    Args:
        plain: see PrepConfig.
        dictionary: words, labels, and the n-grams that have rows; its matrices are empty.
    """

    def __init__(self, plain: bool, dictionary: FastTextModel) -> None:
        self.plain, self.dictionary = plain, dictionary
        pruned = dictionary.pruned
        self._kept = None if pruned is None else pruned.buckets if isinstance(pruned, Kept) else _in_order(pruned)
        self.labels = [label.removeprefix(LABEL) for label in dictionary.labels]

    @cached_property
    def number(self) -> Mapping[str, int]:
        """The number of each label."""
        return {label: number for number, label in enumerate(self.labels)}

    @property
    def row_count(self) -> int:
        """R: how many rows there are."""
        told, kept = self.dictionary, self._kept
        return len(told.words) + (told.arguments.buckets if kept is None else len(kept))

    def tokens(self, text: str) -> str:
        """One line, with spaces between tokens."""
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # halves of pairs
        if self.plain:
            text = text.lower()
            for letter in filter(_stands_alone, set(text)):  # quicker by far than a regular expression over the text
                text = text.replace(letter, f" {letter} ")
        return text.replace("\n", " ")

    def rows(self, text: str) -> NDArray[np.int64]:
        """The rows of a text [M]; those of what occurs twice stand there twice."""
        return self.bags([text]).rows.astype(np.int64)

    def bags(self, texts: Sequence[str]) -> Bags:
        """The rows of each text."""
        if native.why_not() is None:
            return self._cutter.rows(self._pieces(texts))
        rows = [self.dictionary.text_rows(self.tokens(text)) for text in texts]
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return Bags(np.fromiter(itertools.chain.from_iterable(rows), np.uint32, starts[-1]), starts)

    def seen(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The buckets whose n-grams occur in these texts, in order, where every bucket still has its row."""
        assert self._kept is None
        if native.why_not() is None:
            return self._cutter.seen(self._pieces(texts))
        rows, words = np.unique(self.bags(texts).rows).astype(np.int64), len(self.dictionary.words)
        return rows[rows >= words] - words

    @cached_property
    def _cutter(self) -> Dictionary:
        words = [word.encode("utf-8", "surrogateescape") for word in self.dictionary.words]
        return Dictionary(words, self._kept, self.dictionary.arguments, _PLAIN)

    def _pieces(self, texts: Sequence[str]) -> Iterator[tuple[bytes, bool]]:
        """The texts as the kernels take them."""
        for text in texts:
            raw = self.plain and text.isascii()
            yield (text if raw else self.tokens(text)).encode(), raw

    def counted(self, texts: Sequence[str], least: int) -> Counts:
        """The words of these texts that occur `least` times; those of the dictionary play no part."""
        if native.why_not() is None:
            return native.counted(self._pieces(texts), least, _PLAIN)
        seen = Counter({END_OF_LINE: len(texts)})
        for text in texts:
            seen.update(token for token in tokens(self.tokens(text)) if not token.startswith(LABEL))
        words = [word for word in sorted(seen, key=lambda word: (-seen[word], word)) if seen[word] >= least]
        counts = np.array([seen[word] for word in words], np.int64)
        return Counts(words, counts, len(seen), max(seen.values()), seen.total())

    def model(self, first: NDArray[np.float32], last: NDArray[np.float32], loss: str) -> FastTextModel:
        """What answers: the dictionary with matrices [R, D] and [K, D]."""
        arguments = replace(self.dictionary.arguments, dimensions=first.shape[1], loss=loss)
        return replace(self.dictionary, arguments=arguments, input=first, output=last)

    def state(self) -> PrepState:
        told = self.dictionary
        kept = _NONE if self._kept is None else self._kept
        arrays = {"counts": told.counts, "label_counts": told.label_counts, "kept": kept}
        return PrepState(
            config={
                "plain": self.plain,
                "arguments": to_dict(told.arguments),
                "tokens": told.tokens,
                "labels": list(told.labels),
                "pruned": self._kept is not None,
            },
            arrays={name: array for name, array in arrays.items() if len(array)},  # files hold no empty ones
            assets={"words.txt": "\n".join(told.words).encode("utf-8", "surrogateescape")},
        )

    @classmethod
    def restore(cls, state: PrepState) -> TextPrep:
        try:
            told: Mapping[str, Any] = state.config
            words = state.assets["words.txt"].decode("utf-8", "surrogateescape")
            dictionary = _dictionary(
                from_dict(Arguments, told["arguments"], "arguments"),
                words.split("\n") if words else [],
                state.arrays.get("counts", _NONE),
                told["labels"],
                state.arrays["label_counts"],
                told["tokens"],
                state.arrays.get("kept", _NONE) if told["pruned"] else None,
            )
        except (KeyError, UnicodeDecodeError) as error:
            raise ProgramError(
                "The dictionary of this program is damaged.", wanted="words, labels and their counts", got=error
            ) from error
        return cls(bool(told["plain"]), dictionary)


def _in_order(kept: Mapping[int, int]) -> NDArray[np.int64]:
    """The buckets in the order of their rows."""
    return np.array(sorted(kept, key=kept.__getitem__), np.int64)


def _dictionary(
    arguments: Arguments,
    words: Sequence[str],
    counts: NDArray[np.int64],
    labels: Sequence[str],
    label_counts: NDArray[np.int64],
    tokens: int,
    kept: NDArray[np.int64] | None,
) -> FastTextModel:
    empty = np.zeros((0, arguments.dimensions), np.float32)
    return FastTextModel(
        arguments=arguments,
        words=words,
        counts=counts,
        labels=labels,
        label_counts=label_counts,
        tokens=tokens,
        pruned=None if kept is None else Kept(kept),
        input=empty,
        output=empty,
    )


def fit(texts: Sequence[str], labels: Sequence[str], config: PrepConfig) -> TextPrep:
    """The preprocessing that these texts need: their words, most frequent first, and which n-grams occur in them.

    Raises:
        DataError: nothing occurs often enough.
    """
    arguments = Arguments(
        dimensions=1,
        min_count=config.min_count,
        word_ngrams=config.word_ngrams,
        buckets=config.buckets if config.word_ngrams > 1 or config.max_n > 0 else 0,
        min_n=config.min_n,
        max_n=config.max_n,
    )
    names = Counter(LABEL + label for label in labels)
    ordered = sorted(names, key=lambda label: (-names[label], label))
    label_counts = np.array([names[label] for label in ordered], np.int64)
    unfitted = TextPrep(config.plain, _dictionary(arguments, [], _NONE, [], _NONE, 0, None))
    found = unfitted.counted(texts, config.min_count)
    told = (arguments, found.words, found.counts, ordered, label_counts, found.tokens)
    kept = _NONE
    if arguments.buckets:
        kept = TextPrep(config.plain, _dictionary(*told, None)).seen(texts)
    if not found.words and not len(kept):
        raise DataError(
            "Of these texts nothing is left to learn from.",
            wanted=f"a word that occurs {config.min_count} times",
            got=f"{found.seen} words, the most frequent {found.most} times",
            do="Lower prep.min_count.",
        )
    return TextPrep(config.plain, _dictionary(*told, kept))
