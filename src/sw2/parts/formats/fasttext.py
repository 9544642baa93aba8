"""fastText's model files, .bin and .ftz, in and out; vectors of any word, and labels of a text.

    read(path) -> FastTextModel         write(model, path)             the same bytes that were read

    header      magic, version 12 (11 is read)
    arguments   12 numbers of 32 bits and one of 64, see `Arguments`
    dictionary  words, then labels: each a string that ends in a zero, its count, its kind; then which n-grams were kept
    input       float32 [words + n-grams, dimensions], or product codes
    output      float32 [labels (words, where there are none), dimensions], or product codes

A word is the mean of the rows of its own and of its n-grams of characters; a text the mean of the rows of its words,
their n-grams, and of n-grams of words. N-grams have no list: a row is a hash modulo `buckets`, and in a model that was
pruned the rows that are left are listed.

Notable
- The hash is FNV-1a of the UTF-8 bytes, each taken as a signed char: bytes from 128 up flip the upper bits too. Of
  several words it is a polynomial over 64 bits, whose terms are signed as well.
- Probabilities are those of the official program to the last digits: it adds 1e-5 inside each logarithm, so that a sure
  label is told as 1.00001, and takes sigmoids from a table of 512 steps.
- Words are bytes to fastText. Those that are no UTF-8 become strings with surrogate escapes, and bytes again.

Sources: Bojanowski et al. 2017, arXiv:1607.04606; Joulin et al. 2016, arXiv:1607.01759 and arXiv:1612.03651. The
format has no description; it is what the official program, version 0.9.2, reads and writes.

What it does not do: learning; files before version 11; vectors of sentences in models without labels.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import DataError, UsageError
from sw2.base.store import is_file, replacing
from sw2.parts.formats.compressed import CENTROIDS, ProductCodes
from sw2.parts.formats.vectors import VectorTable

__all__ = [
    "END_OF_LINE",
    "LABEL",
    "Arguments",
    "FastTextModel",
    "character_ngrams",
    "hashed",
    "huffman",
    "read",
    "tokens",
    "ways",
    "word_ngrams",
    "write",
]

END_OF_LINE: Final = "</s>"
"""The word that every text ends with."""
LABEL: Final = "__label__"
"""What labels begin with, in files of fastText and in what it is trained on."""

_MAGIC: Final = 793712314
_VERSION: Final = 12
_LONGEST_WORD: Final = 1 << 24
_UNBUILT: Final = 10**15  # the weight of a node of Huffman's tree before it has children; above all counts
_SEPARATORS: Final = " \n\r\t\v\f\0"
_LOSSES: Final = {1: "hierarchical softmax", 2: "negative sampling", 3: "softmax", 4: "one for each label"}
_MODELS: Final = {1: "cbow", 2: "skipgram", 3: "supervised"}

Matrix = NDArray[np.float32] | ProductCodes


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What the model was trained with, in the file's order.

    Args:
        dimensions: of a vector.
        window: words to either side.
        epochs: over the text.
        min_count: fewer times, and a word is left out.
        negatives: words that are drawn against each.
        word_ngrams: the longest n-gram of words.
        loss: "hierarchical softmax", "negative sampling", "softmax" or "one for each label".
        model: "cbow", "skipgram" or "supervised".
        buckets: rows for n-grams before pruning; 0 for none.
        min_n, max_n: characters of an n-gram; `max_n` 0 for none.
        update_rate: words between two changes of the learning rate.
        sampling: the threshold above which frequent words are left out now and then.
    """

    dimensions: int
    window: int = 5
    epochs: int = 5
    min_count: int = 1
    negatives: int = 5
    word_ngrams: int = 1
    loss: str = "softmax"
    model: str = "supervised"
    buckets: int = 0
    min_n: int = 0
    max_n: int = 0
    update_rate: int = 100
    sampling: float = 1e-4


# --------------------------------------------------------------------------------------------------------------- rules

_TO_SPACES: Final = str.maketrans(dict.fromkeys(_SEPARATORS, " "))


def tokens(text: str) -> list[str]:
    """What stands between the white space of ASCII, and zeros; other spaces are part of words."""
    return [token for token in text.translate(_TO_SPACES).split(" ") if token]


def hashed(token: bytes) -> int:
    """FNV-1a with 32 bits over bytes that are signed, as in fastText.

    >>> hashed(b"a"), hashed("ä".encode())
    (3826002220, 939155682)
    """
    value = 2166136261
    for byte in token:
        value = (value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return value


def character_ngrams(word: bytes, min_n: int, max_n: int) -> list[int]:
    """The hashes of a word's n-grams of characters, of each that begins with the first, the second …

    Args:
        word: UTF-8, with `<` before and `>` behind; these two by themselves are no n-grams.
        min_n, max_n: characters of an n-gram.
    """
    starts = [at for at, byte in enumerate(word) if byte & 0xC0 != 0x80]
    ends = [*starts[1:], len(word)] if starts else []
    found = []
    for first, start in enumerate(starts):
        for last in range(first + max(min_n, 1) - 1, min(first + max_n, len(starts))):
            if first == last and (start == 0 or ends[last] == len(word)):
                continue
            found.append(hashed(word[start : ends[last]]))
    return found


def word_ngrams(hashes: Sequence[int], longest: int) -> list[int]:
    """The hashes, of 64 bits, of a text's n-grams of 2 to `longest` words.

    Args:
        hashes: of each word, by `hashed`.
    """
    signed = [each - (1 << 32) if each >= 1 << 31 else each for each in hashes]
    found = []
    for first, value in enumerate(signed):
        for other in signed[first + 1 : first + longest]:
            value = (value * 116049371 + other) & 0xFFFFFFFFFFFFFFFF
            found.append(value)
    return found


# --------------------------------------------------------------------------------------------------------------- model


@dataclass(frozen=True, kw_only=True, eq=False)
class FastTextModel:
    """A model of fastText.

    Args:
        arguments: what it was trained with.
        words: in the order of their rows; distinct.
        counts: how often each was seen, int64 [words].
        labels: with their prefix; empty in models without supervision.
        label_counts: int64 [labels].
        tokens: of the text that it was trained on.
        pruned: the row, from 0, of each n-gram that is left; None where all are.
        input: [words + n-grams, dimensions].
        output: [labels, dimensions], or [words, dimensions] where there are no labels.
    """

    arguments: Arguments
    words: Sequence[str]
    counts: NDArray[np.int64]
    labels: Sequence[str]
    label_counts: NDArray[np.int64]
    tokens: int
    pruned: Mapping[int, int] | None
    input: Matrix
    output: Matrix
    version: int = field(default=_VERSION, repr=False)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def _known(self) -> dict[str, tuple[int, ...]]:
        return {}  # the rows of words in the dictionary, kept when they were asked for

    def _ngram_rows(self, hashes: Sequence[int]) -> list[int]:
        """The rows of n-grams, without those that were pruned."""
        if not self.arguments.buckets:
            return []
        kept = (each % self.arguments.buckets for each in hashes)
        if self.pruned is None:
            return [len(self.words) + each for each in kept]
        return [len(self.words) + self.pruned[each] for each in kept if each in self.pruned]

    def rows(self, word: str) -> tuple[int, ...]:
        """The rows of `input` whose mean is the word: its own, if it has one, and those of its n-grams."""
        if word in self._known:
            return self._known[word]
        ngrams: list[int] = []
        if word != END_OF_LINE and self.arguments.max_n > 0:
            inside = b"<%b>" % _bytes(word)
            ngrams = self._ngram_rows(character_ngrams(inside, self.arguments.min_n, self.arguments.max_n))
        if word not in self._row:
            return tuple(ngrams)
        return self._known.setdefault(word, (self._row[word], *ngrams))

    def text_rows(self, text: str) -> list[int]:
        """The rows of `input` whose mean is the text: of its words, the line's end, and n-grams of words.

        Raises:
            UsageError: the text has more than one line.
        """
        text = text.removesuffix("\n")
        if "\n" in text:
            raise UsageError("A text of fastText is one line.", wanted="no newline inside", got=repr(text[:60]))
        found: list[int] = []
        hashes = []
        for token in [*tokens(text), END_OF_LINE]:
            if token not in self._row and token.startswith(LABEL):
                continue  # a label, known or not
            found += self.rows(token)
            hashes.append(hashed(_bytes(token)))
        return found + self._ngram_rows(word_ngrams(hashes, self.arguments.word_ngrams))

    def mean(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """The mean of some rows of `input`, float32 [dimensions]; zeros where there are none."""
        if not len(rows):
            return np.zeros(self.arguments.dimensions, np.float32)
        return _taken(self.input, np.asarray(rows)).sum(0) / np.float32(len(rows))

    def vector(self, word: str) -> NDArray[np.float32]:
        """The vector of a word, known or not, float32 [dimensions]; zeros where nothing of it is known."""
        return self.mean(self.rows(word))

    def text_vector(self, text: str) -> NDArray[np.float32]:
        """The hidden layer for a text of one line, float32 [dimensions]; zeros where nothing of it is known."""
        return self.mean(self.text_rows(text))

    def table(self) -> VectorTable:
        """The vectors of all known words, their n-grams included, with their counts."""
        matrix = np.empty((len(self.words), self.arguments.dimensions), np.float32)
        for row, word in enumerate(self.words):
            matrix[row] = self.vector(word)
        return VectorTable(self.words, matrix, self.counts)

    def predict(self, text: str, most: int = 1, threshold: float = 0.0) -> list[tuple[str, float]]:
        """The likeliest labels of a text, without their prefix, with their probabilities.

        Args:
            text: of one line.
            most: how many.
            threshold: labels of lower probability are left out.

        Returns:
            Up to `most` pairs, the likeliest first; none where nothing of the text is known.

        Raises:
            UsageError: the model has no labels, or the text has more than one line.
        """
        if self.arguments.model != "supervised":
            raise UsageError(
                "This model has no labels to tell.",
                wanted="a model that was trained with supervision",
                got=f"one of {self.arguments.model}",
                do="Ask it for vectors.",
            )
        assert most >= 1
        rows = self.text_rows(text)
        if not rows:
            return []
        hidden = self.mean(rows)
        if self.arguments.loss == "hierarchical softmax":
            found = self._down_the_tree(hidden, most, threshold)
        else:
            scores = self._dense_output @ hidden
            if self.arguments.loss == "softmax":
                raised = np.exp(scores - scores.max())
                shares = raised / raised.sum()
            else:
                shares = _tabled_sigmoid(scores)
            best = np.argsort(-shares, kind="stable")[:most]
            found = [(float(np.log(shares[each] + 1e-5)), int(each)) for each in best if shares[each] >= threshold]
        return [(self.labels[label].removeprefix(LABEL), math.exp(score)) for score, label in found]

    def probabilities(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        """The probability of each label for a text's rows, exactly and without the official program's 1e-5.

        Args:
            rows: of `text_rows`.

        Returns:
            float64 [labels], which sum up to 1; independent of each other where the loss is one for each label. Without
            rows, those of a hidden layer of zeros.
        """
        hidden = self.mean(rows)
        if self.arguments.loss == "hierarchical softmax":
            count = len(self.labels)
            turns = _sigmoid(self._dense_output[: count - 1] @ hidden)
            reached = np.ones(2 * count - 1)
            for inner in reversed(range(count - 1)):
                left, right = self.tree[inner]
                reached[left] = reached[count + inner] * (1 - turns[inner])
                reached[right] = reached[count + inner] * turns[inner]
            return reached[:count]
        scores = (self._dense_output @ hidden).astype(np.float64)
        if self.arguments.loss == "softmax":
            raised = np.exp(scores - scores.max())
            return raised / raised.sum()
        return _sigmoid(scores)

    @cached_property
    def _dense_output(self) -> NDArray[np.float32]:
        if isinstance(self.output, ProductCodes):
            return self.output.rows(np.arange(self.output.shape[0]))
        return self.output

    @cached_property
    def tree(self) -> list[tuple[int, int]]:
        """The tree over the labels, see `huffman`."""
        return huffman(self.label_counts)

    def _down_the_tree(self, hidden: NDArray[np.float32], most: int, threshold: float) -> list[tuple[float, int]]:
        """The best leaves and the sums of the logarithms on the way to them."""
        count = len(self.labels)
        turns = _sigmoid(self._dense_output[: count - 1] @ hidden)
        least = math.log(threshold + 1e-5)
        best: list[tuple[float, int]] = []
        open_nodes = [(0.0, 2 * count - 2)]
        while open_nodes:
            score, node = open_nodes.pop()
            if score < least or (len(best) == most and score < best[-1][0]):
                continue
            if node < count:
                best = sorted([*best, (score, node)], key=lambda pair: -pair[0])[:most]
                continue
            left, right = self.tree[node - count]
            turn = float(turns[node - count])
            open_nodes.append((score + math.log(turn + 1e-5), right))
            open_nodes.append((score + math.log(1 - turn + 1e-5), left))
        return best


def huffman(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Huffman's tree (1952, doi:10.1109/JRPROC.1952.273898): the more often a leaf occurs, the shorter the way to it.

    Args:
        counts: of L leaves, the largest first.

    Returns:
        The left and the right child of each of the L - 1 inner nodes, the root last; leaves are 0 to L - 1, inner node
        k is L + k.
    """
    count = len(counts)
    weights = [*counts.tolist(), *[_UNBUILT] * (count - 1)]
    leaf, node, children = count - 1, count, []
    for inner in range(count, 2 * count - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        weights[inner] = weights[pair[0]] + weights[pair[1]]
        children.append((pair[0], pair[1]))
    return children


def ways(tree: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """The way from each leaf up to the root of a tree.

    Args:
        tree: of `huffman`, over L leaves.

    Returns:
        borders int64 [L + 1], inner nodes int32 from 0 on, and turns float32: the way of leaf i is
        nodes[borders[i] : borders[i + 1]], and a turn is 1 where the way down goes to the right from that node, else 0.
    """
    leaves, children = len(tree) + 1, np.array(tree, np.int64).reshape(-1, 2)
    above, right = np.full(2 * leaves - 1, -1, np.int64), np.zeros(2 * leaves - 1, np.float32)
    for side in (0, 1):
        above[children[:, side]] = np.arange(len(tree))
        right[children[:, side]] = side
    steps, lengths = [], np.zeros(leaves, np.int64)
    leaf, at = np.arange(leaves), np.arange(leaves)  # where all that are not yet at the root have come
    while len(leaf := leaf[above[at] >= 0]):
        at = at[above[at] >= 0]
        steps.append((leaf, lengths[leaf], above[at], right[at]))
        lengths[leaf] += 1
        at = leaves + above[at]
    borders = np.concatenate([[0], np.cumsum(lengths)])
    nodes, turns = np.empty(borders[-1], np.int32), np.empty(borders[-1], np.float32)
    for leaf, step, node, turn in steps:
        nodes[borders[leaf] + step], turns[borders[leaf] + step] = node, turn
    return borders, nodes, turns


def _bytes(word: str) -> bytes:
    try:
        return word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, which no file holds
        return word.encode("utf-8", "surrogatepass")


def _taken(matrix: Matrix, rows: NDArray[np.integer]) -> NDArray[np.float32]:
    return matrix.rows(rows) if isinstance(matrix, ProductCodes) else matrix[rows]


def _sigmoid(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -700, 700)))


def _tabled_sigmoid(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) at the next lower of 512 steps from -8 to 8; 0 and 1 beyond."""
    steps = np.clip((scores.astype(np.float64) + 8) * 32, 0, 512).astype(np.int64)
    inside = 1 / (1 + np.exp(8 - steps / 32))
    return np.where(scores < -8, 0.0, np.where(scores > 8, 1.0, inside))


# ------------------------------------------------------------------------------------------------------------- reading


class _Reader:
    """Numbers of a binary file, each where it has to be."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.left = path, file, path.stat().st_size

    def wrong(self, what: str, wanted: object, got: object) -> DataError:
        return DataError(
            "This model of fastText is damaged.",
            where=f"{self.path}, byte {self.file.tell()}, {what}",
            wanted=wanted,
            got=got,
            do="Copy or download it again.",
        )

    def bytes(self, count: int, what: str) -> bytes:
        """The next `count` bytes; asked of the file only if it can have them."""
        left = self.left - self.file.tell()
        if not 0 <= count <= left:
            raise self.wrong(what, f"{count} bytes", f"{left}, then the end of the file")
        return self.file.read(count)

    def numbers(self, form: str, what: str) -> tuple[Any, ...]:
        """The next numbers, in the letters of `struct`."""
        return struct.unpack(f"<{form}", self.bytes(struct.calcsize(f"<{form}"), what))

    def array(self, dtype: str, count: int, what: str) -> np.ndarray:
        """The next `count` numbers, read into place."""
        size = count * np.dtype(dtype).itemsize
        left = self.left - self.file.tell()
        if not 0 <= size <= left:
            raise self.wrong(what, f"{size} bytes", f"{left}, then the end of the file")
        return np.fromfile(self.file, dtype, count)

    def flag(self, what: str) -> bool:
        (value,) = self.numbers("B", what)
        if value > 1:
            raise self.wrong(what, "0 or 1", value)
        return bool(value)


def read(path: Path | str) -> FastTextModel:
    """The model in a .bin or .ftz file.

    Raises:
        DataError: there is no such file, or it is no model of fastText, or damaged, or of an older version.
    """
    path = Path(path)
    if not is_file(path):
        got = "a folder" if path.is_dir() else "nothing there"
        raise DataError("There is no such file.", where=path, wanted="a model of fastText", got=got)
    with open(path, "rb") as file:
        reader = _Reader(path, file)
        magic = file.read(4)
        if magic != struct.pack("<i", _MAGIC):
            raise DataError(
                "This is no model of fastText.",
                where=path,
                wanted="a .bin or .ftz file, which begins with ba164f2f",
                got=magic.hex() or "an empty file",
                do="Tables of word vectors (word2vec, GloVe) are opened by names that end in .vec.",
            )
        (version,) = reader.numbers("i", "the version")
        if version not in (11, 12):
            raise reader.wrong("the version", "11 or 12", version)
        arguments = _read_arguments(reader, version)
        entries, tokens, pruned = _read_dictionary(reader)
        words = [word for word, _, kind in entries if kind == 0]
        labels = [word for word, _, kind in entries if kind == 1]
        if [kind for *_, kind in entries] != [0] * len(words) + [1] * len(labels):
            raise reader.wrong("the dictionary", "words, then labels", "words behind labels")
        supervised = arguments.model == "supervised"
        if supervised and not labels:
            raise reader.wrong("the dictionary", "labels, since it was trained with supervision", "none")
        packed = reader.flag("whether the input is quantised")
        first = _read_matrix(reader, packed, "the input matrix", arguments.dimensions)
        least = len(words) + (arguments.buckets if pruned is None else max(pruned.values(), default=-1) + 1)
        if first.shape[0] < least:
            raise reader.wrong("the input matrix", f"{least} rows or more", first.shape[0])
        output_packed = reader.flag("whether the output is quantised")
        last = _read_matrix(reader, packed and output_packed, "the output matrix", arguments.dimensions)
        if last.shape[0] != (wanted := len(labels) if supervised else len(words)):
            raise reader.wrong("the output matrix", f"{wanted} rows", last.shape[0])
        if over := reader.left - file.tell():
            raise reader.wrong("behind the output matrix", "the end of the file", f"{over} bytes more")
    counts = np.array([count for _, count, _ in entries], np.int64)
    return FastTextModel(
        arguments=arguments,
        words=words,
        counts=counts[: len(words)],
        labels=labels,
        label_counts=counts[len(words) :],
        tokens=tokens,
        pruned=pruned,
        input=first,
        output=last,
        version=version,
    )


def _read_arguments(reader: _Reader, version: int) -> Arguments:
    *numbers, sampling = reader.numbers("12id", "the arguments")
    names = list(Arguments.__dataclass_fields__)
    told = dict(zip(names, [*numbers, sampling], strict=True))
    for name, least in (("dimensions", 1), ("buckets", 0), ("word_ngrams", 1)):
        if told[name] < least:
            raise reader.wrong(f"the argument {name}", f"{least} or more", told[name])
    for name, meaning in (("loss", _LOSSES), ("model", _MODELS)):
        if told[name] not in meaning:
            raise reader.wrong(f"the argument {name}", f"one of {sorted(meaning)}", told[name])
        told[name] = meaning[told[name]]
    if version == 11 and told["model"] == "supervised":
        told["max_n"] = 0  # older programs wrote a number here and made no n-grams of characters
    return Arguments(**told)


def _read_dictionary(reader: _Reader) -> tuple[list[tuple[str, int, int]], int, dict[int, int] | None]:
    """Words and labels with counts and kinds; how many tokens were seen; the n-grams that are left."""
    size, words, labels, tokens, kept = reader.numbers("3i2q", "the dictionary")
    if words < 0 or labels < 0 or size != words + labels:
        raise reader.wrong("the dictionary", f"{words} + {labels} entries", size)
    entries: list[tuple[str, int, int]] = []
    content, at = b"", 0
    begin = reader.file.tell()
    for _ in range(size):
        while (end := content.find(b"\0", at)) < 0 or end + 10 > len(content):
            more = reader.file.read(1 << 16)
            if not more or len(content) - at > _LONGEST_WORD:
                raise reader.wrong("the dictionary", f"{size} entries", f"no end of entry {len(entries) + 1}")
            begin += at
            content, at = content[at:] + more, 0
        count, kind = struct.unpack_from("<qb", content, end + 1)
        entries.append((content[at:end].decode("utf-8", "surrogateescape"), count, kind))
        at = end + 10
        if kind not in (0, 1) or not 0 <= count < _UNBUILT // size:
            raise reader.wrong(f"entry {len(entries)} of the dictionary", "a count and a kind, 0 or 1", (count, kind))
    if len({entry[0] for entry in entries}) < size:
        raise reader.wrong("the dictionary", "each word once", "a word that is there twice")
    reader.file.seek(begin + at)
    if kept < 0:
        return entries, tokens, None
    pairs = reader.array("<i4", 2 * kept, "the n-grams that were kept").reshape(-1, 2)
    if (pairs < 0).any():
        raise reader.wrong("the n-grams that were kept", "rows from 0", int(pairs.min()))
    return entries, tokens, dict(pairs.tolist())


def _read_matrix(reader: _Reader, packed: bool, what: str, dimensions: int) -> Matrix:
    norms = reader.flag(f"whether {what} has norms") if packed else False
    count, columns = reader.numbers("2q", what)
    if count < 0 or columns != dimensions:
        raise reader.wrong(what, f"{dimensions} columns", f"{count} rows of {columns}")
    if not packed:
        matrix = reader.array("<f4", count * columns, what).reshape(count, columns)
        if not np.isfinite(matrix.sum(dtype=np.float64)) and not np.isfinite(matrix).all():
            row = int(np.argmin(np.isfinite(matrix).all(1)))
            raise reader.wrong(f"{what}, row {row}", "finite numbers", "NaN or infinity")
        return matrix.astype(np.float32, copy=False)
    (size,) = reader.numbers("i", what)
    codes = reader.array("u1", size, what)
    width, centroids = _read_book(reader, what, columns)
    parts = -(-columns // width)
    if size != count * parts:
        raise reader.wrong(what, f"{count} rows of {parts} codes", f"{size} codes")
    norm_codes = norm_centroids = None
    if norms:
        norm_codes = reader.array("u1", count, f"the norms of {what}")
        _, norm_centroids = _read_book(reader, f"the norms of {what}", 1)
    return ProductCodes(codes.reshape(count, parts), centroids, width, norm_codes, norm_centroids)


def _read_book(reader: _Reader, what: str, dimensions: int) -> tuple[int, NDArray[np.float32]]:
    """The width of a part, and the centroids of all."""
    columns, parts, width, last = reader.numbers("4i", what)
    if columns != dimensions or width < 1 or parts != -(-columns // width) or last != columns - (parts - 1) * width:
        raise reader.wrong(what, f"a codebook for {dimensions} columns", (columns, parts, width, last))
    centroids = reader.array("<f4", CENTROIDS * columns, what).astype(np.float32, copy=False)
    if not np.isfinite(centroids).all():
        raise reader.wrong(what, "finite centroids", "NaN or infinity")
    return width, centroids


# ------------------------------------------------------------------------------------------------------------- writing


def write(model: FastTextModel, path: Path | str) -> None:
    """Write a model as fastText does, whole or not at all. By custom a file of product codes is called .ftz.

    Raises:
        DataError: a word holds a byte that separates words in fastText.
        DiskFull: nothing was written.
    """
    path = Path(path)
    for word in (*model.words, *model.labels):
        if not word or any(each in word for each in _SEPARATORS):
            raise DataError("fastText has no such word.", wanted="a word without white space", got=repr(word))
    packed = isinstance(model.input, ProductCodes)
    assert packed or not isinstance(model.output, ProductCodes), "an output of product codes needs such an input"
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(struct.pack("<2i", _MAGIC, model.version))
        told = {**vars(model.arguments)}
        for name, meaning in (("loss", _LOSSES), ("model", _MODELS)):
            told[name] = {word: number for number, word in meaning.items()}[told[name]]
        file.write(struct.pack("<12id", *told.values()))
        sizes = len(model.words) + len(model.labels), len(model.words), len(model.labels), model.tokens
        file.write(struct.pack("<3i2q", *sizes, -1 if model.pruned is None else len(model.pruned)))
        for kind, words, counts in ((0, model.words, model.counts), (1, model.labels, model.label_counts)):
            for word, count in zip(words, counts.tolist(), strict=True):
                file.write(_bytes(word) + struct.pack("<xqb", count, kind))
        for pair in (model.pruned or {}).items():
            file.write(struct.pack("<2i", *pair))
        file.write(struct.pack("<?", packed))
        _write_matrix(file, model.input)
        file.write(struct.pack("<?", isinstance(model.output, ProductCodes)))
        _write_matrix(file, model.output)


def _write_matrix(file: IO[bytes], matrix: Matrix) -> None:
    if not isinstance(matrix, ProductCodes):
        file.write(struct.pack("<2q", *matrix.shape))
        np.ascontiguousarray(matrix, "<f4").tofile(file)
        return
    file.write(struct.pack("<?2qi", matrix.norm_codes is not None, *matrix.shape, matrix.codes.size))
    matrix.codes.tofile(file)
    _write_book(file, matrix.centroids, matrix.shape[1], matrix.width)
    if matrix.norm_codes is not None and matrix.norm_centroids is not None:
        matrix.norm_codes.tofile(file)
        _write_book(file, matrix.norm_centroids, 1, 1)


def _write_book(file: IO[bytes], centroids: NDArray[np.float32], columns: int, width: int) -> None:
    parts = -(-columns // width)
    file.write(struct.pack("<4i", columns, parts, width, columns - (parts - 1) * width))
    centroids.astype("<f4", copy=False).tofile(file)
