r"""Text as whole words: the vocabulary, and the preprocessing that carries it.

    "The jury said\n\nOnly a few"  →  The · jury · said · (paragraph) · Only · a · few  →  ids, int32 [T]

What a word is says `cut`: "spaces" takes whatever stands between white space, for text whose punctuation stands apart
already, as in the Brown corpus; "marks" takes runs of letters and digits (with apostrophes and hyphens inside) and
every other mark by itself. A blank line is a token too, as the marks between paragraphs were in the paper. Case is
kept.

    0  <|endoftext|>, between documents: no text becomes it
    1  every word that occurs fewer than `min_count` times, or is not among the `most_words` most frequent ones
    2  the border between two paragraphs
    3  the other words, the most frequent first

Notable: token 1 stands for many words, so that a text cannot be had back from its tokens. What would tell them apart
is counted when bits per byte are told: 8 bits for each byte of the word and 8 for its end. White space other than a
blank line is not told and not counted.

Source: Bengio et al. 2003, JMLR 3:1137-1155, section 4: words that occur at most three times are one symbol, upper and
lower case differ, and the marks between paragraphs and texts are words.

What it does not do: languages written without spaces; parts of words (`tokenizer`).

Shapes: T tokens, V vocabulary
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges, to_dict
from sw2.base.errors import DataError, UsageError
from sw2.base.store import canonical_json, parse_json
from sw2.core.task import PrepState
from sw2.domains.language.prep import Controls, TokenPrep
from sw2.domains.language.tokenizer import END_OF_TEXT

__all__ = ["WordConfig", "WordPrep", "Words"]

Cut = Literal["spaces", "marks"]

_PIECES: Final[Mapping[Cut, re.Pattern[str]]] = {
    "spaces": re.compile(r"\n\s*\n|\S+"),
    "marks": re.compile(r"\n\s*\n|\w+(?:['’-]\w+)*|[^\w\s]"),
}
_END, _RARE, _PARAGRAPH = range(3)
_FIRST: Final = 3
_RARE_WRITTEN: Final = b" <rare>"


@dataclass(frozen=True, kw_only=True)
class WordConfig:
    """Which words are words of their own.

    Args:
        cut: what a word is: "spaces" takes what stands between white space as it is, "marks" sets punctuation apart.
        min_count: those that occur at least so often.
        most_words: of these the most frequent ones.
    """

    cut: Cut = "marks"
    min_count: int = 4
    most_words: int = 20_000

    def __post_init__(self) -> None:
        allowed = {
            "min_count": (self.min_count >= 1, "a whole number of at least 1"),
            "most_words": (self.most_words >= 1, "a whole number of at least 1"),
        }
        check_ranges("prep", self, allowed)


@final
class Words:
    """A vocabulary of whole words.

    Args:
        words: distinct, the most frequent first; the id of one is its place and 3.
        counts: int64 [V], how often each id occurs in the text that it was made from, none below 1.
        cut: see WordConfig.
    """

    def __init__(self, words: Sequence[str], counts: NDArray[np.int64], cut: Cut) -> None:
        if cut not in _PIECES or len(counts) != len(words) + _FIRST or len(set(words)) != len(words) or min(counts) < 1:
            raise ValueError("distinct words, a count of at least 1 for each and for three more, and a known cut")
        self.words, self.counts, self.cut = list(words), counts, cut
        self.end_of_text = _END
        self.control: Mapping[str, int] = {END_OF_TEXT: _END}
        self._numbers = {word: number for number, word in enumerate(self.words, _FIRST)}
        self._written = [b"", _RARE_WRITTEN, b"\n\n", *(f" {word}".encode() for word in self.words)]

    @classmethod
    def of(cls, texts: Iterable[str], config: WordConfig) -> Words:
        """The vocabulary of some texts; words that are equally frequent are in the order of their letters.

        Raises:
            DataError: no word occurs often enough.
        """
        counts: Counter[str] = Counter()
        documents = 0
        for text in texts:
            counts.update(_pieces(text, config.cut))
            documents += 1
        paragraphs = counts.pop("", 0)
        often = [(word, count) for word, count in counts.items() if count >= config.min_count]
        often = sorted(often, key=lambda pair: (-pair[1], pair[0]))[: config.most_words]
        if not often:
            raise DataError(
                "There are too few words to learn from.",
                where="prep.min_count",
                wanted=f"a word that occurs {config.min_count} times or more",
                got=f"none of {len(counts)} different words",
                do="Take more text, or lower --set prep.min_count.",
            )
        rare = counts.total() - sum(count for _, count in often)
        all_counts = [documents, rare, paragraphs, *(count for _, count in often)]
        return cls([word for word, _ in often], np.maximum(np.array(all_counts, np.int64), 1), config.cut)

    @property
    def vocab_size(self) -> int:
        """V, the three tokens that are no words among them."""
        return len(self._written)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without `<|endoftext|>` on either side."""
        return [self._numbers.get(piece, _RARE) if piece else _PARAGRAPH for piece in _pieces(text, self.cut)]

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the ids of each text, int32."""
        return [np.array(self.encode(text), dtype=np.int32) for text in texts]

    def token_bytes(self, token: int) -> bytes:
        """Return how one token is written: a word with a space in front, "<rare>" for one that is not known.

        Raises:
            UsageError: there is no such token.
        """
        if not 0 <= token < self.vocab_size:
            raise UsageError(
                "There is no such token.",
                wanted=f"0 to {self.vocab_size - 1}",
                got=token,
                do="Use the model's own vocabulary.",
            )
        return self._written[token]

    def rare(self, text: str) -> Iterator[str]:
        """The words of `text` that share one token, in order."""
        return (piece for piece in _pieces(text, self.cut) if piece and piece not in self._numbers)

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return canonical_json({"words": self.words, "counts": self.counts.tolist(), "cut": self.cut})


@final
class WordPrep(TokenPrep):
    """The vocabulary, in a program.

    Args:
        tokenizer: its words.
        config: what they were chosen by.
    """

    tokenizer: Words

    def __init__(self, tokenizer: Words, config: WordConfig) -> None:
        self.tokenizer, self.config, self.controls = tokenizer, config, Controls()

    @classmethod
    def of(cls, texts: Iterable[str], config: WordConfig) -> WordPrep:
        """The preprocessing for some training texts.

        Raises:
            DataError: no word occurs often enough.
        """
        return cls(Words.of(texts, config), config)

    def spelling_bits(self, texts: Iterable[str]) -> float:
        """8 bits for each byte of a word that shares its token, and 8 for its end."""
        words = self.tokenizer.rare
        return 8.0 * sum(len(word.encode(errors="surrogatepass")) + 1 for text in texts for word in words(text))

    def state(self) -> PrepState:
        return PrepState(config=to_dict(self.config), assets={"words.json": self.tokenizer.to_json().encode()})

    @classmethod
    def restore(cls, state: PrepState) -> WordPrep:
        kept = parse_json(state.assets["words.json"])
        words = Words(kept["words"], np.array(kept["counts"], np.int64), kept["cut"])
        return cls(words, WordConfig(**state.config))


def _pieces(text: str, cut: Cut) -> list[str]:
    """The words of a text, "" for a border between paragraphs."""
    return [piece.strip() for piece in _PIECES[cut].findall(text.strip())]
