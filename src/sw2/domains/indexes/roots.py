"""Roots of a recursive model index: from how far a key lies behind the first to the part of all keys before it.

    fitted_root(keys, "measured", lines) -> Root     the best of `ROOTS` for so many lines below it, by a sample
    fitted_root(keys, "cubic", lines)                that one

    u = (s - since) · scale, held to 0 … 1           s is the distance, of the roots called log-… its logarithm
    root(u) = c0 + c1 u + c2 u² + c3 u³ + Σ weight · max(u - kink, 0)

    radix     u itself: parts of equal width, as leading bits divide them
    linear    least squares, as all that follow
    cubic     the same with all four coefficients, of those cubics whose control points rise (Bernstein's form)
    neural    one hidden layer of at most 16 ReLU and c0. With one input, a unit's weight there only scales its output,
              so it is 1, and what is learned is where units begin and what they weigh; no piece of it may fall

Notable
- Every root rises, so the keys of a line below it are neighbours, but for what rounding does. A cubic of plain least
  squares falls between the ends of keys that lie like a bell, and three stages below it had windows of all keys.
- The logarithm is the bits of a double, read as a number: exponent and fraction, so a polyline of the true one. It
  costs nothing, never falls, and is the same bits in the kernels and in numpy.
- The network begins as the polyline through quantiles of the keys and is trained by damped Gauss-Newton steps
  (Marquardt 1963, https://doi.org/10.1137/0111030), whose damping by the diagonal does not mind that kinks lie powers
  of ten apart. With 33 numbers that takes a tenth of a second, without chance.
- Nothing here is multiplied and added at once (FMA), as in all of `kernels.cpp`: both ways predict the same bits, and
  a look-up waits for memory, not for these.
- Which root is best is measured, on evenly spaced keys with their true places: lines are drawn below each root, and the
  mean over the keys of log2(1 + the largest error of their line) counts, about the halvings that a search has left. A
  quarter of a halving is not worth a more complicated root, so of those that close the first in `ROOTS` is taken.
- Where there are more lines than the sample can tell, fewer are drawn for the comparison: eight keys of it for each.

Sources: Kraska et al. 2018, https://arxiv.org/abs/1712.01208, section 3; roots by name: Marcus et al. 2020 (CDFShop),
https://doi.org/10.1145/3318464.3384706, and https://arxiv.org/abs/2006.12804.

What it does not do: be right. Whatever a root answers, look-ups are proven on the keys (`kernels.cpp`).

Shapes: S keys of the sample · U units
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from sw2.domains.indexes import reference

__all__ = ["ROOTS", "Root", "RootName", "fitted_root"]

RootName = Literal["linear", "log-linear", "radix", "log-radix", "cubic", "log-cubic", "neural", "log-neural"]

ROOTS: Final[tuple[RootName, ...]] = get_args(RootName)
"""Every root, the simplest first."""

_SAMPLE: Final = 1 << 16
_KEYS_OF_A_LINE: Final = 8
_CLOSE: Final = 0.25
_TAUGHT: Final = 1 << 12
_UNITS: Final = 16
_STEPS: Final = 60
_WORTH: Final = 1e-4
_APART: Final = 1e-9
"""The least distance of kinks to begin with, where all keys lie in 0 … 1."""

_TOO_FAR: Final = 1e300
_NEAR: Final = 1e-300

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Root:
    """A fitted root.

    Args:
        name: one of `ROOTS`.
        table: [6], since and scale of the distance, and c0 … c3.
        hidden: [2 U], kink and weight of each unit in turn.
    """

    name: RootName
    table: Numbers
    hidden: Numbers

    @property
    def logarithmic(self) -> bool:
        return self.name.startswith("log-")

    def times(self, lines: int) -> tuple[Numbers, Numbers]:
        """`table` and `hidden` of the root that answers with a line of so many, rather than a part."""
        weighed = self.hidden.copy()
        weighed[1::2] *= lines
        return np.concatenate([self.table[:2], self.table[2:] * lines]), weighed


def fitted_root(keys: np.ndarray, name: RootName | Literal["measured"], lines: int) -> Root:
    """The root of these keys.

    Args:
        keys: [N], sorted, N >= 1, no NaN.
        name: which, or "measured" for the best.
        lines: how many lines it chooses from.
    """
    at = np.linspace(0, len(keys) - 1, min(len(keys), _SAMPLE)).astype(np.int64)
    different = np.unique(keys[at])
    places = np.searchsorted(keys, different).astype(np.float64)
    distances = reference.behind(different, keys[:1])
    near = distances <= _TOO_FAR
    if not near.any():  # the first key is -inf
        return Root("linear", np.zeros(6), np.zeros(0))
    distances, places = distances[near], places[near]
    if name == "measured" and lines == 1:
        name = ROOTS[0]
    if name != "measured":
        return _fitted(name, distances, places / len(keys))
    roots = [_fitted(each, distances, places / len(keys)) for each in ROOTS]
    told = max(min(lines, len(distances) // _KEYS_OF_A_LINE), 1)
    halvings = [_halvings(root, distances, places, told) for root in roots]
    return next(root for root, left in zip(roots, halvings, strict=True) if left <= min(halvings) + _CLOSE)


def _fitted(name: RootName, distances: Numbers, parts: Numbers) -> Root:
    """The root of this name through a sample [S] of distances and parts of all keys."""
    kind = name.removeprefix("log-")
    table = np.zeros(6)
    # The logarithm of the first distance, 0, is far from all others.
    values = distances if kind == name else reference.logarithm(distances)[min(len(distances) - 1, 1) :]
    table[0] = values[0]
    if (span := values[-1] - values[0]) > 0:
        table[1] = 1 / max(span, _NEAR)
    u = reference.scaled(distances, table, logarithmic=kind != name)
    hidden = np.zeros(0)
    if kind == "radix":
        table[3] = 1
    elif kind == "neural":
        table[2], hidden = _trained(u, parts)
    elif kind == "linear":
        table[2:4] = np.linalg.lstsq(np.vander(u, 2, increasing=True), parts)[0]
    else:
        table[2:] = _cubic(u, parts)
    return Root(name, table, hidden)


# What a rise between two control points adds to a cubic, as coefficients: B1 + B2 + B3, B2 + B3, B3.
_RISES: Final = np.array([[0, 3, -3, 1], [0, 0, 3, -2], [0, 0, 0, 1]], np.float64)


def _cubic(u: Numbers, parts: Numbers) -> Numbers:
    """Coefficients of the cubic with the least squared error whose control points rise, by trying which of them do."""
    powers = np.vander(u, 4, increasing=True)
    best, least = np.zeros(4), np.inf
    for rises in itertools.product((False, True), repeat=3):
        shapes = np.concatenate([[[1.0, 0, 0, 0]], _RISES[list(rises)]])
        weights = np.linalg.lstsq(powers @ shapes.T, parts)[0]
        error = float(((powers @ shapes.T @ weights - parts) ** 2).sum())
        if (weights[1:] >= 0).all() and error < least:
            best, least = weights @ shapes, error
    return best


def _trained(u: Numbers, parts: Numbers) -> tuple[float, Numbers]:
    """Bias of the output, and kinks and weights [2 U] of a network of one hidden layer with the least squared error."""
    some = np.linspace(0, len(u) - 1, min(len(u), _TAUGHT)).astype(np.int64)
    x, y = u[some], parts[some]
    ends = np.quantile(x, np.linspace(0, 1, _UNITS + 1))
    ends = ends[np.diff(ends, prepend=-1.0) > _APART]
    if len(ends) == 1:
        return float(y.mean()), np.zeros(0)
    units = len(ends) - 1
    slopes = np.diff(np.interp(ends, x, y)) / np.diff(ends)
    weights = np.concatenate([ends[:-1], np.diff(slopes, prepend=0.0), y[:1]])  # kinks, what they weigh, bias

    def missed(of: Numbers) -> tuple[Numbers, Numbers]:
        """By how much the network is off, [S], and what its units give, [S, U]."""
        active = np.maximum(x[:, None] - of[:units], 0)
        return active @ of[units:-1] + of[-1] - y, active

    error, active = missed(weights)
    damping = 1e-3
    for _ in range(_STEPS):
        by_kink = np.where(active > 0, -weights[units:-1], 0)
        jacobian = np.concatenate([by_kink, active, np.ones((len(x), 1))], axis=1)
        curvature = jacobian.T @ jacobian
        scale = np.diag(curvature) + 1e-12 * np.trace(curvature) / len(weights)
        tried = weights - np.linalg.solve(curvature + damping * np.diag(scale), jacobian.T @ error)
        error_there, active_there = missed(tried)
        before, after = error @ error, error_there @ error_there
        damping = damping / 3 if after < before else damping * 4
        if after < before:
            weights, error, active = tried, error_there, active_there
        if before * (1 - _WORTH) < after < before or damping > 1e9:
            break
    order = np.argsort(weights[:units])
    kinks, slopes = weights[order], np.maximum(np.cumsum(weights[units:-1][order]), 0)
    hidden = np.stack([kinks, np.diff(slopes, prepend=0.0)], axis=1).ravel()
    bias = (y - reference.risen(x, np.zeros(6), hidden)).mean()
    return float(bias), hidden


def _halvings(root: Root, distances: Numbers, places: Numbers, lines: int) -> float:
    """The mean of log2(1 + the largest error of a key's line), with `lines` lines drawn below the root."""
    table, hidden = root.times(lines)
    u = reference.scaled(distances, table, logarithmic=root.logarithmic)
    line = reference.whole(reference.risen(u, table, hidden), lines - 1)

    def summed(values: Numbers) -> Numbers:
        return cast("Numbers", np.bincount(line, values, lines))

    counts = np.maximum(np.bincount(line, minlength=lines), 1)
    x, y = u - (summed(u) / counts)[line], places - (summed(places) / counts)[line]
    spread = summed(x * x)
    slope = np.divide(summed(x * y), spread, out=np.zeros(lines), where=spread > 0)
    worst = np.zeros(lines)
    np.maximum.at(worst, line, np.abs(y - slope[line] * x))
    return float(np.log2(1 + worst[line]).mean())
