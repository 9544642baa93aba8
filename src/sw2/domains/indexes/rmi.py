"""A recursive model index (RMI) in full: two or three stages, whatever root measures best.

    root(key) -> a line of the middle stage, or a leaf        `roots`: a line, a cubic, a network, leading bits
    that line(key) -> one of its own leaves                   where there are three stages
    the leaf(key) -> a place, and how far off it is at most   the window

Notable
- A line of the middle stage gets leaves by its share of the keys, so that all leaves have about as many.
- Lines are drawn by least squares; how far a leaf is off below and above is measured over all keys that come to it.
- `fit_rmi` in the kernels draws them; `_draw` does the same in numpy, to the same bits.

Sources: Kraska et al. 2018, https://arxiv.org/abs/1712.01208, section 3; how all of it works: the frame of
`kernels.cpp`.

What it does not do: prove an answer (`key_model` does); B-trees as leaves, as the paper's hybrid index has them.

Shapes: N sorted keys, no NaN · M queries
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges
from sw2.base.errors import ProgramError
from sw2.domains.indexes import native, reference
from sw2.domains.indexes.key_model import KeyModel, KeyType, type_of
from sw2.domains.indexes.roots import RootName, fitted_root

__all__ = ["Rmi"]


@final
class Rmi(KeyModel):
    """A recursive model index: a root chooses a line, in three stages that line another, and the last gives the place.

    Each line of the middle stage has leaves of its own, as many as its share of the keys, and chooses among them. A
    leaf knows how far it is off at most, over all keys that come to it.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            leaves: lines of the last stage, never more than keys; 0 takes one for 64 keys.
            stages: 2 or 3.
            middle: lines of the middle of three stages, never more than leaves; 0 takes one for 64 leaves.
            root: what chooses among the lines of the next stage: by least squares a line, a cubic or a neural network
                of at most 16 ReLU, or the leading bits (radix), each of a key's distance from the first, or of the
                logarithm of that; "measured" takes the best on a sample.
            keys: the type of the keys; found while fitting.
            fitted: how many leaves there are; found while fitting.
            units: how many ReLU the root has; found while fitting.
        """

        leaves: int = 0
        stages: int = 2
        middle: int = 0
        root: Literal["measured"] | RootName = "measured"
        keys: KeyType = "int64"
        fitted: int = 0
        units: int = 0

        def __post_init__(self) -> None:
            lines = "a whole number from 0 to 268435456"
            allowed = {
                "leaves": (0 <= self.leaves <= 1 << 28, lines),
                "stages": (2 <= self.stages <= 3, "2 or 3"),
                "middle": (0 <= self.middle <= (1 << 28 if self.stages == 3 else 0), f"{lines}; of 2 stages 0"),
            }
            check_ranges("model", self, allowed)
            if self.fitted and self.root == "measured":
                raise ProgramError(
                    "This index was saved by an older sw2, whose tables for an RMI were others.",
                    where="the model rmi",
                    wanted="the root that its fit has chosen",
                    got="none",
                    do="Train it again on its file: sw2 train learned-index FILE --model rmi",
                )

    tables = {
        "root": "float64",
        "hidden": "float64",
        "middle_slope": "float64",
        "middle_intercept": "float64",
        "begin": "int32",
        "slope": "float64",
        "intercept": "float64",
        "under": "int32",
        "over": "int32",
    }
    function = "rmi"
    settled = ("root",)

    def lengths(self) -> dict[str, int]:
        leaves, middles = self.config.fitted, self.config.middle if self.config.fitted else 0
        return {
            "root": 6 if leaves else 0,
            "hidden": 2 * self.config.units,
            "middle_slope": middles,
            "middle_intercept": middles,
            "begin": middles + 1 if middles else 0,
        } | dict.fromkeys(("slope", "intercept", "under", "over"), leaves)

    @classmethod
    def fit(cls, keys: np.ndarray, config: Rmi.Config) -> KeyModel:
        n = len(keys)
        leaves = min(config.leaves or max(n // 64, 1), n)
        middles = min(config.middle or max(leaves // 64, 1), leaves) if config.stages == 3 else 0
        root = fitted_root(keys, config.root, middles or leaves)
        fitted = replace(config, keys=type_of(keys), fitted=leaves, middle=middles, root=root.name)
        model = cls(replace(fitted, units=len(root.hidden) // 2))
        model.table("root")[:], model.table("hidden")[:] = root.times(middles or leaves)
        if native.why_not() is None:
            native.call("fit_rmi", keys, n, *model.arguments())
        else:
            model._draw(keys)
        return model

    def _draw(self, keys: np.ndarray) -> None:
        """What `fit_rmi` does in the kernels: fill the tables of lines."""
        n, leaves, middles = len(keys), self.config.fitted, self.config.middle
        points = reference.points_of(keys)
        x = reference.behind(np.array([key for key, _ in points], keys.dtype), keys[:1])
        y = np.array([place for _, place in points], np.float64)
        if middles:
            slope, intercept, reached = reference.drawn(self._top(x), x, y, middles, n)
            share = leaves / n
            self.table("middle_slope")[:], self.table("middle_intercept")[:] = slope * share, intercept * share
            begin = reference.whole(reached.astype(np.float64) * share, leaves - 1)
            self.table("begin")[:] = np.append(begin, leaves)
        leaf = self._leaf(x)
        self.table("slope")[:], self.table("intercept")[:], _ = reference.drawn(leaf, x, y, leaves, n)
        self.table("under")[:], self.table("over")[:] = reference.errors(leaf, self._places(leaf, x, n), y, leaves)

    def arguments(self) -> list[Any]:
        config = self.config
        middle = [self.table(name) for name in ("middle_slope", "middle_intercept", "begin")]
        return [
            self.table("root"),
            int(config.root.startswith("log-")),
            self.table("hidden"),
            config.units,
            config.middle,
            *middle,
            config.fitted,
            *(self.table(name) for name in ("slope", "intercept", "under", "over")),
        ]

    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        x = reference.distances(queries, keys[:1])
        leaf = self._leaf(x)
        under, over = self.table("under")[leaf], self.table("over")[leaf].astype(np.int64) + 1
        return reference.around(self._places(leaf, x, len(keys)), under, over, len(keys))

    def guess(self, keys: np.ndarray, queries: np.ndarray) -> NDArray[np.int64]:
        """The place of each query by the line of its leaf alone, [M], 0 … N."""
        x = reference.distances(queries, keys[:1])
        return self._places(self._leaf(x), x, len(keys))

    def _top(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """The lines that the root chooses."""
        root = self.table("root")
        with np.errstate(over="ignore", invalid="ignore"):
            u = reference.scaled(x, root, logarithmic=self.config.root.startswith("log-"))
            found = reference.risen(u, root, self.table("hidden"))
            return reference.whole(found, (self.config.middle or self.config.fitted) - 1)

    def _leaf(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        line, most = self._top(x), self.config.fitted - 1
        if not self.config.middle:
            return line
        slope, intercept, begin = (self.table(name) for name in ("middle_slope", "middle_intercept", "begin"))
        first = begin[line].astype(np.int64)
        last = np.maximum(begin[line + 1].astype(np.int64) - 1, first)
        with np.errstate(over="ignore", invalid="ignore"):
            leaf = reference.whole(slope[line] * x + intercept[line], most)
        return np.clip(np.minimum(np.maximum(leaf, first), last), 0, most)

    def _places(self, leaf: NDArray[np.int64], x: NDArray[np.float64], n: int) -> NDArray[np.int64]:
        with np.errstate(over="ignore", invalid="ignore"):
            return reference.whole(self.table("slope")[leaf] * x + self.table("intercept")[leaf], n)
