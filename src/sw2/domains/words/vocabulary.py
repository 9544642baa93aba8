"""The vocabulary of a program: its words by frequency, and the parts that words are made of.

    words      those that occur at least so often, the most frequent first; the number of a word is its place
    n-grams    with subwords, the runs of so many characters of "<word>", hashed into buckets. As in fastText
               (Bojanowski et al. 2017, arXiv 1607.04606, section 3.2), by the hash of the official code, so that its
               files and ours agree: FNV-1a (Fowler, Noll and Vo) with 32 bits over the bytes in UTF-8, each taken as a
               signed number

`encoded` writes a corpus as numbers, once, into sw2's cache.

Shapes: V words, B buckets
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges, to_dict
from sw2.base.errors import DataError, ProgramError
from sw2.base.store import canonical_json, folder, home, sha256_of_bytes, write_text
from sw2.core.task import Prep, PrepState
from sw2.domains.words import native
from sw2.domains.words.corpus import Corpus, Rule, splitter
from sw2.domains.words.phrases import joined

__all__ = ["Encoded", "PrepConfig", "WordPrep", "encoded", "fnv1a", "ngrams_of", "rows_of"]


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """Which words get a vector.

    Args:
        min_count: those that occur at least so often.
        most_words: of these the most frequent ones; 0 for all.
    """

    min_count: int = 5
    most_words: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "min_count": (self.min_count >= 1, "a whole number of at least 1"),
            "most_words": (self.most_words == 0 or self.most_words >= 2, "0, or a whole number of at least 2"),
        }
        check_ranges("prep", self, allowed)


@final
class WordPrep(Prep):
    """The vocabulary.

    Args:
        words: distinct, the most frequent first.
        counts: int64 [V], how often each occurs.
        rule, case, phrases: how text is cut into words, and whether words are joined, see `corpus`.
        config: what the vocabulary was chosen by.
    """

    def __init__(
        self,
        words: Sequence[str],
        counts: NDArray[np.int64],
        rule: Rule = "words",
        case: Literal["lower", "kept"] = "lower",
        phrases: bool = False,
        config: PrepConfig | None = None,
    ) -> None:
        self.words, self.counts, self.rule, self.case, self.phrases = list(words), counts, rule, case, phrases
        self.config = config or PrepConfig()
        self._cut = splitter(rule, case)
        self.numbers = {word: number for number, word in enumerate(self.words)}
        if len(self.numbers) != len(counts) or len(words) != len(counts) or "" in self.numbers:
            raise ProgramError(
                "The words of this program are not whole.",
                wanted="distinct words, and how often each occurs",
                got=f"{len(self.numbers)} distinct words of {len(words)}, {len(counts)} counts",
            )

    @classmethod
    def of(cls, corpus: Corpus, config: PrepConfig) -> WordPrep:
        """The vocabulary of a corpus.

        Raises:
            DataError: fewer than two words occur often enough.
        """
        often = [(word, count) for word, count in corpus.counts.items() if count >= config.min_count]
        often.sort(key=lambda pair: (-pair[1], pair[0]))
        often = often[: config.most_words or None]
        if len(often) < 2:
            raise DataError(
                "There are too few different words to learn from.",
                where="prep.min_count",
                wanted=f"at least two words that occur {config.min_count} times or more",
                got=f"{len(often)} of {len(corpus.counts)} different words",
                do="Take more text, or lower --set prep.min_count.",
            )
        options = corpus.options
        counts = np.array([count for _, count in often], np.int64)
        return cls([word for word, _ in often], counts, options.rule, options.case, options.phrases > 0, config)

    def state(self) -> PrepState:
        config = {"rule": self.rule, "case": self.case, "phrases": self.phrases, **to_dict(self.config)}
        return PrepState(config=config, arrays={"counts": self.counts}, assets={"words.txt": self._text()})

    @classmethod
    def restore(cls, state: PrepState) -> WordPrep:
        config = dict(state.config)
        rule, case, phrases = (config.pop(name) for name in ("rule", "case", "phrases"))
        words = state.assets["words.txt"].decode().removesuffix("\n").split("\n")
        return cls(words, state.arrays["counts"], rule, case, phrases, PrepConfig(**config))

    def _text(self) -> bytes:
        return "".join(f"{word}\n" for word in self.words).encode()

    @property
    def digest(self) -> str:
        """The SHA-256 of the words and of how text is cut."""
        return sha256_of_bytes(self._text() + f"{self.rule} {self.case} {self.phrases}".encode())

    def split(self, text: str) -> list[str]:
        """The words of a text, phrases joined."""
        words = self._cut(text)
        return joined(words, self.numbers.__contains__) if self.phrases else words

    def fold(self, word: str) -> str:
        """The word, or the phrase with a space in it, as the vocabulary writes it."""
        word = "_".join(word.split(" ")) if self.phrases else word
        return word.lower() if self.case == "lower" else word


_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class Encoded:
    """A corpus as numbers.

    Args:
        tokens: int32, in a mapped file: numbers of words, those outside the vocabulary left out; -1 ends a line.
        words: how many of them are words.
        mapped: the file.
    """

    tokens: NDArray[np.int32]
    words: int
    mapped: mmap.mmap

    def release(self) -> None:
        """Take what was read so far out of this process's memory; it is read again when it is asked for."""
        self.mapped.madvise(mmap.MADV_DONTNEED)


def encoded(corpus: Corpus, prep: WordPrep, fingerprint: str) -> Encoded:
    """The corpus as numbers, from the cache or written now.

    Args:
        fingerprint: of the data that the corpus is a part of.

    Raises:
        DataError: no two words of a line are left.
        DiskFull: there is no room; the corpus takes 4 bytes a word.
    """
    key = sha256_of_bytes(f"{fingerprint}{prep.digest}".encode())
    path = home() / "corpora" / key[:32]
    if not (path / "told.json").exists():
        with folder(path) as partial:
            words = neighbours = 0
            with open(partial / "tokens.bin", "wb") as file:
                for tokens, some, pairs in _numbers(corpus, prep):
                    tokens.tofile(file)
                    words, neighbours = words + some, neighbours + pairs
            write_text(partial / "told.json", canonical_json({"words": words, "neighbours": neighbours}))
    told = json.loads((path / "told.json").read_text(encoding="utf-8"))
    if not told["neighbours"]:
        raise DataError(
            "There are no neighbours to learn from.",
            where="the corpus",
            wanted="a line with two words of the vocabulary",
            got=f"{told['words']} words, each alone in its line",
        )
    with open(path / "tokens.bin", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Encoded(np.frombuffer(mapped, np.int32), told["words"], mapped)


def _numbers(corpus: Corpus, prep: WordPrep) -> Iterator[tuple[array[int], int, int]]:
    """About a million numbers at a time, how many of them are words, and how many words stand behind another."""
    get = prep.numbers.get
    numbers, words, neighbours = array("i"), 0, 0
    for line in corpus.words():
        found = [number for word in line if (number := get(word)) is not None]
        if found:
            numbers.extend(found)
            numbers.append(-1)
            words, neighbours = words + len(found), neighbours + len(found) - 1
        if len(numbers) >= _AT_ONCE:
            yield numbers, words, neighbours
            numbers, words, neighbours = array("i"), 0, 0
    yield numbers, words, neighbours


# ------------------------------------------------------------------------------------------------------------ subwords


def fnv1a(text: str) -> int:
    """The hash of fastText: FNV-1a with 32 bits, each byte as a signed number.

    >>> hex(fnv1a("a"))
    '0xe40c292c'
    """
    found = 2166136261
    for byte in text.encode():
        found = ((found ^ (byte | 0xFFFFFF00 if byte >= 128 else byte)) * 16777619) & 0xFFFFFFFF
    return found


def ngrams_of(word: str, shortest: int, longest: int) -> list[str]:
    """The runs of `shortest` to `longest` characters of "<word>", in fastText's order; "<" and ">" alone are none.

    >>> ngrams_of("cat", 3, 4)
    ['<ca', '<cat', 'cat', 'cat>', 'at>']
    """
    text = f"<{word}>"
    return [
        text[begin:end]
        for begin in range(len(text))
        for end in range(begin + shortest, min(begin + longest, len(text)) + 1)
        if end - begin > 1 or 0 < begin < len(text) - 1
    ]


def rows_of(
    words: Sequence[str], shortest: int, longest: int, buckets: int, first: int, *, own: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The rows that make up each word.

    Args:
        words: N of them, as the vocabulary writes them.
        shortest, longest: characters of an n-gram.
        buckets: how many rows there are for n-grams.
        first: the row of the first bucket.
        own: whether word i also has row i, which then comes first.

    Returns:
        borders int64 [N + 1], and rows int32: those of word i are rows[borders[i] : borders[i + 1]].
    """
    if native.why_not() is None:
        texts = [f"<{word}>".encode() for word in words]
        begins = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return native.ngrams(b"".join(texts), begins, shortest, longest, first, buckets, own=own)
    rows = [
        [*([number] if own else []), *(first + fnv1a(ngram) % buckets for ngram in ngrams_of(word, shortest, longest))]
        for number, word in enumerate(words)
    ]
    borders = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return borders, np.array([row for each in rows for row in each], np.int32)
