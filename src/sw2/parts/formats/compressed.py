"""Rows of a matrix in fewer bytes, and what is lost by it.

    eight_bits(matrix)            a byte a number and a scale for each row: 4 times smaller
    product_codes(matrix, width)  a byte for each `width` numbers: for width 2, 8 times smaller
    loss(matrix, compressed)      how far the rows moved, and whether their neighbours are the same

Notable
- Both hand out rows as float32 by their numbers, and never the whole matrix.
- Product quantisation cuts each row into parts of `width` numbers and learns 256 centroids for every part by k-means;
  with `norms` the rows are scaled to length 1 before, and their lengths get a codebook of their own, as fastText's do.
- Rows are drawn and centroids start by `base.seed`: the same matrix and seed give the same codes.

Shapes: R rows, D dimensions, P parts of a row, W the width of a part (the last may be narrower), N asked rows.
Sources: Jégou, Douze and Schmid 2011, doi:10.1109/TPAMI.2010.57; FastText.zip, Joulin et al. 2016, arXiv:1612.03651.

What it does not do: files (`fasttext` has product codes in its .ftz), search over codes, rotations before quantising.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import DataError
from sw2.base.seed import numpy_generator

__all__ = ["CENTROIDS", "Compressed", "EightBits", "Loss", "ProductCodes", "eight_bits", "loss", "product_codes"]

CENTROIDS: Final = 256
"""How many values a byte tells apart."""

_AT_ONCE: Final = 1 << 22  # numbers that a step holds beside the matrix
_SAMPLE: Final = 256 * CENTROIDS  # rows that centroids are learned from; fastText's number


class Compressed(Protocol):
    """A matrix that is kept in fewer bytes."""

    @property
    def shape(self) -> tuple[int, int]:
        """R and D."""

    @property
    def nbytes(self) -> int:
        """Bytes of all codes, scales and centroids."""

    def rows(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        """The rows [N] as they are now, float32 [N, D]."""


@dataclass(frozen=True, eq=False)
class EightBits:
    """`codes * scales`.

    Args:
        codes: int8 [R, D], from -127 to 127.
        scales: float32 [R].
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes), self.codes.shape[1]

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def rows(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        return self.codes[indices] * self.scales[indices, None]


@dataclass(frozen=True, eq=False)
class ProductCodes:
    """A centroid for each part of each row.

    Args:
        codes: uint8 [R, P].
        centroids: float32 [256 * D], part after part: [256, W] each, the last one narrower where W does not divide D.
        width: W.
        norm_codes: uint8 [R], or None where rows were not scaled to length 1.
        norm_centroids: float32 [256], the lengths; None with `norm_codes`.
    """

    codes: NDArray[np.uint8]
    centroids: NDArray[np.float32]
    width: int
    norm_codes: NDArray[np.uint8] | None = None
    norm_centroids: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes), len(self.centroids) // CENTROIDS

    @property
    def nbytes(self) -> int:
        arrays = (self.codes, self.centroids, self.norm_codes, self.norm_centroids)
        return sum(array.nbytes for array in arrays if array is not None)

    def rows(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        codes, dimensions = self.codes[indices], self.shape[1]
        found = np.empty((len(codes), dimensions), np.float32)
        for part, start in enumerate(range(0, dimensions, self.width)):
            stop = min(start + self.width, dimensions)
            book = self.centroids[CENTROIDS * start : CENTROIDS * stop].reshape(CENTROIDS, stop - start)
            found[:, start:stop] = book[codes[:, part]]
        if self.norm_codes is not None and self.norm_centroids is not None:
            found *= self.norm_centroids[self.norm_codes[indices], None]
        return found


def eight_bits(matrix: NDArray[np.float32]) -> EightBits:
    """A byte a number: x is round(x / s) times s, s the row's largest magnitude over 127.

    Args:
        matrix: float32 [R, D], finite.
    """
    codes = np.empty(matrix.shape, np.int8)
    scales = np.abs(matrix).max(1, initial=0) / np.float32(127)
    for rows in _pieces(len(matrix), matrix.shape[1]):
        divided = matrix[rows] / np.where(scales[rows] > 0, scales[rows], np.float32(1))[:, None]
        codes[rows] = np.rint(divided).clip(-127, 127)
    return EightBits(codes, scales)


def product_codes(
    matrix: NDArray[np.float32], width: int = 2, *, norms: bool = True, iterations: int = 25, seed: int = 0
) -> ProductCodes:
    """A byte for each `width` numbers of a row.

    Args:
        matrix: float32 [R, D], finite; at least 256 rows.
        width: W, from 1 to D.
        norms: whether rows are scaled to length 1 before, and their lengths are kept in a byte each.
        iterations: of k-means.
        seed: of the rows that centroids are learned from, and of those that they start at.

    Raises:
        DataError: there are too few rows for 256 centroids.
    """
    count, dimensions = matrix.shape
    assert 1 <= width <= dimensions
    if count < CENTROIDS:
        raise DataError(
            "There are too few rows for product quantisation.",
            wanted=f"at least {CENTROIDS} rows, one for each centroid",
            got=f"{count}",
            do="Keep the vectors as they are, or in 8 bits.",
        )
    norm_codes = norm_centroids = None
    scales = np.ones(count, np.float32)
    if norms:
        lengths = np.linalg.norm(matrix, axis=1)
        norm_centroids = _centroids(lengths[:, None], iterations, seed, 0)[:, 0]
        norm_codes = _nearest(lengths[:, None], norm_centroids[:, None])
        scales = np.where(lengths > 0, lengths, np.float32(1))
    starts = range(0, dimensions, width)
    codes = np.empty((count, len(starts)), np.uint8)
    books = []
    for part, start in enumerate(starts):
        numbers = matrix[:, start : start + width] / scales[:, None]
        book = _centroids(numbers, iterations, seed, part + 1)
        codes[:, part] = _nearest(numbers, book)
        books.append(book.ravel())
    return ProductCodes(codes, np.concatenate(books), width, norm_codes, norm_centroids)


def _centroids(numbers: NDArray[np.float32], iterations: int, seed: int, part: int) -> NDArray[np.float32]:
    """256 centroids [256, W] by Lloyd's iterations; a centroid without rows moves beside the one with the most."""
    random = numpy_generator(seed, "product codes", part)
    sample = numbers[random.permutation(len(numbers))[:_SAMPLE]].astype(np.float32)
    centroids = sample[:CENTROIDS].copy()
    for _ in range(iterations):
        nearest = _nearest(sample, centroids)
        members = np.bincount(nearest, minlength=CENTROIDS)
        for column in range(sample.shape[1]):
            sums = np.bincount(nearest, sample[:, column], CENTROIDS)
            centroids[:, column] = np.where(members > 0, sums / np.maximum(members, 1), centroids[:, column])
        for empty in np.flatnonzero(members == 0):
            fullest = int(np.argmax(members))
            step = np.float32(1e-4) * np.abs(centroids[fullest]).max(initial=np.float32(1e-4))
            centroids[empty] = centroids[fullest] + step
            centroids[fullest] -= step
            members[empty] = members[fullest] // 2
            members[fullest] -= members[empty]
    return centroids


def _nearest(numbers: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The number of the nearest centroid for each row, uint8 [R]; |x - c|^2 without what all centroids share."""
    squares = (centroids**2).sum(1)
    found = np.empty(len(numbers), np.uint8)
    for rows in _pieces(len(numbers), CENTROIDS):
        found[rows] = (squares - 2 * (numbers[rows] @ centroids.T)).argmin(1)
    return found


def _pieces(count: int, width: int) -> list[slice]:
    """Slices of `count` rows, each of some millions of numbers."""
    step = max(1, _AT_ONCE // max(1, width))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


@dataclass(frozen=True)
class Loss:
    """What compression took.

    Args:
        cosine: the mean cosine between a row before and after; 1 is no loss.
        overlap: the mean share of a row's `neighbours` nearest rows, by cosine, that are the same before and after.
        neighbours: how many.
        rows: of how many rows, drawn at random, both are told.
        smaller: how many times smaller it is than float32.
    """

    cosine: float
    overlap: float
    neighbours: int
    rows: int
    smaller: float

    def __str__(self) -> str:
        return (
            f"{self.smaller:.1f} times smaller; mean cosine {self.cosine:.4f}, "
            f"{self.overlap:.3f} of the {self.neighbours} nearest kept, {self.rows} rows asked"
        )


def loss(
    matrix: NDArray[np.float32], compressed: Compressed, neighbours: int = 10, most: int = 1000, seed: int = 0
) -> Loss:
    """What compression took from a matrix.

    Args:
        matrix: float32 [R, D], as it was; more than `neighbours` rows.
        compressed: of the same shape.
        neighbours: how many nearest rows are compared; the row itself is none of them.
        most: how many rows are asked.
        seed: of the rows that are asked.
    """
    assert compressed.shape == matrix.shape
    assert 0 < neighbours < len(matrix)
    asked = np.sort(numpy_generator(seed, "loss").permutation(len(matrix))[:most])
    before, after = _unit(matrix[asked]), _unit(compressed.rows(asked))
    nearest_before = _neighbours(before, asked, neighbours, len(matrix), lambda rows: _unit(matrix[rows]))
    nearest_after = _neighbours(after, asked, neighbours, len(matrix), lambda rows: _unit(compressed.rows(rows)))
    shared = [len(np.intersect1d(one, other)) for one, other in zip(nearest_before, nearest_after, strict=True)]
    # Two rows of zeros point nowhere, and alike.
    cosine = np.where((before == 0).all(1) & (after == 0).all(1), 1, (before * after).sum(1))
    return Loss(
        cosine=float(cosine.mean()),
        overlap=float(np.mean(shared)) / neighbours,
        neighbours=neighbours,
        rows=len(asked),
        smaller=4 * matrix.size / compressed.nbytes,
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(lengths > 0, lengths, np.float32(1))).astype(np.float32, copy=False)
    return unit


def _neighbours(
    questions: NDArray[np.float32],
    asked: NDArray[np.int64],
    neighbours: int,
    count: int,
    unit: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> NDArray[np.int64]:
    """The nearest rows of each question by the scalar product, without itself, [N, neighbours]."""
    scores = np.full((len(questions), neighbours), -np.inf, np.float32)
    found = np.full((len(questions), neighbours), -1)
    for rows in _pieces(count, len(questions) + questions.shape[1]):
        numbers = np.arange(rows.start, rows.stop)
        these = questions @ unit(numbers).T
        own = np.flatnonzero((asked >= rows.start) & (asked < rows.stop))
        these[own, asked[own] - rows.start] = -np.inf
        both = np.concatenate([scores, these], 1)
        named = np.concatenate([found, np.broadcast_to(numbers, these.shape)], 1)
        best = np.argpartition(-both, neighbours - 1, 1)[:, :neighbours]
        scores, found = np.take_along_axis(both, best, 1), np.take_along_axis(named, best, 1)
    return found
