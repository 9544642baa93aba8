"""Two yardsticks for a language model: an interpolated modified Kneser-Ney n-gram model, and a file compressor.

Notable
- Counts live in sorted arrays, one per order. An n-gram is known by its place in them, and its key is
  `place of its first n - 1 tokens · vocabulary + last token`: whatever n, the key fits 64 bits, and everything is done
  by sorting and searching whole arrays.
- The n-gram model spreads its last mass evenly over the vocabulary, so probabilities sum to one after every context and
  its bits may be compared with a neural model's over the same tokens.

Sources
- Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", Computer Speech and Language
  13(4), section 3 (interpolated modified Kneser-Ney, with the three discounts estimated from counts of counts);
  https://dash.harvard.edu/handle/1/25104739 is the longer report of 1998.
- Heafield et al. 2013, https://aclanthology.org/P13-2121, section 3: n-grams at the start of a text keep their counts.

What it does not do: pruning, saving, text generation.

Shapes: M tokens of all documents · U distinct n-grams of one order · V vocabulary
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sw2.base.errors import DataError, UsageError

__all__ = ["NGram", "XzBits", "discounts", "xz_bits"]

_FALLBACK: Final = (0.5, 1.0, 1.5)
_LARGEST_DICTIONARY: Final = 1536 * 2**20  # the limit of liblzma


def discounts(counts_U: NDArray[np.int64]) -> tuple[float, float, float]:
    """Estimate what to take from counts of one, two, and three or more (Chen & Goodman, equation 26).

    With n_r the number of n-grams of count r and Y = n₁ / (n₁ + 2 n₂): D_r = r - (r + 1) Y n_{r+1} / n_r. Where some
    n_r is zero, or a discount falls outside [0, r], there are too few counts to estimate from; 0.5, 1, 1.5 are taken.
    """
    n = np.bincount(np.minimum(counts_U, 5), minlength=6)[1:5].astype(np.float64)
    if not n.all():
        return _FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    found = tuple(float(r - (r + 1) * y * n[r] / n[r - 1]) for r in (1, 2, 3))
    return (found[0], found[1], found[2]) if all(0 <= d <= r for r, d in enumerate(found, 1)) else _FALLBACK


@dataclass(frozen=True)
class _Order:
    """All n-grams of one length.

    `keys` is sorted; `kept` is (count - discount) / total of the context, for each of them; `left` is the mass that the
    discounts leave to the shorter context, for each context (an n-gram of the order below), 1 where nothing followed.
    """

    keys_U: NDArray[np.int64]
    kept_U: NDArray[np.float64]
    left: NDArray[np.float64]


@final
class NGram:
    """An interpolated modified Kneser-Ney model.

    With a(g) the adjusted count of an n-gram g, h a context, h' the same without its first token:

        p(w | h) = max(a(hw) - D(a(hw)), 0) / Σ_v a(hv) + left(h) · p(w | h')
        left(h)  = (D₁ N₁(h) + D₂ N₂(h) + D₃ N₃₊(h)) / Σ_v a(hv)

    where N_r(h) is the number of tokens v with a(hv) = r. a is the plain count for the longest n-grams, and for shorter
    ones the number of different tokens seen before them, plus how often a document starts with them. Below the single
    tokens lies 1 / V. A context that nothing followed is shortened at no cost.

    Args:
        documents: token ids of each document, without `<|endoftext|>` in front; a model that should predict the ends
            gets them as last token.
        vocab_size: V.
        end_of_text: the id that every document starts from; it is a context and not predicted there.
        order: the longest n-gram, ≥ 1.

    Raises:
        DataError: there are no tokens, or some are outside the vocabulary.
    """

    def __init__(self, documents: Iterable[ArrayLike], *, vocab_size: int, end_of_text: int, order: int = 5) -> None:
        if order < 1:
            raise UsageError("An n-gram has at least one token.", wanted="order ≥ 1", got=order, do="Raise the order.")
        self.vocab_size, self.end_of_text, self.order = vocab_size, end_of_text, order
        tokens_M, depth_M = self._join(documents)
        if not len(tokens_M):
            raise DataError("There is nothing to count.", wanted="documents with tokens", got="none", do="Add text.")
        self._orders: list[_Order] = []
        # For each place, which n-gram of the present order ends there; -1 where the document is too short for one.
        place_M = np.zeros(len(tokens_M), dtype=np.int64)
        contexts = 1
        grams = self._count(tokens_M, depth_M, place_M, 1)
        for n in range(1, order + 1):
            keys_U, place_M, _ = grams
            if n < order:
                grams = self._count(tokens_M, depth_M, place_M, n + 1)
                # One longest n-gram, one different token before the shorter one that it ends with.
                counts_U = np.bincount(place_M[grams[2]], minlength=len(keys_U))
                if n > 1:
                    counts_U += np.bincount(place_M[depth_M == n - 1], minlength=len(keys_U))
            else:
                # The start of a document is a context; it is not an event (and only order 1 could count it as one).
                counts_U = np.bincount(place_M[(place_M >= 0) & (depth_M > 0)], minlength=len(keys_U))
            self._orders.append(self._discounted(keys_U, counts_U, contexts))
            contexts = len(keys_U)
            if not len(grams[0]):
                break  # no document is long enough for the next order

    def bits(self, documents: Iterable[ArrayLike]) -> float:
        """Return `-Σ log₂ p(token | those before it in its document)` over all tokens of `documents`.

        Args:
            documents: as for training.

        Raises:
            DataError: a token is outside the vocabulary.
        """
        return float(-np.log2(self.chances(documents)).sum())

    def chances(self, documents: Iterable[ArrayLike]) -> NDArray[np.float64]:
        """Return p(token | those before it in its document) of all tokens of all `documents` in a row, float64 [N].

        Args:
            documents: as for training.

        Raises:
            DataError: a token is outside the vocabulary.
        """
        tokens_M, depth_M = self._join(documents)
        return self._chances(tokens_M, depth_M)[depth_M > 0]

    def probabilities(self, context: ArrayLike) -> NDArray[np.float64]:
        """Return p(w | context) for every token w of the vocabulary, [V].

        Args:
            context: the tokens of a document so far, without `<|endoftext|>` in front.
        """
        tokens = np.asarray(context, dtype=np.int64).reshape(-1)
        every_V = np.arange(self.vocab_size)[:, None]
        rows = np.concatenate([np.broadcast_to(tokens, (self.vocab_size, len(tokens))), every_V], axis=1)
        tokens_M, depth_M = self._join(list(rows))
        return self._chances(tokens_M, depth_M)[depth_M == len(tokens) + 1]

    def _join(self, documents: Iterable[ArrayLike]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All documents in a row, each with its start; and how far each token is from the start of its document."""
        pieces = [np.asarray(document, dtype=np.int64).reshape(-1) for document in documents]
        pieces = [piece for piece in pieces if len(piece)]
        if not pieces:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        start = np.array([self.end_of_text])
        tokens_M = np.concatenate([part for piece in pieces for part in (start, piece)])
        if tokens_M.min() < 0 or tokens_M.max() >= self.vocab_size:
            raise DataError(
                "A token is outside the vocabulary.",
                wanted=f"0 to {self.vocab_size - 1}",
                got=f"{tokens_M.min()} to {tokens_M.max()}",
                do="Use the tokenizer that belongs to this vocabulary.",
            )
        lengths = np.array([len(piece) + 1 for piece in pieces])
        begins = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return tokens_M, np.arange(len(tokens_M)) - begins

    def _context_places(self, place_M: NDArray[np.int64], depth_M: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """Which (n-1)-gram stands before each token, -1 where none does. Before the first order: the empty one, 0."""
        if n == 1:
            return np.zeros_like(place_M)
        before_M = np.roll(place_M, 1)
        before_M[depth_M < n - 1] = -1
        return before_M

    def _count(
        self, tokens_M: NDArray[np.int64], depth_M: NDArray[np.int64], place_M: NDArray[np.int64], n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The distinct n-grams, the one that ends at each place, and where each first ends."""
        context_M = self._context_places(place_M, depth_M, n)
        there = np.flatnonzero(context_M >= 0)
        keys = context_M[there] * self.vocab_size + tokens_M[there]
        keys_U, first_U, inverse = np.unique(keys, return_index=True, return_inverse=True)
        new_place_M = np.full(len(tokens_M), -1, dtype=np.int64)
        new_place_M[there] = inverse
        return keys_U, new_place_M, there[first_U]

    def _discounted(self, keys_U: NDArray[np.int64], counts_U: NDArray[np.int64], contexts: int) -> _Order:
        off_U = np.array([0.0, *discounts(counts_U)])[np.minimum(counts_U, 3)]
        context_U = keys_U // self.vocab_size
        total = np.bincount(context_U, weights=counts_U, minlength=contexts)
        left = np.bincount(context_U, weights=off_U, minlength=contexts).astype(np.float64)
        followed = total > 0
        left[followed] /= total[followed]
        left[~followed] = 1.0
        kept_U = ((counts_U - off_U) / np.maximum(total[context_U], 1.0)).astype(np.float64)
        return _Order(keys_U, kept_U, left)

    def _chances(self, tokens_M: NDArray[np.int64], depth_M: NDArray[np.int64]) -> NDArray[np.float64]:
        chances_M = np.full(len(tokens_M), 1.0 / self.vocab_size)
        place_M = np.zeros(len(tokens_M), dtype=np.int64)
        for n, grams in enumerate(self._orders, 1):
            context_M = self._context_places(place_M, depth_M, n)
            there = np.flatnonzero(context_M >= 0)
            context = context_M[there]
            keys = context * self.vocab_size + tokens_M[there]
            place = np.minimum(np.searchsorted(grams.keys_U, keys), len(grams.keys_U) - 1)
            found = grams.keys_U[place] == keys
            chances_M[there] = np.where(found, grams.kept_U[place], 0.0) + grams.left[context] * chances_M[there]
            place_M = np.full(len(tokens_M), -1, dtype=np.int64)
            place_M[there[found]] = place[found]
        return chances_M


class XzBits(NamedTuple):
    """What xz needs for a text: `alone`, and `primed` by another text before it; both in bits."""

    alone: float
    primed: float


def xz_bits(train: bytes, held_out: Sequence[bytes]) -> XzBits:
    """Measure how far xz (LZMA2, preset 9 extreme) compresses held-out text.

    The held-out documents are joined without separators and compressed as one stream, so later ones profit from
    earlier ones; a language model that starts afresh at each document has no such help. The stream is raw: no header,
    no check sum.

    - alone: `8 · size(held out)`
    - primed: `8 · (size(train + held out) - size(train))`. The dictionary covers both texts, so that every byte of
      `train` can be pointed at. Memory is about twelve times the two texts.

    Args:
        train: the text that a model learned from.
        held_out: the documents to measure.

    Raises:
        DataError: the texts are larger than the largest dictionary of xz, 1.5 GiB.
    """
    text = b"".join(held_out)
    if len(train) + len(text) > _LARGEST_DICTIONARY:
        raise DataError(
            "The texts do not fit the dictionary of xz.",
            wanted=f"at most {_LARGEST_DICTIONARY} bytes",
            got=f"{len(train) + len(text)} bytes",
            do="Measure with a part of the training text.",
        )
    reach = max(len(train) + len(text), 2**16)
    primed = _xz_size([train, text], reach) - _xz_size([train], reach)
    return XzBits(alone=8.0 * _xz_size([text], reach), primed=8.0 * primed)


def _xz_size(pieces: Iterable[bytes], reach: int) -> int:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": reach}]
    packer = lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=filters)
    return sum(len(packer.compress(piece)) for piece in pieces) + len(packer.flush())
