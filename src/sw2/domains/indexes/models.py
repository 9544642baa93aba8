"""The models of an index but the RMI (`rmi`), and the peers that they are measured beside, as `key_model` has them.

- `Pgm`, `RadixSpline`, `QuantisedSpline`: lines between which places lie, found by lines, by leading bits, by marks.
- `BPlusTree`, `BinarySearch`, `InterpolationSearch`, `Eytzinger`: peers; nothing is learned.

Sources, and how all of it works: the frame of `kernels.cpp`.

Shapes: N sorted keys, no NaN · M queries
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges
from sw2.domains.indexes import native, reference
from sw2.domains.indexes.key_model import KeyModel, KeyType, type_of
from sw2.domains.indexes.rmi import Rmi

__all__ = [
    "BLOCK",
    "MODELS",
    "BPlusTree",
    "BinarySearch",
    "Eytzinger",
    "InterpolationSearch",
    "Pgm",
    "QuantisedSpline",
    "RadixSpline",
]

Scale = Literal["linear", "logarithmic"]

MARKS: Final = 32
"""Blocks of a group of the quantised spline, whose marks fill one line of memory; the same as in `kernels.cpp`."""

BLOCK: Final = 16
"""Keys of a node of the B+tree; the same as in `kernels.cpp`."""


def _grown(name: str, keys: np.ndarray, room: int, arguments: list[Any], dtypes: list[Any]) -> list[np.ndarray]:
    """Call a fitting function with room for its results, and with more where it asks for more."""
    while True:
        results = [np.empty(room, dtype) for dtype in dtypes]  # memory that is not written to is not taken
        count = native.call(name, keys, *arguments, *results, room)
        if count >= 0:
            return [result[:count] for result in results]
        room *= 4


@final
class Pgm(KeyModel):
    """Lines within epsilon of all places, as few as possible; over their first keys the same again, up to one window.

    The answer lies within [floor(line) - epsilon, floor(line) + epsilon + 1], for every key of the type, there or not.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            epsilon: by how many places a line may be off; less is larger and faster.
            inner_epsilon: the same in the levels above, where places are numbers of segments.
            keys: the type of the keys; found while fitting.
            segments: how many each level has, from the top; found while fitting.
        """

        epsilon: int = 15
        inner_epsilon: int = 7
        keys: KeyType = "int64"
        segments: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            wanted = "a whole number from 1 to 1048576"
            check_ranges(
                "model",
                self,
                {name: (1 <= getattr(self, name) <= 1 << 20, wanted) for name in ("epsilon", "inner_epsilon")},
            )

    tables = {"sizes": "int64", "first": "key", "slope": "float64", "intercept": "float64"}
    function = "pgm"

    def lengths(self) -> dict[str, int]:
        return {"sizes": len(self.config.segments)} | dict.fromkeys(
            ("first", "slope", "intercept"), sum(self.config.segments)
        )

    @classmethod
    def fit(cls, keys: np.ndarray, config: Pgm.Config) -> KeyModel:
        levels = [cls._level(keys, config.epsilon, steps=True)]
        while len(levels[0][0]) > 2 * config.inner_epsilon + 2:
            levels.insert(0, cls._level(levels[0][0], config.inner_epsilon, steps=False))
        sizes = [len(level[0]) for level in levels]
        first, slope, intercept = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        fitted = replace(config, keys=type_of(keys), segments=tuple(sizes))
        tables = {"sizes": np.array(sizes, np.int64), "first": first, "slope": slope, "intercept": intercept}
        return cls.filled(fitted, tables)

    @staticmethod
    def _level(keys: np.ndarray, epsilon: int, *, steps: bool) -> list[np.ndarray]:
        """First keys, slopes and intercepts of the segments over `keys`; `steps` where some may be equal."""
        if native.why_not() is None:
            room = len(keys) // max(epsilon, 1) + 16
            dtypes = [keys.dtype, np.float64, np.float64]
            keys = np.ascontiguousarray(keys)
            return _grown("fit_segments", keys, room, [len(keys), epsilon, int(steps)], dtypes)
        points = reference.points_of(keys) if steps else list(zip(keys, range(len(keys)), strict=True))
        first, slope, intercept = zip(*reference.segments(points, epsilon), strict=True)
        return [np.array(first, keys.dtype), np.array(slope, np.float64), np.array(intercept, np.float64)]

    def arguments(self) -> list[Any]:
        tables = [self.table(name) for name in ("first", "slope", "intercept")]
        return [
            self.table("sizes"),
            len(self.config.segments),
            *tables,
            self.config.epsilon,
            self.config.inner_epsilon,
        ]

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        epsilon = self.config.epsilon
        return reference.around(self.guess(keys, queries), epsilon, epsilon + 1, len(keys))

    def guess(self, keys: np.ndarray, queries: np.ndarray) -> NDArray[np.int64]:
        """The place of each query by its line alone, [M], 0 … N."""
        segment = np.maximum(np.searchsorted(self._first(-1), queries, "right") - 1, 0)
        return self._line(-1, segment, queries, len(keys))

    def _part(self, name: str, level: int) -> np.ndarray:
        ends = np.cumsum(self.config.segments)
        part: np.ndarray = self.table(name)[ends[level] - self.config.segments[level] : ends[level]]
        return part

    def _first(self, level: int) -> np.ndarray:
        return self._part("first", level)

    def _line(self, level: int, segment: NDArray[np.int64], queries: np.ndarray, most: int) -> NDArray[np.int64]:
        first, slope, intercept = (self._part(name, level) for name in ("first", "slope", "intercept"))
        with np.errstate(over="ignore", invalid="ignore"):
            places = slope[segment] * reference.steps(queries, first[segment]) + intercept[segment]
        ceiling = np.append(intercept[1:], np.inf)[segment]
        places = np.where(ceiling < places, ceiling, places)
        return np.where(queries < first[segment], 0, reference.whole(places, most))


@final
class RadixSpline(KeyModel):
    """A polyline within an error of all places, and a table of leading bits that leads to its knots."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            epsilon: how far the polyline may pass from a place while it is drawn; less is larger and faster.
            bits: of the table of leading bits, which has 2^bits entries; 0 takes about one entry a knot.
            keys: the type of the keys; found while fitting.
            knots: how many knots; found while fitting.
            shift: by how many bits a key is shifted for the table; found while fitting.
            error: by how many places the polyline is off at most; measured while fitting.
        """

        epsilon: int = 16
        bits: int = 0
        keys: KeyType = "int64"
        knots: int = 0
        shift: int = 0
        error: int = 0

        def __post_init__(self) -> None:
            allowed = {
                "epsilon": (1 <= self.epsilon <= 1 << 20, "a whole number from 1 to 1048576"),
                "bits": (0 <= self.bits <= 28, "a whole number from 0 to 28"),
            }
            check_ranges("model", self, allowed)

    tables = {"knot": "key", "place": "float64", "radix": "uint32"}
    function = "spline"

    def lengths(self) -> dict[str, int]:
        knots = self.config.knots
        return {"knot": knots, "place": knots, "radix": (1 << self.config.bits) + 1 if knots else 0}

    @classmethod
    def fit(cls, keys: np.ndarray, config: RadixSpline.Config) -> KeyModel:
        n, compiled = len(keys), native.why_not() is None
        if compiled:
            room = n // max(config.epsilon, 1) + 16
            knot, place = _grown("fit_spline", keys, room, [n, config.epsilon], [keys.dtype, np.float64])
        else:
            points = reference.points_of(keys)
            knots, places = reference.spline(points, n, config.epsilon)
            knot, place = np.array(knots, keys.dtype), np.array(places, np.float64)
        base, last = (int(number) for number in reference.ordered(np.stack([keys[0], knot[-1]])))
        bits = config.bits or min(max(len(knot).bit_length(), 1), 22)
        shift = max((last - base).bit_length() - bits, 0)
        fitted = replace(config, keys=type_of(keys), knots=len(knot), bits=bits, shift=shift)
        if compiled:
            table = np.empty((1 << bits) + 1, np.uint32)
            error = native.call("finish_spline", keys, n, knot, place, len(knot), table, bits, shift)
        else:
            table = reference.radix_table(knot, base, bits, shift)
            at = np.array([key for key, _ in points], keys.dtype)
            guesses = cls.filled(fitted, {"knot": knot, "place": place, "radix": table}).guess(keys, at)
            error = int(np.abs(guesses - np.array([where for _, where in points])).max())
        return cls.filled(replace(fitted, error=error), {"knot": knot, "place": place, "radix": table})

    def arguments(self) -> list[Any]:
        config = self.config
        tables = [self.table("knot"), self.table("place"), config.knots, self.table("radix")]
        return [*tables, config.bits, config.shift, config.error]

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return reference.around(self.guess(keys, queries), self.config.error, self.config.error + 1, len(keys))

    def guess(self, keys: np.ndarray, queries: np.ndarray) -> NDArray[np.int64]:
        """The place of each query by the polyline alone, [M], 0 … N."""
        knot, place = self.table("knot"), self.table("place")
        after = np.clip(np.searchsorted(knot, queries), 1, len(knot) - 1)
        with np.errstate(all="ignore"):
            part = reference.steps(queries, knot[after - 1]) / reference.steps(knot[after], knot[after - 1])
        places = place[after - 1] + np.clip(part, 0.0, 1.0) * (place[after] - place[after - 1])
        return np.where(queries <= knot[0], 0, reference.whole(places, len(keys)))


@final
class QuantisedSpline(KeyModel):
    """A line through every so manieth key, which is kept in 16 bits; a table of leading bits says where to begin.

    A group is `MARKS` blocks of `block` keys. Its first key is kept whole; where its blocks end is kept as a mark, the
    distance from that key without its last bits. The first group is found as in `RadixSpline`, with leading bits of the
    distance or of its logarithm (the leading bits of that number as a double), whichever divides the groups better.
    One look at the marks gives the block, or the few that the marks cannot tell apart, and their line a guess in it.

    The answer lies within [low, low + width] for every key of the type, there or not, whatever lies between the marks.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            block: keys from one mark to the next; less is larger and faster.
            keys: the type of the keys; found while fitting.
            groups: how many there are; found while fitting.
            scale: of the table; found while fitting.
            shift: bits that the table leaves out; found while fitting.
            since: what the leading bits begin with; found while fitting.
            entries: of the table; found while fitting.
        """

        block: int = 48
        keys: KeyType = "int64"
        groups: int = 0
        scale: Scale = "linear"
        shift: int = 0
        since: int = 0
        entries: int = 0

        def __post_init__(self) -> None:
            fits = BLOCK <= self.block <= 1 << 20
            check_ranges("model", self, {"block": (fits, f"a whole number from {BLOCK} to 1048576")})

    tables = {"base": "key", "mark": "uint16", "dropped": "uint8", "radix": "uint32"}
    function = "quantised"

    def lengths(self) -> dict[str, int]:
        groups = self.config.groups
        radix = self.config.entries + 1 if groups else 0
        return {"base": groups, "mark": groups * MARKS, "dropped": groups, "radix": radix}

    @classmethod
    def fit(cls, keys: np.ndarray, config: QuantisedSpline.Config) -> KeyModel:
        n, span = len(keys), config.block * MARKS
        base, starts = keys[::span].copy(), reference.ordered(keys[:: config.block].copy())
        first, groups = reference.ordered(base), len(base)
        last = reference.ordered(keys[np.minimum(np.arange(1, groups + 1) * span, n) - 1])
        # In 16 bits with the last key of the group, as its logarithm in doubles has it: never too few are dropped.
        dropped = np.maximum(np.frexp((last - first).astype(np.float64))[1] - 16, 0).astype(np.uint8)
        ends = np.full(groups * MARKS, np.iinfo(np.uint64).max, np.uint64)  # blocks that are not there end last
        ends[: len(starts) - 1] = starts[1:]
        steps = (ends.reshape(groups, MARKS) - first[:, None]) >> dropped[:, None].astype(np.uint64)
        mark = np.minimum(steps, _MOST).astype(np.uint16).ravel()
        mark[len(starts) - 1 :] = _MOST
        scale, shift, since, radix = _table_of_groups(first - first[0])
        fitted = replace(
            config,
            keys=type_of(keys),
            groups=groups,
            scale=scale,
            shift=shift,
            since=since,
            entries=len(radix) - 1,
        )
        return cls.filled(fitted, {"base": base, "mark": mark, "dropped": dropped, "radix": radix})

    def arguments(self) -> list[Any]:
        config = self.config
        return [
            *(self.table(name) for name in ("base", "mark", "dropped")),
            config.groups,
            config.block,
            self.table("radix"),
            config.entries,
            int(config.scale == "logarithmic"),
            config.shift,
            config.since,
        ]

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        base, n = self.table("base"), len(keys)
        group = np.maximum(np.searchsorted(base, queries) - 1, 0)
        distance = reference.ordered(queries) - reference.ordered(base)[group]
        step = np.minimum(distance >> self.table("dropped")[group].astype(np.uint64), _MOST)
        step = np.where(queries <= base[group], 0, step).astype(np.uint16)[:, None]
        marks = self.table("mark").reshape(-1, MARKS)[group]
        start = group * MARKS + (marks < step).sum(axis=1)
        stop = group * MARKS + np.minimum((marks <= step).sum(axis=1) + 1, MARKS)
        low = np.minimum(start * self.config.block, n)
        return low, np.maximum(np.minimum(stop * self.config.block, n) - low, 0)


_MOST: Final = np.uint64(0xFFFF)


def _table_of_groups(distances: NDArray[np.uint64]) -> tuple[Scale, int, int, NDArray[np.uint32]]:
    """For each prefix of a distance the first group with that prefix or a later one.

    Args:
        distances: [G], of the groups' first keys from the first of all.

    Returns:
        scale, how many bits are left out, the prefix that is entry 0 (as all before it are), and the table with G at
        its end: at most G entries before that. Of both scales that whose halvings are fewer.
    """
    groups, best = len(distances), np.inf
    scales: tuple[Scale, ...] = ("linear", "logarithmic")
    found: tuple[Scale, int, int, NDArray[np.uint32]] | None = None
    for scale in scales:
        values = distances if scale == "linear" else distances.astype(np.float64).view(np.uint64)
        later = values[values > 0]
        least = int(later[0]) if scale == "logarithmic" and len(later) else 0
        shift = next(s for s in range(64) if (int(values[-1]) >> s) - (least >> s) < max(groups, 1))
        since, entries = least >> shift, (int(values[-1]) >> shift) - (least >> shift) + 1
        prefix = np.maximum(values >> np.uint64(shift), np.uint64(since)) - np.uint64(since)
        table = np.searchsorted(prefix, np.arange(entries + 1, dtype=np.uint64)).astype(np.uint32)
        sizes = np.diff(table)
        halvings = float((sizes * np.log2(1.0 + sizes)).sum())
        if halvings < best:
            best, found = halvings, (scale, shift, since, table)
    assert found is not None
    return found


@dataclass(frozen=True, kw_only=True)
class _PeerConfig:
    """The settings of what is not fitted.

    Args:
        keys: the type of the keys; found while fitting.
    """

    keys: KeyType = "int64"


class _Search(KeyModel):
    """What searches the keys and keeps nothing beside them."""

    Config = _PeerConfig
    tables: ClassVar[Mapping[str, str]] = {}

    def lengths(self) -> dict[str, int]:
        return {}

    @classmethod
    def fit(cls, keys: np.ndarray, config: _PeerConfig) -> KeyModel:
        return cls(replace(config, keys=type_of(keys)))

    def arguments(self) -> list[Any]:
        return []


@final
class BinarySearch(_Search):
    """Nothing beside the keys: halving, queries interleaved, the next line of memory asked for ahead."""

    function = "binary"

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.zeros(len(queries), np.int64), np.full(len(queries), len(keys))


@final
class InterpolationSearch(_Search):
    """Nothing beside the keys: a straight line between the ends of what remains says where to look next."""

    function = "interpolation"

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # The kernels probe and narrow; of that the reference keeps the first probe, and looks on both of its sides.
        before = queries < keys[0]
        with np.errstate(all="ignore"):
            part = reference.behind(queries, keys[:1]) / reference.behind(keys[-1:], keys[:1])
            probe = np.minimum(np.where(before, 0, reference.whole(part * len(keys), len(keys))), len(keys) - 1)
        right = keys[probe] < queries
        low = np.where(right, probe + 1, 0)
        return low, np.where(right, len(keys) - low, probe)


@dataclass(frozen=True, kw_only=True)
class _TreeConfig:
    """The settings.

    Args:
        keys: the type of the keys; found while fitting.
        levels: how many keys each level above the keys has, from the top; found while fitting.
    """

    keys: KeyType = "int64"
    levels: tuple[int, ...] = ()


@final
class BPlusTree(KeyModel):
    """A static B+tree of 16 keys a node, without pointers, its leaves being the sorted keys themselves."""

    Config = _TreeConfig
    tables = {"sizes": "int64", "last": "key"}
    function = "tree"

    def lengths(self) -> dict[str, int]:
        return {"sizes": len(self.config.levels), "last": sum(self.config.levels)}

    @classmethod
    def fit(cls, keys: np.ndarray, config: _TreeConfig) -> KeyModel:
        levels: list[np.ndarray] = []
        while not levels or len(levels[0]) > BLOCK:
            below = levels[0] if levels else keys
            ends = np.append(np.arange(BLOCK - 1, len(below) - 1, BLOCK), len(below) - 1)
            levels.insert(0, below[ends])
        sizes = tuple(len(level) for level in levels)
        last = np.concatenate(levels)
        fitted = replace(config, keys=type_of(keys), levels=sizes)
        return cls.filled(fitted, {"sizes": np.array(sizes, np.int64), "last": last})

    def arguments(self) -> list[Any]:
        return [self.table("sizes"), len(self.config.levels), self.table("last")]

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        leaves = self.config.levels[-1]
        ends = self.table("last")[-leaves:]
        low = np.minimum(np.searchsorted(ends, queries), leaves - 1) * BLOCK
        return low, np.minimum(len(keys) - low, BLOCK)


@dataclass(frozen=True, kw_only=True)
class _CopyConfig:
    """The settings.

    Args:
        keys: the type of the keys; found while fitting.
        nodes: how many keys there are; found while fitting.
    """

    keys: KeyType = "int64"
    nodes: int = 0


@final
class Eytzinger(KeyModel):
    """The keys once more, in the order in which a binary search meets them."""

    Config = _CopyConfig
    tables = {"node": "key"}
    function = "eytzinger"

    def lengths(self) -> dict[str, int]:
        return {"node": self.config.nodes + 1 if self.config.nodes else 0}

    @classmethod
    def fit(cls, keys: np.ndarray, config: _CopyConfig) -> KeyModel:
        n = len(keys)
        model = cls(replace(config, keys=type_of(keys), nodes=n))
        node = model.table("node")  # there already: one copy of the keys, not two
        if native.why_not() is None:
            native.call("order_eytzinger", keys, n, node)
        else:
            node[0], node[1:] = keys[0], keys[_places_of_nodes(n)]
        return model

    def arguments(self) -> list[Any]:
        return []

    def array(self, keys: np.ndarray) -> np.ndarray:
        assert len(keys) == self.config.nodes
        return self.table("node")

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        nodes, at, n = self.table("node"), np.ones(len(queries), np.int64), len(keys)
        answers = np.full(len(queries), n)
        places = _places_of_nodes(n)
        for _ in range(n.bit_length()):
            inside = at <= n
            node = np.where(inside, at, 1)
            right = nodes[node] < queries
            answers = np.where(inside & ~right, places[node - 1], answers)  # the last step to the left
            at = np.where(inside, 2 * at + right, at)
        return answers, np.zeros(len(queries), np.int64)


def _places_of_nodes(n: int) -> NDArray[np.int64]:
    """The place among the sorted keys of each node 1 … n."""
    node = np.arange(1, n + 1)
    depth = np.frexp(node.astype(np.float64))[1].astype(np.int64) - 1
    height = n.bit_length() - 1
    in_full = ((2 * (node - (1 << depth)) + 1) << (height - depth)) - 1
    last_level = n - (1 << height) + 1
    return in_full - np.maximum(0, (in_full + 1) // 2 - last_level)


MODELS: Final[Mapping[str, type[KeyModel]]] = {
    "pgm": Pgm,
    "radix-spline": RadixSpline,
    "rmi": Rmi,
    "quantised-spline": QuantisedSpline,
    "b-plus-tree": BPlusTree,
    "binary-search": BinarySearch,
    "interpolation-search": InterpolationSearch,
    "eytzinger": Eytzinger,
}
"""Every model by the catalogue's name, the learned ones first."""
