"""What `kernels.cpp` does, in numpy and plain Python: the reference, and the path of machines without a compiler.

Windows are computed with the same operations in the same order, so they are the same bits; how models are fitted is
told once more, shorter. See the frame of `kernels.cpp` for what is done, why, and from which papers.

What it does not do: be fast. A million keys take seconds to fit where the kernels take hundredths.

Shapes: N sorted keys · M queries
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Points",
    "around",
    "behind",
    "distances",
    "drawn",
    "errors",
    "locate",
    "logarithm",
    "ordered",
    "points_of",
    "radix_table",
    "risen",
    "scaled",
    "segments",
    "spline",
    "steps",
    "whole",
]

Windows = tuple[NDArray[np.int64], NDArray[np.int64]]
Points = list[tuple[Any, int]]

_FARTHEST: Final = np.finfo(np.float64).max
_TOO_FAR: Final = 1e300


def steps(keys: np.ndarray, first: np.ndarray) -> NDArray[np.float64]:
    """How many numbers of the type lie from `first` to `keys`, rounded once; below `first` it wraps."""
    return (ordered(keys) - ordered(first)).astype(np.float64)


def behind(keys: np.ndarray, first: np.ndarray) -> NDArray[np.float64]:
    """How far `keys` lie behind `first` in value; the largest number stands for what has none."""
    if keys.dtype != np.float64:
        return steps(keys, first)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = keys - first
        return np.where(difference < _FARTHEST, difference, _FARTHEST)


def distances(keys: np.ndarray, first: np.ndarray) -> NDArray[np.float64]:
    """The same for keys anywhere: 0 for those before `first`."""
    with np.errstate(invalid="ignore"):
        return np.where(keys < first, 0.0, behind(keys, first))


def logarithm(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """What grows like the logarithm of distances of at least 0: the bits of the doubles as numbers."""
    return (numbers + 0.0).view(np.uint64).astype(np.float64)


def scaled(numbers: NDArray[np.float64], root: NDArray[np.float64], *, logarithmic: bool) -> NDArray[np.float64]:
    """Distances from the first key as a root takes them, 0 … 1 (see `roots`)."""
    values = ((logarithm(numbers) if logarithmic else numbers) - root[0]) * root[1]
    return np.where(values > 0, np.where(values < 1, values, 1.0), 0.0)


def risen(u: NDArray[np.float64], root: NDArray[np.float64], hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a root answers to scaled distances, in the order of operations of the kernels."""
    found = ((root[5] * u + root[4]) * u + root[3]) * u + root[2]
    for kink, weight in hidden.reshape(-1, 2):
        active = u - kink
        found = found + weight * np.where(active > 0, active, 0.0)
    return found


def whole(places: NDArray[np.float64], most: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Predicted places as whole numbers in 0 … most; nan is 0."""
    inside = (places > 0) & (places < most)
    return np.where(places > 0, np.where(inside, np.where(inside, places, 0).astype(np.int64), most), 0)


def around(places: NDArray[np.int64], under: Any, over: Any, n: int) -> Windows:
    """The windows from `under` below to `over` above the predicted places, inside 0 … n."""
    low = np.maximum(places - under, 0)
    return low, np.maximum(np.minimum(places + over, n) - low, 0)


def ordered(keys: np.ndarray) -> NDArray[np.uint64]:
    """Unsigned numbers in the order of the keys."""
    top = np.uint64(1 << 63)
    if keys.dtype == np.uint64:
        return keys
    if keys.dtype == np.int64:
        return keys.view(np.uint64) ^ top
    bits = (keys + 0.0).view(np.uint64)
    return np.where(bits & top, ~bits, bits | top)


def locate(keys: np.ndarray, queries: np.ndarray, windows: Callable[[np.ndarray], Windows]) -> NDArray[np.int64]:
    """The number of keys below each query.

    Args:
        keys: [N], sorted, N >= 1, no NaN.
        queries: [M], of the same type; NaN belongs behind all keys.
        windows: from queries to where their answers are said to lie: low and width, 0 <= low, low + width <= N.

    Returns:
        [M], right whatever `windows` says.
    """
    low, width = (each.copy() for each in windows(queries))
    n = len(keys)
    while (width > 0).any():
        half = (width + 1) // 2
        right = (width > 0) & (keys[np.minimum(low + half, n) - 1] < queries)
        low = np.where(right, low + half, low)
        width = np.where(right, width - half, np.maximum(half - 1, 0))
    unproven = (low < n) & (keys[np.minimum(low, n - 1)] < queries)
    unproven |= (low > 0) & ~(keys[np.maximum(low, 1) - 1] < queries)
    low[unproven] = np.searchsorted(keys, queries[unproven])
    return np.where(queries == queries, low, n)


# ---------------------------------------------------------------------------------------------------------- fitting


def points_of(keys: np.ndarray) -> Points:
    """Each different key with its first place, and behind equal keys the next number with the place after them."""
    n = len(keys)
    firsts = np.flatnonzero(np.concatenate([[True], keys[:-1] < keys[1:]]))
    ends = np.append(firsts[1:], n)
    points: Points = []
    for start, end in zip(firsts.tolist(), ends.tolist(), strict=True):
        key = keys[start]
        points.append((key, start))
        if end - start > 1 and (after := _next(key)) > key and (end == n or after < keys[end]):
            points.append((after, end))
    return points


def _next(key: Any) -> Any:
    if isinstance(key, np.floating):
        with np.errstate(over="ignore"):
            return np.nextafter(key, np.inf)
    return key if key == np.iinfo(key.dtype).max else key + key.dtype.type(1)


def _steps(key: Any, first: Any) -> int:
    numbers = ordered(np.stack([key, first]))
    return int(numbers[0]) - int(numbers[1])


@dataclass
class _Corridor:
    """All lines within epsilon of the points so far (O'Rourke 1981); corners are pairs of x and y."""

    first: Any
    epsilon: int
    points: int = 0
    tops: list[Any] = field(default_factory=list)
    feet: list[Any] = field(default_factory=list)
    tops_from: int = 0
    feet_from: int = 0
    steep: list[Any] = field(default_factory=list)
    flat: list[Any] = field(default_factory=list)

    def admits(self, key: Any, place: int) -> bool:
        """Whether a line through all the gates remains with this one; the corridor narrows if so."""
        x = _steps(key, self.first)
        top, foot = (x, place + self.epsilon), (x, place - self.epsilon)
        if self.points >= 2:
            if _side(self.flat[0], self.flat[1], top) < 0 or _side(self.steep[0], self.steep[1], foot) > 0:
                return False
            if _side(self.steep[0], self.steep[1], top) < 0:
                feet = self.feet
                while (
                    self.feet_from + 1 < len(feet) and _side(feet[self.feet_from], top, feet[self.feet_from + 1]) >= 0
                ):
                    self.feet_from += 1
                self.steep = [feet[self.feet_from], top]
                while len(self.tops) >= self.tops_from + 2 and _side(self.tops[-2], self.tops[-1], top) <= 0:
                    self.tops.pop()
                self.tops.append(top)
            if _side(self.flat[0], self.flat[1], foot) > 0:
                tops = self.tops
                while (
                    self.tops_from + 1 < len(tops) and _side(tops[self.tops_from], foot, tops[self.tops_from + 1]) <= 0
                ):
                    self.tops_from += 1
                self.flat = [tops[self.tops_from], foot]
                while len(self.feet) >= self.feet_from + 2 and _side(self.feet[-2], self.feet[-1], foot) >= 0:
                    self.feet.pop()
                self.feet.append(foot)
        else:
            self.steep, self.flat = [*self.steep[:1], top if self.points else foot], [*self.flat[:1], foot]
            if not self.points:
                self.flat = [top]
            self.tops.append(top)
            self.feet.append(foot)
        self.points += 1
        return True

    def line(self) -> tuple[float, float]:
        """Slope and intercept of a line in the middle."""
        if self.points == 1:
            return 0.0, float(self.steep[0][1] + self.epsilon)
        most, least = _slope(*self.steep), _slope(*self.flat)
        (x1, y1), (x2, y2) = (tuple(map(np.longdouble, corner)) for corner in (self.flat[0], self.steep[0]))
        x = (y1 - y2 + most * x2 - least * x1) / (most - least) if most > least else x1
        slope = float((most + least) / 2)
        return slope, float(y1 + least * (x - x1) - np.longdouble(slope) * x)


def _side(a: Any, b: Any, c: Any) -> Any:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _slope(a: Any, b: Any) -> Any:
    return np.longdouble(b[1] - a[1]) / np.longdouble(b[0] - a[0])


def segments(points: Points, epsilon: int) -> Iterator[tuple[Any, float, float]]:
    """The fewest lines within epsilon of all points: first key, slope and intercept of each."""
    at = 0
    while at < len(points):
        start, (first, begins) = at, points[at]
        corridor = _Corridor(first, epsilon)
        while at < len(points) and corridor.admits(*points[at]):
            at += 1
        slope, intercept = corridor.line()
        slope = max(slope, 0.0)
        intercept = min(max(intercept, begins - epsilon), begins + epsilon)
        kept = range(start + 1, at)
        missed = (
            i for i in kept if not abs(slope * float(_steps(points[i][0], first)) + intercept - points[i][1]) <= epsilon
        )
        at = next(missed, at)
        yield first, slope, intercept


def spline(points: Points, n: int, epsilon: int) -> tuple[list[Any], list[float]]:
    """Knots of a polyline within about epsilon of the points: their keys and places."""
    knots, places = [points[0][0]], [float(points[0][1])]
    bounds: tuple[float, float] | None = None
    before = points[0]
    for key, place in points[1:]:
        while True:
            x, y = float(_steps(key, knots[-1])), place - places[-1]
            if bounds is not None and not bounds[0] <= y / x <= bounds[1]:
                knots.append(before[0])
                places.append(float(before[1]))
                bounds = None
                continue
            least, most = (y - epsilon) / x, (y + epsilon) / x
            bounds = (least, most) if bounds is None else (max(bounds[0], least), min(bounds[1], most))
            break
        before = (key, place)
    if knots[-1] < before[0]:
        knots.append(before[0])
        places.append(float(before[1]))
    if len(knots) == 1:
        knots.append(before[0])
        places.append(float(n))
    return knots, places


def radix_table(knots: np.ndarray, base: int, bits: int, shift: int) -> NDArray[np.uint32]:
    """For each prefix of `bits` bits the first knot with that prefix or a later one; the last entry is their number."""
    prefixes = np.minimum((ordered(knots) - np.uint64(base)) >> np.uint64(shift), np.uint64((1 << bits) - 1))
    table = np.searchsorted(prefixes, np.arange(1 << bits, dtype=np.uint64)).astype(np.uint32)
    return np.append(table, np.uint32(len(knots)))


@np.errstate(all="ignore")  # what no double can tell becomes nan, and a guess of 0
def drawn(
    line: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64], lines: int, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The lines of a stage: slope and intercept of each, and the first place at or beyond it.

    Args:
        line: [P], where each point goes.
        x, y: [P], distances of the points, and their places.
        lines: how many there are.
        n: the place where no point is left.
    """
    slope, intercept, reached = np.zeros(lines), np.zeros(lines), np.full(lines, n)
    longest = np.zeros(lines, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    seen = 0
    for start, end in zip(starts, np.append(starts[1:], len(line)), strict=True):
        each, first = line[start], y[start]
        intercept[seen : each + 1] = reached[seen : each + 1] = first
        seen = max(seen, each + 1)
        if end - start > longest[each]:
            longest[each] = end - start
            slope[each], intercept[each] = _least_squares(x[start:end], y[start:end], first)
    intercept[seen:] = n
    return slope, intercept, reached


@np.errstate(all="ignore")
def errors(leaf: NDArray[np.int64], guesses: NDArray[np.int64], y: NDArray[np.float64], leaves: int) -> Windows:
    """By how much guesses of each leaf lie above and below the places of its points at most."""
    under, over = np.zeros(leaves, np.int64), np.zeros(leaves, np.int64)
    off = guesses - y.astype(np.int64)
    np.maximum.at(under, leaf, off)
    np.maximum.at(over, leaf, -off)
    return under, over


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64], otherwise: float) -> tuple[float, float]:
    y, x = y[x <= _TOO_FAR], x[x <= _TOO_FAR]
    if not len(x):
        return 0.0, otherwise
    dx, dy = (x - x[0]).astype(np.longdouble), (y - y[0]).astype(np.longdouble)
    spread = (dx * dx).sum() - dx.sum() ** 2 / len(x)
    slope = float(max(((dx * dy).sum() - dx.sum() * dy.sum() / len(x)) / spread, 0)) if spread > 0 else 0.0
    return slope, float(y[0] + dy.sum() / len(x) - np.longdouble(slope) * (x[0] + dx.sum() / len(x)))
