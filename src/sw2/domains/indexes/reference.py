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
    "locate",
    "ordered",
    "points_of",
    "radix_table",
    "segments",
    "spline",
    "steps",
    "two_stage",
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
def two_stage(points: Points, keys: np.ndarray, leaves: int) -> dict[str, np.ndarray]:
    """A line that chooses one of `leaves` lines, and by how much each of those misses."""
    x = behind(np.array([key for key, _ in points], keys.dtype), keys[:1])
    y = np.array([place for _, place in points], np.float64)
    n = len(keys)
    root = np.array(_least_squares(x, y, 0.0)) * leaves / n
    leaf = whole(root[0] * x + root[1], leaves - 1)
    slope, intercept = np.zeros(leaves), np.zeros(leaves)
    under, over = np.zeros(leaves, np.int32), np.zeros(leaves, np.int32)
    starts = np.searchsorted(leaf, np.arange(leaves + 1))
    for each in range(leaves):
        part = slice(starts[each], starts[each + 1])
        otherwise = y[part.start] if part.start < len(y) else float(n)
        slope[each], intercept[each] = _least_squares(x[part], y[part], otherwise)
        missed = whole(slope[each] * x[part] + intercept[each], n) - y[part].astype(np.int64)
        under[each], over[each] = missed.max(initial=0), -missed.min(initial=0)
    return {"root": root, "slope": slope, "intercept": intercept, "under": under, "over": over}


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64], otherwise: float) -> tuple[float, float]:
    y, x = y[x <= _TOO_FAR], x[x <= _TOO_FAR]
    if not len(x):
        return 0.0, otherwise
    dx, dy = (x - x[0]).astype(np.longdouble), (y - y[0]).astype(np.longdouble)
    spread = (dx * dx).sum() - dx.sum() ** 2 / len(x)
    slope = float(max(((dx * dy).sum() - dx.sum() * dy.sum() / len(x)) / spread, 0)) if spread > 0 else 0.0
    return slope, float(y[0] + dy.sum() / len(x) - np.longdouble(slope) * (x[0] + dx.sum() / len(x)))
